package lb

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var pickers = []Picker{RoundRobin, LeastConn, SourceHash, Maglev}

func TestRoundRobinIsNginxs(t *testing.T) {
	l := newEngine(t, 1).Loops()
	f := func(want string, weights ...int) {
		t.Helper()
		c, err := NewCluster(lettered(RoundRobin, weights...), l, quiet, nil)
		must(t, err)
		var got []string
		for range strings.Fields(want) {
			got = append(got, letter(c.Pick(l[0], 0, nil)))
		}
		if s := strings.Join(got, " "); s != strings.Join(strings.Fields(want), " ") {
			t.Errorf("weights %v: %s, want %s", weights, s, want)
		}
	}
	f("a a b a c a a  a a b a c a a", 5, 1, 1) // the sequence of nginx's own commit message
	f("a b c a b c", 1, 1, 1)
	f("a b c a b c", 7, 7, 7)
	f("a b c a  a b c a", 20, 10, 10) // 2, 1, 1
	f("b a b  b a b", 1, 2)
	f("a a a a", 3)
}

func TestLoopsStartApart(t *testing.T) {
	loops := newEngine(t, 4).Loops()
	c, err := NewCluster(lettered(RoundRobin, 1, 1, 1, 1), loops, quiet, nil)
	must(t, err)
	var first []string
	for _, l := range loops {
		first = append(first, letter(c.Pick(l, 0, nil)))
	}
	slices.Sort(first)
	if s := strings.Join(first, " "); s != "a b c d" {
		t.Errorf("the loops' first picks are %s", s)
	}
}

func TestLeastConnIsByWeight(t *testing.T) {
	e := newEngine(t, 1)
	c, l := newCluster(t, e, lettered(LeastConn, 1, 2, 3)), e.Loops()[0]
	f := func(want ...int64) {
		t.Helper()
		for i, ep := range c.Endpoints() {
			if ep.InFlight() != want[i] {
				t.Errorf("%s has %d in flight, want %d", letter(ep), ep.InFlight(), want[i])
			}
		}
	}
	// Of those who have nothing the heaviest is first, whose turn it may be.
	for range 3 {
		if ep := c.Pick(l, 0, nil); letter(ep) != "c" {
			t.Errorf("%s is picked while nothing is in flight", letter(ep))
		}
	}
	for range 60 {
		c.Pick(l, 0, nil).Begin(l)
	}
	f(10, 20, 30)
	// Who has finished is next, until all are even again.
	b := c.Endpoints()[1]
	for range 8 {
		b.End(l)
	}
	for range 8 {
		c.Pick(l, 0, nil).Begin(l)
	}
	f(10, 20, 30)
}

func TestLeastConnTakesTurnsAmongEquals(t *testing.T) {
	e := newEngine(t, 1)
	c, l := newCluster(t, e, lettered(LeastConn, 1, 1, 1)), e.Loops()[0]
	got := map[string]int{}
	for range 30 {
		got[letter(c.Pick(l, 0, nil))]++
	}
	if got["a"] != 10 || got["b"] != 10 || got["c"] != 10 {
		t.Errorf("30 picks while nothing is in flight: %v", got)
	}
}

func TestHashPickersAreStable(t *testing.T) {
	e := newEngine(t, 2)
	for _, p := range []Picker{SourceHash, Maglev} {
		c := newCluster(t, e, lettered(p, 1, 2, 3, 4))
		again, err := NewCluster(lettered(p, 1, 2, 3, 4), e.Loops(), quiet, nil)
		must(t, err)
		got := map[string]int{}
		const clients = 20000
		for i := range uint64(clients) {
			h := hashAddr(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 0), false)
			ep := c.Pick(e.Loops()[0], h, nil)
			got[letter(ep)]++
			if other := c.Pick(e.Loops()[1], h, nil); other != ep {
				t.Fatalf("%s: loop 0 takes %v for %x, loop 1 %v", p, ep, h, other)
			}
			if other := again.Pick(e.Loops()[0], h, nil); letter(other) != letter(ep) {
				t.Fatalf("%s: one process takes %v for %x, another %v", p, ep, h, other)
			}
		}
		for i, name := range []string{"a", "b", "c", "d"} {
			want := clients * float64(i+1) / 10
			if off := math.Abs(float64(got[name]) - want); off > want*0.1 {
				t.Errorf("%s: %s has %d of %d clients, want about %.0f", p, name, got[name], clients, want)
			}
		}
	}
}

