package engine

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type alarm struct {
	timer
	l     *Loop
	rung  chan time.Duration
	again time.Duration
}

func newAlarm(l *Loop) *alarm {
	a := &alarm{l: l, rung: make(chan time.Duration, 16)}
	a.on = a
	return a
}

func (a *alarm) expire() {
	a.rung <- a.l.wheel.now
	if a.again > 0 {
		a.l.wheel.set(&a.timer, a.again)
	}
}

func TestTimersFireInOrderAndNeverEarly(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	for _, d := range []time.Duration{1, tick, 3 * tick, 10 * tick} {
		a := newAlarm(l)
		var due time.Duration
		on(l, func() {
			l.wheel.set(&a.timer, d)
			due = a.deadline
		})
		if at := <-a.rung; at < due {
			t.Errorf("%v: fired at %v, due at %v", d, at, due)
		}
	}
	on(l, func() {
		if l.wheel.linked != 0 {
			t.Errorf("%d timers left", l.wheel.linked)
		}
	})
	eventually(t, "the timer stops when nothing is timed", func() bool {
		armed := true
		on(l, func() { armed = l.wheel.armed })
		return !armed
	})
}

func TestTimerPutOffClearedAndDropped(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	off, cleared, dropped, last := newAlarm(l), newAlarm(l), newAlarm(l), newAlarm(l)
	on(l, func() {
		w := &l.wheel
		w.set(&off.timer, tick)
		w.set(&off.timer, time.Hour)
		w.set(&cleared.timer, tick)
		w.clear(&cleared.timer)
		w.set(&dropped.timer, tick)
		w.drop(&dropped.timer)
		w.set(&last.timer, 4*tick)
	})
	<-last.rung
	if len(off.rung)+len(cleared.rung)+len(dropped.rung) != 0 {
		t.Errorf("fired: put off %d, cleared %d, dropped %d", len(off.rung), len(cleared.rung), len(dropped.rung))
	}
	on(l, func() {
		// Brought forward again, it fires.
		l.wheel.set(&off.timer, tick)
	})
	<-off.rung
}

func TestTimerBeyondOneTurnOfTheWheel(t *testing.T) {
	// On a wheel of its own, whose clock the test moves.
	var w wheel
	must(t, w.open())
	defer closeFD(w.fd)
	w.armed = true
	l := &Loop{}
	a := newAlarm(l)
	turn := wheelSlots * tick
	w.set(&a.timer, turn+turn/2)
	for range 2 {
		w.start = w.start.Add(-turn * 7 / 10)
		w.advance()
	}
	if len(a.rung) != 0 {
		t.Fatal("fired a turn early")
	}
	w.start = w.start.Add(-turn)
	w.advance()
	if len(a.rung) != 1 {
		t.Fatal("did not fire")
	}
}

func TestTimerSetByItsOwnCallback(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	a := newAlarm(l)
	a.again = tick
	on(l, func() { l.wheel.set(&a.timer, tick) })
	for range 3 {
		<-a.rung
	}
	on(l, func() { l.wheel.drop(&a.timer) })
}

// Moment stands still while connections are served together, is never behind what was told before, and moves on.
func TestMomentStandsStillWithinATurn(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	var last time.Duration
	for range 3 {
		on(l, func() {
			l.turn(nil) // posts that follow each other closely may run in one
			before := l.Clock()
			at := l.Moment()
			for until := l.Clock() + time.Millisecond; l.Clock() < until; {
			}
			if at < before || l.Moment() != at {
				t.Errorf("asked at %v: %v, then %v", before, at, l.Moment())
			}
			if at < last+time.Millisecond {
				t.Errorf("%v, a millisecond after %v", at, last)
			}
			last = at
		})
	}
}

// Those who are served after others, in the same batch of events, are not told the others' moment.
func TestMomentIsOfTheSideThatIsServed(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	s := &slow{}
	on(l, func() {
		a, b := &Conn{loop: l, handler: s}, &Conn{loop: l, handler: s}
		l.accepted, l.dialled = append(l.accepted, a), append(l.dialled, b)
		l.Again(a)
		l.Post(func() { s.Ready(a) })
		l.turn([]unix.EpollEvent{{Fd: int32(l.poller.wakeFD)}})
		l.accepted = append(l.accepted, a)
		l.turn(nil)
		if len(s.at) != 5 || !slices.IsSortedFunc(s.at, func(a, b time.Duration) int { return int(a - time.Millisecond - b) }) {
			t.Errorf("served in turn, a millisecond each, at %v", s.at)
		}
	})
}

// slow takes a millisecond to be served, and notes when it was.
type slow struct{ at []time.Duration }

func (s *slow) Ready(c *Conn) {
	s.at = append(s.at, c.loop.Moment())
	for until := c.loop.Clock() + time.Millisecond; c.loop.Clock() < until; {
	}
}
func (s *slow) Timeout(*Conn)          {}
func (s *slow) Connected(*Conn, error) {}

var moment time.Duration

func BenchmarkMoment(b *testing.B) {
	l := newEngine(b, Config{Loops: 1}).Loops()[0]
	on(l, func() {
		for range b.N {
			moment = l.Moment()
		}
	})
}

func BenchmarkClock(b *testing.B) {
	l := newEngine(b, Config{Loops: 1}).Loops()[0]
	on(l, func() {
		for range b.N {
			moment = l.Clock()
		}
	})
}
