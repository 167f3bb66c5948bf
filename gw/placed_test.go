package gw

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/engine"
	"sluice/gw/filter"
	"sluice/gw/split"
	"sluice/lb"
)

// named is an upstream that says its name.
func named(t testing.TB, name string) *recorder {
	return record(t, func(int, *seen) (string, error) {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name), nil
	})
}

// asked is the answer to a GET with these header lines.
func (c *client) asked(path, header string) string {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: a.test\r\n" + header + "\r\n")
	resp, body := c.answer("GET")
	if resp.StatusCode != 200 {
		c.t.Fatalf("%s: %d %s", path, resp.StatusCode, body)
	}
	return body
}

// Requests with the same value for the key go to the same endpoint, and others are spread.
func TestHashKeysOfRequests(t *testing.T) {
	var addresses []string
	for i := range 4 {
		addresses = append(addresses, named(t, fmt.Sprint(i)).address)
	}
	for key, request := range map[lb.HashKey]func(user int) (path, header string){
		"header:X-User": func(n int) (string, string) { return "/", fmt.Sprintf("x-user: %d\r\nX-User: other\r\n", n) },
		"cookie:user": func(n int) (string, string) {
			return "/", fmt.Sprintf("Cookie: a=b; user=%d; c=d\r\nCookie: user=x\r\n", n)
		},
		"query:user": func(n int) (string, string) { return fmt.Sprintf("/?a=b&user=%d&user=x", n), "" },
		"path":       func(n int) (string, string) { return fmt.Sprintf("/%d?x=%d", n, n), "" },
	} {
		cfg := cluster("c", addresses...)
		cfg.Picker, cfg.HashKey = lb.Maglev, key
		c := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg).dial(t)
		used := map[string]bool{}
		for user := range 32 {
			path, header := request(user)
			first := c.asked(path, header)
			used[first] = true
			for range 3 {
				if again := c.asked(path, "X-Other: y\r\n"+header); again != first {
					t.Errorf("%s: user %d at %s and then at %s", key, user, first, again)
				}
			}
		}
		if len(used) < 3 {
			t.Errorf("%s: 32 users at %d endpoints", key, len(used))
		}
		// Who has no value is placed by address.
		if a, b := c.asked("/none", ""), c.asked("/none", ""); a != b {
			t.Errorf("%s: without a value at %s and then at %s", key, a, b)
		}
	}
}

func splitOf(a string, m int, b string, n int) []split.Config {
	return []split.Config{{Cluster: a, Weight: &m}, {Cluster: b, Weight: &n}}
}

// A canary gets its part, and a client stays where it was.
func TestCanary(t *testing.T) {
	e := newEdge(t, Config{}, []Route{
		{Match: prefix("/chance"), Clusters: splitOf("stable", 9, "canary", 1)},
		{Match: prefix("/user"), Clusters: splitOf("stable", 9, "canary", 1), SplitBy: "header:X-User"},
	}, cluster("stable", named(t, "stable").address), cluster("canary", named(t, "canary").address))
	c := e.dial(t)
	got := map[string]int{}
	for range 1000 {
		got[c.asked("/chance", "")]++
	}
	if got["canary"] < 50 || got["canary"] > 160 {
		t.Errorf("by chance: %v", got)
	}
	clear(got)
	for user := range 500 {
		h := fmt.Sprintf("X-User: %d\r\n", user)
		first := c.asked("/user", h)
		got[first]++
		if again := c.asked("/user", h); again != first {
			t.Fatalf("user %d at %s and then at %s", user, first, again)
		}
	}
	if got["canary"] < 20 || got["canary"] > 90 {
		t.Errorf("by user: %v", got)
	}
}

// A signed cookie brings a client back to its endpoint; one that was tampered with is nothing.
func TestStickySessions(t *testing.T) {
	cfg := cluster("c", named(t, "a").address, named(t, "b").address, named(t, "c").address)
	cfg.Sticky = &lb.StickyConfig{Cookie: "where", Key: strings.Repeat("k", 32), TTL: time.Hour}
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	c.ask("/")
	resp, first := c.answer("GET")
	cookies := resp.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "where" || strings.Contains(cookies[0].Value, "127.0.0.1") {
		t.Fatalf("cookies %v", cookies)
	}
	cookie := "Cookie: x=y; where=" + cookies[0].Value + "\r\n"
	for range 6 {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n" + cookie + "\r\n")
		resp, body := c.answer("GET")
		if body != first || len(resp.Cookies()) != 0 {
			t.Errorf("at %s, then at %s; cookies %v", first, body, resp.Cookies())
		}
	}
	value := []byte(cookies[0].Value)
	value[len(value)/2] ^= 1
	used := map[string]bool{}
	for range 6 {
		c.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: where=" + string(value) + "\r\n\r\n")
		resp, body := c.answer("GET")
		used[body] = true
		if len(resp.Cookies()) != 1 {
			t.Error("no new cookie for one that was tampered with")
		}
	}
	if len(used) != 3 {
		t.Errorf("a cookie that was tampered with leads to %v", used)
	}
}

