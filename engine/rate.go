package engine

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Rate is a frequency, in events per second; 0 is none given.
type Rate float64

// maxRate is as fine as a nanosecond clock can tell events apart, by a thousand.
const maxRate = 1e6

// UnmarshalText takes a number of events per second, minute or hour: 1000/s, 60/m, 5/h.
func (r *Rate) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), "/")
	per, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	n, err := strconv.ParseFloat(number, 64)
	switch {
	case !known || err != nil || math.IsNaN(n):
		return fmt.Errorf("%q is not a rate: a number per second, minute or hour, as in 1000/s, 60/m or 5/h", text)
	case n <= 0:
		return fmt.Errorf("rate %q: more than 0", text)
	case n/per > maxRate:
		return fmt.Errorf("rate %q: at most %d/s", text, int(maxRate))
	}
	*r = Rate(n / per)
	return nil
}

// String is the rate per second, or per minute or hour if that makes it a whole number.
func (r Rate) String() string {
	for _, u := range []struct {
		per  float64
		unit string
	}{{1, "/s"}, {60, "/m"}, {3600, "/h"}} {
		n := float64(r) * u.per
		if whole := math.Round(n); whole != 0 && math.Abs(n-whole) < 1e-9*whole {
			return strconv.FormatFloat(whole, 'f', -1, 64) + u.unit
		}
	}
	return strconv.FormatFloat(float64(r), 'g', -1, 64) + "/s"
}

// Interval is the time between two events at the rate, rounded up to a nanosecond.
func (r Rate) Interval() time.Duration {
	return time.Duration(min(math.Ceil(1e9/float64(r)), math.MaxInt64/4))
}

// pace admits events at a rate: the generic cell rate algorithm (ITU-T I.371, annex A), which is a token bucket whose
// whole state is one instant. The bucket holds the whole events of one second, and at least one, so in any time t no
// more than those and rate·t are admitted. Safe for all loops; the zero value is a full bucket.
type pace struct {
	// at is when the bucket will be full again, in nanoseconds since some instant.
	at atomic.Int64
}

// permit is one event that was taken, with what undo needs.
type permit struct{ was, is int64 }

// take takes an event at the time now, in nanoseconds. If there is none left it returns how long to wait for one.
func (p *pace) take(r Rate, now int64) (permit, time.Duration) {
	step := int64(r.Interval())
	depth := step * max(1, int64(r))
	for {
		was := p.at.Load()
		is := max(was, now) + step
		if is-now > depth {
			return permit{}, time.Duration(is - now - depth)
		}
		if p.at.CompareAndSwap(was, is) {
			return permit{was, is}, 0
		}
	}
}

// undo gives back what was taken and not used, unless others have taken since: then it is lost, which errs on the
// side of the bound, and happens only while nobody waits for it.
func (p *pace) undo(x permit) { p.at.CompareAndSwap(x.is, x.was) }
