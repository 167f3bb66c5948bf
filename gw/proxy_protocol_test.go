package gw

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	judge "github.com/pires/go-proxyproto"
	"github.com/valyala/fasthttp"

	"sluice/engine"
	"sluice/gw/filter"
	"sluice/gw/h1"
	"sluice/gw/route"
	"sluice/lb"
)

const (
	someClient = "192.0.2.7:4711"
	someDest   = "198.51.100.1:443"
	client6    = "[2001:db8::7]:4711"
)

// header1 is a PROXY header of version 1.
func header1(source string) string {
	host, port, _ := net.SplitHostPort(source)
	if strings.Contains(host, ":") {
		return fmt.Sprintf("PROXY TCP6 %s 2001:db8::1 %s 443\r\n", host, port)
	}
	return fmt.Sprintf("PROXY TCP4 %s 198.51.100.1 %s 443\r\n", host, port)
}

// header2 is one of version 2, as go-proxyproto writes it.
func header2(t testing.TB, source string, tlvs ...judge.TLV) string {
	t.Helper()
	from, err := net.ResolveTCPAddr("tcp", source)
	must(t, err)
	to, err := net.ResolveTCPAddr("tcp", someDest)
	must(t, err)
	h := judge.HeaderProxyFromAddrs(2, from, to)
	must(t, h.SetTLVs(tlvs))
	b, err := h.Format()
	must(t, err)
	return string(b)
}

// fronted puts another listener before the edge's gateway, which expects PROXY headers as cfg says.
func (e *edge) fronted(t testing.TB, cfg lb.PrefaceConfig) (address string, n *lb.PrefaceCounters) {
	t.Helper()
	stats := &lb.PrefaceStats{Loops: make([]lb.PrefaceCounters, 1)}
	ln, err := e.engine.ListenWith("127.0.0.1:0", engine.ListenOptions{}, engine.Terms{Handler: lb.NewPreface(cfg, e.gateway, stats)})
	must(t, err)
	return ln.Bound(), &stats.Loops[0]
}

func dial(t testing.TB, address string) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return &client{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

// spy is a filter that notes whom it sees.
type spy struct{ saw chan string }

func (s spy) Request(ctx *fasthttp.RequestCtx) filter.Result {
	s.saw <- ctx.RemoteAddr().String()
	return filter.Continue
}

func (spy) Response(*fasthttp.RequestCtx) {}

// Whoever looks at the client of a connection with a PROXY header sees the header's source, in each of its requests.
func TestHeaderNamesTheClient(t *testing.T) {
	rec := recordOK(t)
	e := toUpstream(t, Config{}, rec.address)
	saw := make(chan string, 16)
	target, ok := e.gateway.routes.Find(&h1.Request{}, []byte("a.test"), []byte("/"), netip.Addr{}, &route.Captures{})
	if !ok {
		t.Fatal("no route")
	}
	target.filters = []filter.Filter{spy{saw}}
	address, counters := e.fronted(t, lb.PrefaceConfig{ProxyProtocol: lb.ProxyOptional})
	const get = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n"
	for name, x := range map[string]struct{ header, client string }{
		"v1":         {header1(someClient), someClient},
		"v1, IPv6":   {header1(client6), client6},
		"v2":         {header2(t, someClient), someClient},
		"v2, IPv6":   {header2(t, client6), client6},
		"v1 UNKNOWN": {"PROXY UNKNOWN\r\n", ""},
		"v2 LOCAL":   {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", ""},
		"none":       {"", ""},
	} {
		for _, way := range []string{"at once", "apart", "byte by byte"} {
			c := dial(t, address)
			client := x.client
			if client == "" {
				client = c.LocalAddr().String()
			}
			first := x.header + get
			switch way {
			case "apart":
				c.send(x.header)
				e.on(func(*worker) {})
				first = get
			case "byte by byte":
				for i := range first {
					c.send(first[i : i+1])
					e.on(func(*worker) {})
				}
				first = ""
			}
			for i := range 3 {
				c.send(first)
				first = get
				if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
					t.Fatalf("%s, %s: status %d", name, way, resp.StatusCode)
				}
				if got := <-saw; got != client {
					t.Errorf("%s, %s: a filter of request %d sees %s, want %s", name, way, i, got, client)
				}
				host, _, _ := net.SplitHostPort(client)
				reqs, _ := rec.requests()
				if got := reqs[len(reqs)-1].Header.Values("X-Forwarded-For"); len(got) != 1 || got[0] != host {
					t.Errorf("%s, %s: request %d is forwarded for %q, want %s", name, way, i, got, host)
				}
			}
			must(t, c.Close())
		}
	}
	if n := counters.Malformed.Load() + counters.Untrusted.Load() + counters.Expired.Load(); n > 0 {
		t.Errorf("%d headers were refused", n)
	}
}

// A gateway is as strict about who may say whose connection it is as a load balancer.
func TestHeaderIsRefused(t *testing.T) {
	rec := recordOK(t)
	e := toUpstream(t, Config{}, rec.address)
	get := "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	f := func(name string, cfg lb.PrefaceConfig, says string, malformed, untrusted, expired uint64) {
		t.Helper()
		address, n := e.fronted(t, cfg)
		var b []byte
		c, err := net.Dial("tcp", address)
		if err == nil {
			defer c.Close()
			must(t, c.SetDeadline(time.Now().Add(patience)))
			if _, err = io.WriteString(c, says); err == nil {
				b, err = io.ReadAll(c)
			}
		}
		if len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: the client got %q, %v; want a reset", name, b, err)
		}
		if n.Malformed.Load() != malformed || n.Untrusted.Load() != untrusted || n.Expired.Load() != expired {
			t.Errorf("%s: %d malformed, %d untrusted, %d expired", name, n.Malformed.Load(), n.Untrusted.Load(), n.Expired.Load())
		}
	}
	require := lb.PrefaceConfig{ProxyProtocol: lb.ProxyRequire}
	f("none", require, get, 1, 0, 0)
	f("garbage", require, "PROXY TCP4 x\r\n"+get, 1, 0, 0)
	f("twice", require, header1(someClient)+header1(client6)+get, 1, 0, 0)
	f("silence", lb.PrefaceConfig{ProxyProtocol: lb.ProxyRequire, ProxyTimeout: short}, "", 0, 0, 1)
	f("half", lb.PrefaceConfig{ProxyProtocol: lb.ProxyOptional, ProxyTimeout: short}, "PROXY TCP4 ", 0, 0, 1)
	f("stranger", lb.PrefaceConfig{ProxyProtocol: lb.ProxyRequire, ProxyTrusted: []string{"127.0.0.2"}}, header1(someClient)+get, 0, 1, 0)
	f("lying stranger", lb.PrefaceConfig{ProxyProtocol: lb.ProxyOptional, ProxyTrusted: []string{"127.0.0.2"}}, header1(someClient)+get, 0, 1, 0)
	if reqs, _ := rec.requests(); len(reqs) > 0 {
		t.Errorf("the upstream got %d requests", len(reqs))
	}
}

