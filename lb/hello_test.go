package lb

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/engine"
)

// certificate is one for names, that clients of the pool believe.
func certificate(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// secure is an endpoint that speaks TLS, and answers as named does.
func secure(t testing.TB, name string, cert tls.Certificate) string {
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"two", "one"}}
	return serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		s := tls.Server(c, cfg)
		if b, err := io.ReadAll(s); err == nil {
			_, _ = fmt.Fprintf(s, "%s: %s", name, b)
			_ = s.CloseWrite()
		}
	})
}

// askTLS shakes hands over c, says what, and is the answer. It closes c.
func askTLS(c net.Conn, cfg *tls.Config, what string) (string, error) {
	defer c.Close()
	s := tls.Client(c, cfg)
	if err := s.Handshake(); err != nil {
		return "", err
	}
	go func() {
		_, _ = io.WriteString(s, what)
		_ = s.CloseWrite()
	}()
	b, err := io.ReadAll(s)
	return string(b), err
}

// firstWrite keeps what is written first, and has nothing to be read.
type firstWrite struct {
	net.Conn
	b []byte
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.b == nil {
		w.b = bytes.Clone(p)
	}
	return len(p), nil
}

func (*firstWrite) Read([]byte) (int, error) { return 0, io.EOF }

// helloOf is a client's hello.
func helloOf(t testing.TB, cfg *tls.Config) string {
	t.Helper()
	var w firstWrite
	cfg = cfg.Clone()
	cfg.InsecureSkipVerify = true
	_ = tls.Client(&w, cfg).Handshake()
	if len(w.b) == 0 {
		t.Fatal("the client says no hello")
	}
	return string(w.b)
}

// records cuts a hello of one record into records of n bytes.
func records(hello string, n int) string {
	var b strings.Builder
	for body := hello[5:]; len(body) > 0; {
		k := min(n, len(body))
		b.Write([]byte{22, 3, 1, byte(k >> 8), byte(k)})
		b.WriteString(body[:k])
		body = body[k:]
	}
	return b.String()
}

// rewriting has what is written first written by another.
type rewriting struct {
	net.Conn
	first func(p []byte) error
}

func (w *rewriting) Write(p []byte) (int, error) {
	if f := w.first; f != nil {
		w.first = nil
		return len(p), f(p)
	}
	return w.Conn.Write(p)
}

// town is a listener that routes names: a.test and *.w.test, and the rest to the default, if there is one.
func town(t testing.TB, withDefault bool) (*front, *x509.CertPool) {
	t.Helper()
	names := []string{"a.test", "b.w.test", "c.b.w.test", "x.w.test", "w.test", "other.test"}
	cert, pool := certificate(t, names...)
	cfg := frontConfig{session: ProxyConfig{SNI: []SNIRoute{
		{Names: []string{"A.test"}, Cluster: "exact"},
		{Names: []string{"*.w.test"}, Cluster: "below"},
		{Names: []string{"x.w.test."}, Cluster: "exact"},
	}}, preface: PrefaceConfig{ProxyProtocol: ProxyOptional}}
	if withDefault {
		cfg.session.Cluster = "rest"
	}
	var clusters []Config
	for _, name := range []string{"rest", "exact", "below"} {
		c := of(RoundRobin, secure(t, name, cert))
		c.Name = name
		clusters = append(clusters, c)
	}
	return newFront(t, cfg, clusters...), pool
}

// A name leads to its cluster, and TLS goes through untouched: the certificate is the endpoint's, whatever the version.
func TestNameLeadsToItsCluster(t *testing.T) {
	f, pool := town(t, true)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, want := range map[string]string{"a.test": "exact", "A.TEST": "exact", "b.w.test": "below", "c.b.w.test": "below",
			"x.w.test": "exact", "w.test": "rest", "other.test": "rest"} {
			cfg := &tls.Config{ServerName: name, RootCAs: pool, MinVersion: version, MaxVersion: version, NextProtos: []string{"one"}}
			got, err := askTLS(f.dial(""), cfg, "hello")
			if got != want+": hello" || err != nil {
				t.Errorf("TLS %x, %s: answered %q, %v; want the cluster %s", version, name, got, err, want)
			}
		}
		// An address is no name.
		got, err := askTLS(f.dial(""), &tls.Config{ServerName: "127.0.0.1", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}, "hello")
		if got != "rest: hello" || err != nil {
			t.Errorf("TLS %x without a name: answered %q, %v", version, got, err)
		}
	}
	if n := f.stats.BadHello.Load() + f.stats.NoName.Load(); n != 0 {
		t.Errorf("%d hellos were not good enough", n)
	}
}

