package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Aim is what a generator is to do.
type Aim struct {
	Scenario Scenario
	Address  string // of the target: host:port
	Conns    int    // 0: the scenario's
	// Rate is the open loop's, in requests per second over all connections: they are sent at constant intervals, whatever
	// comes back, and their latency counts from when they were due. 0 is the closed loop: the next request is sent when
	// the last was answered.
	Rate float64
	// Pipeline is how many requests are under way on a connection at a time (keep-alive, closed loop); 0: one.
	Pipeline int
	// Loops is the number of the generator's event loops; 0: one.
	Loops int
	// Trust is what targets are believed by, in scenarios over TLS.
	Trust *Trust
}

// patience is how long an answer may take before the generator gives the target up.
const patience = 15 * time.Second

// Generator puts a load on a target. It is for one goroutine.
type Generator struct {
	aim     Aim
	epoch   time.Time
	parts   []part
	running bool
	failed  chan error // what makes going on pointless; the first counts
	mu      sync.Mutex // orders stop and done
	stop    chan struct{}
	done    sync.WaitGroup
}

// part is a piece of the generator with a tally of its own.
type part interface {
	start()
	tallied() *tally
	close()
}

// NewGenerator opens the connections, if they last longer than a request.
func NewGenerator(ctx context.Context, aim Aim) (*Generator, error) {
	if aim.Conns == 0 {
		aim.Conns = aim.Scenario.Conns
	}
	aim.Loops, aim.Pipeline = max(aim.Loops, 1), max(aim.Pipeline, 1)
	if aim.Conns < aim.Loops {
		aim.Loops = aim.Conns
	}
	g := &Generator{aim: aim, epoch: time.Now(), failed: make(chan error, 1), stop: make(chan struct{})}
	switch sc := &g.aim.Scenario; {
	case sc.secure() && aim.Trust == nil:
		return nil, errNoTrust
	case sc.perConn() || sc.secure():
		// A first one tells at once if nobody is there.
		c, err := g.dial(ctx)
		if err != nil {
			return nil, err
		}
		c.Close()
		g.parts = append(g.parts, newCallers(g))
	case sc.Load == Datagrams:
		for i := range aim.Loops {
			d, err := newDatagrams(ctx, g, aim.Conns*(i+1)/aim.Loops-aim.Conns*i/aim.Loops)
			if err != nil {
				g.Close()
				return nil, err
			}
			g.parts = append(g.parts, d)
		}
	default:
		for i := range aim.Loops {
			conns := aim.Conns*(i+1)/aim.Loops - aim.Conns*i/aim.Loops
			var w part
			var err error
			if aim.Rate > 0 {
				w, err = newPacer(ctx, g, conns)
			} else {
				w, err = newWorker(ctx, g, conns)
			}
			if err != nil {
				g.Close()
				return nil, err
			}
			g.parts = append(g.parts, w)
		}
	}
	return g, nil
}

func (g *Generator) now() int64 { return int64(time.Since(g.epoch)) }

func (g *Generator) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	return d.DialContext(ctx, "tcp", g.aim.Address)
}

// fail ends the measurement; the first call counts.
func (g *Generator) fail(err error) {
	select {
	case g.failed <- err:
	default:
	}
}

// interval is the time between two requests of one of n equal parts, in nanoseconds; 0 in the closed loop.
func (g *Generator) interval(n int) int64 {
	if g.aim.Rate <= 0 {
		return 0
	}
	return int64(float64(n) * 1e9 / g.aim.Rate)
}

// Measure runs the load for warm, and then counts for d. edge is called at the window's two ends; watch, if not nil,
// now and then with the share that is done. The error says why it ended early; what was counted until then is returned
// with it.
func (g *Generator) Measure(ctx context.Context, warm, d time.Duration, edge func(), watch func(share float64, t *tally)) (*tally, time.Duration, error) {
	if !g.running {
		g.running = true
		for _, p := range g.parts {
			p.start()
		}
	}
	if err := g.wait(ctx, warm, nil); err != nil {
		return newTally(), 0, err
	}
	for g.aim.Scenario.Load == Idle && g.sum().requests < uint64(g.aim.Conns) {
		if err := g.wait(ctx, idlePoll, nil); err != nil {
			return newTally(), 0, err
		}
	}
	for _, p := range g.parts {
		p.tallied().reset()
	}
	edge()
	began := time.Now()
	err := g.wait(ctx, d, watch)
	for err == nil && g.aim.Scenario.Load != Idle && g.sum().requests == 0 && time.Since(began) < silence {
		err = g.wait(ctx, idlePoll, nil) // the window was too short for this machine
	}
	elapsed := time.Since(began)
	edge()
	sum := g.sum()
	if err == nil && sum.requests == 0 && g.aim.Scenario.Load != Idle {
		err = fmt.Errorf("%s answered nothing in %v", g.aim.Address, elapsed.Round(time.Millisecond))
	}
	if err == nil && g.aim.Scenario.Resume && float64(sum.resumed) < minResumed*float64(sum.requests) {
		err = fmt.Errorf("%w: only %d of %d connections were resumed by their tickets", errTarget, sum.resumed, sum.requests)
	}
	return sum, elapsed, err
}

func (g *Generator) sum() *tally {
	sum := newTally()
	for _, p := range g.parts {
		p.tallied().into(sum)
	}
	return sum
}

// minResumed is the share of connections that a target has to resume where that is measured.
const minResumed = 0.95

// silence is how long a window may get before a target is said to answer nothing.
const silence = 5 * time.Second

// idlePoll is how often it is looked whether every idle connection has had its answer, or any other any.
const idlePoll = 5 * time.Millisecond

// watchEvery is how often the progress is shown.
const watchEvery = 250 * time.Millisecond

func (g *Generator) wait(ctx context.Context, d time.Duration, watch func(share float64, t *tally)) error {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-g.failed:
			return err
		case <-end.C:
			return nil
		case <-tick.C:
			if watch != nil {
				watch(float64(time.Since(began))/float64(d), g.sum())
			}
		}
	}
}

// Close ends the load and closes its connections.
func (g *Generator) Close() {
	g.mu.Lock()
	close(g.stop)
	g.mu.Unlock()
	// First: what is opening a connection waits for the event loops.
	g.done.Wait()
	for _, p := range g.parts {
		p.close()
	}
}

// spawn runs f beside the load, unless that has ended.
func (g *Generator) spawn(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stopped() {
		g.done.Go(f)
	}
}

func (g *Generator) stopped() bool {
	select {
	case <-g.stop:
		return true
	default:
		return false
	}
}

// errTarget marks what the target did wrong, so that it is told apart from an interrupted run.
var errTarget = errors.New("target failed")
