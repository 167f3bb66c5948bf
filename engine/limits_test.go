package engine

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// greeter says hello to every connection that is accepted, and keeps it until its client closes it.
type greeter struct {
	mu       sync.Mutex
	accepted []time.Duration // since the start
	start    time.Time
}

func (g *greeter) Accept(c *Conn) {
	g.mu.Lock()
	g.accepted = append(g.accepted, time.Since(g.start))
	g.mu.Unlock()
	c.SetHandler(g)
	_, _ = c.Write([]byte("hello"))
}

func (g *greeter) Ready(c *Conn) {
	if _, err := c.Read(c.Loop().Scratch()); err != nil && err != ErrAgain {
		c.Close()
	}
}
func (g *greeter) Timeout(*Conn)          {}
func (g *greeter) Connected(*Conn, error) {}

// clientFrom connects from an address of the host's.
func clientFrom(t testing.TB, from, to string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", to)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func greeted(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Errorf("%v: not accepted: %v", c.LocalAddr(), err)
	}
}

// refused connects and is reset, which it may find at once or later.
func refused(t testing.TB, from, to string) {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to)
	if err == nil {
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = c.Read(make([]byte, 5))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("from %s: %v; want a reset", from, err)
	}
}

func denied(c *ListenerCounters) *Counter    { return &c.Denied }
func overLimit(c *ListenerCounters) *Counter { return &c.Refused }
func paused(c *ListenerCounters) *Counter    { return &c.Paused }

