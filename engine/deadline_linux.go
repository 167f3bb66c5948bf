package engine

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Deadline is an exact one, for what waits for milliseconds, such as a hedged request. It is embedded in what it times, so
// that setting one allocates nothing; the zero value is not set. A timeout, which is rarely met, is cheaper in
// the wheel: Conn.SetTimeout. Owned by its loop.
type Deadline struct {
	at    time.Duration // on the scale of Loop.Clock
	index int           // in the heap, from 1; 0: not set
	loop  *Loop
	owner DeadlineOwner
}

// DeadlineOwner hears of a deadline.
type DeadlineOwner interface {
	// Due is called once, on the loop, when d has passed and its connections have been served; d is not set then, and may
	// be again.
	Due(d *Deadline)
}

// After has owner told d from now, never early, and late by what the loop does at that moment. It takes the place of an
// earlier After of t. It costs O(log n) of the deadlines that are set, a look at the kernel's clock, and a system call
// only if none is due before it.
func (l *Loop) After(d time.Duration, t *Deadline, owner DeadlineOwner) {
	t.Stop()
	t.at, t.loop, t.owner = l.Clock()+max(d, 1), l, owner
	q := &l.deadlines
	q.heap = append(q.heap, t)
	q.up(len(q.heap)-1, t)
	q.arm()
}

// Stop has nobody told.
func (t *Deadline) Stop() {
	if t.index == 0 {
		return
	}
	q := &t.loop.deadlines
	i, n := t.index-1, len(q.heap)-1
	last := q.heap[n]
	q.heap[n] = nil
	q.heap = q.heap[:n]
	if i < n {
		q.down(i, last)
		q.up(last.index-1, last)
	}
	t.index, t.owner = 0, nil
}

// deadlines is a loop's binary heap of them, over one timerfd. That is set to the earliest, and left alone when it is
// stopped: most are, and the next one, which is due soon, needs no system call then.
type deadlines struct {
	loop  *Loop
	heap  []*Deadline
	fd    int
	alarm time.Duration // what fd is set to, on the loop's clock; 0: nothing
}

func (q *deadlines) open(l *Loop) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	q.loop, q.fd = l, fd
	return l.watch(fd, unix.EPOLLIN|unix.EPOLLET, q)
}

// arm sets fd if nothing that it is set to comes before the first deadline.
func (q *deadlines) arm() {
	if len(q.heap) == 0 || q.alarm != 0 && q.alarm <= q.heap[0].at {
		return
	}
	q.alarm = q.heap[0].at
	wait := max(q.alarm-q.loop.Clock(), 1)
	_ = unix.TimerfdSettime(q.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}, nil)
}

// ready puts off what is due until the connections have been served: what it waits for may have come in the same batch. fd
// is not read: setting it again forgets what it counted.
func (q *deadlines) ready(uint32) {
	q.alarm = 0
	q.loop.enqueue(q)
}

// resume tells of what is due.
func (q *deadlines) resume() {
	now := q.loop.Clock()
	for len(q.heap) > 0 && q.heap[0].at <= now {
		t, owner := q.heap[0], q.heap[0].owner
		t.Stop()
		owner.Due(t)
	}
	q.arm()
}

func (q *deadlines) close() { closeFD(q.fd) }

// up files t at i or above.
func (q *deadlines) up(i int, t *Deadline) {
	for i > 0 {
		parent := q.heap[(i-1)/2]
		if parent.at <= t.at {
			break
		}
		q.put(i, parent)
		i = (i - 1) / 2
	}
	q.put(i, t)
}

// down files t at i or below.
func (q *deadlines) down(i int, t *Deadline) {
	for n := len(q.heap); 2*i+1 < n; {
		child := 2*i + 1
		if child+1 < n && q.heap[child+1].at < q.heap[child].at {
			child++
		}
		if t.at <= q.heap[child].at {
			break
		}
		q.put(i, q.heap[child])
		i = child
	}
	q.put(i, t)
}

func (q *deadlines) put(i int, t *Deadline) { q.heap[i], t.index = t, i+1 }
