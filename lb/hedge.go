package lb

import (
	"fmt"
	"math/bits"
	"time"

	"sluice/engine"
)

// Hedge has a second endpoint asked when the first has not begun to answer in the time in which nearly all do (http; Dean
// and Barroso: The Tail at Scale, 2013).
type Hedge struct {
	// After is when; 0: the time within which 95 in 100 responses begin, as the loop has measured of its last requests.
	After time.Duration `yaml:"after"`
	// MaxPercent is how many requests may be hedged, in percent of those that are sent; 0: 5.
	MaxPercent int `yaml:"max_percent"`
}

func (h *Hedge) validate(report func(path, message string)) {
	if h.After < 0 {
		report("after", "must not be negative")
	}
	if h.MaxPercent < 0 || h.MaxPercent > 100 {
		report("max_percent", fmt.Sprintf("%d: 0 to 100 percent", h.MaxPercent))
	}
}

func (h Hedge) withDefaults() *Hedge {
	if h.MaxPercent == 0 {
		h.MaxPercent = 5
	}
	return &h
}

// Hedges says that the cluster's requests are hedged.
func (c *Cluster) Hedges() bool { return c.cfg.Hedge != nil }

// measures says that the time to hedge after is the one that is measured.
func (c *Cluster) measures() bool { return c.cfg.Hedge != nil && c.cfg.Hedge.After == 0 }

// HedgeAfter is how long after its sending a request on loop l is hedged; 0: it is not.
func (c *Cluster) HedgeAfter(l *engine.Loop) time.Duration {
	switch h := c.cfg.Hedge; {
	case h == nil:
		return 0
	case h.After > 0:
		return h.After
	}
	return c.P95(l)
}

// MayHedge takes one hedge out of the cluster's budget on loop l; false if it is used up, or there is none.
func (c *Cluster) MayHedge(l *engine.Loop) bool {
	s := &c.shared.loops[l.ID()]
	if c.cfg.Hedge == nil || !s.hedges.take() {
		return false
	}
	// Of the endpoint that is slow nobody will know how slow, if the other is faster. If its time were left out, the
	// quantile would creep down from hedge to hedge.
	if q := s.latency; c.measures() && q != nil && q.p95 > 0 {
		q.observe(q.p95+1, l.Now())
	}
	return true
}

// P95 is the time within which 95 in 100 responses of the cluster begin, as seen on loop l, at most an eighth too high; 0
// while fewer than 100 have been seen, or nothing needs it.
func (c *Cluster) P95(l *engine.Loop) time.Duration {
	if q := c.shared.loops[l.ID()].latency; q != nil && c.measures() {
		return q.p95
	}
	return 0
}

const (
	// quantileMin is how many measures say something of one in twenty.
	quantileMin = 100
	// quantileHalf is how long it takes a measure to lose half of its weight, where there are enough newer ones.
	quantileHalf = 5 * time.Second
	// quantileEvery is how many measures the quantile is left as it is.
	quantileEvery = 16

	// Each power of two has so many buckets. The first is that of 2^10 ns, the last that of 2^36, 69 s.
	bucketsPerOctave = 8
	firstOctave      = 10
	octaves          = 27
)

// quantile estimates the 95th percentile of times by a histogram of logarithmic buckets. Owned by the loop.
type quantile struct {
	p95     time.Duration // the upper bound of its bucket; 0: not known
	n       uint32        // in all buckets
	stale   uint32        // measures since p95 was looked up
	at      time.Duration // when the weights were halved last, on the loop's clock
	buckets [octaves * bucketsPerOctave]uint32
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 1<<firstOctave))
	octave := bits.Len64(v) - 1
	return min((octave-firstOctave)*bucketsPerOctave+int(v>>(octave-3))%bucketsPerOctave, octaves*bucketsPerOctave-1)
}

// upper is the first time above the bucket's.
func upper(bucket int) time.Duration {
	octave, part := bucket/bucketsPerOctave+firstOctave, bucket%bucketsPerOctave
	return time.Duration(bucketsPerOctave+part+1) << (octave - 3)
}

func (q *quantile) observe(d, now time.Duration) {
	if now-q.at >= quantileHalf {
		q.at = now
		if q.n >= 2*quantileMin {
			q.halve()
		}
	}
	q.buckets[bucketOf(d)]++
	q.n++
	if q.stale++; q.n >= quantileMin && (q.stale >= quantileEvery || q.p95 == 0) {
		q.stale, q.p95 = 0, q.look()
	}
}

func (q *quantile) halve() {
	q.n = 0
	for i := range q.buckets {
		q.buckets[i] /= 2
		q.n += q.buckets[i]
	}
}

// look is the upper bound of the bucket above which are at most 5 in 100.
func (q *quantile) look() time.Duration {
	above, most := uint32(0), q.n/20
	i := len(q.buckets) - 1
	for ; i > 0; i-- {
		if above += q.buckets[i]; above > most {
			break
		}
	}
	return upper(i)
}