// Limits of an endpoint fail fast, with a time to come back.
func TestLimitsOfAnEndpoint(t *testing.T) {
	address, begun, answer := gated(t)
	cfg := cluster("c", address)
	cfg.Limits = lb.Limits{Requests: 1}
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	first, second := e.dial(t), e.dial(t)
	first.ask("/first")
	<-begun
	second.ask("/second")
	if resp, _ := second.answer("GET"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	answer <- struct{}{}
	first.gets(200)
	second.ask("/third")
	<-begun
	answer <- struct{}{}
	second.gets(200)
	e.nothingInFlight(t)
}

// A cluster that limits itself sheds what is beyond, and queues nothing of it.
func TestAdaptiveLimitSheds(t *testing.T) {
	address, begun, answer := gated(t)
	cfg := cluster("c", address)
	cfg.Adaptive = &lb.Adaptive{Min: 1, Max: 2, Initial: 2}
	cfg.Queue = &lb.Queue{}
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	var in []*client
	for range 2 {
		c := e.dial(t)
		c.ask("/")
		<-begun
		in = append(in, c)
	}
	c := e.dial(t)
	c.ask("/")
	if resp, _ := c.answer("GET"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if n := e.counters().Shed.Load(); n != 1 {
		t.Errorf("%d shed", n)
	}
	for _, c := range in {
		answer <- struct{}{}
		c.gets(200)
	}
	e.nothingInFlight(t)
}

// Connections are counted from their dial to their end, whoever ends them.
func TestConnectionsAreCounted(t *testing.T) {
	rec := recordOK(t)
	cfg := cluster("c", rec.address)
	cfg.Limits = lb.Limits{Connections: 2, Pending: 2}
	cfg.MaxUses = 3
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	ep := e.clusters["c"].Endpoints()[0]
	c := e.dial(t)
	for range 10 {
		if status, _ := c.get("/"); status != 200 {
			t.Fatalf("%d", status)
		}
		if n := ep.Connections(); n > 1 || ep.Pending() != 0 {
			t.Errorf("%d connections, %d pending", n, ep.Pending())
		}
	}
	if rec.conns != 4 {
		t.Errorf("%d connections for 10 requests, of three each", rec.conns)
	}
	upstream, _ := switching(t, switched)
	cfg = cluster("c", upstream)
	cfg.Limits = lb.Limits{Connections: 1}
	e = newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	ws := e.dial(t)
	ws.upgraded(upgrade)
	ep = e.clusters["c"].Endpoints()[0]
	if ep.Connections() != 1 {
		t.Errorf("%d connections of a tunnel", ep.Connections())
	}
	other := e.dial(t)
	other.ask("/")
	other.gets(503)
	ws.Close()
	eventually(t, "the tunnel is counted out", func() bool { return ep.Connections() == 0 && ep.InFlight() == 0 })
}

// A loop that is short of memory takes no requests for clusters, and still answers what it can by itself.
func TestShedsWhenShortOfMemory(t *testing.T) {
	rec := recordOK(t)
	fine := []filter.Config{{Respond: &filter.Respond{Body: "fine"}}}
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}, {Match: prefix("/healthz"), Filters: fine}}, cluster("c", rec.address))
	var held [][]byte
	e.on(func(w *worker) {
		for !w.loop.Short() {
			held = append(held, w.loop.GetBuffer(engine.LargeBuffer))
		}
	})
	c := e.dial(t)
	c.ask("/")
	if resp, _ := c.answer("GET"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if status, body := c.get("/healthz"); status != 200 || body != "fine" {
		t.Errorf("%d %s", status, body)
	}
	if n := e.counters().Shed.Load(); n != 1 {
		t.Errorf("%d shed", n)
	}
	e.on(func(w *worker) {
		for _, b := range held {
			w.loop.PutBuffer(b)
		}
	})
	if status, _ := c.get("/"); status != 200 {
		t.Errorf("%d when there is room again", status)
	}
}

// Connections that are to be warm are there before the first request, and again after one has ended.
func TestWarmConnections(t *testing.T) {
	rec := recordOK(t)
	cfg := cluster("c", rec.address)
	cfg.Warm = 2
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.gateway.workers.KeepWarm(ctx, e.clusters["c"]) })
	defer func() { cancel(); running.Wait() }()
	warm := func() (n int) {
		e.on(func(w *worker) { n = len(e.clusters["c"].Endpoints()[0].Local(w.loop).Idle) })
		return n
	}
	eventually(t, "two are warm", func() bool { return warm() == 2 })
	if status, _ := e.dial(t).get("/"); status != 200 {
		t.Errorf("%d", status)
	}
	rec.mu.Lock()
	conns := rec.conns
	rec.mu.Unlock()
	if conns != 2 {
		t.Errorf("%d connections", conns)
	}
}
