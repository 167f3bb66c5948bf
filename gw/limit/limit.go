package limit

import (
	"math"
	"time"
)

// Limit is how much a key may have: a bucket of burst units that fills at a rate. In any time t no more than burst + rate·t
// units are given. Immutable.
type Limit struct {
	step  int64 // nanoseconds in which one unit comes back, rounded up
	burst int64
	depth int64 // nanoseconds in which an empty bucket fills: burst·step
}

// MaxFill is the longest time in which an empty bucket may fill: instants are nanoseconds in 63 bits, and sums of them too.
const MaxFill = 20 * 365 * 24 * time.Hour

// New is a limit of perSecond units, and of burst at once, which is at least 1. ok is false if the bucket would fill in more than
// MaxFill, or the rate is finer than a nanosecond tells apart.
func New(perSecond float64, burst int64) (l Limit, ok bool) {
	step := math.Ceil(1e9 / perSecond)
	if !(perSecond > 0 && perSecond <= 1e9) || burst < 1 || step*float64(burst) > float64(MaxFill) {
		return Limit{}, false
	}
	return Limit{int64(step), burst, int64(step) * burst}, true
}

// Verdict is what a limit, or the tightest of several, says to a request.
type Verdict struct {
	// OK says that the request has what it asked for.
	OK bool
	// Limit is which one speaks: of those that refuse the one to wait longest for, else the one with the fewest units left.
	Limit int
	// Left are the whole units that are left.
	Left int64
	// Full is the time until all units are there again.
	Full time.Duration
	// Wait is the time until the same request would be granted, if nobody else asks; 0 if it was.
	Wait time.Duration
}

// tighter says that v is to speak rather than other.
func (v Verdict) tighter(other Verdict) bool {
	switch {
	case v.OK != other.OK:
		return !v.OK
	case !v.OK:
		return v.Wait > other.Wait
	}
	return v.Left < other.Left
}

// judge is what l says to cost units, more than 0, of a bucket that will be full at the instant full; is is that instant if they
// are given.
func (l *Limit) judge(full, now, cost int64) (v Verdict, is int64) {
	full = max(full, now)
	is = full
	if cost > l.burst { // never to be had, and no product below overflows
		v.Wait = time.Duration(l.depth)
	} else if over := full + cost*l.step - now - l.depth; over > 0 {
		v.Wait = time.Duration(over)
	} else {
		is += cost * l.step
		v.OK = true
	}
	ahead := is - now
	v.Left, v.Full = max(0, l.depth-ahead)/l.step, time.Duration(ahead)
	return v, is
}

// take takes cost units from the bucket p.at, and fills in the rest of p, but its cell.
func (l *Limit) take(p *permit, now, cost int64) {
	for {
		p.was = p.at.Load()
		if p.Verdict, p.is = l.judge(p.was, now, cost); !p.OK || p.at.CompareAndSwap(p.was, p.is) {
			return
		}
	}
}
