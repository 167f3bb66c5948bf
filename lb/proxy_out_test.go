package lb

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	judge "github.com/pires/go-proxyproto"

	"sluice/lb/health"
)

// sent is what the endpoint is told of a client that says what to f.
func sent(t testing.TB, f *front, heard <-chan told, what string) (c *net.TCPConn, h told) {
	t.Helper()
	c = f.dial("")
	_, err := io.WriteString(c, what)
	must(t, err)
	must(t, c.CloseWrite())
	_, err = io.ReadAll(c)
	must(t, err)
	return c, receive(t, "the endpoint is told", heard)
}

// The cluster says whether its endpoints are told who the client is, and the listener has the last word.
func TestEndpointIsToldOfTheClient(t *testing.T) {
	for _, x := range []struct {
		listener, cluster ProxyVersion
		version           byte // 0: nothing is told
	}{
		{"", "", 0}, {"", ProxyV1, 1}, {"", ProxyV2, 2}, {ProxyV1, "", 1}, {ProxyV2, "", 2}, {ProxyV1, ProxyV2, 1}, {ProxyV2, ProxyV1, 2},
	} {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			a, heard := telling(t, "a")
			cfg := of(RoundRobin, a)
			cfg.SendProxyProtocol = x.cluster
			f := newFront(t, frontConfig{address: address, preface: PrefaceConfig{SendProxyProtocol: x.listener}}, cfg)
			ids := map[string]bool{}
			for range 3 {
				c, h := sent(t, f, heard, "hello")
				if h.rest != "hello" {
					t.Errorf("the endpoint heard %q", h.rest)
				}
				if x.version == 0 {
					if h.header != nil {
						t.Errorf("nobody asked for %+v", h.header)
					}
					continue
				}
				if h.header == nil {
					t.Fatalf("listener %q, cluster %q: the endpoint was told nothing", x.listener, x.cluster)
				}
				if h.header.Version != x.version || h.client() != c.LocalAddr().String() || h.header.DestinationAddr.String() != f.listener.Bound() {
					t.Errorf("listener %q, cluster %q: v%d of %s to %s; want v%d of %s to %s", x.listener, x.cluster, h.header.Version, h.client(),
						h.header.DestinationAddr, x.version, c.LocalAddr(), f.listener.Bound())
				}
				if x.version == 2 {
					id := h.tlvs[judge.PP2_TYPE_UNIQUE_ID]
					if len(id) != 16 || ids[id] || len(h.tlvs) != 1 {
						t.Errorf("TLVs %q after %d ids", h.tlvs, len(ids))
					}
					ids[id] = true
				}
			}
			// The header is none of the session's bytes.
			f.counts(3, 0, 0, 0, 0, 15, 24)
		}
	}
}

// A chain of proxies speaks of one client, in whatever version.
func TestChainOfProxiesKeepsTheClient(t *testing.T) {
	tlvs := []judge.TLV{{Type: judge.PP2_TYPE_AUTHORITY, Value: []byte("shop.test")}, {Type: judge.PP2_TYPE_ALPN, Value: []byte("h2")},
		{Type: judge.PP2_TYPE_UNIQUE_ID, Value: []byte("session 7")}}
	nobody := format(t, &judge.Header{Version: 2, Command: judge.PROXY, TransportProtocol: judge.UNSPEC}, tlvs...)
	for name, x := range map[string]struct {
		comes, client, dest string
		tlvs                bool
	}{
		"v1":            {header1(someClient, someDest), someClient, someDest, false},
		"v1 IPv6":       {header1(client6, dest6), client6, dest6, false},
		"v2":            {header2(t, someClient, someDest), someClient, someDest, false},
		"v2 IPv6":       {header2(t, client6, dest6), client6, dest6, false},
		"v2, TLVs":      {header2(t, someClient, someDest, tlvs...), someClient, someDest, true},
		"v2 of nobody":  {nobody, peerItself, "", true},
		"v1 of unknown": {"PROXY UNKNOWN\r\n", peerItself, "", false},
	} {
		for _, version := range []ProxyVersion{ProxyV1, ProxyV2} {
			a, heard := telling(t, "a")
			cfg := of(RoundRobin, a)
			cfg.SendProxyProtocol = version
			f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyRequire}}, cfg)
			c, h := sent(t, f, heard, x.comes+"hello")
			client, dest := x.client, x.dest
			if client == peerItself {
				client, dest = c.LocalAddr().String(), f.listener.Bound()
			}
			if h.client() != client || h.header.DestinationAddr.String() != dest || h.rest != "hello" {
				t.Errorf("%s, then %s: %s to %s says %q; want %s to %s", name, version, h.client(), h.header.DestinationAddr, h.rest, client, dest)
			}
			if version == ProxyV1 {
				continue
			}
			for _, v := range tlvs {
				if got := h.tlvs[v.Type]; x.tlvs && got != string(v.Value) {
					t.Errorf("%s: TLV %d was %q, and became %q", name, v.Type, v.Value, got)
				}
			}
			if id := h.tlvs[judge.PP2_TYPE_UNIQUE_ID]; !x.tlvs && (len(id) != 16 || len(h.tlvs) != 1) {
				t.Errorf("%s: TLVs %q, want a unique id alone", name, h.tlvs)
			}
		}
	}
}