func TestMaglevMovesFewWhenAnEndpointIsDown(t *testing.T) {
	e := newEngine(t, 1)
	c, l := newCluster(t, e, lettered(Maglev, 1, 1, 1, 1, 1)), e.Loops()[0]
	down := c.Endpoints()[2]
	const n = 10000
	before := make([]*Endpoint, n)
	for h := range before {
		before[h] = c.Pick(l, uint64(h), nil)
	}
	mark(t, c, false, down)
	moved := 0
	for h, was := range before {
		if was != down && c.Pick(l, uint64(h), nil) != was {
			moved++
		}
	}
	if moved > n/10 {
		t.Errorf("%d of %d clients of the other endpoints move", moved, n)
	}
	mark(t, c, true, down)
	for h, was := range before {
		if c.Pick(l, uint64(h), nil) != was {
			t.Fatalf("%d is not placed on %v again", h, was)
		}
	}
}

// Each client goes through all endpoints, each once, and then there is none.
func TestTriedIsNotPickedAgain(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	f := func(cfg Config) {
		t.Helper()
		c := newCluster(t, e, cfg)
		for _, h := range []uint64{0, 1, 2, 3, 1000003, 1 << 63, math.MaxUint64 - 1, math.MaxUint64} {
			var tried []*Endpoint
			for range c.Endpoints() {
				ep := c.Pick(l, h, tried)
				if ep == nil || slices.Contains(tried, ep) {
					t.Fatalf("%s: %s is picked for %d when %d of %d are tried", cfg.Picker, letter(ep), h, len(tried), len(c.Endpoints()))
				}
				tried = append(tried, ep)
			}
			if ep := c.Pick(l, h, tried); ep != nil {
				t.Fatalf("%s: %s is picked for %d when all are tried", cfg.Picker, letter(ep), h)
			}
		}
	}
	for _, p := range pickers {
		f(lettered(p, 1))
		f(lettered(p, 1, 1, 1))
		f(lettered(p, 5, 1, 3, 2))
	}
	small := lettered(Maglev, 1, 1, 1)
	small.TableSize = 3
	f(small)
}

// A retry does not use up a turn: else the next session would begin at the dead endpoint again, and all of them would.
func TestRetryUsesNoTurn(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	c := newCluster(t, e, lettered(RoundRobin, 1, 1))
	first := map[string]int{}
	for range 8 {
		ep := c.Pick(l, 0, nil)
		first[letter(ep)]++
		if letter(ep) == "a" { // which is dead
			c.Pick(l, 0, []*Endpoint{ep})
		}
	}
	if first["a"] != 4 || first["b"] != 4 {
		t.Errorf("sessions began at %v", first)
	}
}

func TestUnhealthyIsNotPicked(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	for _, p := range pickers {
		c := newCluster(t, e, lettered(p, 3, 1, 2))
		f := func(want string) {
			t.Helper()
			got := map[string]bool{}
			for _, tried := range [][]*Endpoint{nil, {c.Endpoints()[1]}} {
				for h := range uint64(1000) {
					ep := c.Pick(l, h, tried)
					got[letter(ep)] = true
					if ep != nil {
						ep.Begin(l) // else the heaviest would be least_conn's always
						defer ep.End(l)
					}
				}
			}
			names := slices.Sorted(maps.Keys(got))
			if s := strings.Join(names, ""); s != want || (c.Eligible() > 0) != (want != "-") {
				t.Errorf("%s: picked %q, want %q; ready %v", p, s, want, (c.Eligible() > 0))
			}
		}
		all := c.Endpoints()
		f("abc")
		mark(t, c, false, all[0])
		f("bc")
		mark(t, c, false, all[2])
		f("-b") // none if b is tried
		mark(t, c, false, all[1])
		f("-")
		mark(t, c, true, all...)
		f("abc")
	}
}

