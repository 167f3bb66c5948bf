package lb

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The estimate is at or above the true quantile, and at most an eighth above, whatever the times look like.
func TestQuantileOfTimes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() time.Duration{
		"uniform":       func() time.Duration { return time.Duration(rng.IntN(int(80 * time.Millisecond))) },
		"exponential":   func() time.Duration { return time.Duration(rng.ExpFloat64() * float64(time.Millisecond)) },
		"one in twelve": func() time.Duration { return time.Millisecond + time.Duration(rng.IntN(12)/11)*time.Second },
		"all alike":     func() time.Duration { return 3 * time.Millisecond },
		"minutes":       func() time.Duration { return time.Duration(20+rng.IntN(30)) * time.Second },
	} {
		var q quantile
		var all []time.Duration
		for range 4000 {
			d := draw()
			all = append(all, d)
			q.observe(d, 0)
		}
		slices.Sort(all)
		want := all[len(all)*95/100]
		if got := q.look(); got < want || float64(got) > float64(want)*1.126 {
			t.Errorf("%s: the 95th percentile of %v is estimated as %v", name, want, got)
		}
	}
	for _, d := range []time.Duration{0, 1, 1023, 1024, 1025, 1 << 20, 1<<20 - 1, 1<<37 - 1} {
		b := bucketOf(d)
		if upper(b) <= d || b > 0 && upper(b-1) > d {
			t.Errorf("%d is in the bucket that ends at %d", d, upper(b))
		}
	}
	if got := bucketOf(1 << 62); got != octaves*bucketsPerOctave-1 {
		t.Errorf("what is beyond all buckets is in number %d", got)
	}
}

// What was measured before counts less and less, but for those few that there are.
func TestQuantileForgets(t *testing.T) {
	var q quantile
	for range 1000 {
		q.observe(time.Second, 0)
	}
	if q.p95 < time.Second {
		t.Fatalf("%v", q.p95)
	}
	now := time.Duration(0)
	for range 12 {
		now += quantileHalf
		for range 100 {
			q.observe(time.Millisecond, now)
		}
	}
	if q.p95 > 2*time.Millisecond {
		t.Errorf("%v a minute after the last slow one", q.p95)
	}
	q = quantile{}
	for range quantileMin {
		q.observe(time.Second, now)
	}
	if q.observe(time.Second, now+time.Hour); q.n != quantileMin+1 {
		t.Errorf("of the few that there are %d count", q.n)
	}
}

func TestHedgeAfter(t *testing.T) {
	e := newEngine(t, 2)
	l, other := e.Loops()[0], e.Loops()[1]
	make := func(h *Hedge) *Cluster {
		cfg := lettered(RoundRobin, 1, 1)
		cfg.Hedge = h
		return newCluster(t, e, cfg)
	}
	none := make(nil)
	none.Answered(l, none.Endpoints()[0], time.Second)
	if none.Hedges() || none.HedgeAfter(l) != 0 || none.MayHedge(l) || none.Timed() {
		t.Error("a cluster without it hedges")
	}
	fixed := make(&Hedge{After: time.Minute})
	if !fixed.Hedges() || fixed.HedgeAfter(l) != time.Minute || fixed.Timed() {
		t.Errorf("after %v", fixed.HedgeAfter(l))
	}
	c := make(&Hedge{})
	if !c.Timed() {
		t.Error("the gateway is not told to measure")
	}
	a := c.Endpoints()[0]
	on(l, func() {
		for n := range quantileMin {
			if d := c.HedgeAfter(l); d != 0 {
				t.Errorf("after %v, by %d measures", d, n)
			}
			c.Answered(l, a, 80*time.Millisecond)
		}
		if d := c.HedgeAfter(l); d < 80*time.Millisecond || d > 91*time.Millisecond || d != c.P95(l) {
			t.Errorf("after %v", d)
		}
		if n := testing.AllocsPerRun(100, func() { c.Answered(l, a, time.Second); c.HedgeAfter(l); c.MayHedge(l) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
	if d := from(other, func() time.Duration { return c.HedgeAfter(other) }); d != 0 {
		t.Errorf("another loop knows of %v", d)
	}
}

// Requests are hedged in the part that is configured, and no more.
func TestHedgeBudget(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	f := func(percent, least, most int) {
		t.Helper()
		cfg := lettered(RoundRobin, 1, 1)
		cfg.Hedge = &Hedge{After: 1, MaxPercent: percent}
		c := newCluster(t, e, cfg)
		hedged := 0
		on(l, func() {
			if c.MayHedge(l) {
				t.Errorf("%d: a hedge of nothing", percent)
			}
			for range 1000 {
				ep, err := c.Take(l, 0, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if c.MayHedge(l) {
					hedged++
					second, err := c.Take(l, 0, []*Endpoint{ep})
					if err != nil {
						t.Error(err)
						return
					}
					second.End(l)
				}
				ep.End(l)
			}
		})
		if hedged < least || hedged > most {
			t.Errorf("%d percent: %d of 1000 were hedged", percent, hedged)
		}
	}
	f(0, 49, 50)
	f(10, 99, 100)
	f(100, 1000, 1000)
}

// Endpoints that lose to a second one tell nothing of how slow they are. The quantile must not come down for that.
func TestHedgingDoesNotLowerItsOwnBound(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := lettered(RoundRobin, 1, 1)
	cfg.Hedge = &Hedge{MaxPercent: 100}
	c := newCluster(t, e, cfg)
	rng := rand.New(rand.NewPCG(1, 2))
	hedged, n := 0, 20000
	on(l, func() {
		for range n {
			ep, err := c.Take(l, 0, nil)
			if err != nil {
				t.Error(err)
				return
			}
			took := time.Duration(rng.ExpFloat64() * float64(time.Millisecond))
			if after := c.HedgeAfter(l); after > 0 && took > after && c.MayHedge(l) {
				hedged++ // and the second one answers first
			} else {
				c.Answered(l, ep, took)
			}
			ep.End(l)
		}
	})
	if percent := float64(hedged) * 100 / float64(n); percent > 5.5 || percent < 2 {
		t.Errorf("%.1f percent were hedged", percent)
	}
}
