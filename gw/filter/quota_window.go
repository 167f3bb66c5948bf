package filter

import (
	"time"
	_ "time/tzdata" // a host may have none, and a name of a zone must not depend on it
)

// Per is the length of a quota's windows, which begin with the calendar's.
type Per string

// The windows: a week begins on Monday (ISO 8601).
const (
	PerMinute Per = "minute"
	PerHour   Per = "hour"
	PerDay    Per = "day"
	PerWeek   Per = "week"
	PerMonth  Per = "month"
)

// Choices are the values that a file may have.
func (Per) Choices() []string {
	return []string{string(PerMinute), string(PerHour), string(PerDay), string(PerWeek), string(PerMonth)}
}

// window is the one that t is in, in t's time zone: from start on, until before end. Every instant is in exactly one. Days are as
// long as clocks have them: 23 to 25 hours; an hour or minute in which they are changed may be cut short.
func (p Per) window(t time.Time) (start, end time.Time) {
	y, m, d := t.Date()
	switch p {
	case PerMinute, PerHour:
		length := time.Minute
		into := time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
		if p == PerHour {
			length, into = time.Hour, into+time.Duration(t.Minute())*time.Minute
		}
		start, end = t.Add(-into), t.Add(length-into)
		from, to := t.ZoneBounds() // zero: none
		if !from.IsZero() && from.After(start) {
			start = from
		}
		if !to.IsZero() && to.Before(end) {
			end = to
		}
		return start, end
	case PerWeek:
		d -= (int(t.Weekday()) + 6) % 7
		return midnight(y, m, d, t.Location()), midnight(y, m, d+7, t.Location())
	case PerMonth:
		return midnight(y, m, 1, t.Location()), midnight(y, m+1, 1, t.Location())
	}
	return midnight(y, m, d, t.Location()), midnight(y, m, d+1, t.Location())
}

// midnight is the first instant of a day. Where clocks are changed then, time.Date may say one of the day before; and a day may
// not be there at all.
func midnight(y int, m time.Month, d int, zone *time.Location) time.Time {
	want := time.Date(y, m, d, 0, 0, 0, 0, time.UTC) // normalised
	civil := func(t time.Time) time.Time {
		y, m, d := t.Date()
		return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	}
	// The first instant from well before on whose civil time is not before the day: changes are hours apart.
	t := want.Add(-36 * time.Hour).In(zone)
	for range 8 {
		at := t.Add(want.Sub(civil(t))) // if nothing changes until then
		_, change := t.ZoneBounds()
		if change.IsZero() || at.Before(change) {
			return at
		}
		if !civil(change).Before(want) {
			return change
		}
		t = change
	}
	return t
}