// A client on a UNIX socket has no address that anybody could be told.
func TestEndpointIsToldOfUnixClient(t *testing.T) {
	for version, local := range map[ProxyVersion]bool{ProxyV1: false, ProxyV2: true} {
		a, heard := telling(t, "a")
		f := newFront(t, frontConfig{address: "unix:" + filepath.Join(t.TempDir(), "s"), preface: PrefaceConfig{SendProxyProtocol: version}},
			of(RoundRobin, a))
		c, err := net.Dial("unix", strings.TrimPrefix(f.listener.Bound(), "unix:"))
		must(t, err)
		must(t, c.(*net.UnixConn).CloseWrite())
		_, err = io.ReadAll(c)
		must(t, err)
		must(t, c.Close())
		h := receive(t, "the endpoint is told", heard)
		if h.client() != "nobody" || h.header.Command.IsLocal() != local && version == ProxyV2 {
			t.Errorf("%s: %+v", version, h.header)
		}
	}
}

// What the client's TLS hello says is told with it, if somebody had to look at it; it is newer than what a proxy before
// us was told.
func TestEndpointIsToldOfTheHello(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "a.test", NextProtos: []string{"h2", "http/1.1"}})
	nameless := helloOf(t, &tls.Config{ServerName: "127.0.0.1", NextProtos: []string{"h2"}})
	other := header2(t, someClient, someDest, judge.TLV{Type: judge.PP2_TYPE_AUTHORITY, Value: []byte("old.test")},
		judge.TLV{Type: judge.PP2_TYPE_ALPN, Value: []byte("old")})
	for name, x := range map[string]struct {
		says, sni, alpn string
		routes          bool
	}{
		"hello":                    {hello, "a.test", "h2", true},
		"hello of no name":         {nameless, "", "h2", true},
		"hello after header":       {other + hello, "a.test", "h2", true},
		"no hello":                 {"hello", "", "", true},
		"hello that none looks at": {hello, "", "", false},
		"header, and that":         {other + hello, "old.test", "old", false},
	} {
		a, heard := telling(t, "a")
		cfg := of(RoundRobin, a)
		cfg.SendProxyProtocol = ProxyV2
		session := ProxyConfig{Cluster: "c"}
		if x.routes {
			session.SNI = []SNIRoute{{Names: []string{"a.test"}, Cluster: "c"}}
		}
		f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyOptional}, session: session}, cfg)
		_, h := sent(t, f, heard, x.says)
		if got := h.tlvs[judge.PP2_TYPE_AUTHORITY]; got != x.sni {
			t.Errorf("%s: told of name %q, want %q", name, got, x.sni)
		}
		if got := h.tlvs[judge.PP2_TYPE_ALPN]; got != x.alpn {
			t.Errorf("%s: told of protocol %q, want %q", name, got, x.alpn)
		}
		if !strings.HasSuffix(x.says, h.rest) || h.rest == "" {
			t.Errorf("%s: the endpoint heard %d bytes, which the client has not said", name, len(h.rest))
		}
	}
}

// Each endpoint that is tried is told.
func TestNextEndpointIsToldOfTheClient(t *testing.T) {
	a, heard := telling(t, "a")
	cfg := of(RoundRobin, refusing(t), a)
	cfg.SendProxyProtocol = ProxyV2
	f := newFront(t, frontConfig{}, cfg)
	c, h := sent(t, f, heard, "hello")
	if h.client() != c.LocalAddr().String() || h.rest != "hello" {
		t.Errorf("told of %s, and heard %q", h.client(), h.rest)
	}
	f.counts(1, 0, 1, 0, 0, 5, 8)
}

// The checks' connections are nobody's but ours, and say so.
func TestChecksSayThatTheyAreLocal(t *testing.T) {
	for _, version := range []ProxyVersion{"", ProxyV1, ProxyV2} {
		heard := make(chan *judge.Header, 100)
		asked := make(chan string, 100)
		address := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			r := bufio.NewReader(c)
			h, err := judge.Read(r)
			if err != nil && err != judge.ErrNoProxyProtocol {
				t.Errorf("%s: %v", version, err)
				return
			}
			req, err := http.ReadRequest(r)
			if err != nil {
				return // the last one is cut short
			}
			heard <- h
			asked <- req.URL.Path
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		})
		cfg := of(RoundRobin, address)
		cfg.SendProxyProtocol = version
		cfg.Health = &health.Config{HTTP: &health.HTTP{Path: "/healthz"}, Interval: 5 * time.Millisecond, Rise: 1, Fall: 1}
		cl := newCluster(t, newEngine(t, 1), cfg)
		ep := cl.Endpoints()[0]
		for range 2 {
			h := receive(t, "the endpoint is checked", heard)
			if path := <-asked; path != "/healthz" {
				t.Errorf("%s: asked for %q", version, path)
			}
			switch version {
			case "":
				if h != nil {
					t.Errorf("nobody asked for %+v", h)
				}
			case ProxyV1:
				if h == nil || h.Version != 1 || h.TransportProtocol != judge.UNSPEC {
					t.Errorf("v1: %+v, want UNKNOWN", h)
				}
			case ProxyV2:
				if h == nil || h.Version != 2 || !h.Command.IsLocal() {
					t.Errorf("v2: %+v, want LOCAL", h)
				}
			}
		}
		if ep.Down.Load() != 0 || !ep.Healthy() {
			t.Errorf("%s: it is down", version)
		}
	}
}