// However a client cuts its hello, into segments, records or both, it is the same hello.
func TestHelloInPieces(t *testing.T) {
	f, pool := town(t, false)
	for name, first := range map[string]func(c net.Conn, hello []byte) error{
		"segments": func(c net.Conn, hello []byte) error { f.drip(c, hello); return nil },
		"records": func(c net.Conn, hello []byte) error {
			_, err := io.WriteString(c, records(string(hello), 100))
			return err
		},
		"records, and they in segments": func(c net.Conn, hello []byte) error {
			f.drip(c, []byte(records(string(hello), 120)))
			return nil
		},
		"after a PROXY header": func(c net.Conn, hello []byte) error {
			_, err := io.WriteString(c, header1(someClient, someDest)+string(hello))
			return err
		},
		"after a PROXY header, and all in segments": func(c net.Conn, hello []byte) error {
			f.drip(c, append([]byte(header2(t, someClient, someDest)), hello...))
			return nil
		},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := f.dial("")
			cfg := &tls.Config{ServerName: "b.w.test", RootCAs: pool, MinVersion: version, MaxVersion: version,
				CurvePreferences: []tls.CurveID{tls.X25519}} // for a small hello
			got, err := askTLS(&rewriting{c, func(p []byte) error { return first(c, p) }}, cfg, "hello")
			if got != "below: hello" || err != nil {
				t.Errorf("%s, TLS %x: answered %q, %v", name, version, got, err)
			}
		}
	}
}

// A client whose name nobody serves is told so, in TLS: a reset would look like a network's fault.
func TestAlertForUnknownName(t *testing.T) {
	f, _ := town(t, false)
	n := uint64(0)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"nobody.test", "w.test", "127.0.0.1"} {
			n++
			_, err := askTLS(f.dial(""), &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}, "")
			alerted(t, err, "unrecognized name")
			// What it had sent in advance does not change that.
			c := f.dial("")
			_, err = askTLS(&rewriting{c, func(p []byte) error {
				_, err := c.Write(append(p, make([]byte, 40<<10)...))
				return err
			}}, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}, "")
			alerted(t, err, "unrecognized name")
		}
	}
	f.counts(2*n, 0, 0, 0, 0, 0, 0)
	if got := f.stats.NoName.Load(); got != 2*n {
		t.Errorf("%d names were nobody's, want %d", got, 2*n)
	}
}

// alerted checks that a handshake ended with an alert of the other side.
func alerted(t testing.TB, err error, want string) {
	t.Helper()
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || !strings.HasSuffix(op.Error(), want) {
		t.Errorf("the handshake ended with %v, want an alert: %s", err, want)
	}
}

func TestAlertForBadHello(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "a.test"})
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("%100d", i)
	}
	malformed := []byte(hello)
	malformed[5+1+2]++ // a byte more than there is, in the one record
	malformed[5+4] = 9 // and of no known version
	decodeError := string([]byte{21, 3, 3, 0, 2, 2, 50})
	for name, x := range map[string]struct {
		says string
		fin  bool
	}{
		"half, and FIN":            {hello[:len(hello)/2], true},
		"garbage in a record":      {"\x16\x03\x01\x00\x05hello", false},
		"another handshake":        {"\x16\x03\x03\x00\x04\x02\x00\x00\x00", false},
		"empty record":             {"\x16\x03\x01\x00\x00", false},
		"malformed":                {string(malformed) + "\x16\x03\x01\x00\x01\x00", false},
		"too large, says its head": {"\x16\x03\x01\x40\x00\x01\x00\x40\x01", false},
		"in too many records":      {records(helloOf(t, &tls.Config{ServerName: "a.test", NextProtos: many[:30]}), 1), false},
		"too large, and all of it": {helloOf(t, &tls.Config{ServerName: "a.test", NextProtos: many}) + strings.Repeat("x", 100<<10), false},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := town(t, true)
			c := f.dial("")
			_, err := io.WriteString(c, x.says)
			must(t, err)
			if x.fin {
				must(t, c.CloseWrite())
			}
			if b, err := io.ReadAll(c); string(b) != decodeError || err != nil {
				t.Errorf("answered %q, %v; want an alert", b, err)
			}
			must(t, c.Close())
			f.counts(1, 0, 0, 0, 0, 0, 0)
			if n := f.stats.BadHello.Load(); n != 1 {
				t.Errorf("%d bad hellos", n)
			}
		})
	}
	// As a client sees it.
	f, _ := town(t, true)
	_, err := askTLS(f.dial(""), &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, NextProtos: many}, "")
	alerted(t, err, "error decoding message")
}

