package lb

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// model is a server that does so many requests at a time, each for some time, first come first served, and fails those
// that wait for longer than a deadline. Time is what the simulation says.
type model struct {
	*adapter
	rng      *rand.Rand
	now      time.Duration
	workers  []time.Duration // when each is free
	service  time.Duration
	random   bool          // service times are exponential
	deadline time.Duration // 0: none
	under    []flight      // by their ends
	done     int
}

type flight struct{ began, ends time.Duration }

func newModel(cfg Adaptive, workers int, service time.Duration) *model {
	m := &model{adapter: newAdapter(*cfg.withDefaults(), 2), rng: rand.New(rand.NewPCG(1, 2)), service: service}
	m.resize(workers)
	return m
}

func (m *model) resize(workers int) {
	m.workers = make([]time.Duration, workers)
	for i := range m.workers {
		m.workers[i] = m.now
	}
}

// ends ends all that is over by now, in its order.
func (m *model) ends() {
	for len(m.under) > 0 && m.under[0].ends <= m.now {
		f := m.under[0]
		m.under = m.under[1:]
		loop := m.done % 2
		m.done++
		if took := f.ends - f.began; m.deadline > 0 && took >= m.deadline {
			m.failed(loop, f.ends)
		} else {
			m.answered(loop, took, f.ends)
		}
	}
}

// runs has requests come at a rate by the second for some time, and is the range of limits in its second half, without
// probes, and what was answered by the second.
func (m *model) runs(d time.Duration, rate float64) (least, most, rps float64) {
	until, half := m.now+d, m.now+d/2
	done := 0
	for m.now < until {
		m.now += time.Duration(m.rng.ExpFloat64() * float64(time.Second) / rate)
		m.ends()
		if m.admit(m.done%2, int64(len(m.under))) {
			w := 0
			for i := range m.workers {
				if m.workers[i] < m.workers[w] {
					w = i
				}
			}
			service := m.service
			if m.random {
				service = time.Duration(m.rng.ExpFloat64() * float64(service))
			}
			m.workers[w] = max(m.workers[w], m.now) + service
			ends := m.workers[w]
			if m.deadline > 0 {
				ends = min(ends, m.now+m.deadline)
			}
			at, _ := slices.BinarySearchFunc(m.under, ends, func(f flight, ends time.Duration) int { return int(f.ends - ends) })
			m.under = slices.Insert(m.under, at, flight{m.now, ends})
		}
		if m.now < half {
			done = m.done
			continue
		}
		if least == 0 {
			least, most = m.exact, m.exact
		}
		least, most = min(least, m.exact), max(most, m.exact)
	}
	return least, most, float64(m.done-done) / (d / 2).Seconds()
}

// Under more than it can do, a server is given what keeps it busy, and not much more to wait.
func TestConcurrencyLimitFindsCapacity(t *testing.T) {
	f := func(name string, cfg Adaptive, workers int, random bool) {
		t.Helper()
		m := newModel(cfg, workers, 40*time.Millisecond)
		m.random = random
		capacity := float64(workers) / m.service.Seconds()
		m.runs(time.Minute, 2*capacity)
		least, most, rps := m.runs(2*time.Minute, 2*capacity)
		if least < 0.9*float64(workers) || most > 2.6*float64(workers) {
			t.Errorf("%s: the limit is %.0f to %.0f for a server of %d", name, least, most, workers)
		}
		if rps < 0.93*capacity {
			t.Errorf("%s: %.0f requests/s of a capacity of %.0f", name, rps, capacity)
		}
	}
	f("from below", Adaptive{}, 60, false)
	f("from above", Adaptive{}, 10, false)
	f("from far above", Adaptive{Initial: 500}, 25, false)
	f("with times that vary", Adaptive{}, 40, true)
}

// A server that becomes smaller, or larger again, has its limit follow.
func TestConcurrencyLimitFollows(t *testing.T) {
	m := newModel(Adaptive{}, 40, 40*time.Millisecond)
	rate := 2 * 40 / m.service.Seconds()
	for _, workers := range []int{40, 10, 40} {
		m.resize(workers)
		m.runs(90*time.Second, rate)
		least, most, _ := m.runs(time.Minute, rate)
		if least < 0.9*float64(workers) || most > 2.6*float64(workers) {
			t.Errorf("the limit is %.0f to %.0f for a server of %d", least, most, workers)
		}
	}
}

// Where requests fail, the limit goes down to its minimum, and comes back when they do not.
func TestConcurrencyLimitFallsOnFailures(t *testing.T) {
	m := newModel(Adaptive{Min: 6, Initial: 100}, 100, 20*time.Millisecond)
	m.runs(20*time.Second, 4000)
	m.service, m.deadline = time.Hour, 50*time.Millisecond
	m.runs(20*time.Second, 4000)
	if n := m.limit.Load(); n != 6 {
		t.Errorf("a limit of %d where all fail", n)
	}
	m.service, m.deadline = 20*time.Millisecond, 0
	m.resize(100)
	if _, most, _ := m.runs(time.Minute, 4000); most < 80 {
		t.Errorf("a limit of %.0f where all is well", most)
	}
}

// One that fails among many changes little: it is no sign of too much load.
func TestConcurrencyLimitBearsSomeFailures(t *testing.T) {
	m := newModel(Adaptive{}, 50, 20*time.Millisecond)
	m.runs(30*time.Second, 5000)
	for range 300 {
		for range 3 {
			m.failed(0, m.now)
		}
		m.runs(100*time.Millisecond, 5000)
	}
	if n := m.exact; n < 45 {
		t.Errorf("a limit of %.0f", n)
	}
}

