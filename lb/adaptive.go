package lb

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"sluice/engine"
)

// Adaptive bounds what a cluster has in flight over all loops by how long it takes to begin its responses (http), after
// Netflix's Gradient2 and Envoy's gradient controller: what is beyond is shed at once, rather than made to wait in queues
// that nobody sees.
type Adaptive struct {
	// Min, 0: 4, and Max, 0: 1000, bound the limit, which begins at Initial, 0: 20.
	Min     int `yaml:"min"`
	Max     int `yaml:"max"`
	Initial int `yaml:"initial"`
	// Tolerance is how many times the time without load responses may take; 0: 1.5.
	Tolerance float64 `yaml:"tolerance"`
	// Window is how often the limit is adjusted; 0: 100 ms.
	Window time.Duration `yaml:"window"`
	// Probe is how often a cluster that is under load all the time has its limit cut for an instant, to see how long
	// responses take without load; 0: 30 s. At first it is more often.
	Probe time.Duration `yaml:"probe"`
}

func (a *Adaptive) validate(report func(path, message string)) {
	for _, n := range []struct {
		key string
		bad bool
	}{{"min", a.Min < 0}, {"max", a.Max < 0}, {"initial", a.Initial < 0}} {
		if n.bad {
			report(n.key, "must not be negative")
		}
	}
	if a.Tolerance != 0 && !(a.Tolerance >= 1 && a.Tolerance <= 100) {
		report("tolerance", fmt.Sprintf("%v: 1 to 100 times", a.Tolerance))
	}
	d := a.withDefaults()
	if d.Min > d.Initial || d.Initial > d.Max {
		report("initial", fmt.Sprintf("%d is not from the min, %d, to the max, %d", d.Initial, d.Min, d.Max))
	}
	if d.Window < 10*time.Millisecond || d.Window > time.Minute {
		report("window", fmt.Sprintf("%v: 10ms to 1m", d.Window))
	}
	if d.Probe < d.Window {
		report("probe", fmt.Sprintf("%v: not less than the window, %v", d.Probe, d.Window))
	}
}

func (a Adaptive) withDefaults() *Adaptive {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&a.Min, 4)
	def(&a.Max, 1000)
	def(&a.Initial, min(max(20, a.Min), a.Max))
	if a.Tolerance == 0 {
		a.Tolerance = 1.5
	}
	if a.Window == 0 {
		a.Window = 100 * time.Millisecond
	}
	if a.Probe == 0 {
		a.Probe = 30 * time.Second
	}
	return &a
}

const (
	// gradientMin bounds a cut, and gradientStep is the part of a change that a window makes: one window may err.
	gradientMin  = 0.5
	gradientStep = 0.2
	// baseStep is the part of the way that the time without load goes in a window.
	baseStep = 0.1
	// windowMin is how many exchanges have to end in a window for it to say something. It goes on until they have.
	windowMin = 10
	// probePart is what a probe leaves of the limit: 1/4 is below what a server does at once even where the limit has
	// grown to twice as much, and what is shed in two windows of 300 is little.
	probePart = 4
	// probeFirst is after how many windows the first probe is; each next one is twice as late.
	probeFirst = 10
)

// adapter is the limit of a cluster and how it comes about. Safe for all loops, without locks: each loop counts for itself,
// and whoever finds the window over adjusts the limit.
type adapter struct {
	cfg   Adaptive
	limit atomic.Int64
	due   atomic.Int64 // when the window is over, on the loops' clock
	busy  atomic.Bool  // somebody adjusts, and owns what follows but for the loops
	exact float64      // the limit without probes
	base  float64      // nanoseconds to begin a response without load; 0: not known
	seen  loadTotals
	phase probePhase
	until time.Duration // a probe settles, or is not begun
	every time.Duration // between probes
	loops []loadCounters
}

// loadCounters is one loop's share, written by it alone.
type loadCounters struct {
	_              [64]byte
	took, answered engine.Counter // nanoseconds of how many responses
	failed         engine.Counter
	load, asked    engine.Counter // what was in flight, summed over how many who asked
	shed           engine.Counter
	_              [64]byte
}

type loadTotals struct{ took, answered, failed, load, asked, shed uint64 }

// probePhase is how far a probe has come.
type probePhase uint8

const (
	noProbe  probePhase = iota
	settling            // what was in flight ends
	probing
)

