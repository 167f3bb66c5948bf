package engine

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tick is how finely timeouts are kept: one fires up to two ticks late, and never early by the loop's clock, which is up to
// one behind. 25 ms is far below any timeout that a proxy is given, and 40 wake-ups a second cost nothing that can be
// measured. What has to be exact is a Deadline.
const tick = 25 * time.Millisecond

// wheelSlots times tick is one turn of the wheel, 51 s; a later deadline is looked at once a turn.
const wheelSlots = 2048

// expirer is what a timer calls, on its loop.
type expirer interface{ expire() }

// timer is a deadline in a loop's wheel. It is embedded in what it times, so that setting one allocates nothing.
// Owned by its loop.
type timer struct {
	prev, next *timer
	deadline   time.Duration // on the loop's clock; 0: not set
	slot       int64         // tick under which it is filed; may be earlier than the deadline
	on         expirer
}

// wheel is a hashed timer wheel (Varghese and Lauck 1987, scheme 6) that moves a timer lazily: a deadline that is put
// off, as an idle timeout is by every byte, is one store; the timer is filed again when its old slot comes round.
type wheel struct {
	slots  [wheelSlots]timer // heads of circular lists
	linked int
	at     int64 // the last tick that was handled
	fd     int
	armed  bool
	start  time.Time
	now    time.Duration // since start, as of the last tick
	wall   time.Time     // the same instant on the wall clock
}

func (w *wheel) open() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	w.fd, w.start = fd, time.Now()
	for i := range w.slots {
		h := &w.slots[i]
		h.prev, h.next = h, h
	}
	w.refresh()
	return nil
}

func (w *wheel) refresh() {
	w.wall = time.Now()
	// The clock starts at one tick, so that 0 can mean "not set".
	w.now = w.wall.Sub(w.start) + tick
}

// Clock is the exact time on the scale of Now, which all loops share to within a tick. It costs a look at the kernel's
// clock, some 25 ns: BenchmarkClock.
func (l *Loop) Clock() time.Duration { return time.Since(l.wheel.start) + tick }

// set gives t a deadline d from now.
func (w *wheel) set(t *timer, d time.Duration) {
	w.arm()
	t.deadline = w.now + d
	slot := max(int64(t.deadline/tick)+1, w.at+1)
	if t.next != nil {
		if t.slot <= slot {
			return
		}
		w.unlink(t)
	}
	w.link(t, slot)
}

// clear forgets t's deadline and leaves it filed.
func (w *wheel) clear(t *timer) { t.deadline = 0 }

// drop takes t out of the wheel, as whoever owns it must before letting go of it.
func (w *wheel) drop(t *timer) {
	t.deadline = 0
	if t.next != nil {
		w.unlink(t)
	}
}

func (w *wheel) link(t *timer, slot int64) {
	t.slot = slot
	h := &w.slots[slot%wheelSlots]
	t.prev, t.next = h.prev, h
	h.prev.next, h.prev = t, t
	w.linked++
}

func (w *wheel) unlink(t *timer) {
	t.prev.next, t.next.prev = t.next, t.prev
	t.prev, t.next = nil, nil
	w.linked--
}

// arm starts the timerfd if it stands still. It ticks only while something is timed.
func (w *wheel) arm() {
	if w.armed {
		return
	}
	w.armed = true
	w.refresh()
	w.at = int64(w.now / tick)
	iv := unix.NsecToTimespec(int64(tick))
	_ = unix.TimerfdSettime(w.fd, 0, &unix.ItimerSpec{Interval: iv, Value: iv}, nil)
}

// advance handles the ticks that have passed.
func (w *wheel) advance() {
	// The kernel starts the next interval when this one is read.
	var ticks [8]byte
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(w.fd), uintptr(unsafe.Pointer(&ticks)), uintptr(len(ticks)))
	w.refresh()
	// A loop that stood still for more than a turn has every slot due once.
	to := int64(w.now / tick)
	for at := max(w.at, to-wheelSlots) + 1; at <= to; at++ {
		w.at = at
		w.fire(&w.slots[at%wheelSlots])
	}
	if w.linked == 0 {
		w.armed = false
		_ = unix.TimerfdSettime(w.fd, 0, &unix.ItimerSpec{}, nil)
	}
}

func (w *wheel) fire(head *timer) {
	if head.next == head {
		return
	}
	// Callbacks may set and drop any timer, those of this slot included: take the list off the wheel first.
	var due timer
	due.next, due.prev = head.next, head.prev
	due.next.prev, due.prev.next = &due, &due
	head.next, head.prev = head, head
	for t := due.next; t != &due; t = due.next {
		w.unlink(t)
		switch {
		case t.deadline == 0:
		case t.deadline <= w.now:
			t.deadline = 0
			t.on.expire()
		default:
			w.link(t, max(int64(t.deadline/tick)+1, w.at+1))
		}
	}
}