// Without load there is nothing to learn: nobody is shed, and the limit stays, whatever time responses take.
func TestConcurrencyLimitWithoutLoad(t *testing.T) {
	m := newModel(Adaptive{Initial: 100}, 60, 20*time.Millisecond)
	m.runs(30*time.Second, 500) // 10 in flight
	m.service *= 2
	least, most, _ := m.runs(2*time.Minute, 500)
	if least < 50 || most > 100 || m.totals().shed > 0 || m.phase != noProbe {
		t.Errorf("a limit of %.0f to %.0f, and %d were shed", least, most, m.totals().shed)
	}
}

// Beyond the limit exchanges are shed, at whichever endpoint they wanted, and not queued.
func TestShedding(t *testing.T) {
	e := newEngine(t, 2)
	l, other := e.Loops()[0], e.Loops()[1]
	cfg := lettered(RoundRobin, 1, 1)
	cfg.Adaptive, cfg.Queue, cfg.Sticky = &Adaptive{Min: 1, Initial: 3}, &Queue{}, &StickyConfig{}
	c := newCluster(t, e, cfg)
	if !c.Timed() || !cfg.HTTPOnly() || c.ConcurrencyLimit() != 3 {
		t.Errorf("timed %v, http only %v, limit %d", c.Timed(), cfg.HTTPOnly(), c.ConcurrencyLimit())
	}
	a := c.Endpoints()[0]
	on(other, func() { a.Begin(other); a.Begin(other) })
	on(l, func() {
		ep, err := c.Take(l, 0, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := c.Take(l, 0, nil); err != ErrShed {
			t.Errorf("%v", err)
		}
		if _, err := c.Take(l, 0, []*Endpoint{a}); err != ErrShed {
			t.Errorf("%v", err)
		}
		if err := c.TakeEndpoint(l, a, nil); err != ErrShed || c.Shed() != 3 {
			t.Errorf("%v, %d shed", err, c.Shed())
		}
		ep.End(l)
		if ep, err := c.Take(l, 0, nil); err != nil {
			t.Errorf("%v when one has ended", err)
		} else {
			ep.End(l)
		}
		if n := testing.AllocsPerRun(100, func() {
			if ep, err := c.Take(l, 0, nil); err == nil {
				c.Answered(l, ep, time.Millisecond)
				ep.End(l)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
	on(other, func() { a.End(other); a.End(other) })
	if c := newCluster(t, e, lettered(RoundRobin, 1)); c.ConcurrencyLimit() != 0 || c.Shed() != 0 {
		t.Error("a cluster without it has a limit")
	}
}

// What gateways tell of failures and times reaches the limit, from all loops at once.
func TestConcurrencyLimitHearsOfExchanges(t *testing.T) {
	e := newEngine(t, 2)
	cfg := lettered(RoundRobin, 1)
	cfg.Adaptive = &Adaptive{Initial: 500, Window: 10 * time.Millisecond}
	c := newCluster(t, e, cfg)
	ep := c.Endpoints()[0]
	eventually(t, "the limit falls", func() bool {
		var done sync.WaitGroup
		for _, l := range e.Loops() {
			done.Add(1)
			l.Post(func() {
				defer done.Done()
				for range windowMin {
					c.Answered(l, ep, time.Millisecond)
					c.Failed(l, ep)
				}
			})
		}
		done.Wait()
		return c.ConcurrencyLimit() < 400
	})
	// It outlives a reload that leaves it as it is.
	for _, tolerance := range []float64{0, 2} {
		was := c.ConcurrencyLimit()
		cfg.Picker, cfg.Adaptive = Random, &Adaptive{Initial: 500, Window: 10 * time.Millisecond, Tolerance: tolerance}
		next, err := NewCluster(cfg, e.Loops(), quiet, c)
		must(t, err)
		next.Stop(nil)
		if n := next.ConcurrencyLimit(); (n == was) != (tolerance == 0) {
			t.Errorf("with a tolerance of %v the limit is %d, and was %d", tolerance, n, was)
		}
	}
}

func TestValidateAdaptive(t *testing.T) {
	f := func(cfg Adaptive, want ...string) {
		t.Helper()
		var got []string
		c := of("", "10.0.0.1:80")
		c.Adaptive = &cfg
		c.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	f(Adaptive{})
	f(Adaptive{Min: 50})
	f(Adaptive{Max: 10})
	f(Adaptive{Min: 1, Max: 5, Initial: 5, Tolerance: 1, Window: time.Minute, Probe: time.Minute})
	f(Adaptive{Min: 5, Max: 4}, "adaptive.initial: 4 is not from the min, 5, to the max, 4")
	f(Adaptive{Initial: 3}, "adaptive.initial: 3 is not from the min, 4, to the max, 1000")
	f(Adaptive{Initial: 1001}, "adaptive.initial: 1001 is not from the min, 4, to the max, 1000")
	f(Adaptive{Tolerance: 0.9, Window: time.Millisecond}, "adaptive.tolerance: 0.9: 1 to 100 times", "adaptive.window: 1ms: 10ms to 1m")
	f(Adaptive{Probe: time.Millisecond}, "adaptive.probe: 1ms: not less than the window, 100ms")
	f(Adaptive{Min: -1}, "adaptive.min: must not be negative")
	if got, want := (Adaptive{}).withDefaults(), (Adaptive{Min: 4, Max: 1000, Initial: 20, Tolerance: 1.5, Window: 100 * time.Millisecond,
		Probe: 30 * time.Second}); *got != want {
		t.Errorf("%+v", got)
	}
}
