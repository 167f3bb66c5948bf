package gw

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gw/filter"
	"sluice/gw/route"
)

const upgrade = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// switching is an upstream that changes to a protocol in which everything comes back, and reports the head that it saw.
func switching(t testing.TB, head string) (address string, heads <-chan *http.Request) {
	ch := make(chan *http.Request, 64)
	return serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		ch <- req
		if _, err := io.WriteString(c, head); err != nil {
			return
		}
		_, _ = io.Copy(c, r)
		_ = c.CloseWrite()
	}), ch
}

const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Other: y\r\n\r\n"

var denied = []filter.Config{{Respond: &filter.Respond{Status: 403, Body: "no\n"}}}

// upgraded sends request and expects 101.
func (c *client) upgraded(request string) *http.Response {
	c.t.Helper()
	c.send(request)
	resp, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
	must(c.t, err)
	if resp.StatusCode != 101 {
		c.t.Fatalf("%s", resp.Status)
	}
	return resp
}

func (c *client) echoes(text string) {
	c.t.Helper()
	c.send(text)
	c.receives(text)
}

func (c *client) receives(text string) {
	c.t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c.r, b); err != nil || string(b) != text {
		c.t.Fatalf("%q and %v, want %q", b, err, text)
	}
}

func TestUpgrade(t *testing.T) {
	upstream, heads := switching(t, switched+"hello")
	e := toUpstream(t, Config{}, upstream)
	c := e.dial(t)
	resp := c.upgraded(upgrade + "early") // a client in a hurry
	if h := resp.Header; h.Get("Upgrade") != "websocket" || !strings.EqualFold(h.Get("Connection"), "upgrade") ||
		h.Get("Sec-WebSocket-Accept") == "" || h.Get("X-Other") != "y" {
		t.Errorf("the client got %v", h)
	}
	req := <-heads
	if h := req.Header; h.Get("Upgrade") != "websocket" || !strings.EqualFold(h.Get("Connection"), "upgrade") || h.Get("Sec-WebSocket-Key") == "" {
		t.Errorf("the upstream saw %v", h)
	}
	c.receives("hello")
	c.receives("early")
	c.echoes("ping")
	c.echoes(strings.Repeat("bulk", 100<<10))
	if n := e.counters(); n.Tunnels.Load() != 1 || n.TunnelsEnded.Load() != 0 || n.Responses[1].Load() != 1 {
		t.Errorf("%d tunnels, %d ended, %d 1xx", n.Tunnels.Load(), n.TunnelsEnded.Load(), n.Responses[1].Load())
	}
	if n := e.clusters["c"].Endpoints()[0].InFlight(); n != 1 {
		t.Errorf("%d in flight", n)
	}
	must(t, c.CloseWrite())
	if rest, err := c.rest(); rest != "" || err != nil {
		t.Errorf("%q and %v after the end", rest, err)
	}
	e.nothingInFlight(t)
	eventually(t, "the tunnel has ended", func() bool { return e.counters().TunnelsEnded.Load() == 1 })
}

// What is behind an upgrade that was not accepted is a request, which meets the routes.
func TestUpgradeIsNotAccepted(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}, {Match: prefix("/admin"), Filters: denied}}, cluster("c", rec.address))
	c := e.dial(t)
	c.send(upgrade + "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n")
	c.gets(200)
	c.gets(403)
	if reqs, raw := rec.requests(); len(reqs) != 1 || strings.Contains(raw, "/admin") {
		t.Errorf("the upstream saw %q", raw)
	}
}

