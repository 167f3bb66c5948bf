package cli

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/engine/tlslayer"
	"sluice/lb/proxyproto"
)

// toTLS is a gateway in clear, a cluster of which speaks TLS; CLUSTER is more of it.
const toTLS = `listeners:
  - {name: gateway, address: "127.0.0.1:0", protocol: http, routes: api}
routes:
  api: [{match: {path_prefix: /}, cluster: origin}]
clusters:
  - {name: origin, CLUSTER}
engine: {loops: 1}
`

func beforeTLS(t testing.TB, p pki, cluster string) edge {
	t.Helper()
	return startEdge(t, p.in(strings.ReplaceAll(toTLS, "CLUSTER", cluster)))
}

// shows is a server's configuration that has a certificate.
func shows(c signed) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.tls()}, NextProtos: []string{"http/1.1"}}
}

// status is that of a GET on a connection of its own.
func (e edge) status(listener string) int {
	e.t.Helper()
	resp, _ := asked(e.t, connect(e.t, e.bound(listener)), "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	return resp.StatusCode
}

// From https to https: the endpoint is asked for by the name that is configured, and its connection used again.
func TestRequestsGoOnOverTLS(t *testing.T) {
	p := newPKI(t)
	for name, c := range map[string]struct{ listener, keys, sni string }{
		"from clear": {"protocol: http", "ca: DIR/ca.pem, server_name: a.test", "a.test"},
		"from TLS":   {"protocol: https, tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}]}", "ca: DIR/ca.pem, server_name: a.test", "a.test"},
		"by address": {"protocol: http", "ca: DIR/ca.pem", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var sni atomic.Value
			address, made := tlsOrigin(t, shows(p.host), func(w http.ResponseWriter, r *http.Request) {
				sni.Store(r.TLS.ServerName)
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%d", len(body))
			})
			text := strings.ReplaceAll(toTLS, "protocol: http", c.listener)
			e := startEdge(t, p.in(strings.ReplaceAll(text, "CLUSTER", "tls: {"+c.keys+"}, endpoints: [address: \""+address+"\"]")))
			var conn net.Conn = connect(t, e.bound("gateway"))
			if strings.Contains(c.listener, "https") {
				conn = e.dial("gateway", p.client())
			}
			r := bufio.NewReader(conn)
			for i := range 5 {
				size := 1 << (4 * i) // up to 64 KiB
				go fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: b.test\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
				if resp, body := answered(t, r, "POST"); resp.StatusCode != 200 || body != fmt.Sprint(size) {
					t.Fatalf("request %d: %s %q", i, resp.Status, body)
				}
			}
			if got := sni.Load(); made.Load() != 1 || got != c.sni {
				t.Errorf("%d connections, to %q", made.Load(), got)
			}
			if n := &e.handshakes.Counters().Client; n.TLS13.Load() != 1 {
				t.Errorf("%d handshakes are counted", n.TLS13.Load())
			}
		})
	}
}

// An endpoint whose certificate is not accepted counts as one that cannot be reached: the next is tried, and with no other the
// client has a 503, the log the reason.
func TestEndpointsThatAreNotWhoTheyOughtToBeAreLeft(t *testing.T) {
	p := newPKI(t)
	other := newCA(t, "another CA")
	expired := p.ca.sign(t, func(c *x509.Certificate) {
		c.DNSNames, c.NotAfter = []string{"a.test"}, time.Now().Add(-time.Hour)
	})
	good, _ := tlsOrigin(t, shows(p.host), echo)
	for name, c := range map[string]struct {
		server *tls.Config
		keys   string
		why    string
	}{
		"by another CA":   {shows(other.host(t, "a.test")), "ca: DIR/ca.pem, server_name: a.test", "unknown authority"},
		"for another":     {shows(p.ca.host(t, "b.test")), "ca: DIR/ca.pem, server_name: a.test", "not a.test"},
		"expired":         {shows(expired), "ca: DIR/ca.pem, server_name: a.test", "expired"},
		"not the pinned":  {shows(p.ca.host(t, "a.test")), "ca: DIR/ca.pem, server_name: a.test, pins: [\"" + pinOf(p.host) + "\"]", "pinned"},
		"of TLS 1.1 only": {&tls.Config{Certificates: []tls.Certificate{p.host.tls()}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "ca: DIR/ca.pem, server_name: a.test", "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			bad, _ := tlsOrigin(t, c.server, echo)
			for _, both := range []bool{false, true} {
				endpoints := fmt.Sprintf("{address: %q}", bad)
				if both {
					endpoints += fmt.Sprintf(", {address: %q}", good)
				}
				e := beforeTLS(t, p, "tls: {"+c.keys+"}, endpoints: ["+endpoints+"]")
				want := 503
				if both {
					want = 200
				}
				for range 4 {
					if got := e.status("gateway"); got != want {
						t.Fatalf("with a good endpoint (%t): %d, want %d", both, got, want)
					}
				}
				for _, ep := range e.current.Load().byName["origin"].Endpoints() {
					failures := ep.Local(e.engine.Loops()[0]).ConnectErrors.Load()
					if (failures > 0) != (ep.String() == bad) {
						t.Errorf("%s has %d connect errors", ep, failures)
					}
				}
				if !both {
					e.says(c.why)
				}
			}
		})
	}
}

