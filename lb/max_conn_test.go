package lb

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// ErrFull says that waiting helps; ErrNoEndpoint that it does not.
func TestFullIsNotDown(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := lettered(RoundRobin, 1, 1)
	cfg.Endpoints[0].MaxConn = 1
	c := newCluster(t, e, cfg)
	a, b := c.Endpoints()[0], c.Endpoints()[1]
	f := func(want *Endpoint, wantErr error, tried ...*Endpoint) {
		t.Helper()
		ep, err := c.Take(l, 0, tried)
		if ep != want || err != wantErr {
			t.Errorf("%s, %v; want %s, %v", letter(ep), err, letter(want), wantErr)
		}
	}
	f(a, nil, b)
	f(nil, ErrFull, b)
	f(b, nil)
	f(b, nil, a)
	f(nil, ErrNoEndpoint, a, b)
	mark(t, c, false, b)
	f(nil, ErrFull)
	mark(t, c, false, a)
	f(nil, ErrNoEndpoint)
	mark(t, c, true, a)
	a.End(l)
	f(a, nil)
}

func TestMaxConnHoldsOverLoops(t *testing.T) {
	const most = 3
	for _, p := range allPickers {
		e := newEngine(t, 4)
		cfg := lettered(p, 1, 2, 1)
		for i := range cfg.Endpoints {
			cfg.Endpoints[i].MaxConn = most
		}
		c := newCluster(t, e, cfg)
		var done sync.WaitGroup
		var full, over atomic.Int64
		for _, l := range e.Loops() {
			done.Add(1)
			l.Post(func() {
				defer done.Done()
				var open []*Endpoint
				for range 3000 {
					ep, err := c.Take(l, rand.Uint64(), nil)
					switch {
					case err == ErrFull:
						full.Add(1)
					case err != nil:
						t.Errorf("%s: %v", p, err)
						return
					default:
						open = append(open, ep)
						if ep.InFlight() > most {
							over.Add(1)
						}
					}
					for len(open) > 0 && (err != nil || rand.IntN(3) == 0) {
						open[0].End(l)
						open = open[1:]
						err = nil
					}
				}
				for _, ep := range open {
					ep.End(l)
				}
			})
		}
		done.Wait()
		if over.Load() > 0 || full.Load() == 0 {
			t.Errorf("%s: %d times too many, %d times full", p, over.Load(), full.Load())
		}
		for _, ep := range c.Endpoints() {
			if ep.InFlight() != 0 {
				t.Errorf("%s: %s has %d in the end", p, letter(ep), ep.InFlight())
			}
		}
		if n := c.shared.inFlight(); n != 0 {
			t.Errorf("%s: %d are in flight in the end", p, n)
		}
	}
}

// A retry uses up no turn with bounds either, and a full endpoint's turn goes to all others by turns.
func TestRoundRobinTurnsWithBounds(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := lettered(RoundRobin, 1, 1)
	cfg.Endpoints[0].MaxConn = 100
	c := newCluster(t, e, cfg)
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
	cfg = lettered(RoundRobin, 1, 1, 1)
	cfg.Endpoints[0].MaxConn = 1
	c = newCluster(t, e, cfg)
	for range 21 {
		_, err := c.Take(l, 0, nil)
		must(t, err)
	}
	for i, want := range []int64{1, 10, 10} {
		if n := c.Endpoints()[i].InFlight(); n != want {
			t.Errorf("%s has %d, want %d", letter(c.Endpoints()[i]), n, want)
		}
	}
}