// hash_key says whether the header's address or the peer's decides where an exchange goes.
func TestHeaderPlacesTheClient(t *testing.T) {
	for _, key := range []lb.HashKey{lb.ClientIP, lb.PeerIP} {
		var addresses []string
		for i := range 3 {
			addresses = append(addresses, record(t, func(int, *seen) (string, error) {
				return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", i), nil
			}).address)
		}
		cfg := cluster("c", addresses...)
		cfg.Picker, cfg.HashKey = lb.Maglev, key
		e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
		address, _ := e.fronted(t, lb.PrefaceConfig{ProxyProtocol: lb.ProxyRequire})
		served := map[string]bool{}
		for i := 1; i <= 12; i++ {
			first := ""
			for port := 1; port <= 3; port++ {
				c := dial(t, address)
				c.send(header1(fmt.Sprintf("192.0.2.%d:%d", i, port)))
				_, body := c.get("/")
				if first == "" {
					first = body
				} else if body != first {
					t.Errorf("%s: client %d is served by %s, and then by %s", key, i, first, body)
				}
			}
			served[first] = true
		}
		if one := len(served) == 1; one != (key == lb.PeerIP) {
			t.Errorf("%s: %d endpoints serve 12 clients of one peer", key, len(served))
		}
	}
}

// arrival is one request as an upstream saw it that is told of clients.
type arrival struct {
	conn, nth int // of its connection, and which it was there
	client    string
	tlvs      map[judge.PP2Type]string
	body      string
}

// told is an upstream that notes the PROXY header before the requests of each connection, and answers 200.
type told struct {
	address string
	mu      sync.Mutex
	conns   int
	came    []arrival
}

func tellMe(t testing.TB) *told {
	u := &told{}
	u.address = serveTCP(t, func(c *net.TCPConn) {
		u.mu.Lock()
		conn := u.conns
		u.conns++
		u.mu.Unlock()
		r := bufio.NewReader(c)
		a := arrival{conn: conn, client: "nobody", tlvs: map[judge.PP2Type]string{}}
		if h, err := judge.Read(r); err == nil {
			a.client = h.SourceAddr.String()
			tlvs, _ := h.TLVs()
			for _, v := range tlvs {
				a.tlvs[v.Type] = string(v.Value)
			}
		} else if !errors.Is(err, judge.ErrNoProxyProtocol) {
			return
		}
		for ; ; a.nth++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			a.body = string(b)
			u.mu.Lock()
			u.came = append(u.came, a)
			u.mu.Unlock()
			if _, err := io.WriteString(c, ok); err != nil {
				return
			}
		}
	})
	return u
}