// An endpoint in clear is none of TLS.
func TestEndpointsInClearAreLeft(t *testing.T) {
	p := newPKI(t)
	e := beforeTLS(t, p, fmt.Sprintf("tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}]", httpOrigin(t, echo)))
	if got := e.status("gateway"); got != 503 {
		t.Error("status", got)
	}
	if n := e.handshakes.Counters().Client.Failed(tlslayer.NotTLS); n != 1 {
		t.Errorf("%d handshakes failed by not_tls", n)
	}
}

// An endpoint that accepts connections and says nothing is left when the time to connect is over.
func TestEndpointsThatDoNotShakeHandsAreLeft(t *testing.T) {
	p := newPKI(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	good, _ := tlsOrigin(t, shows(p.host), echo)
	const text = "connect_timeout: 50ms, tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}%s]"
	if got := beforeTLS(t, p, fmt.Sprintf(text, silent.Addr(), "")).status("gateway"); got != 504 {
		t.Error("alone:", got)
	}
	e := beforeTLS(t, p, fmt.Sprintf(strings.Replace(text, "50ms", "1s", 1), silent.Addr(), fmt.Sprintf(", {address: %q}", good)))
	for range 2 {
		if got := e.status("gateway"); got != 200 {
			t.Error("with a good one:", got)
		}
	}
}

// Connections kept warm have their handshake behind them before anybody asks.
func TestWarmConnectionsHaveShakenHands(t *testing.T) {
	p := newPKI(t)
	address, made := tlsOrigin(t, shows(p.host), echo)
	e := beforeTLS(t, p, fmt.Sprintf("warm: 2, tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}]", address))
	n := &e.handshakes.Counters().Client
	eventually(t, "2 handshakes are done", func() bool { return n.TLS13.Load() == 2 && n.Failed(0) == 0 })
	if got := e.status("gateway"); got != 200 || made.Load() != 2 {
		t.Errorf("%d, by %d connections", got, made.Load())
	}
}

// Checks speak TLS as requests do: an endpoint with the wrong certificate is down.
func TestChecksSpeakTLS(t *testing.T) {
	p := newPKI(t)
	other := newCA(t, "another CA")
	for _, kind := range []string{"health: {interval: 20ms, rise: 1, fall: 1}", "health: {http: {path: /}, interval: 20ms, rise: 1, fall: 1}"} {
		good, _ := tlsOrigin(t, shows(p.host), echo)
		bad, _ := tlsOrigin(t, shows(other.host(t, "localhost")), echo)
		e := beforeTLS(t, p, fmt.Sprintf("%s, tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}, {address: %q}]", kind, good, bad))
		all := e.current.Load().byName["origin"].Endpoints()
		eventually(t, "the bad one is down", func() bool { return !all[1].Healthy() })
		e.says("unknown authority")
		if !all[0].Healthy() || all[0].Down.Load() > 0 {
			t.Errorf("%s: the good one is down too", kind)
		}
	}
}

// Mirrored requests and hedges go over TLS where their cluster does.
func TestMirrorsAndHedgesSpeakTLS(t *testing.T) {
	p := newPKI(t)
	var mirrored atomic.Int64
	mirror, _ := tlsOrigin(t, shows(p.host), func(w http.ResponseWriter, r *http.Request) { mirrored.Add(1) })
	slow := make(chan struct{})
	defer close(slow)
	first, _ := tlsOrigin(t, shows(p.host), func(w http.ResponseWriter, r *http.Request) { <-slow })
	second, _ := tlsOrigin(t, shows(p.host), echo)
	e := startEdge(t, p.in(fmt.Sprintf(`listeners:
  - {name: gateway, address: "127.0.0.1:0", protocol: http, routes: api}
routes:
  api:
    - {match: {path_prefix: /mirror}, cluster: plain, mirror: {cluster: mirror}}
    - {match: {path_prefix: /}, cluster: hedged}
clusters:
  - {name: plain, endpoints: [{address: %q}]}
  - {name: mirror, tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}]}
  - {name: hedged, tls: {ca: DIR/ca.pem}, hedge: {after: 5ms, max_percent: 100}, endpoints: [{address: %q}, {address: %q}]}
engine: {loops: 1}
`, httpOrigin(t, echo), mirror, first, second)))
	c := connect(t, e.bound("gateway"))
	if resp, _ := asked(t, c, "GET /mirror HTTP/1.1\r\nHost: a.test\r\n\r\n"); resp.StatusCode != 200 {
		t.Error("mirror:", resp.Status)
	}
	eventually(t, "the copy comes", func() bool { return mirrored.Load() == 1 })
	for range 2 { // one of them begins at the slow one
		if resp, _ := asked(t, c, getRoot); resp.StatusCode != 200 {
			t.Error("hedged:", resp.Status)
		}
	}
}

// preceded is a listener of TLS whose connections begin with a PROXY header, in clear.
type preceded struct {
	net.Listener
	headers chan proxyproto.Header
}

// Accept implements net.Listener.
func (l preceded) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	var h proxyproto.Header
	for n := 1; ; {
		if _, err := r.Peek(n); err != nil {
			c.Close()
			return c, nil
		}
		b, _ := r.Peek(r.Buffered())
		if size, err := proxyproto.Scan(b, &h); err == nil {
			h.SNI, h.ALPN = append([]byte(nil), h.SNI...), append([]byte(nil), h.ALPN...)
			_, _ = r.Discard(size)
			break
		} else if err != proxyproto.ErrPartial {
			c.Close()
			return c, nil
		}
		n = r.Buffered() + 1
	}
	l.headers <- h
	return readAhead{c, r}, nil
}

