package certs

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/lb/certs/acme"
)

func TestCertificateGoesByServerName(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	cfg := Config{Certificates: []Certificate{
		f.pair("first", ca.forNames(t, "first.test")),
		f.pair("wild", ca.forNames(t, "*.Wild.test")),
		f.pair("exact", ca.forNames(t, "exact.wild.test", "other.test")),
	}}
	for name, c := range map[string]struct{ free, strict string }{
		"first.test":      {"first.test", "first.test"},
		"other.test":      {"exact.wild.test", "exact.wild.test"},
		"OTHER.test":      {"exact.wild.test", "exact.wild.test"},
		"exact.wild.test": {"exact.wild.test", "exact.wild.test"},
		"a.wild.test":     {"*.Wild.test", "*.Wild.test"},
		"a.b.wild.test":   {"first.test", ""},
		"wild.test":       {"first.test", ""},
		"stranger.test":   {"first.test", ""},
		"":                {"first.test", ""},
	} {
		for _, strict := range []bool{false, true} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				cfg.StrictSNI = strict
				s, _ := newStore(t, cfg)
				m := meet(t, s.Config(), &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: version})
				want := c.free
				if strict {
					want = c.strict
				}
				if want == "" {
					m.refused(t, "unrecognized name")
				} else if got := m.ok(t).client.PeerCertificates[0].DNSNames[0]; got != want {
					t.Errorf("%q, strict %v: the certificate of %q, want %q", name, strict, got, want)
				}
			}
		}
	}
}

func TestKindOfKeyGoesByClient(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{
		f.pair("ecdsa", ca.forNames(t, "both.test")),
		f.pair("rsa", ca.sign(t, rsaKey(), func(c *x509.Certificate) { c.DNSNames = []string{"both.test"} })),
	}})
	for _, name := range []string{"both.test", "stranger.test"} {
		for suite, want := range map[uint16]x509.PublicKeyAlgorithm{
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   x509.RSA,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: x509.ECDSA,
		} {
			m := meet(t, s.Config(), &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
				CipherSuites: []uint16{suite}}).ok(t)
			if got := m.client.PeerCertificates[0].PublicKeyAlgorithm; got != want {
				t.Errorf("%s: to a client of %s: %v, want %v", name, tls.CipherSuiteName(suite), got, want)
			}
		}
	}
}

// oneSession is a client that resumes its last session under any name.
type oneSession struct{ last *tls.ClientSessionState }

func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.last, o.last != nil }
func (o *oneSession) Put(_ string, s *tls.ClientSessionState)    { o.last = s }

func TestStrictSNIHoldsForResumedSessions(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{StrictSNI: true, Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, ClientSessionCache: &oneSession{}, MaxVersion: version}
		meet(t, s.Config(), c).ok(t)
		if !meet(t, s.Config(), c).ok(t).client.DidResume {
			t.Fatal("not resumed")
		}
		c = c.Clone()
		c.ServerName = "stranger.test"
		meet(t, s.Config(), c).refused(t, "unrecognized name")
	}
}

func TestDefaultsOfTheWire(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	pair := []Certificate{f.pair("a", ca.forNames(t, "a.test"))}
	s, _ := newStore(t, Config{Certificates: pair})
	client := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{ServerName: "a.test", RootCAs: ca.pool()}
		change(c)
		return c
	}
	m := meet(t, s.Config("h2", "http/1.1"), client(func(c *tls.Config) { c.NextProtos = []string{"http/1.1", "h2"} })).ok(t)
	if m.server.CurveID != tls.X25519MLKEM768 || m.server.Version != tls.VersionTLS13 || m.server.NegotiatedProtocol != "h2" {
		t.Errorf("%v, %s, %q", m.server.CurveID, tls.VersionName(m.server.Version), m.server.NegotiatedProtocol)
	}
	meet(t, s.Config(), client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 })).
		refused(t, "protocol version")
	meet(t, s.Config(), client(func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	})).refused(t, "handshake failure")
	s, _ = newStore(t, Config{Certificates: pair, MinVersion: "1.3", Curves: []Curve{"secp256r1"}})
	meet(t, s.Config(), client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })).refused(t, "protocol version")
	if m := meet(t, s.Config(), client(func(*tls.Config) {})).ok(t); m.server.CurveID != tls.CurveP256 {
		t.Errorf("%v", m.server.CurveID)
	}
}

func TestSameProtocolsSameConfig(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}})
	first := s.Config("h2")
	if s.Config("h2") != first || s.Config("h2", "http/1.1") == first {
		t.Error("a configuration is made for the same protocols twice, or for others once")
	}
}

