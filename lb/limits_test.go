package lb

import (
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/engine"
)

// wire is an upstream connection as the gateway has them.
type wire struct {
	Link
	conn  *engine.Conn
	ep    *Endpoint
	ready chan error
}

func (w *wire) Ready(*engine.Conn)   {}
func (w *wire) Timeout(*engine.Conn) {}
func (w *wire) HangUp()              { w.Close(); w.conn.Close() }
func (w *wire) Connected(_ *engine.Conn, err error) {
	if w.Link.Connected(); err != nil {
		w.Close()
	}
	w.ready <- err
}

// park makes a connection to ep that is idle on loop l.
func park(t *testing.T, c *Cluster, l *engine.Loop, ep *Endpoint) *wire {
	t.Helper()
	w := &wire{ep: ep, ready: make(chan error, 1)}
	on(l, func() {
		err := w.Open(c, l, ep)
		if err == nil {
			w.conn, err = c.Dial(l, ep, netip.AddrPort{}, nil, w)
		}
		if err != nil {
			w.ready <- err
		}
	})
	must(t, receive(t, "the endpoint is connected to", w.ready))
	on(l, func() { ep.Local(l).Idle = append(ep.Local(l).Idle, w.conn) })
	t.Cleanup(func() { on(l, w.HangUp) })
	return w
}

// overflowed are the counts by limit, over the loops.
func overflowed(ep *Endpoint) [3]uint64 {
	return [3]uint64{ep.Total(func(n *Local) *engine.Counter { return &n.Overflow.Requests }),
		ep.Total(func(n *Local) *engine.Counter { return &n.Overflow.Connections }),
		ep.Total(func(n *Local) *engine.Counter { return &n.Overflow.Pending })}
}

// Of an endpoint's maxconn and the cluster's max_requests the smaller holds.
func TestMaxRequests(t *testing.T) {
	for _, x := range []struct{ maxconn, requests, want int }{{0, 3, 3}, {2, 3, 2}, {4, 3, 3}, {4, 0, 4}} {
		e := newEngine(t, 1)
		l := e.Loops()[0]
		cfg := lettered(RoundRobin, 1)
		cfg.Endpoints[0].MaxConn, cfg.Limits.Requests = x.maxconn, x.requests
		c := newCluster(t, e, cfg)
		ep := c.Endpoints()[0]
		for range x.want {
			_, err := c.Take(l, 0, nil)
			must(t, err)
		}
		if _, err := c.Take(l, 0, nil); err != ErrFull {
			t.Errorf("%+v: %v", x, err)
		}
		if n := overflowed(ep); n != [3]uint64{1, 0, 0} {
			t.Errorf("%+v: %d were refused", x, n)
		}
		ep.End(l)
		if _, err := c.Take(l, 0, nil); err != nil {
			t.Errorf("%+v: %v when one has left", x, err)
		}
	}
}

// Nobody is given to an endpoint that could not be connected to, while there is another one, or a warm connection.
func TestLimitsOfConnectionsHoldForPicks(t *testing.T) {
	for name, x := range map[string]struct {
		limits   Limits
		overflow [3]uint64
	}{"pending": {Limits{Pending: 2}, [3]uint64{0, 0, 1}}, "connections": {Limits{Connections: 2}, [3]uint64{0, 1, 0}}} {
		for _, p := range allPickers {
			e := newEngine(t, 2)
			l := e.Loops()[0]
			cfg := lettered(p, 1, 1)
			cfg.Limits = x.limits
			c := newCluster(t, e, cfg)
			a, b := c.Endpoints()[0], c.Endpoints()[1]
			var links [4]Link
			must(t, links[0].Open(c, l, a))
			must(t, links[1].Open(c, e.Loops()[1], a))
			takes := func(want *Endpoint, wantErr error) {
				t.Helper()
				on(l, func() {
					for n := 0; n < 20 && (n == 0 || wantErr == nil); n++ {
						ep, err := c.Take(l, rand.Uint64(), nil)
						if ep != nil {
							ep.End(l)
						}
						if ep != want || err != wantErr {
							t.Errorf("%s, %s: %s, %v", name, p, letter(ep), err)
						}
					}
				})
			}
			takes(b, nil)
			must(t, links[2].Open(c, l, b))
			must(t, links[3].Open(c, l, b))
			if n := overflowed(a); n != ([3]uint64{}) {
				t.Errorf("%s, %s: %d were refused before anybody was", name, p, n)
			}
			takes(nil, ErrFull)
			if n := overflowed(a); n != x.overflow || n != overflowed(b) {
				t.Errorf("%s, %s: %d and %d were refused", name, p, n, overflowed(b))
			}
			on(l, func() { a.Local(l).Idle = []*engine.Conn{nil} }) // a warm one does
			takes(a, nil)
			on(l, func() { a.Local(l).Idle = nil })
			takes(nil, ErrFull)
			if links[1].Connected(); name == "pending" {
				takes(a, nil)
			} else {
				takes(nil, ErrFull)
			}
			links[1].Close()
			takes(a, nil)
			for i := range links {
				links[i].Close()
			}
		}
	}
}

