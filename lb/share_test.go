package lb

import (
	"math"
	"testing"
	"time"

	"sluice/engine"
)

// seeded is a cluster whose draws are the same in every run.
func seeded(t *testing.T, cfg Config) (*Cluster, *engine.Loop) {
	t.Helper()
	e := newEngine(t, 1)
	c := newCluster(t, e, cfg)
	on(e.Loops()[0], func() { c.shared.loops[0].seed = 1 })
	return c, e.Loops()[0]
}

// picks counts n picks by endpoint.
func picks(c *Cluster, l *engine.Loop, n int) map[string]int {
	return from(l, func() map[string]int {
		got := map[string]int{}
		for range n {
			got[letter(c.Pick(l, 0, nil))]++
		}
		return got
	})
}

func TestRandomPickersAreByWeightWhileIdle(t *testing.T) {
	const n = 100000
	f := func(p Picker, weights ...int) {
		t.Helper()
		c, l := seeded(t, lettered(p, weights...))
		total := 0
		for _, w := range weights {
			total += w
		}
		got := picks(c, l, n)
		for i, w := range weights {
			name := string(rune('a' + i))
			want := n * float64(w) / float64(total)
			if off := math.Abs(float64(got[name]) - want); off > 4*math.Sqrt(want) {
				t.Errorf("%s, weights %v: %s is picked %d times, want about %.0f", p, weights, name, got[name], want)
			}
		}
	}
	for _, p := range []Picker{Random, P2C} {
		f(p, 1, 1, 1)
		f(p, 1, 2, 3, 4)
		f(p, 100, 1)
		f(p, 65535, 1, 65535)
		f(p, 7)
	}
}

func TestTwoChoicesTakeTheLessBusy(t *testing.T) {
	f := func(weights []int, busy []int, want map[string]bool) {
		t.Helper()
		c, l := seeded(t, lettered(P2C, weights...))
		on(l, func() {
			for i, n := range busy {
				for range n {
					c.Endpoints()[i].Begin(l)
				}
			}
		})
		for name, n := range picks(c, l, 2000) {
			if !want[name] {
				t.Errorf("weights %v, in flight %v: %s is picked %d times", weights, busy, name, n)
			}
		}
	}
	f([]int{1, 1}, []int{1, 0}, map[string]bool{"b": true})
	f([]int{1, 1, 1}, []int{5, 3, 4}, map[string]bool{"b": true, "c": true}) // a never meets a
	f([]int{10, 1}, []int{9, 1}, map[string]bool{"a": true})                 // for its weight
	f([]int{10, 1}, []int{11, 1}, map[string]bool{"b": true})
}

// With two choices the busiest of n has about log log n more than the mean (Mitzenmacher 2001), with one √mean.
func TestTwoChoicesSpreadEvenly(t *testing.T) {
	weights := make([]int, 20)
	for i := range weights {
		weights[i] = 1 + i%2
	}
	c, l := seeded(t, lettered(P2C, weights...))
	const mean = 1000 // for a weight of 1
	on(l, func() {
		for range 30 * mean {
			_, _ = c.Take(l, 0, nil)
		}
	})
	for i, ep := range c.Endpoints() {
		if off := ep.InFlight() - int64(mean*weights[i]); off < -10 || off > 10 {
			t.Errorf("%s of weight %d has %d in flight", letter(ep), weights[i], ep.InFlight())
		}
	}
}

// answered has endpoints have answered in these times, so long ago.
func answered(l *engine.Loop, ep *Endpoint, took, ago time.Duration) {
	on(l, func() { ep.speed.observe(took, l.Now()-ago) })
}

func TestEWMAPrefersTheFaster(t *testing.T) {
	c, l := seeded(t, lettered(EWMA, 1, 1))
	a, b := c.Endpoints()[0], c.Endpoints()[1]
	f := func(why string, want map[string]int) {
		t.Helper()
		got := picks(c, l, 100)
		for name, n := range want {
			if got[name] != n {
				t.Errorf("%s: picked %v, want %v", why, got, want)
			}
		}
	}
	answered(l, a, time.Millisecond, 0)
	answered(l, b, 20*time.Millisecond, 0)
	f("a is faster", map[string]int{"a": 100})
	on(l, func() {
		for range 18 {
			a.Begin(l)
		}
	})
	f("a is faster, with 19 that share it", map[string]int{"a": 100})
	on(l, func() {
		for range 3 {
			a.Begin(l)
		}
	})
	f("a has too many", map[string]int{"b": 100})
}