// One second's worth at once, the rest at the rate, and at no time more: over all loops together.
func TestAcceptRateHoldsBackAndGoesOn(t *testing.T) {
	const rate, clients = 100, 220
	g := &greeter{start: time.Now()}
	e := newEngine(t, Config{Loops: 2})
	ln, err := e.ListenWith("127.0.0.1:0", ListenOptions{}, Terms{Limits: Limits{AcceptRate: rate}, Handler: g})
	must(t, err)
	cs := make([]net.Conn, clients)
	for i := range cs {
		cs[i] = clientFrom(t, "", ln.Bound())
	}
	for _, c := range cs {
		greeted(t, c)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, at := range g.accepted {
		if n := float64(i + 1); n > rate+rate*at.Seconds() {
			t.Errorf("%v accepted within %v", n, at)
		}
	}
	n := uint64(0)
	for _, l := range e.Loops() {
		n += l.Counters().AcceptPaused.Load()
	}
	if own := ln.Total(paused); own == 0 || own != n {
		t.Errorf("%d pauses of the listener, %d of the engine counted", own, n)
	}
}

// Those that look for a connection and find none use up none of the rate.
func TestAcceptRateIsNotUsedUpByLooking(t *testing.T) {
	g := &greeter{}
	k := Limits{AcceptRate: 1. / 3600}
	ln, err := newEngine(t, Config{Loops: 2}).ListenWith("127.0.0.1:0", ListenOptions{}, Terms{Limits: k, Handler: g})
	must(t, err)
	for range 20 {
		for _, a := range ln.acceptors {
			on(a.loop, func() { a.ready(0) })
		}
	}
	greeted(t, clientFrom(t, "", ln.Bound()))
}

// Those who are not let in use up none of the rate either.
func TestAcceptRateIsNotUsedUpByTheDenied(t *testing.T) {
	bad := netip.MustParseAddr("127.0.0.2")
	terms := Terms{Limits: Limits{AcceptRate: 1. / 3600}, Handler: &greeter{}, Admit: func(a netip.Addr) bool { return a != bad }}
	ln, err := newEngine(t, Config{Loops: 1}).ListenWith("127.0.0.1:0", ListenOptions{}, terms)
	must(t, err)
	for range 5 {
		refused(t, bad.String(), ln.Bound())
	}
	greeted(t, clientFrom(t, "", ln.Bound()))
}

// A client that waits for what the terms forbid is served when they are changed.
func TestNewTermsHoldForThoseWhoWait(t *testing.T) {
	g := &greeter{}
	hour := Limits{AcceptRate: 1. / 3600}
	ln, err := newEngine(t, Config{Loops: 2}).ListenWith("127.0.0.1:0", ListenOptions{}, Terms{Limits: hour, Handler: g})
	must(t, err)
	greeted(t, clientFrom(t, "", ln.Bound()))
	waits := clientFrom(t, "", ln.Bound())
	eventually(t, "accepting pauses", func() bool { return ln.Total(paused) > 0 })
	ln.Set(1, g) // no rate any more, but one is open
	n := ln.Total(paused)
	eventually(t, "accepting pauses at maxconn", func() bool { return ln.Total(paused) > n })
	ln.Set(0, g)
	greeted(t, waits)
}

func TestConnectionsPerSource(t *testing.T) {
	limits := Limits{MaxConnPerSource: 2}
	f := func(address, one, other string) {
		t.Helper()
		g := &greeter{}
		e := newEngine(t, Config{Loops: 2})
		ln, err := e.ListenWith(address, ListenOptions{}, Terms{Limits: limits, Handler: g})
		must(t, err)
		_, port, _ := net.SplitHostPort(ln.Bound())
		host := "127.0.0.1"
		if strings.Contains(one, ":") {
			host = "::1"
		}
		to := net.JoinHostPort(host, port)
		// Over all loops together: many try, and two are let in, whichever loop they come to.
		first, second := clientFrom(t, one, to), clientFrom(t, one, to)
		greeted(t, first)
		greeted(t, second)
		for range 10 {
			refused(t, one, to)
		}
		if n := ln.Total(overLimit); n != 10 {
			t.Errorf("%d refused, want 10", n)
		}
		if other != "" {
			greeted(t, clientFrom(t, other, to))
		}
		open := ln.Open()
		_ = first.Close()
		eventually(t, "one has left", func() bool { return ln.Open() == open-1 })
		greeted(t, clientFrom(t, one, to))
		refused(t, one, to)

		// Without a limit there is none; those that were counted are counted out all the same.
		ln.SetTerms(Terms{Handler: g})
		free := clientFrom(t, one, to)
		greeted(t, free)
		ln.SetTerms(Terms{Limits: limits, Handler: g})
		refused(t, one, to)
		drop(t, e)
		eventually(t, "all have left", func() bool { return ln.Open() == 0 })
		if n := ln.sources.Load().used(); n != 0 {
			t.Errorf("%d sources are counted when nobody is there", n)
		}
	}
	f("127.0.0.1:0", "127.0.0.1", "127.0.0.2")
	f("[::]:0", "127.0.0.1", "127.0.0.2")
	f("[::1]:0", "::1", "")
}

// drop resets every connection of the engine.
func drop(t testing.TB, e *Engine) {
	t.Helper()
	for _, l := range e.Loops() {
		on(l, func() {
			for _, c := range l.conns {
				if c != nil {
					c.Reset()
				}
			}
		})
	}
}

func TestAdmitSaysWhoIsLetIn(t *testing.T) {
	g := &greeter{}
	only := func(addrs ...string) func(netip.Addr) bool {
		return func(a netip.Addr) bool {
			for _, s := range addrs {
				if a == netip.MustParseAddr(s) {
					return true
				}
			}
			return false
		}
	}
	ln, err := newEngine(t, Config{Loops: 2}).ListenWith("[::]:0", ListenOptions{}, Terms{Admit: only("127.0.0.2", "::1"), Handler: g})
	must(t, err)
	_, port, _ := net.SplitHostPort(ln.Bound())
	v4, v6 := "127.0.0.1:"+port, "[::1]:"+port
	refused(t, "127.0.0.1", v4)
	stays := clientFrom(t, "127.0.0.2", v4)
	greeted(t, stays)
	greeted(t, clientFrom(t, "::1", v6))
	ln.SetTerms(Terms{Admit: only("127.0.0.1"), Handler: g})
	greeted(t, clientFrom(t, "127.0.0.1", v4))
	refused(t, "127.0.0.2", v4)
	refused(t, "::1", v6)
	if n := ln.Total(denied); n != 3 {
		t.Errorf("%d denied, want 3", n)
	}
	if n := ln.Open(); n != 3 {
		t.Errorf("%d open, want 3: who is in stays", n)
	}
}

// The clients of a UNIX socket have no address by which they could be denied or counted.
func TestUNIXClientsAreNotAskedForTheirAddress(t *testing.T) {
	path := t.TempDir() + "/s"
	terms := Terms{Limits: Limits{MaxConnPerSource: 1}, Admit: func(netip.Addr) bool { return false }, Handler: &greeter{}}
	_, err := newEngine(t, Config{Loops: 1}).ListenWith("unix:"+path, ListenOptions{}, terms)
	must(t, err)
	for range 3 {
		c, err := net.Dial("unix", path)
		must(t, err)
		defer c.Close()
		greeted(t, c)
	}
}

type closer struct{}

func (closer) Accept(c *Conn)         { c.SetHandler(closer{}); c.Reset() }
func (closer) Ready(*Conn)            {}
func (closer) Timeout(*Conn)          {}
func (closer) Connected(*Conn, error) {}

// With all limits, as with none, the only thing allocated for a connection is the connection.
func TestAcceptingAllocatesTheConnectionAlone(t *testing.T) {
	const n = 100
	for _, terms := range []Terms{
		{Handler: closer{}},
		{Limits: Limits{MaxConn: 10, AcceptRate: maxRate, MaxConnPerSource: 10}, Admit: netip.Addr.IsLoopback, Handler: closer{}},
	} {
		e := newEngine(t, Config{Loops: 1})
		ln, err := e.ListenWith("127.0.0.1:0", ListenOptions{}, terms)
		must(t, err)
		to := NewAddr(netip.MustParseAddrPort(ln.Bound()))
		var allocs float64
		taken := 0
		on(e.Loops()[0], func() {
			for range n + 1 { // AllocsPerRun runs once more, to warm up
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer closeFD(fd)
				if e := connect(fd, &to); e != 0 {
					t.Error(e)
				}
			}
			allocs = testing.AllocsPerRun(n, func() { taken += ln.acceptors[0].acceptUpTo(1) })
		})
		if allocs != 1 || taken != n+1 {
			t.Errorf("%+v: %v allocations each for %d connections", terms.Limits, allocs, taken)
		}
	}
}
