package bench

import (
	"errors"
	"io"
	"maps"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are recorded from a microsecond to a minute, with three significant digits, in nanoseconds.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(time.Minute)
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, 3) }

// tally is what one part of the generator has seen since it was reset. Safe for concurrent use; each part has its own,
// so that its lock is free but for the moments at which somebody looks.
type tally struct {
	mu       sync.Mutex
	requests uint64
	bytes    uint64
	lost     uint64 // datagrams that were not answered: no error, they may be
	resumed  uint64 // requests on connections that a ticket had resumed
	errors   map[string]uint64
	latency  *hdrhistogram.Histogram
	slip     *hdrhistogram.Histogram // how late requests were sent through the generator's own fault
}

func newTally() *tally {
	return &tally{errors: map[string]uint64{}, latency: newHistogram(), slip: newHistogram()}
}

func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests, t.bytes, t.lost, t.resumed = 0, 0, 0, 0
	clear(t.errors)
	t.latency.Reset()
	t.slip.Reset()
}

// done counts an answer of n bytes that came ns nanoseconds after it was asked for.
func (t *tally) done(ns int64, n int) {
	t.mu.Lock()
	t.requests++
	t.bytes += uint64(n)
	_ = t.latency.RecordValue(min(max(ns, shortest), longest))
	t.mu.Unlock()
}

func (t *tally) slipped(ns int64) {
	t.mu.Lock()
	_ = t.slip.RecordValue(min(max(ns, shortest), longest))
	t.mu.Unlock()
}

func (t *tally) failed(kind string) {
	t.mu.Lock()
	t.errors[kind]++
	t.mu.Unlock()
}

func (t *tally) lose(n int) {
	t.mu.Lock()
	t.lost += uint64(n)
	t.mu.Unlock()
}

func (t *tally) resume() {
	t.mu.Lock()
	t.resumed++
	t.mu.Unlock()
}

// into adds t to sum, which is the caller's alone.
func (t *tally) into(sum *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum.requests += t.requests
	sum.bytes += t.bytes
	sum.lost += t.lost
	sum.resumed += t.resumed
	for k, n := range t.errors {
		sum.errors[k] += n
	}
	sum.latency.Merge(t.latency)
	sum.slip.Merge(t.slip)
}

func (t *tally) failures() map[string]uint64 {
	if len(t.errors) == 0 {
		return nil
	}
	return maps.Clone(t.errors)
}

// kindOf says in two words what went wrong with a connection.
func kindOf(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed early"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no local port left"
	case errors.Is(err, syscall.EMFILE):
		return "no descriptors left"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return err.Error()
}
