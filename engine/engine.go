package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config is the engine's part of the configuration.
type Config struct {
	// Loops is the number of event loops; 0: one for each CPU that Affinity lists, or else that the process may use.
	Loops int `yaml:"loops"`
	// Affinity is where they run: auto, none (the default) or a CPU for each.
	Affinity Affinity `yaml:"affinity"`
	// MaxConn bounds the accepted connections that are open at a time; those beyond wait in the kernel's backlog. 0:
	// seven eighths of the file descriptors that the process may open.
	MaxConn int `yaml:"maxconn"`
	// Memory bounds the bytes that wait in the loops' buffers and pipes; each loop has an equal share, and takes nothing
	// new that can be refused while it holds more. Free buffers (8 MiB a loop at most), connections and the kernel's socket
	// buffers are not in it. 0: a quarter of what the process may have, by its cgroup (version 1 or 2) or the machine.
	Memory Size `yaml:"memory"`
}

// maxLoops bounds the loops: their memory, and what steers connections to them.
const maxLoops = 1024

// minShare is the least that a loop can do with: a few stalled bodies.
const minShare = 1 << 20

// Validate reports what is wrong with c, by the path of the key.
func (c Config) Validate(report func(path, message string)) {
	if c.Loops < 0 || c.Loops > maxLoops {
		report("loops", fmt.Sprintf("%d loops: 0 (one per CPU) to %d", c.Loops, maxLoops))
	}
	c.Affinity.validate(c.Loops, report)
	if c.MaxConn < 0 {
		report("maxconn", "must not be negative")
	}
	if c.Memory != 0 && c.Memory < minShare*Size(c.loops()) {
		report("memory", fmt.Sprintf("%v for %d loops: at least %v each", c.Memory, c.loops(), Size(minShare)))
	}
}

func (c Config) loops() int {
	switch {
	case c.Loops != 0:
		return c.Loops
	case len(c.Affinity.CPUs) != 0:
		return len(c.Affinity.CPUs)
	}
	return runtime.GOMAXPROCS(0)
}

// Engine is the set of loops of a process.
type Engine struct {
	loops   []*Loop
	cpus    []int // of the loops, if they are pinned
	log     *slog.Logger
	maxConn int64
	memory  int64
	open    atomic.Int64 // accepted connections, over all listeners
	running sync.WaitGroup
}

// New opens the loops; Start runs them.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	n := cfg.loops()
	e := &Engine{log: log, maxConn: int64(cfg.MaxConn), memory: int64(cfg.Memory)}
	if e.maxConn == 0 {
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil && lim.Cur < 1<<40 {
			e.maxConn = int64(lim.Cur - lim.Cur/8)
		}
	}
	if e.memory == 0 {
		e.memory = max(memoryLimit(os.DirFS("/"))/4, minShare*int64(n))
	}
	for i := range n {
		l, err := newLoop(e, i, e.memory/int64(n))
		if err != nil {
			return nil, fmt.Errorf("loop %d: %w", i, err)
		}
		e.loops = append(e.loops, l)
	}
	return e, nil
}

// Start runs the loops, each on a goroutine and thread of its own. A busy loop does not let go of its processor (in the
// sense of GOMAXPROCS), so there is another one for every two loops, for the goroutines beside them.
func (e *Engine) Start() {
	if want := len(e.loops) + (len(e.loops)+1)/2; runtime.GOMAXPROCS(0) < want {
		runtime.GOMAXPROCS(want)
	}
	for _, l := range e.loops {
		e.running.Go(l.run)
	}
}

// Loops are the engine's loops, by their ID.
func (e *Engine) Loops() []*Loop { return e.loops }

// MaxConn is the bound on accepted connections in force; 0: none.
func (e *Engine) MaxConn() int64 { return e.maxConn }

// Open is the number of open connections, accepted and dialled.
func (e *Engine) Open() int64 {
	var n int64
	for _, l := range e.loops {
		n += l.count.Open.Load()
	}
	return n
}

// Memory is the bound on what waits in buffers and pipes, in bytes.
func (e *Engine) Memory() int64 { return e.memory }

// Held is what waits in buffers and pipes, in bytes.
func (e *Engine) Held() int64 {
	var n int64
	for _, l := range e.loops {
		n += l.Held()
	}
	return n
}

// Drain has every connection finish: idle ones close, the others after what they do now. It returns when none is left,
// or with how many were when ctx ended. Close the listeners first.
func (e *Engine) Drain(ctx context.Context) error {
	for _, l := range e.loops {
		l.Post(l.drain)
	}
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		// Asked on the loops, so that what was posted before has happened.
		if e.settled(ctx) && e.Open() == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d connections still open: %w", e.Open(), context.Cause(ctx))
		case <-t.C:
		}
	}
}

// settled waits until every loop has run what was posted so far.
func (e *Engine) settled(ctx context.Context) bool {
	done := make(chan struct{}, len(e.loops))
	for _, l := range e.loops {
		l.Post(func() { done <- struct{}{} })
	}
	for range e.loops {
		select {
		case <-done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// Stop ends the loops and resets what is still open. It returns when all have ended.
func (e *Engine) Stop() {
	for _, l := range e.loops {
		l.stop()
	}
	e.running.Wait()
}