// A round robin's place may be beyond the end of a list that has become shorter.
func TestRoundRobinGoesOnWithFewer(t *testing.T) {
	e := newEngine(t, 1)
	c, l := newCluster(t, e, lettered(RoundRobin, 1, 1, 1, 1)), e.Loops()[0]
	for range 4 {
		c.Pick(l, 0, nil)
	}
	mark(t, c, false, c.Endpoints()[1:]...)
	if ep := c.Pick(l, 0, nil); letter(ep) != "a" {
		t.Errorf("picked %s", letter(ep))
	}
}

// Weights that would need too long a schedule are rounded; nobody is rounded away.
func TestScheduleIsBounded(t *testing.T) {
	f := func(weights ...int) {
		t.Helper()
		members, total := make([]member, len(weights)), 0
		for i, w := range weights {
			members[i] = member{weight: w}
			total += w
		}
		out := smooth(members)
		if len(out) > maxSchedule+len(weights) {
			t.Errorf("weights %v: %d turns", weights, len(out))
		}
		got := make([]int, len(weights))
		for _, i := range out {
			got[i]++
		}
		for i, w := range weights {
			want := float64(w) / float64(total) * float64(len(out))
			if got[i] < 1 || math.Abs(float64(got[i])-want) > 1+want*0.01 {
				t.Errorf("weights %v: the one of %d has %d of %d turns, want %.1f", weights, w, got[i], len(out), want)
			}
		}
	}
	f(1, 2, 3)
	if n := len(smooth([]member{{weight: 20000}, {weight: 10000}, {weight: 10000}})); n != 4 {
		t.Errorf("two to one to one takes %d turns", n)
	}
	f(maxSchedule-1, 1)
	f(maxSchedule, 1)
	f(65535, 1)
	f(65535, 65534, 65533)
	f(65535, 1, 1, 1, 32768)
}

func TestPickAllocatesNothing(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	client := netip.MustParseAddrPort("192.0.2.1:1234")
	for _, p := range pickers {
		c := newCluster(t, e, lettered(p, 3, 1, 2))
		tried := []*Endpoint{c.Endpoints()[0]}
		n := testing.AllocsPerRun(1000, func() {
			h := hashAddr(client, p == Maglev)
			if c.Pick(l, h, nil) == nil || c.Pick(l, h, tried) == nil {
				t.Fatal("none is picked")
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations a pick", p, n)
		}
	}
}

func TestHashAddr(t *testing.T) {
	f := func(a, b string, withPort, same bool) {
		t.Helper()
		x, y := hashAddr(netip.MustParseAddrPort(a), withPort), hashAddr(netip.MustParseAddrPort(b), withPort)
		if (x == y) != same {
			t.Errorf("%s and %s, port %v: %x and %x", a, b, withPort, x, y)
		}
	}
	f("192.0.2.1:1", "192.0.2.1:2", false, true)
	f("192.0.2.1:1", "192.0.2.1:2", true, false)
	f("192.0.2.1:1", "192.0.2.1:257", true, false)
	f("192.0.2.1:1", "192.0.2.2:1", false, false)
	f("192.0.2.1:1", "[::ffff:192.0.2.1]:1", true, true) // by a listener of either family
	f("[2001:db8::1]:1", "[2001:db8::2]:1", false, false)
	hashAddr(netip.AddrPort{}, true) // of a UNIX socket
}
