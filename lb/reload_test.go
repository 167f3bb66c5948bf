package lb

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/engine"
	"sluice/lb/health"
)

// reload is the cluster of cfg after prev, not yet in use.
func reload(t testing.TB, prev *Cluster, cfg Config) *Cluster {
	t.Helper()
	c, err := NewCluster(cfg, prev.shared.engine, quiet, prev)
	must(t, err)
	t.Cleanup(func() { c.Stop(nil) })
	return c
}

func TestUnchangedClusterIsTheSame(t *testing.T) {
	cfg := func() Config {
		c := lettered(Maglev, 1, 2)
		c.Health = &health.Config{HTTP: &health.HTTP{Path: "/"}, Interval: time.Hour}
		return c
	}
	prev := newCluster(t, newEngine(t, 1), cfg())
	if reload(t, prev, cfg()) != prev {
		t.Error("the same configuration makes another cluster")
	}
	for name, change := range map[string]func(c *Config){
		"picker":  func(c *Config) { c.Picker = LeastConn },
		"weight":  func(c *Config) { *c.Endpoints[0].Weight = 3 },
		"order":   func(c *Config) { c.Endpoints[0], c.Endpoints[1] = c.Endpoints[1], c.Endpoints[0] },
		"fewer":   func(c *Config) { c.Endpoints = c.Endpoints[:1] },
		"timeout": func(c *Config) { c.ConnectTimeout = time.Hour },
		"health":  func(c *Config) { c.Health.HTTP.Path = "/healthz" },
	} {
		changed := cfg()
		change(&changed)
		if reload(t, prev, changed) == prev {
			t.Errorf("another %s makes no other cluster", name)
		}
	}
	// Defaults are not part of what is compared.
	plain := newCluster(t, newEngine(t, 1), lettered("", 1))
	if reload(t, plain, lettered("", 1)) != plain {
		t.Error("the same short configuration makes another cluster")
	}
}

func TestEndpointsThatStayAreKept(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := lettered(RoundRobin, 1, 1, 1)
	cfg.Health = &health.Config{Interval: time.Hour} // nothing is found in this test's time
	prev := newCluster(t, e, cfg)
	a, b, c := prev.Endpoints()[0], prev.Endpoints()[1], prev.Endpoints()[2]
	a.Begin(l)
	b.Begin(l)
	b.Local(l).Sent.Add(7)
	mark(t, prev, false, b)

	cfg = lettered(RoundRobin, 1, 3, 2, 1)
	cfg.Health = &health.Config{Interval: time.Hour}
	cfg.Endpoints = cfg.Endpoints[1:] // a leaves, d comes
	next := reload(t, prev, cfg)
	got := next.Endpoints()
	if len(got) != 3 || got[0] != b || got[1] != c || letter(got[2]) != "d" {
		t.Fatalf("endpoints are %v", got)
	}
	next.Start()
	prev.Stop(next)
	if b.Healthy() || !c.Healthy() {
		t.Errorf("b healthy %v, c %v; want what they were", b.Healthy(), c.Healthy())
	}
	if b.InFlight() != 1 || b.Local(l).Requests.Load() != 1 || b.Local(l).Sent.Load() != 7 {
		t.Errorf("b has %d in flight, %d requests, %d bytes", b.InFlight(), b.Local(l).Requests.Load(), b.Local(l).Sent.Load())
	}
	if !a.Leaving() || b.Leaving() || c.Leaving() {
		t.Errorf("gone: a %v, b %v, c %v", a.Leaving(), b.Leaving(), c.Leaving())
	}
	var picked strings.Builder
	for range 6 {
		picked.WriteString(letter(next.Pick(l, 0, nil)))
	}
	if s := picked.String(); s != "cdccdc" {
		t.Errorf("picked %s, want c twice as often as d, and b not", s)
	}
}

// idler is the handler of a connection that is kept warm.
type idler struct{ connected chan *engine.Conn }

func (i idler) Ready(*engine.Conn)                {}
func (i idler) Timeout(*engine.Conn)              {}
func (i idler) Connected(c *engine.Conn, _ error) { i.connected <- c }

// warm has the loop keep one more connection to ep.
func warm(t *testing.T, l *engine.Loop, ep *Endpoint) {
	t.Helper()
	i := idler{make(chan *engine.Conn, 1)}
	on(l, func() {
		if _, err := l.Dial(ep.Addrs(), patience, i); err != nil {
			t.Error(err)
			i.connected <- nil
		}
	})
	c := receive(t, "the dial ends", i.connected)
	if c == nil || c.Closed() {
		t.Fatalf("%v cannot be connected to", ep)
	}
	on(l, func() { ep.Local(l).Idle = append(ep.Local(l).Idle, c) })
}

func TestStopClosesWarmConnectionsOfWhatLeaves(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	ended := make(chan string, 4)
	end := func(name string) string {
		return serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
			ended <- name
		})
	}
	cfg := of(RoundRobin, end("leaves"), end("stays"))
	prev := newCluster(t, e, cfg)
	leaves, stays := prev.Endpoints()[0], prev.Endpoints()[1]
	warm(t, l, leaves)
	warm(t, l, leaves)
	warm(t, l, stays)

	cfg.Endpoints = cfg.Endpoints[1:]
	next := reload(t, prev, cfg)
	prev.Stop(next)
	for range 2 {
		if name := receive(t, "a connection ends", ended); name != "leaves" {
			t.Errorf("the connection of the one that %s is closed", name)
		}
	}
	on(l, func() {
		if a, b := len(leaves.Local(l).Idle), len(stays.Local(l).Idle); a != 0 || b != 1 {
			t.Errorf("%d and %d connections are kept, want 0 and 1", a, b)
		}
	})
	// A cluster is not stopped in favour of itself.
	next.Stop(next)
	on(l, func() {
		if n := len(stays.Local(l).Idle); n != 1 || stays.Leaving() {
			t.Errorf("%d connections are kept, gone %v", n, stays.Leaving())
		}
	})
	next.Stop(nil)
	if name := receive(t, "a connection ends", ended); name != "stays" {
		t.Errorf("the connection of the one that %s is closed", name)
	}
	eventually(t, "all connections are closed", func() bool { return e.Open() == 0 })
}

// goleak would find the goroutine that resolves the name.
func TestNameIsResolvedUntilItsClusterStops(t *testing.T) {
	e := newEngine(t, 1)
	prev := newCluster(t, e, of(RoundRobin, "localhost:80"))
	ep := prev.Endpoints()[0]
	eventually(t, "localhost is resolved", func() bool { return len(ep.Addrs()) > 0 })
	if a := ep.Addrs()[0].AddrPort(); !a.Addr().IsLoopback() || a.Port() != 80 {
		t.Errorf("resolved to %v", a)
	}
	next := reload(t, prev, of(LeastConn, "localhost:80"))
	prev.Stop(next)
	if next.Endpoints()[0] != ep || ep.Leaving() {
		t.Error("the endpoint is not kept")
	}
}