// An upstream changes to what the client asked for and the route allows, or to nothing.
func TestUpgradeAgainstTheRules(t *testing.T) {
	none := []string{"none"}
	for name, f := range map[string]struct {
		request, answer string
		upgrades        []string
		want            int
	}{
		"unasked":          {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", switched, nil, 502},
		"something else":   {upgrade, strings.Replace(switched, "websocket", "foo", 1), nil, 502},
		"no Upgrade":       {upgrade, strings.Replace(switched, "Upgrade: websocket\r\n", "", 1), nil, 502},
		"no Connection":    {upgrade, strings.Replace(switched, "Connection: Upgrade\r\n", "", 1), nil, 502},
		"not by the route": {upgrade, switched, none, 502},
		"of the route":     {strings.Replace(upgrade, "websocket", "Foo/2", 1), strings.Replace(switched, "websocket", "foo/2", 1), []string{"foo/2"}, 101},
		"another case":     {strings.Replace(upgrade, "websocket", "WebSocket", 1), switched, nil, 101},
		"h2c":              {strings.Replace(upgrade, "websocket", "h2c", 1), strings.Replace(switched, "websocket", "h2c", 1), nil, 502},
		"with a body":      {strings.Replace(upgrade, "Host", "Content-Length: 2\r\nHost", 1) + "hi", switched, nil, 502},
		"HTTP/1.0":         {strings.Replace(upgrade, "HTTP/1.1", "HTTP/1.0", 1), switched, nil, 502},
	} {
		t.Run(name, func(t *testing.T) {
			upstream, _ := switching(t, f.answer)
			e := newEdge(t, Config{}, []Route{{Cluster: "c", Upgrades: f.upgrades}}, cluster("c", upstream))
			c := e.dial(t)
			c.send(f.request)
			resp, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
			must(t, err)
			if resp.StatusCode != f.want {
				t.Errorf("%s", resp.Status)
			}
			c.Close()
			e.nothingInFlight(t)
		})
	}
}

// A tunnel in which nothing moves ends, and one whose endpoint goes out of service does.
func TestTunnelEnds(t *testing.T) {
	upstream, _ := switching(t, switched)
	e := toUpstream(t, Config{TunnelTimeout: 50 * time.Millisecond}, upstream)
	c := e.dial(t)
	c.upgraded(upgrade)
	if rest, err := c.rest(); rest != "" || err != nil {
		t.Errorf("%q and %v", rest, err)
	}
	e.nothingInFlight(t)

	e = toUpstream(t, Config{}, upstream)
	c = e.dial(t)
	c.upgraded(upgrade)
	c.echoes("x")
	list := cluster("c", upstream).Endpoints
	list[0].State = "maint"
	e.clusters["c"].Start()
	e.clusters["c"].SetEndpoints(list)
	if rest, err := c.rest(); rest != "" || err == nil {
		t.Errorf("%q and %v, not a reset", rest, err)
	}
	e.nothingInFlight(t)
}

func TestCONNECT(t *testing.T) {
	echo := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c); _ = c.CloseWrite() })
	e := newEdge(t, Config{}, []Route{
		{Match: route.Match{Host: "db.test"}, Cluster: "c", Connect: true},
		{Match: route.Match{Host: "down.test"}, Cluster: "down", Connect: true},
		{Match: route.Match{Host: "web.test"}, Cluster: "c"},
	}, cluster("c", echo), cluster("down", dead(t)))
	f := func(target string, want int) *client {
		t.Helper()
		c := e.dial(t)
		c.send(fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nearly", target, target))
		resp, err := http.ReadResponse(c.r, &http.Request{Method: "CONNECT"})
		must(t, err)
		if resp.StatusCode != want {
			t.Errorf("%s: %s", target, resp.Status)
		}
		return c
	}
	c := f("db.test:5432", 200)
	c.receives("early")
	c.echoes("ping")
	must(t, c.CloseWrite())
	if rest, err := c.rest(); rest != "" || err != nil {
		t.Errorf("%q and %v after the end", rest, err)
	}
	f("down.test:1", 503)
	f("web.test:80", 405)
	f("nowhere.test:80", 404)
	f("db.test", 400)
	e.nothingInFlight(t)

	none := toUpstream(t, Config{}, echo).dial(t)
	none.send("CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\n\r\n")
	if resp, _ := none.answer("GET"); resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
		t.Errorf("%d without a route for it", resp.StatusCode)
	}
}