// A client that was declined, and neither hangs up nor falls silent, is not listened to for long.
func TestDeclinedClientIsClosed(t *testing.T) {
	f, _ := town(t, false)
	c := f.dial("")
	_, err := io.WriteString(c, helloOf(t, &tls.Config{ServerName: "nobody.test"}))
	must(t, err)
	_, err = io.ReadAll(c)
	must(t, err)
	eventually(t, "it is closed", func() bool {
		_, _ = io.WriteString(c, "and another thing")
		return f.engine.Open() == 0
	})
}

// What is no TLS asks for no name: it goes where those go, or nowhere.
func TestNoTLS(t *testing.T) {
	plain := of(RoundRobin, named(t, "plain"))
	tlsOnly := of(RoundRobin, named(t, "TLS"))
	tlsOnly.Name = "tls"
	routes := []SNIRoute{{Names: []string{"a.test"}, Cluster: "tls"}}
	f := newFront(t, frontConfig{session: ProxyConfig{Cluster: "c", SNI: routes, HelloTimeout: time.Hour}}, plain, tlsOnly)
	for _, what := range []string{"GET / HTTP/1.0\r\n\r\n", "\x16\x02", "x", ""} {
		if got := f.says("", what); got != "plain: "+what {
			t.Errorf("%q: answered %q", what, got)
		}
	}
	f = newFront(t, frontConfig{session: ProxyConfig{SNI: routes, HelloTimeout: time.Hour}}, tlsOnly)
	f.rejects("", "GET / HTTP/1.0\r\n\r\n", false)
	f.rejects("", "", true)
	f.counts(2, 0, 0, 0, 0, 0, 0)
	if n := f.stats.BadHello.Load(); n != 2 {
		t.Errorf("%d bad hellos", n)
	}
}

func TestHelloMustComeInTime(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "a.test"})
	for name, drips := range map[string]bool{"half": false, "drips": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := of(RoundRobin, named(t, "not asked"))
			f := newFront(t, frontConfig{session: ProxyConfig{SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}},
				HelloTimeout: 100 * time.Millisecond}}, cfg)
			if !drips {
				f.rejects("", hello[:100], false)
			} else {
				c := f.dial("")
				var err error
				for n := 0; err == nil; n++ {
					if n == len(hello)-1 {
						t.Fatal("the whole hello came, a byte every few milliseconds")
					}
					<-time.After(5 * time.Millisecond)
					_, err = io.WriteString(c, hello[n:n+1])
				}
			}
			f.counts(1, 0, 0, 0, 0, 0, 0)
			if n := f.stats.BadHello.Load(); n != 1 {
				t.Errorf("%d bad hellos", n)
			}
		})
	}
}

// hash_key sni keeps a name at its endpoint, whoever asks for it.
func TestNamePlacesTheClient(t *testing.T) {
	for _, p := range []Picker{Maglev, Ring, SourceHash} {
		cert, pool := certificate(t, "*.test")
		cfg := of(p, secure(t, "a", cert), secure(t, "b", cert), secure(t, "c", cert))
		cfg.HashKey = SNI
		f := newFront(t, frontConfig{}, cfg)
		served := map[string]bool{}
		for i := range 12 {
			name := fmt.Sprintf("n%d.test", i)
			first := ""
			for _, from := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
				got, err := askTLS(f.dial(from), &tls.Config{ServerName: name, RootCAs: pool}, "")
				must(t, err)
				if first == "" {
					first = got
				} else if got != first {
					t.Errorf("%s: %s is served by %q, and then by %q", p, name, first, got)
				}
			}
			served[first] = true
		}
		if len(served) < 2 {
			t.Errorf("%s: one endpoint serves all names", p)
		}
	}
}

