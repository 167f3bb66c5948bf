package engine

import (
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"github.com/panjf2000/gnet/v2/pkg/queue"
	"golang.org/x/sys/unix"
)

// readScratch is the loop's one read buffer: a read that leaves it full says that the sender has bulk to send.
const readScratch = 64 << 10

// Loop is one epoll event loop and everything that lives on it. Its methods, but for Post, belong to its goroutine.
type Loop struct {
	id     int
	engine *Engine
	log    *slog.Logger
	poller *netpoll.Poller
	conns  connSet
	listen map[int]*acceptor
	wheel  wheel
	buffers
	pipes
	scratch  []byte
	again    []turn // want another turn, after the present batch of events
	spare    []turn
	againFD  int // an eventfd whose edges call for again
	draining bool
	count    Counters
	date     [len(httpDate)]byte
	dateAt   int64
}

const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// Counters are a loop's totals, written by it and read by anyone. Each loop has its own, padded apart, so that loops
// do not share cache lines for them.
type Counters struct {
	_            [64]byte
	Accepted     Counter
	AcceptErrors Counter      // accept failed for want of descriptors or memory
	AcceptPaused Counter      // accepting stopped at maxconn
	Open         atomic.Int64 // connections of either side
	Dialled      Counter
	DialErrors   Counter
	Spliced      Counter // bytes that no user-space copy was made of
	_            [64]byte
}

func newLoop(e *Engine, id int) (*Loop, error) {
	l := &Loop{id: id, engine: e, log: e.log, listen: map[int]*acceptor{}, scratch: make([]byte, readScratch)}
	var err error
	if l.poller, err = netpoll.OpenPoller(); err != nil {
		return nil, fmt.Errorf("open epoll: %w", err)
	}
	if err = l.wheel.open(); err != nil {
		return nil, err
	}
	if l.againFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err = l.conns.open(l.poller); err != nil {
		return nil, err
	}
	for _, fd := range []int{l.wheel.fd, l.againFD} {
		if err = l.poller.AddRead(&netpoll.PollAttachment{FD: fd}, true); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// run serves the loop until stop. It is not locked to a thread: the poller yields to the scheduler before it blocks,
// which a locked thread would turn into two context switches.
func (l *Loop) run() error {
	err := l.poller.Polling(l.event)
	for _, c := range l.conns.conns {
		if c != nil {
			c.Reset()
		}
	}
	for _, a := range l.listen {
		a.close()
	}
	l.closePipes()
	closeFD(l.wheel.fd)
	closeFD(l.againFD)
	closeFD(l.conns.fd)
	if cerr := l.poller.Close(); err == errors.ErrEngineShutdown {
		err = cerr
	}
	return err
}

func (l *Loop) event(fd int, _ netpoll.IOEvent, _ netpoll.IOFlags) error {
	switch {
	case fd == l.conns.fd:
		l.conns.serve()
	case fd == l.wheel.fd:
		l.wheel.advance()
	case fd == l.againFD:
		l.runAgain()
	default:
		if a := l.listen[fd]; a != nil {
			a.accept()
		}
	}
	return nil
}

// ID numbers the engine's loops from 0.
func (l *Loop) ID() int { return l.id }

// Counters are this loop's totals; safe from any goroutine.
func (l *Loop) Counters() *Counters { return &l.count }

// Scratch is the loop's read buffer. What is in it is lost with the next read of anyone on the loop.
func (l *Loop) Scratch() []byte { return l.scratch }

// Draining says that the process finishes what is open and takes nothing new.
func (l *Loop) Draining() bool { return l.draining }

// Now is the loop's clock as of its last tick, at most 25 ms behind while anything on the loop is timed. It has no
// relation to the wall clock.
func (l *Loop) Now() time.Duration { return l.wheel.now }

// Date is the present second as an HTTP-date (RFC 9110, section 5.6.7). The bytes are the loop's: copy, do not keep.
func (l *Loop) Date() []byte {
	l.wheel.arm()
	if s := l.wheel.wall.Unix(); s != l.dateAt {
		l.dateAt = s
		l.wheel.wall.UTC().AppendFormat(l.date[:0], httpDate)
	}
	return l.date[:]
}

// Post has f run on the loop, from any goroutine, soon and in order. What is posted after the engine has stopped is
// never run.
func (l *Loop) Post(f func()) {
	_ = l.poller.Trigger(queue.HighPriority, func(any) error { f(); return nil }, nil)
}

// turn is a piece of work that used up its budget and goes on after the others.
type turn interface{ resume() }

// Again calls c's handler once more after the events at hand, for a connection that has used up its turn.
func (l *Loop) Again(c *Conn) {
	if c.state&queued == 0 {
		c.state |= queued
		l.enqueue(c)
	}
}

func (l *Loop) enqueue(t turn) {
	if len(l.again) == 0 {
		one := uint64(1)
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(l.againFD), uintptr(unsafe.Pointer(&one)), 8)
	}
	l.again = append(l.again, t)
}

func (l *Loop) runAgain() {
	work := l.again
	l.again = l.spare[:0]
	for _, t := range work {
		t.resume()
	}
	clear(work)
	l.spare = work[:0]
}

// drain tells every connection to finish.
func (l *Loop) drain() {
	l.draining = true
	for _, c := range l.conns.conns {
		if c != nil && c.state&dialling == 0 {
			c.handler.Ready(c)
		}
	}
}

func (l *Loop) stop() {
	_ = l.poller.Trigger(queue.HighPriority, func(any) error { return errors.ErrEngineShutdown }, nil)
}

// register arms fd for both directions, once, and files c under it.
func (l *Loop) register(c *Conn) error {
	if err := l.conns.add(c); err != nil {
		return err
	}
	l.count.Open.Add(1)
	return nil
}

// unregister forgets c.
func (l *Loop) unregister(c *Conn) {
	if l.conns.remove(c) {
		l.count.Open.Add(-1)
	}
}
