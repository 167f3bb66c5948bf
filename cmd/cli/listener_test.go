package cli

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reloaded puts another configuration in force, which must be good.
func reloaded(t testing.TB, s *server, text string) {
	t.Helper()
	f, err := parseFile("test.yaml", []byte(text), nil)
	must(t, err)
	must(t, s.apply(f))
}

// echoDatagrams is an endpoint that sends datagrams back with its name before them.
func echoDatagrams(t testing.TB, name string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(append([]byte(name+" "), b[:n]...), from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}

// A udp listener and a tcp listener may have one address, as DNS has; access lists hold for both.
func TestUDPListener(t *testing.T) {
	a, b, web := echoDatagrams(t, "a"), echoDatagrams(t, "b"), origin(t, "web")
	at := freePort(t)
	config := func(endpoint, extra string) string {
		return fmt.Sprintf(`listeners:
  - {name: datagrams, address: %q, protocol: udp, cluster: echo, responses: 1%s}
  - {name: stream, address: %q, protocol: tcp, cluster: web%s}
clusters:
  - {name: echo, picker: maglev, endpoints: [address: %q]}
  - {name: web, endpoints: [address: %q]}
admin: {address: "127.0.0.1:0"}
engine: {loops: 2}
`, at, extra, at, extra, endpoint, web)
	}
	s := startServer(t, config(a, ""))
	ask := func() (string, error) {
		c, err := net.Dial("udp", at)
		must(t, err)
		defer c.Close()
		_, err = c.Write([]byte("who"))
		must(t, err)
		must(t, c.SetDeadline(time.Now().Add(patience)))
		answer := make([]byte, 64)
		n, err := c.Read(answer)
		return string(answer[:n]), err
	}
	if got, err := ask(); got != "a who" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if status, body := get(t, "http://"+at+"/x"); status != 200 || !strings.HasPrefix(body, "web /x") {
		t.Errorf("%d %q", status, body)
	}
	reloaded(t, s, config(b, ""))
	if got, err := ask(); got != "b who" || err != nil {
		t.Errorf("after the reload: %q, %v", got, err)
	}
	var page bytes.Buffer
	s.writeMetrics(&page)
	for _, line := range []string{`sluice_udp_flows_total{listener="datagrams"} 2`, `sluice_udp_flows_open{listener="datagrams"} 0`} {
		if !strings.Contains(page.String(), line+"\n") {
			t.Errorf("the metrics do not have %s", line)
		}
	}
	reloaded(t, s, config(b, ", deny: [127.0.0.0/8]"))
	denied := func() uint64 {
		n := uint64(0)
		for i := range s.current.Load().named("datagrams").udp.Loops {
			n += s.current.Load().named("datagrams").udp.Loops[i].Denied.Load()
		}
		return n
	}
	eventually(t, "datagrams are denied", func() bool {
		c, err := net.Dial("udp", at)
		must(t, err)
		defer c.Close()
		_, _ = c.Write([]byte("who"))
		return denied() > 0
	})
	if _, err := http.Get("http://" + at); err == nil {
		t.Error("a denied client is served")
	}
}

// TLS is routed by the name that is asked for, and ends at the endpoint.
func TestSNIListener(t *testing.T) {
	site := func(name string) string {
		h := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
		t.Cleanup(h.Close)
		return h.Listener.Addr().String()
	}
	s := startServer(t, fmt.Sprintf(`listeners:
  - name: tls
    address: "127.0.0.1:0"
    protocol: tcp
    sni:
      - {names: [api.test], cluster: api}
      - {names: ["*.shop.test"], cluster: shop}
clusters:
  - {name: api, endpoints: [address: %q]}
  - {name: shop, endpoints: [address: %q]}
engine: {loops: 1}
`, site("api"), site("shop")))
	ask := func(name string) string {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: name}, DisableKeepAlives: true}
		r, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + s.bound("tls"))
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return string(b)
	}
	for name, want := range map[string]string{"api.test": "api", "a.shop.test": "shop", "a.b.shop.test": "shop"} {
		if got := ask(name); got != want {
			t.Errorf("%s is answered by %q", name, got)
		}
	}
	if got := ask("shop.test"); !strings.Contains(got, "unrecognized name") {
		t.Errorf("a name that nobody serves: %s", got)
	}
}

// The usual deployment: the load balancer tells the gateway who the client is, and the gateway the service.
func TestClientIsSeenThroughTheChain(t *testing.T) {
	seen := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-For"))
	}))
	t.Cleanup(seen.Close)
	gateway := freePort(t)
	s := startServer(t, fmt.Sprintf(`listeners:
  - {name: edge, address: "127.0.0.1:0", protocol: tcp, cluster: gateways}
  - {name: gateway, address: %q, protocol: http, routes: all, proxy_protocol: require, proxy_trusted: [127.0.0.1]}
routes:
  all: [{match: {path_prefix: /}, cluster: service}]
clusters:
  - {name: gateways, endpoints: [address: %q], send_proxy_protocol: v2}
  - {name: service, endpoints: [address: %q]}
engine: {loops: 2}
`, gateway, gateway, seen.Listener.Addr()))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}
	h := http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}, Timeout: patience}
	r, err := h.Get("http://" + s.bound("edge"))
	must(t, err)
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); string(b) != "127.0.0.7" {
		t.Errorf("the service is told of %q", b)
	}
	// The gateway wants to know, and lets nobody else say so.
	for _, from := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 7)} {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", gateway)
		if err != nil {
			continue // reset before we knew that it was there
		}
		_, told := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if b, err := io.ReadAll(c); len(b) > 0 || err == nil && told == nil {
			t.Errorf("from %s: %q, %v; want a reset", from, b, err)
		}
		c.Close()
	}
}