// Who was slow is asked again when that is long ago.
func TestEWMAComesBack(t *testing.T) {
	c, l := seeded(t, lettered(EWMA, 1, 1))
	a, b := c.Endpoints()[0], c.Endpoints()[1]
	answered(l, a, time.Millisecond, 0)
	answered(l, b, time.Second, 60*time.Second)
	if got := picks(c, l, 100); got["a"] != 100 {
		t.Errorf("after a minute, 1 s against 1 ms: picked %v", got)
	}
	answered(l, b, time.Second, 80*time.Second) // e^-8 of it
	if got := picks(c, l, 100); got["b"] != 100 {
		t.Errorf("after 80 seconds: picked %v", got)
	}
	answered(l, b, time.Second, 0)
	if got := picks(c, l, 100); got["a"] != 100 {
		t.Errorf("after another slow answer: picked %v", got)
	}
}

func TestEWMATriesTheUnknownOnce(t *testing.T) {
	c, l := seeded(t, lettered(EWMA, 1, 1, 1, 1))
	unknown := c.Endpoints()[1]
	for _, ep := range c.Endpoints() {
		if ep != unknown {
			answered(l, ep, time.Microsecond, 0)
		}
	}
	on(l, func() {
		for range 1000 {
			_, _ = c.Take(l, 0, nil)
		}
	})
	if n := unknown.InFlight(); n != 1 {
		t.Errorf("%d are sent to whom nobody knows", n)
	}
	// It has answered, and is one of them.
	answered(l, unknown, time.Microsecond, 0)
	on(l, func() {
		for range 1000 {
			_, _ = c.Take(l, 0, nil)
		}
	})
	if n := unknown.InFlight(); n < 300 {
		t.Errorf("%d of 2000 are sent to one of four", n)
	}
}

// An endpoint that refuses at once would be the fastest of all, and one that has never answered is worth a try each time.
func TestFailureIsNoFastAnswer(t *testing.T) {
	for name, fail := range map[string]func(c *Cluster, l *engine.Loop, ep *Endpoint){
		"refused": (*Cluster).ConnectFailed,
		"failed":  (*Cluster).Failed,
	} {
		c, l := seeded(t, lettered(EWMA, 1, 1))
		a, b := c.Endpoints()[0], c.Endpoints()[1]
		answered(l, b, 50*time.Millisecond, 0)
		if got := picks(c, l, 10); got["a"] != 10 {
			t.Fatalf("picked %v, a being unknown", got)
		}
		on(l, func() { fail(c, l, a) })
		if got := picks(c, l, 100); got["b"] != 100 {
			t.Errorf("%s: picked %v", name, got)
		}
	}
}

func TestSpeedIsPeakSensitive(t *testing.T) {
	var s speed
	f := func(now time.Duration, want float64) {
		t.Helper()
		if got := s.get(now) / float64(time.Millisecond); math.Abs(got-want) > want*0.001 {
			t.Errorf("at %v: %.4f ms, want %.4f", now, got, want)
		}
	}
	f(0, 0)
	for i := range 1000 {
		s.observe(time.Millisecond, time.Duration(i)*time.Millisecond)
	}
	f(time.Second, 1*math.Exp(-0.0001))
	s.observe(100*time.Millisecond, time.Second) // counts at once
	f(time.Second, 100)
	f(11*time.Second, 100/math.E)
	s.observe(time.Millisecond, time.Second) // and another one at the same time changes nothing
	f(time.Second, 100)
	s.observe(time.Millisecond, 11*time.Second)
	f(11*time.Second, 100/math.E+1-1/math.E)
	f(10*time.Second, 100/math.E+1-1/math.E) // on a loop whose clock is behind
}
