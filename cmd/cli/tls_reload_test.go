package cli

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// reloads is a gateway over TLS and a listener of sessions over TLS, on addresses that last.
type reloads struct {
	pki
	text string
}

func newReloads(t testing.TB) reloads {
	t.Helper()
	p := newPKI(t)
	address, _ := tlsOrigin(t, shows(p.host), echo)
	return reloads{p, p.in(fmt.Sprintf(`listeners:
  - {name: https, address: %q, protocol: https, routes: api, tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}]}}
  - {name: tls, address: %q, protocol: tls, cluster: origin, tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}]}}
  - {name: stays, address: %q, protocol: http, routes: api}
routes:
  api: [{match: {path_prefix: /}, cluster: origin}]
clusters:
  - {name: origin, tls: {ca: DIR/ca.pem, server_name: a.test}, endpoints: [address: %q]}
engine: {loops: 1}
`, freePort(t), freePort(t), freePort(t), address))}
}

// open are connections that a test holds over a change; serial is of the certificate that they were shown.
type open struct {
	t      testing.TB
	name   string
	conn   net.Conn
	r      *bufio.Reader
	serial string
}

func (r reloads) open(e edge) (all []open) {
	r.t.Helper()
	for _, name := range []string{"https", "tls"} {
		c := e.dial(name, r.client())
		o := open{r.t, name, c, bufio.NewReader(c), shown(c)}
		o.get()
		all = append(all, o)
	}
	return all
}

func shown(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }

