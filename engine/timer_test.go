package engine

import (
	"testing"
	"time"
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
