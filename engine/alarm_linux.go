package engine

import "time"

// Alarm is a deadline for who has no connection to set one on. Owned by its loop.
type Alarm struct {
	timer timer
	loop  *Loop
	ring  func()
}

// NewAlarm makes an alarm that is not set. ring is called on the loop.
func (l *Loop) NewAlarm(ring func()) *Alarm {
	a := &Alarm{loop: l, ring: ring}
	a.timer.on = a
	return a
}

// Set has it ring once, d from now, rounded up to the wheel's tick. It takes the place of an earlier Set.
func (a *Alarm) Set(d time.Duration) { a.loop.wheel.set(&a.timer, d) }

// Stop has it not ring.
func (a *Alarm) Stop() { a.loop.wheel.drop(&a.timer) }

func (a *Alarm) expire() { a.ring() }
