package lb

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

var consistent = []Picker{Maglev, Ring, HRW}

func bounded(p Picker, by float64, weights ...int) Config {
	cfg := lettered(p, weights...)
	cfg.BoundedLoad = by
	return cfg
}

// capacity is what an endpoint may have of all sessions by the paper.
func capacity(by float64, inFlight int64, weight, weights int) int64 {
	return int64(math.Ceil(by * float64(inFlight) * float64(weight) / float64(weights)))
}

func TestBoundedLoadHoldsForEverySession(t *testing.T) {
	f := func(p Picker, by float64, hot bool, weights ...int) {
		t.Helper()
		e := newEngine(t, 1)
		l := e.Loops()[0]
		c := newCluster(t, e, bounded(p, by, weights...))
		total, weight := 0, map[*Endpoint]int{}
		for i, ep := range c.Endpoints() {
			weight[ep] = weights[i]
			total += weights[i]
		}
		r := rand.New(rand.NewPCG(1, 1))
		var open []*Endpoint
		on(l, func() {
			for n := range 3000 {
				if n >= 1500 && len(open) > 0 { // some leave, and others come
					i := r.IntN(len(open))
					open[i].End(l)
					open[i] = open[len(open)-1]
					open = open[:len(open)-1]
				}
				h := uint64(7)
				if !hot {
					h = r.Uint64()
				}
				ep, err := c.Take(l, h, nil)
				if err != nil {
					t.Errorf("%s: %v", p, err)
					return
				}
				open = append(open, ep)
				if most := capacity(by, int64(len(open)), weight[ep], total); ep.InFlight() > most {
					t.Errorf("%s, weights %v, %v times: %s has %d of %d, may have %d", p, weights, by, letter(ep), ep.InFlight(), len(open), most)
					return
				}
			}
		})
	}
	for _, p := range consistent {
		for _, hot := range []bool{true, false} { // one client alone, or many
			f(p, 1.25, hot, 1, 1, 1, 1, 1, 1)
			f(p, 1.01, hot, 1, 2, 3, 4)
			f(p, 2, hot, 3, 1, 1)
			f(p, 1.5, hot, 1)
		}
	}
}

// From several loops at once, what all have is counted by each, and by nobody as a whole.
func TestBoundedLoadHoldsOverLoops(t *testing.T) {
	const by, each = 1.01, 13
	weights := []int{1, 1, 1, 2, 2}
	for _, p := range consistent {
		e := newEngine(t, 4)
		c := newCluster(t, e, bounded(p, by, weights...))
		for range 200 {
			taken := make([][]*Endpoint, 4)
			begin := make(chan struct{})
			var done sync.WaitGroup
			for i, l := range e.Loops() {
				done.Add(1)
				l.Post(func() {
					defer done.Done()
					<-begin
					for range each {
						ep, err := c.Take(l, 7, nil)
						if err != nil {
							t.Errorf("%s: %v", p, err)
							return
						}
						taken[i] = append(taken[i], ep)
					}
				})
			}
			close(begin)
			done.Wait()
			for i, ep := range c.Endpoints() {
				if most := capacity(by, 4*each, weights[i], 7); ep.InFlight() > most {
					t.Fatalf("%s: %s has %d of %d, may have %d", p, letter(ep), ep.InFlight(), 4*each, most)
				}
			}
			for i, l := range e.Loops() {
				on(l, func() {
					for _, ep := range taken[i] {
						ep.End(l)
					}
				})
			}
		}
	}
}

// A bound moves nobody whose endpoint has room.
func TestBoundedLoadLeavesWhoFits(t *testing.T) {
	const by = 1.25
	weights := []int{1, 2, 1, 3}
	for _, p := range consistent {
		e := newEngine(t, 1)
		l := e.Loops()[0]
		c := newCluster(t, e, bounded(p, by, weights...))
		free := newCluster(t, e, lettered(p, weights...))
		moved := 0
		r := rand.New(rand.NewPCG(1, 2))
		on(l, func() {
			for n := range int64(5000) {
				h := r.Uint64()
				if n%2 == 0 {
					h = 7 // the half of them is one client's
				}
				own := free.Pick(l, h, nil)
				var home *Endpoint
				var most int64
				for i, ep := range c.Endpoints() {
					if letter(ep) == letter(own) {
						home, most = ep, capacity(by, n+1, weights[i], 7)
					}
				}
				fits := home.InFlight() < most
				if got := c.Pick(l, h, nil); (got == home) != fits {
					t.Errorf("%s: %x is placed on %s; it belongs to %s, which has %d of %d", p, h, letter(got), letter(home), home.InFlight(), most)
					return
				}
				if got, _ := c.Take(l, h, nil); got != home {
					moved++
				}
			}
		})
		if moved == 0 || moved > 2500 {
			t.Errorf("%s: %d of 5000 are moved", p, moved)
		}
	}
}

// The bound is over all endpoints. Where some are out of the question the others have more, as evenly as can be.
func TestBoundedLoadGivesWay(t *testing.T) {
	for _, p := range consistent {
		e := newEngine(t, 1)
		l := e.Loops()[0]
		f := func(what string, cfg Config, tried []int, want ...int64) {
			t.Helper()
			c := newCluster(t, e, cfg)
			all := c.Endpoints()
			var out []*Endpoint
			for _, i := range tried {
				out = append(out, all[i])
			}
			on(l, func() {
				for range 100 {
					if c.Pick(l, 7, out) == nil {
						t.Errorf("%s, %s: none is picked", p, what)
						return
					}
					if _, err := c.Take(l, 7, out); err != nil {
						t.Errorf("%s, %s: %v", p, what, err)
						return
					}
				}
			})
			for i, ep := range all {
				if off := ep.InFlight() - want[i]; off < -1 || off > 1 {
					t.Errorf("%s, %s: %s has %d, want %d", p, what, letter(ep), ep.InFlight(), want[i])
				}
			}
		}
		f("all but one tried", bounded(p, 1.1, 1, 1, 1, 1), []int{0, 1, 3}, 0, 0, 100, 0)
		f("two of four tried", bounded(p, 1.1, 1, 1, 1, 1), []int{0, 1}, 0, 0, 50, 50)
		full := bounded(p, 1.1, 1, 1, 1, 3)
		full.Endpoints[0].MaxConn, full.Endpoints[1].MaxConn = 2, 2
		f("two of four full", full, nil, 2, 2, 24, 72)
	}
}
