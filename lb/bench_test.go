package lb

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine"
)

// busy is a cluster of n endpoints, each with a random number of sessions and a random speed.
func busy(t testing.TB, e *engine.Engine, p Picker, n int, change func(*Config)) *Cluster {
	t.Helper()
	cfg := Config{Name: "c", Picker: p}
	for i := range n {
		cfg.Endpoints = append(cfg.Endpoints, EndpointConfig{Address: fmt.Sprintf("unix:@%d", i)})
	}
	if change != nil {
		change(&cfg)
	}
	c := newCluster(t, e, cfg)
	r := rand.New(rand.NewPCG(1, 2))
	for _, l := range e.Loops() {
		on(l, func() {
			for _, ep := range c.Endpoints() {
				for range r.IntN(20) {
					ep.Begin(l)
				}
				ep.speed.observe(time.Duration(1+r.IntN(1000))*time.Microsecond, l.Now())
			}
		})
	}
	return c
}

// hashStep makes of 0, 1, 2… hashes that are far from each other.
const hashStep = 0x9e3779b97f4a7c15

// BenchmarkPick is a pick of one loop among 100 busy endpoints.
func BenchmarkPick(b *testing.B) {
	benchmark(b, 1, func(c *Cluster, l *engine.Loop, n int) {
		for i := range uint64(n) {
			c.Pick(l, i*hashStep, nil)
		}
	})
}

// BenchmarkPickParallel is BenchmarkPick on as many loops as there are CPUs, each with its own picks.
func BenchmarkPickParallel(b *testing.B) {
	benchmark(b, runtime.GOMAXPROCS(0), func(c *Cluster, l *engine.Loop, n int) {
		for i := range uint64(n) {
			c.Pick(l, i*hashStep, nil)
		}
	})
}

// takeAndEnd has each session end when 64 others have begun.
func takeAndEnd(c *Cluster, l *engine.Loop, n int) {
	var open [64]*Endpoint
	for i := range uint64(n) {
		at := &open[i%64]
		if *at != nil {
			(*at).End(l)
		}
		*at, _ = c.Take(l, i*hashStep, nil)
	}
	for _, ep := range open {
		if ep != nil {
			ep.End(l)
		}
	}
}

// BenchmarkTake is the whole of a session that a picker sees.
func BenchmarkTake(b *testing.B) { benchmark(b, 1, takeAndEnd) }

// BenchmarkTakeParallel has loops take from the same endpoints at once.
func BenchmarkTakeParallel(b *testing.B) { benchmark(b, runtime.GOMAXPROCS(0), takeAndEnd) }

// benchmark reports also the CPU time of the loops' threads, which holds where others use the machine.
func benchmark(b *testing.B, loops int, run func(c *Cluster, l *engine.Loop, n int)) {
	e := newEngine(b, loops)
	for _, p := range allPickers {
		b.Run(string(p), func(b *testing.B) {
			c := busy(b, e, p, 100, nil)
			b.ReportAllocs()
			b.ResetTimer()
			var done sync.WaitGroup
			var used atomic.Int64
			for _, l := range e.Loops() {
				done.Add(1)
				l.Post(func() {
					defer done.Done()
					began := cpuTime()
					run(c, l, b.N)
					used.Add(cpuTime() - began)
				})
			}
			done.Wait()
			b.ReportMetric(float64(used.Load())/float64(b.N*loops), "cpu-ns/op")
		})
	}
}

// cpuTime is the thread's, in nanoseconds.
func cpuTime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return t.Nano()
}