func (o open) get() {
	o.t.Helper()
	_, err := io.WriteString(o.conn, getRoot)
	if err != nil {
		o.t.Fatalf("%s: %v", o.name, err)
	}
	resp, err := http.ReadResponse(o.r, nil)
	if err != nil {
		o.t.Fatalf("%s: %v", o.name, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != 200 {
		o.t.Errorf("%s: %s", o.name, resp.Status)
	}
}

// showsNow is the serial number that new clients are shown by both listeners; empty: they differ.
func (r reloads) showsNow(e edge) string {
	r.t.Helper()
	cfg := r.client()
	cfg.InsecureSkipVerify = true
	a, b := shown(e.dial("https", cfg)), shown(e.dial("tls", cfg))
	if a != b {
		return ""
	}
	return a
}

// A new pair is in use by itself, and at HUP at once; a broken one is not, and the one before stays. No connection is dropped.
func TestCertificatesAreExchangedUnderOpenConnections(t *testing.T) {
	r := newReloads(t)
	e := startEdge(t, r.text)
	before := r.open(e)

	second := r.ca.host(t, "a.test")
	r.pair("host", second)
	eventually(t, "the second is shown", func() bool { return r.showsNow(e) == second.cert.SerialNumber.String() })

	third := r.ca.host(t, "a.test")
	r.pair("host", third)
	e.takes(r.text)
	if got := r.showsNow(e); got != third.cert.SerialNumber.String() {
		t.Errorf("after HUP %s is shown", got)
	}

	r.write("host.key", second.keyPEM(t))
	e.says("certificate not reloaded")
	e.refuses(r.text)
	e.says("host.key")
	if got := r.showsNow(e); got != third.cert.SerialNumber.String() {
		t.Errorf("with a broken pair %s is shown", got)
	}
	for _, o := range before {
		if o.serial != r.host.cert.SerialNumber.String() {
			t.Errorf("%s was shown %s", o.name, o.serial)
		}
		o.get()
	}
}

// What is configured of TLS on a listener is for who comes then.
func TestListenersChangeTheirTLSUnderOpenConnections(t *testing.T) {
	r := newReloads(t)
	e := startEdge(t, r.text)
	before := r.open(e)
	old := r.client()
	old.MaxVersion = tls.VersionTLS12
	e.dial("https", old)
	e.dial("tls", old)

	e.takes(strings.ReplaceAll(r.text, "host.key}]", "host.key}], min_version: \"1.3\""))
	for _, name := range []string{"https", "tls"} {
		if c, err := tls.Dial("tcp", e.bound(name), old); err == nil {
			c.Close()
			t.Errorf("%s still speaks TLS 1.2", name)
		}
	}
	r.open(e)
	for _, o := range before {
		o.get()
	}
}

// TLS comes to a listener, and goes: the socket stays, and so do connections.
func TestListenersBeginAndCeaseToSpeakTLSUnderOpenConnections(t *testing.T) {
	r := newReloads(t)
	e := startEdge(t, r.text)
	before := r.open(e)
	const terms = ", tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}]}"
	clear := strings.NewReplacer(r.in(terms), "", "protocol: https", "protocol: http", "protocol: tls", "protocol: tcp").Replace(r.text)
	e.takes(clear)
	for _, name := range []string{"https", "tls"} {
		c := connect(t, e.bound(name))
		open{t, name + " in clear", c, bufio.NewReader(c), ""}.get()
	}
	e.takes(r.text)
	r.open(e)
	for _, o := range before {
		o.get()
	}
}

// A listener that is removed takes nobody any more, and leaves who is there.
func TestListenersOfTLSAreRemovedUnderOpenConnections(t *testing.T) {
	r := newReloads(t)
	e := startEdge(t, r.text)
	addresses := []string{e.bound("https"), e.bound("tls")}
	before := r.open(e)
	var kept []string
	for line := range strings.Lines(r.text) {
		if !strings.Contains(line, "name: https") && !strings.Contains(line, "name: tls") {
			kept = append(kept, line)
		}
	}
	e.takes(strings.Join(kept, ""))
	for _, a := range addresses {
		if _, err := net.Dial("tcp", a); err == nil || !strings.Contains(err.Error(), syscall.ECONNREFUSED.Error()) {
			t.Errorf("dial: %v", err)
		}
	}
	for _, o := range before {
		o.get()
	}
}

// A cluster that changes its TLS, by the configuration or by its files, is spoken to as it is now: connections kept warm by the old
// terms are not used any more, those that are in use go on.
func TestClustersChangeTheirTLSUnderOpenConnections(t *testing.T) {
	r := newReloads(t)
	e := startEdge(t, r.text)
	before := r.open(e)
	session := before[1]

	e.takes(strings.Replace(r.text, "server_name: a.test", "server_name: b.test", 1))
	if got := e.status("stays"); got != 503 {
		t.Errorf("by another name: %d", got)
	}
	session.get()
	e.takes(r.text)
	if got := e.status("stays"); got != 200 {
		t.Errorf("by the right name again: %d", got)
	}

	other := newCA(t, "another CA")
	r.write("ca.pem", other.pem())
	eventually(t, "the endpoint is not trusted any more", func() bool { return e.status("stays") == 503 })
	session.get()
	r.write("ca.pem", []byte("nothing"))
	e.says("TLS towards endpoints not reloaded")
	r.write("ca.pem", r.ca.pem())
	eventually(t, "it is trusted again", func() bool { return e.status("stays") == 200 })
	session.get()
}

// Reloads that change the TLS of everything, under load: no request fails that was begun on a connection that stands.
func TestTLSIsReloadedUnderLoad(t *testing.T) {
	r := newReloads(t)
	e := startEdge(t, r.text)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			tr := &http.Transport{TLSClientConfig: r.client(), DisableKeepAlives: i%2 == 0}
			defer tr.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				req, _ := http.NewRequest("GET", "https://"+e.bound([]string{"https", "tls"}[i/2])+"/", nil)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Errorf("request %d of client %d: %v", n, i, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("request %d of client %d: %s", n, i, resp.Status)
					return
				}
			}
		})
	}
	n := &e.handshakes.Counters().Server
	for i := range 60 {
		text := r.text
		if i%3 > 0 {
			text = strings.ReplaceAll(text, "host.key}]", fmt.Sprintf("host.key}], tickets: {keep: %d}", i%7))
		}
		if i%5 > 0 {
			text = strings.Replace(text, "server_name: a.test", fmt.Sprintf("server_name: a.test, sessions: %d", i%5), 1)
		}
		r.pair("host", r.ca.host(t, "a.test"))
		e.takes(text)
		now := n.TLS13.Load()
		eventually(t, "handshakes go on", func() bool { return n.TLS13.Load() >= now+4 || t.Failed() })
	}
	close(stop)
	load.Wait()
}
