package engine

import "sync/atomic"

// Counter is a total with one writer, its loop, and any readers: adding is a load and a store, 2 ns.
type Counter struct{ v atomic.Uint64 }

// Inc adds one. For the counter's loop alone.
func (c *Counter) Inc() { c.v.Store(c.v.Load() + 1) }

// Add adds n. For the counter's loop alone.
func (c *Counter) Add(n uint64) { c.v.Store(c.v.Load() + n) }

// Load is the total so far. Safe from any goroutine.
func (c *Counter) Load() uint64 { return c.v.Load() }