// readAhead is a connection of which some was read.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (c readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }

// precededOrigin serves HTTP over TLS behind PROXY headers.
func precededOrigin(t testing.TB, cfg *tls.Config) (string, chan proxyproto.Header) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l := preceded{ln, make(chan proxyproto.Header, 16)}
	s := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	go s.Serve(tls.NewListener(l, cfg))
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String(), l.headers
}

// A PROXY header comes before TLS, whichever way.
func TestPROXYHeadersComeBeforeTLS(t *testing.T) {
	p := newPKI(t)
	address, headers := precededOrigin(t, shows(p.host))
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			text := strings.ReplaceAll(toTLS, "protocol: http", "protocol: https, proxy_protocol: require, tls: {certificates: [{cert: DIR/host.pem, key: DIR/host.key}]}")
			e := startEdge(t, p.in(strings.ReplaceAll(text, "CLUSTER",
				fmt.Sprintf("send_proxy_protocol: %s, tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}]", version, address))))
			raw := connect(t, e.bound("gateway"))
			_, err := io.WriteString(raw, "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
			must(t, err)
			c := tls.Client(raw, p.client())
			resp, body := asked(t, c, getRoot)
			if resp.StatusCode != 200 || body != "GET / https " {
				t.Errorf("%s %q", resp.Status, body)
			}
			if h := <-headers; h.Source.String() != "192.0.2.7:1234" {
				t.Errorf("the endpoint is told of %v", h.Source)
			}
		})
	}
}

// So it does before the copies of requests.
func TestPROXYHeadersComeBeforeTheTLSOfMirrors(t *testing.T) {
	p := newPKI(t)
	address, headers := precededOrigin(t, shows(p.host))
	e := startEdge(t, p.in(fmt.Sprintf(`listeners:
  - {name: gateway, address: "127.0.0.1:0", protocol: http, routes: api}
routes:
  api: [{match: {path_prefix: /}, cluster: plain, mirror: {cluster: mirror}}]
clusters:
  - {name: plain, endpoints: [{address: %q}]}
  - {name: mirror, send_proxy_protocol: v2, tls: {ca: DIR/ca.pem}, endpoints: [{address: %q}]}
engine: {loops: 1}
`, httpOrigin(t, echo), address)))
	c := connect(t, e.bound("gateway"))
	for range 2 {
		if resp, _ := asked(t, c, getRoot); resp.StatusCode != 200 {
			t.Error(resp.Status)
		}
		select {
		case h := <-headers:
			if h.Source.String() != c.LocalAddr().String() {
				t.Errorf("the mirror is told of %v", h.Source)
			}
		case <-within():
			t.Fatal("no copy comes")
		}
	}
	n := &e.handshakes.Counters().Client.TLS13
	eventually(t, "each copy has its handshake", func() bool { return n.Load() == 2 })
}

func pinOf(c signed) string {
	sum := sha256.Sum256(c.cert.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}