// Whatever is done with a link, in any order, it counts once and no longer than it is open.
func TestLinksDoNotLeak(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := lettered(RoundRobin, 1)
	cfg.Limits = Limits{Connections: 5, Pending: 3}
	c := newCluster(t, e, cfg)
	ep := c.Endpoints()[0]
	var links [8]Link
	var open, pending [len(links)]bool
	count := func(b [len(links)]bool) (n int64) {
		for _, v := range b {
			if v {
				n++
			}
		}
		return n
	}
	for range 10000 {
		i := rand.IntN(len(links))
		k := &links[i]
		switch rand.IntN(3) {
		case 0:
			if open[i] {
				continue
			}
			room := count(open) < 5 && count(pending) < 3
			if err := k.Open(c, l, ep); (err == nil) != room {
				t.Fatalf("%v, with %d of 5 open and %d of 3 pending", err, count(open), count(pending))
			}
			open[i], pending[i] = room, room
		case 1:
			k.Connected()
			pending[i] = false
		case 2:
			k.Close()
			open[i], pending[i] = false, false
		}
		if ep.Connections() != count(open) || ep.Pending() != count(pending) {
			t.Fatalf("%d connections, %d pending; want %d, %d", ep.Connections(), ep.Pending(), count(open), count(pending))
		}
	}
	for i := range links {
		links[i].Close()
	}
	var k Link
	if n := testing.AllocsPerRun(100, func() { _ = k.Open(c, l, ep); k.Connected(); k.Close() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if ep.Connections() != 0 || ep.Pending() != 0 {
		t.Errorf("%d connections, %d pending in the end", ep.Connections(), ep.Pending())
	}
}

func TestLimitsOfConnectionsHoldOverLoops(t *testing.T) {
	e := newEngine(t, 4)
	cfg := lettered(RoundRobin, 1)
	cfg.Limits = Limits{Connections: 5, Pending: 3}
	c := newCluster(t, e, cfg)
	ep := c.Endpoints()[0]
	var done sync.WaitGroup
	var over, opened atomic.Int64
	for _, l := range e.Loops() {
		done.Add(1)
		l.Post(func() {
			defer done.Done()
			var links [4]Link
			for range 3000 {
				k := &links[rand.IntN(len(links))]
				k.Close()
				if k.Open(c, l, ep) == nil {
					opened.Add(1)
				}
				if rand.IntN(2) == 0 {
					k.Connected()
				}
				if ep.Connections() > 5 || ep.Pending() > 3 {
					over.Add(1)
				}
			}
			for i := range links {
				links[i].Close()
			}
		})
	}
	done.Wait()
	if over.Load() > 0 || opened.Load() == 0 || ep.Connections() != 0 || ep.Pending() != 0 {
		t.Errorf("%d times too many, %d opened, %d and %d in the end", over.Load(), opened.Load(), ep.Connections(), ep.Pending())
	}
}

// Connections that are idle make room: on the loop that asks at once, on another one soon, and one for one who waits.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	e := newEngine(t, 3)
	loops := e.Loops()
	cfg := of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.ReadAll(c) }))
	cfg.Limits.Connections, cfg.Queue = 2, &Queue{}
	c := newCluster(t, e, cfg)
	ep := c.Endpoints()[0]
	first, second := park(t, c, loops[0], ep), park(t, c, loops[0], ep)

	// One who asks on another loop waits until one of the two is closed.
	took := make(chan error, 1)
	g := &guest{c: c, l: loops[1]}
	g.done = func(_ *Endpoint, err error) { took <- err }
	on(g.l, g.ask)
	must(t, receive(t, "there is room", took))
	eventually(t, "one of two is left", func() bool { return ep.Connections() == 1 })
	on(loops[0], func() {
		if !first.conn.Closed() || second.conn.Closed() || !slices.Equal(ep.Local(loops[0]).Idle, []*engine.Conn{second.conn}) {
			t.Error("it is not the one used longest ago that is closed")
		}
	})
	third := park(t, c, loops[1], ep)

	// Nobody is idle who serves an exchange.
	on(loops[0], func() { ep.Local(loops[0]).Idle = nil; ep.Begin(loops[0]) })
	on(loops[1], func() { ep.Local(loops[1]).Idle = nil })
	on(loops[2], func() {
		if _, err := c.Take(loops[2], 0, nil); err != ErrFull || ep.reclaiming.Load() {
			t.Errorf("%v, and somebody is asked to close: %v", err, ep.reclaiming.Load())
		}
	})

	// A loop's own need not be asked for.
	on(loops[1], func() {
		ep.Local(loops[1]).Idle = append(ep.Local(loops[1]).Idle, third.conn)
		var k Link
		if err := k.Open(c, loops[1], ep); err != nil || !third.conn.Closed() {
			t.Errorf("%v, closed: %v", err, third.conn.Closed())
		}
		k.Close()
		ep.End(loops[1])
	})
	on(loops[0], func() { ep.End(loops[0]) })
}