func (u *told) requests() []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]arrival(nil), u.came...)
}

// A connection that began with one client's address is never another's: each exchange has its own, and nothing of it is
// kept warm.
func TestUpstreamConnectionIsOfOneClient(t *testing.T) {
	for _, version := range []lb.ProxyVersion{lb.ProxyV1, lb.ProxyV2} {
		u := tellMe(t)
		cfg := cluster("c", u.address)
		cfg.SendProxyProtocol = version
		e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
		clients := []*client{e.dial(t), e.dial(t)}
		for range 3 {
			for _, c := range clients {
				if status, _ := c.get("/"); status != 200 {
					t.Fatalf("status %d", status)
				}
			}
		}
		ids := map[string]bool{}
		for i, a := range u.requests() {
			if want := clients[i%2].LocalAddr().String(); a.client != want || a.nth != 0 {
				t.Errorf("%s: request %d is the %dth of a connection of %s, want one of its own, of %s", version, i, a.nth, a.client, want)
			}
			id := a.tlvs[judge.PP2_TYPE_UNIQUE_ID]
			if version == lb.ProxyV2 && (len(id) != 16 || ids[id]) {
				t.Errorf("id %q after %d others", id, len(ids))
			}
			ids[id] = true
		}
		eventually(t, "nothing is kept", func() bool {
			idle, open := 0, e.engine.Open()
			e.on(func(w *worker) { idle = len(e.clusters["c"].Endpoints()[0].Local(w.loop).Idle) })
			return idle == 0 && open == int64(len(clients))
		})
	}
}

// A connection that began without a header, because another listener asked for none, is nobody's who needs one.
func TestWarmConnectionIsNotOfOneClient(t *testing.T) {
	u := tellMe(t)
	e := toUpstream(t, Config{}, u.address)
	c := e.dial(t)
	c.get("/")
	eventually(t, "the connection is kept", func() (kept bool) {
		e.on(func(w *worker) {
			kept = len(e.clusters["c"].Endpoints()[0].Local(w.loop).Idle) == 1
			e.gateway.sendProxy = lb.ProxyV2
		})
		return kept
	})
	c.get("/")
	came := u.requests()
	if len(came) != 2 || came[0].client != "nobody" || came[1].client != c.LocalAddr().String() || came[1].conn == came[0].conn {
		t.Errorf("%+v", came)
	}
}

// What the client's own header said goes on to the upstream.
func TestChainOfProxiesKeepsTheClient(t *testing.T) {
	u := tellMe(t)
	cfg := cluster("c", u.address)
	cfg.SendProxyProtocol = lb.ProxyV1
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	e.gateway.sendProxy = lb.ProxyV2 // the listener's has the last word
	address, _ := e.fronted(t, lb.PrefaceConfig{ProxyProtocol: lb.ProxyRequire})
	c := dial(t, address)
	c.send(header2(t, client6, judge.TLV{Type: judge.PP2_TYPE_AUTHORITY, Value: []byte("shop.test")},
		judge.TLV{Type: judge.PP2_TYPE_UNIQUE_ID, Value: []byte("session 7")}))
	for range 2 {
		c.get("/")
	}
	for _, a := range u.requests() {
		if a.client != client6 || a.tlvs[judge.PP2_TYPE_AUTHORITY] != "shop.test" || a.tlvs[judge.PP2_TYPE_UNIQUE_ID] != "session 7" {
			t.Errorf("%+v", a)
		}
	}
}

// The header is before a request of any size, and before each try.
func TestHeaderBeforeUploadsAndRetries(t *testing.T) {
	u := tellMe(t)
	cfg := cluster("c", dead(t), u.address)
	cfg.SendProxyProtocol = lb.ProxyV2
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	for i, body := range []string{"", "hi", strings.Repeat("x", 1<<20)} {
		go c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		if resp, _ := c.answer("POST"); resp.StatusCode != 200 {
			t.Fatalf("request %d: %d", i, resp.StatusCode)
		}
		came := u.requests()
		if a := came[len(came)-1]; len(came) != i+1 || a.client != c.LocalAddr().String() || a.body != body {
			t.Errorf("request %d: %d came, the last of %s with %d bytes", i, len(came), a.client, len(a.body))
		}
	}
	if e.counters().Retries.Load() == 0 {
		t.Error("nothing was tried again")
	}
}
