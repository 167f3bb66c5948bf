package lb

import (
	"math"
	"sync/atomic"
	"time"
)

// speedMemory is the time constant of the moving average: what an endpoint did so long ago counts 1/e.
const speedMemory = 10 * time.Second

// speed is a peak-sensitive moving average of how fast an endpoint answers (as in Twitter's Finagle): it rises to a slow
// answer at once, and comes down with time. Safe for all loops; of two measures at once one may be lost.
type speed struct {
	nanos atomic.Uint64 // a float64's bits
	at    atomic.Int64  // of the last measure, on the loops' clock
}

func (s *speed) get(now time.Duration) float64 {
	v := math.Float64frombits(s.nanos.Load())
	if v == 0 {
		return 0
	}
	return v * decay(now-time.Duration(s.at.Load()))
}

func decay(d time.Duration) float64 {
	if d <= 0 {
		return 1 // the loops' clocks tick apart
	}
	return math.Exp(-float64(d) / float64(speedMemory))
}

func (s *speed) observe(took, now time.Duration) {
	v, x := math.Float64frombits(s.nanos.Load()), float64(max(took, 1))
	if x < v {
		w := decay(now - time.Duration(s.at.Load()))
		x = v*w + x*(1-w)
	}
	s.nanos.Store(math.Float64bits(x))
	s.at.Store(int64(now))
}

// unknownPenalty is the cost of an endpoint that has been asked and has not answered yet: one request finds out.
const unknownPenalty = 1e18

// faster is of two at random the one that a new session would cost less time: its speed times those that share it.
func (q *query) faster() int {
	a, b := q.two()
	if a == b || q.cost(a) <= q.cost(b) {
		return a
	}
	return b
}

func (q *query) cost(i int) float64 {
	m := &q.members[i]
	in := float64(m.InFlight())
	v := m.speed.get(q.now)
	if v == 0 && in > 0 {
		return unknownPenalty + in
	}
	return v * (in + 1)
}