// The files of access lists and of endpoints are followed while the edge runs.
func TestFilesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	deny, endpoints := filepath.Join(dir, "deny"), filepath.Join(dir, "endpoints.yaml")
	put := func(name, text string) {
		must(t, os.WriteFile(name+".new", []byte(text), 0o600))
		must(t, os.Rename(name+".new", name))
	}
	put(deny, "# nobody\n")
	put(endpoints, fmt.Sprintf("- {address: %q}\n", origin(t, "a")))
	config := fmt.Sprintf(`listeners:
  - {name: edge, address: "127.0.0.1:0", protocol: tcp, cluster: web, deny_file: %q}
clusters:
  - {name: web, discovery: {file: {path: %q, interval: 10ms}}}
engine: {loops: 1}
`, deny, endpoints)
	s := startServer(t, config)
	asks := func(want string) func() bool {
		return func() bool {
			c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
			r, err := c.Get("http://" + s.bound("edge"))
			if err != nil {
				return want == ""
			}
			defer r.Body.Close()
			b, _ := io.ReadAll(r.Body)
			return want != "" && strings.HasPrefix(string(b), want)
		}
	}
	eventually(t, "the endpoint is found", asks("a"))
	put(endpoints, fmt.Sprintf("- {address: %q}\n", origin(t, "b")))
	eventually(t, "it is exchanged for another", asks("b"))
	put(deny, "127.0.0.1 # us\n")
	eventually(t, "we are denied", asks(""))
	put(deny, "127.0.0.300\n") // wrong: the list before stays
	reloaded(t, s, config+"drain_timeout: 7s\n")
	if !asks("")() {
		t.Error("a wrong file lets us in")
	}
	put(deny, "127.0.0.2\n")
	eventually(t, "we are let in", asks("b"))
}

// A bad file of prefixes is found when the edge starts, and named.
func TestBadAccessFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deny")
	must(t, os.WriteFile(file, []byte("10.0.0.0/8\n\n10.0.0.0/33\n"), 0o600))
	f, err := parseFile("test.yaml", fmt.Appendf(nil, `listeners:
  - {name: edge, address: "127.0.0.1:0", protocol: tcp, cluster: web, deny_file: %q}
clusters: [{name: web, endpoints: [address: "127.0.0.1:9"]}]
`, file), nil)
	must(t, err)
	s, err := start(f, slog.New(slog.DiscardHandler))
	if err == nil {
		s.stop()
		t.Fatal("it starts")
	}
	if !strings.Contains(err.Error(), file+":3") || !strings.Contains(err.Error(), "edge") {
		t.Errorf("%v", err)
	}
}

// Each protocol has its own keys, and says so of the others'.
func TestKeysOfOtherProtocols(t *testing.T) {
	f := func(listener string, want ...string) {
		t.Helper()
		_, err := parseFile("test.yaml", []byte(`listeners: [{name: l, address: "127.0.0.1:80", `+listener+`}]
routes: {r: []}
clusters: [{name: c, endpoints: [address: "127.0.0.1:9"]}]
`), nil)
		if len(want) == 0 {
			must(t, err)
			return
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v; want %s", listener, err, w)
			}
		}
	}
	f("protocol: udp, cluster: c, session_timeout: 3s, responses: 0, max_flows: 5, allow: [10.0.0.0/8]")
	f("protocol: tcp, cluster: c, session_timeout: 3s, sni: [{names: [a.test], cluster: c}], maxconn: 5, dscp: ef")
	f("protocol: tcp, sni: [{names: [a.test], cluster: c}]")
	f("protocol: http, routes: r, proxy_protocol: optional, send_proxy_protocol: v1, accept_rate: 10/s")
	f("protocol: udp, cluster: c, maxconn: 5, proxy_protocol: require, sni: [{names: [a.test], cluster: c}]",
		`key "maxconn" is not for udp listeners, but for tcp, http, tls and https`, `key "proxy_protocol" is not`, `key "sni" is not for udp listeners, but for tcp`)
	f("protocol: tcp, cluster: c, responses: 1", "is not for tcp listeners, but for udp")
	f("protocol: tcp, cluster: c, routes: r, header_timeout: 1s", `key "routes" is not for tcp listeners, but for http`)
	f("protocol: http, routes: r, session_timeout: 1s", "is not for http listeners, but for tcp, tls and udp")
	f("protocol: http, routes: r, hello_timeout: 1s", "is not for http listeners, but for tcp")
	f("protocol: udp", "a udp listener needs a cluster")
	f("protocol: tcp, sni: [{names: [a.test, A.test, '*.*.b'], cluster: d}]", `no cluster named "d"`, `"A.test" is there twice`, "*.*.b")
	f("protocol: tcp, cluster: c, proxy_trusted: [10.0.0.0/8, x]", `"x" is neither an address`, "proxy_trusted and proxy_timeout are for")
	f("protocol: tcp, cluster: c, proxy_protocol: requird", `did you mean "require"`)
	f("protocol: tcp, cluster: c, accept_rate: 5", "not a rate")
	f("protocol: tcp, cluster: c, deny: [10.0.0.0/33]", "10.0.0.0/33")
}