func TestReload(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, log := newStore(t, Config{Certificates: []Certificate{
		f.pair("a", ca.forNames(t, "a.test")), f.pair("b", ca.forNames(t, "b.test"))}})
	server := s.Config()
	served := func(name string) string {
		return meet(t, server, &tls.Config{ServerName: name, RootCAs: ca.pool()}).ok(t).client.PeerCertificates[0].SerialNumber.String()
	}
	first := served("a.test")

	next := ca.forNames(t, "a.test", "new.test")
	f.write("a.pem", next.pem())
	s.Refresh() // the key is still the old one's
	if got := served("a.test"); got != first {
		t.Errorf("with a key that does not match: %s is served, want %s as before", got, first)
	}
	if !log.has("certificate not reloaded") || !log.has("private key does not match") {
		t.Error("it was not logged")
	}
	other := ca.forNames(t, "b.test")
	f.pair("b", other)
	s.Refresh()
	if got := served("b.test"); got != other.cert.SerialNumber.String() {
		t.Error("a broken pair keeps another from being reloaded")
	}
	f.write("a.key", next.keyPEM(t))
	s.Refresh()
	if got := served("new.test"); got != next.cert.SerialNumber.String() || served("a.test") != got {
		t.Error("the whole pair is not served")
	}
	if all := s.Certificates(); len(all) != 2 || !slices.Contains(all[0].Names, "new.test") || all[0].Expired ||
		!all[0].NotAfter.Equal(next.cert.NotAfter) || all[0].Source != s.cfg.Certificates[0].Cert {
		t.Errorf("%+v", all)
	}
}

func TestFilesAreWatched(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}})
	next := ca.forNames(t, "a.test")
	f.pair("a", next)
	until(t, "the new certificate", func() bool {
		return s.Certificates()[0].NotAfter.Equal(next.cert.NotAfter) &&
			s.index.Load().fallback[0].Leaf.SerialNumber.Cmp(next.cert.SerialNumber) == 0
	})
}

func TestReloadDropsNoHandshake(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{
		Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))},
		ClientAuth:   &ClientAuth{CA: f.write("ca.pem", ca.pem())},
	})
	client := &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.forNames(t, "c").tls()}}
	server := s.Config()
	var stop atomic.Bool
	var group sync.WaitGroup
	var met atomic.Int64
	for range 4 {
		group.Go(func() {
			for !stop.Load() && !t.Failed() {
				if m := meet(t, server, client); m.serverErr != nil || m.clientErr != nil {
					t.Errorf("server: %v; client: %v", m.serverErr, m.clientErr)
				}
				met.Add(1)
			}
		})
	}
	for range 20 {
		before := met.Load()
		f.pair("a", ca.forNames(t, "a.test"))
		f.write("ca.pem", ca.pem())
		s.Refresh()
		until(t, "handshakes", func() bool { return met.Load() >= before+4 || t.Failed() })
	}
	stop.Store(true)
	group.Wait()
}

func TestChoosingDoesNotAllocate(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test", "*.b.test"))}})
	for _, name := range []string{"a.test", "x.b.test", "stranger.test"} {
		hello := &tls.ClientHelloInfo{ServerName: name}
		if n := testing.AllocsPerRun(100, func() { s.certificate(hello) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestExpiredIsSaid(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	over := ca.sign(t, newKey(t), func(c *x509.Certificate) {
		c.DNSNames, c.NotAfter = []string{"over.test"}, time.Now().Add(-time.Minute)
	})
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("over", over)}})
	if all := s.Certificates(); !all[0].Expired {
		t.Errorf("%+v", all)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	r := newResponder(t, ca)
	own := f.pair("a", r.certificate(t, ca, "a.test"), ca)
	before := goleak.IgnoreCurrent()
	s, err := New(Config{Certificates: []Certificate{own}, ACME: &acme.Config{Domains: []string{"b.test"}, Storage: f.dir + "/store",
		Directory: "https://127.0.0.1:1/"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "a staple", func() bool { return !s.Certificates()[0].Stapled.IsZero() })
	meet(t, s.Config(), &tls.Config{ServerName: "a.test", RootCAs: ca.pool()}).ok(t)
	s.Close()
	c.Close()
	r.CloseClientConnections()
	// Who keeps a lock of certmagic's fresh sees within 5 s that it is gone.
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

func BenchmarkChoosing(b *testing.B) {
	leaf := &x509.Certificate{DNSNames: []string{"a.test", "*.b.test"}}
	s := &Store{}
	s.index.Store(newIndex([]*tls.Certificate{{Leaf: leaf}}))
	for _, name := range []string{"a.test", "x.b.test", "stranger.test"} {
		hello := &tls.ClientHelloInfo{ServerName: name}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.certificate(hello)
			}
		})
	}
}
