package lb

import (
	crand "crypto/rand"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"sluice/engine"
)

// shared is what a cluster has in common with its successors over reloads, by loop.
type shared struct {
	mu      sync.Mutex // see Cluster
	current *Cluster   // the one that was started last: what is found out for another one does not count; guarded by mu
	engine  []*engine.Loop
	loops   []loopState
	waiting atomic.Int64 // in the queues of all loops
	secret  [32]byte     // random, for cookies that are signed with no other key
}

// loopState is a cluster's state on one loop, on cache lines of its own. Owned by the loop; the atomics are read by others.
type loopState struct {
	_        [64]byte
	turn     uint32 // place in the round robin
	least    tournament
	seed     uint64       // of rand
	inFlight atomic.Int64 // begun less ended on this loop
	queued   atomic.Int64
	budget   budget // of retries
	hedges   budget
	latency  *quantile // nil: nothing was measured
	first    *Waiter   // the queue: the head is next
	last     *Waiter
	_        [64]byte
}

func newShared(loops []*engine.Loop) *shared {
	s := &shared{engine: loops, loops: make([]loopState, len(loops))}
	for i := range s.loops {
		s.loops[i].seed = rand.Uint64()
	}
	_, _ = crand.Read(s.secret[:]) // it does not fail
	return s
}

// rand is the next of splitmix64's numbers (Steele, Lea, Flood 2014).
func (s *loopState) rand() uint64 {
	s.seed += 0x9e3779b97f4a7c15
	z := s.seed
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is a random number from 0 to n-1 (Lemire's multiplication, without the correction of its bias of n/2^32).
func (s *loopState) below(n int) int { return int(s.rand() >> 32 * uint64(n) >> 32) }

// inFlight sums over the loops.
func (s *shared) inFlight() (n int64) {
	for i := range s.loops {
		n += s.loops[i].inFlight.Load()
	}
	return n
}

// Waiter is a place in the queue of a cluster whose endpoints all have as many sessions as they may. It belongs to one
// loop, and is meant to be embedded in what waits.
type Waiter struct {
	// Retry is called on the loop when there may be room: to be answered by another Take, and another Wait if that fails.
	Retry      func()
	prev, next *Waiter
	in         bool
}

// Waiting says that w is in a queue.
func (w *Waiter) Waiting() bool { return w.in }

// Wait puts w into the queue on loop l, at its front if it has waited before; false if the queue is full, or there is
// none.
func (c *Cluster) Wait(l *engine.Loop, w *Waiter, again bool) bool {
	q := c.cfg.Queue
	if q == nil {
		return false
	}
	if c.shared.waiting.Add(1) > int64(q.Size) && !again {
		c.shared.waiting.Add(-1)
		return false
	}
	s := &c.shared.loops[l.ID()]
	switch {
	case s.first == nil:
		s.first, s.last = w, w
	case again:
		w.next, s.first.prev = s.first, w
		s.first = w
	default:
		w.prev, s.last.next = s.last, w
		s.last = w
	}
	w.in = true
	s.queued.Add(1)
	return true
}

// Leave takes w out of the queue on loop l.
func (c *Cluster) Leave(l *engine.Loop, w *Waiter) { c.shared.leave(l.ID(), w) }

func (s *shared) leave(loop int, w *Waiter) {
	if !w.in {
		return
	}
	q := &s.loops[loop]
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.prev, w.next, w.in = nil, nil, false
	q.queued.Add(-1)
	s.waiting.Add(-1)
}

// wake has the first of the longest queue try again. From any loop.
func (s *shared) wake() {
	longest, most := -1, int64(0)
	for i := range s.loops {
		if n := s.loops[i].queued.Load(); n > most {
			longest, most = i, n
		}
	}
	if longest >= 0 {
		s.engine[longest].Post(func() { s.retry(longest) })
	}
}

// wakeAll has everyone try again, after a change of the endpoints.
func (s *shared) wakeAll() {
	for i, l := range s.engine {
		if s.loops[i].queued.Load() > 0 {
			l.Post(func() { s.retry(i) })
		}
	}
}

// retry has those in the loop's queue try again until one finds no room. Not only one for each that has left: it may have
// no use for the room any more, and then nobody else would tell the next one. The same holds between loops.
func (s *shared) retry(loop int) {
	q := &s.loops[loop]
	for q.first != nil {
		w := q.first
		s.leave(loop, w)
		w.Retry()
		if w.in {
			return
		}
	}
	s.wake()
}