// Those who wait are told when a dial ends, well or not, and when a connection is closed.
func TestLinksWake(t *testing.T) {
	for name, x := range map[string]struct {
		limits Limits
		end    func(k *Link)
	}{
		"connected": {Limits{Pending: 1}, (*Link).Connected}, "not connected": {Limits{Pending: 1}, (*Link).Close},
		"closed": {Limits{Connections: 1}, (*Link).Close},
	} {
		e := newEngine(t, 2)
		cfg := lettered(RoundRobin, 1)
		cfg.Limits, cfg.Queue = x.limits, &Queue{}
		c := newCluster(t, e, cfg)
		var k Link
		on(e.Loops()[0], func() { must(t, k.Open(c, e.Loops()[0], c.Endpoints()[0])) })
		took := make(chan error, 1)
		g := &guest{c: c, l: e.Loops()[1]}
		g.done = func(_ *Endpoint, err error) { took <- err }
		on(g.l, g.ask)
		if len(took) > 0 || c.Queued() != 1 {
			t.Fatalf("%s: %d wait", name, c.Queued())
		}
		on(e.Loops()[0], func() { x.end(&k) })
		must(t, receive(t, name, took))
		on(e.Loops()[0], k.Close)
	}
}

// The idle connections of an endpoint that is out of use are not counted any more.
func TestIdleConnectionsOfALeavingEndpointAreCountedOut(t *testing.T) {
	e := newEngine(t, 2)
	c := newCluster(t, e, of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.ReadAll(c) })))
	ep := c.Endpoints()[0]
	for _, l := range e.Loops() {
		park(t, c, l, ep)
		park(t, c, l, ep)
	}
	if ep.Connections() != 4 {
		t.Fatalf("%d connections", ep.Connections())
	}
	c.SetEndpoints(nil)
	eventually(t, "none is left", func() bool { return ep.Connections() == 0 && e.Open() == 0 })
}