func newAdapter(cfg Adaptive, loops int) *adapter {
	a := &adapter{cfg: cfg, exact: float64(cfg.Initial), every: min(probeFirst*cfg.Window, cfg.Probe), loops: make([]loadCounters, loops)}
	a.limit.Store(int64(cfg.Initial))
	return a
}

// admit says whether one more may be in flight beside so many.
func (a *adapter) admit(loop int, inFlight int64) bool {
	n := &a.loops[loop]
	n.load.Add(uint64(max(inFlight, 0)) + 1)
	n.asked.Inc()
	if inFlight >= a.limit.Load() {
		n.shed.Inc()
		return false
	}
	return true
}

func (a *adapter) answered(loop int, took, now time.Duration) {
	n := &a.loops[loop]
	n.took.Add(uint64(max(took, 1)))
	n.answered.Inc()
	a.tick(now)
}

func (a *adapter) failed(loop int, now time.Duration) {
	a.loops[loop].failed.Inc()
	a.tick(now)
}

// tick adjusts the limit if the window is over.
func (a *adapter) tick(now time.Duration) {
	if int64(now) < a.due.Load() || !a.busy.CompareAndSwap(false, true) {
		return
	}
	if int64(now) >= a.due.Load() { // nobody has done it meanwhile
		a.due.Store(int64(now + a.cfg.Window))
		a.adjust(now)
	}
	a.busy.Store(false)
}

func (a *adapter) totals() (t loadTotals) {
	for i := range a.loops {
		n := &a.loops[i]
		t.took += n.took.Load()
		t.answered += n.answered.Load()
		t.failed += n.failed.Load()
		t.load += n.load.Load()
		t.asked += n.asked.Load()
		t.shed += n.shed.Load()
	}
	return t
}

// adjust looks at the window that is over.
func (a *adapter) adjust(now time.Duration) {
	t := a.totals()
	answered, failed := float64(t.answered-a.seen.answered), float64(t.failed-a.seen.failed)
	if answered+failed < windowMin {
		return
	}
	took := float64(t.took-a.seen.took) / max(answered, 1)
	load := float64(t.load-a.seen.load) / max(float64(t.asked-a.seen.asked), 1)
	a.seen = t
	switch a.phase {
	case settling:
		if now >= a.until {
			a.phase = probing
		}
		return
	case probing:
		if answered > 0 {
			a.base += (took - a.base) / 2
		}
		a.phase = noProbe
		a.every = min(2*a.every, a.cfg.Probe)
		a.until = now + a.every
		a.limit.Store(int64(a.exact))
		return
	}
	busy := 2*load >= a.exact
	switch {
	case answered == 0:
	case a.base == 0:
		a.base, a.until = took, now+a.every
	case took < a.base || !busy:
		// Under load the time without it can only be less than it seems. Without load it is what is seen.
		a.base += (took - a.base) * baseStep
	}
	gradient := 1 - failed/(answered+failed)
	if answered > 0 {
		gradient = min(gradient, a.cfg.Tolerance*a.base/took)
	}
	// The root is what may wait for its turn, so that nothing stands idle, and what lets the limit grow at all.
	next := a.exact*max(gradient, gradientMin) + math.Sqrt(a.exact)
	if next < a.exact || busy { // a limit that is not felt says nothing by growing
		a.exact += (next - a.exact) * gradientStep
	}
	a.exact = min(max(a.exact, float64(a.cfg.Min)), float64(a.cfg.Max))
	a.limit.Store(int64(a.exact))
	switch {
	case !busy:
		a.until = now + a.every
	case now >= a.until:
		a.limit.Store(max(int64(a.exact)/probePart, 1))
		a.phase, a.until = settling, now+max(a.cfg.Window, time.Duration(took))
	}
}

// admits says whether the cluster may have one more in flight.
func (c *Cluster) admits(l *engine.Loop) bool {
	return c.adapter == nil || c.adapter.admit(l.ID(), c.shared.inFlight())
}

// ConcurrencyLimit is how much the cluster may have in flight at present; 0: any number.
func (c *Cluster) ConcurrencyLimit() int64 {
	if c.adapter == nil {
		return 0
	}
	return c.adapter.limit.Load()
}

// Shed is how often somebody was told ErrShed.
func (c *Cluster) Shed() uint64 {
	if c.adapter == nil {
		return 0
	}
	return c.adapter.totals().shed
}