// Bulk behind a hello that was looked at, or behind a PROXY header, takes the same way as any: without a copy.
func TestBulkIsSplicedAfterHello(t *testing.T) {
	f, pool := town(t, false)
	what := make([]byte, 10<<20)
	_, _ = rand.Read(what)
	for version, header := range map[uint16]string{tls.VersionTLS12: "", tls.VersionTLS13: header2(t, someClient, someDest)} {
		before, counted := f.loop().Counters().Spliced.Load(), f.stats.FromClients.Load()
		c := f.dial("")
		_, err := io.WriteString(c, header)
		must(t, err)
		got, err := askTLS(c, &tls.Config{ServerName: "a.test", RootCAs: pool, MinVersion: version, MaxVersion: version}, string(what))
		if err != nil || got != "exact: "+string(what) {
			t.Fatalf("TLS %x: %d bytes came back, %v", version, len(got), err)
		}
		eventually(t, "all is counted", func() bool { return f.stats.FromClients.Load()-counted > uint64(len(what)) })
		// Each direction copies until it has seen that there is bulk.
		if spliced := f.loop().Counters().Spliced.Load() - before; spliced < uint64(len(what)) {
			t.Errorf("%d of %d bytes were spliced", spliced, 2*len(what))
		}
	}
}

// A client that waits to be spoken to asks for no name: it goes to the default cluster, once its time is up.
func TestSilentClientGoesToTheDefaultCluster(t *testing.T) {
	greets := of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.WriteString(c, "220 ready") }))
	routes := []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}
	f := newFront(t, frontConfig{session: ProxyConfig{Cluster: "c", SNI: routes, HelloTimeout: 50 * time.Millisecond}}, greets)
	if b, err := io.ReadAll(f.dial("")); string(b) != "220 ready" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	f = newFront(t, frontConfig{session: ProxyConfig{SNI: routes, HelloTimeout: 50 * time.Millisecond}}, greets)
	f.rejects("", "", false)
	if n := f.stats.BadHello.Load(); n != 1 {
		t.Errorf("%d bad hellos", n)
	}
}

// caught is an acceptor that shows the connections that it has accepted.
type caught struct {
	engine.Acceptor
	conns chan *engine.Conn
}

func (a caught) Accept(c *engine.Conn) {
	a.Acceptor.Accept(c)
	a.conns <- c
}

// What comes when time is up, and whose event is not served yet, is not taken for something else.
func TestHeadThatComesInTheLastMoment(t *testing.T) {
	f := newFront(t, frontConfig{}, of(RoundRobin, named(t, "a")))
	late := func(head string, before func(engine.Acceptor) engine.Acceptor, session ProxyConfig) string {
		t.Helper()
		p := NewProxy(session, "", func(string) *Cluster { return f.cluster }, &ProxyStats{Loops: make([]ProxyCounters, 1)}, quiet)
		a := caught{before(p), make(chan *engine.Conn, 1)}
		ln, err := f.engine.Listen("127.0.0.1:0", 0, a)
		must(t, err)
		c, err := net.Dial("tcp", ln.Bound())
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(patience)))
		conn := receive(t, "it is accepted", a.conns)
		on(f.loop(), func() { // no event is served meanwhile
			_, err := io.WriteString(c, head)
			must(t, err)
			conn.Handler().Timeout(conn)
		})
		must(t, c.(*net.TCPConn).CloseWrite())
		b, _ := io.ReadAll(c)
		return string(b)
	}
	optional := func(next engine.Acceptor) engine.Acceptor {
		return NewPreface(PrefaceConfig{ProxyProtocol: ProxyOptional}, next, &PrefaceStats{Loops: make([]PrefaceCounters, 1)})
	}
	if got := late(header1(someClient, someDest)+"hello", optional, ProxyConfig{Cluster: "c"}); got != "a: hello" {
		t.Errorf("behind a header: %q", got)
	}
	hello := string(helloOf(t, &tls.Config{ServerName: "a.test"}))
	none := func(next engine.Acceptor) engine.Acceptor { return next }
	if got := late(hello, none, ProxyConfig{SNI: []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}}); got != "a: "+hello {
		t.Errorf("a hello is answered by %q", got)
	}
}
