package engine

import (
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// readScratch is the loop's one read buffer: a read that leaves it full says that the sender has bulk to send.
const readScratch = 64 << 10

// Loop is one epoll event loop and everything that lives on it. Its methods, but for Post, belong to its goroutine.
type Loop struct {
	id                int
	engine            *Engine
	log               *slog.Logger
	poller            poller
	conns             []*Conn   // by descriptor; grows with the largest
	accepted, dialled []*Conn   // of the batch at hand
	tag               int32     // of the connection that was registered last
	watched           []watcher // by descriptor: what is no connection
	packets           packets
	turns             uint32 // batches of events so far
	wheel             wheel
	deadlines         deadlines
	moment            time.Duration // exact, of the present phase of the turn; 0: nobody has asked
	share             int64         // of the engine's memory
	buffers
	pipes
	extras   extras
	scratch  []byte
	again    []waiting // want another turn, after the present batch of events
	spare    []waiting
	draining bool
	stopped  bool
	unpinned *unix.CPUSet // where its thread ran before it was pinned; nil: it is not
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
	held         atomic.Int64
	_            [64]byte
}

func newLoop(e *Engine, id int, share int64) (*Loop, error) {
	l := &Loop{id: id, engine: e, log: e.log, scratch: make([]byte, readScratch), share: share}
	if err := l.poller.open(); err != nil {
		return nil, err
	}
	if err := l.wheel.open(); err != nil {
		return nil, err
	}
	if err := l.poller.add(l.wheel.fd, unix.EPOLLIN|unix.EPOLLET, 0); err != nil {
		return nil, err
	}
	if err := l.deadlines.open(l); err != nil {
		return nil, err
	}
	return l, nil
}

// run serves the loop until stop. It keeps its thread, so that it stays on the CPU that has its data in its caches.
func (l *Loop) run() {
	runtime.LockOSThread()
	defer l.release()
	for !l.stopped {
		l.turn(l.poller.wait(len(l.again) == 0))
	}
	for _, c := range l.conns {
		if c != nil {
			c.Reset()
		}
	}
	for _, w := range l.watched {
		if w != nil {
			w.close()
		}
	}
	l.packets.close()
	l.closePipes()
	closeFD(l.wheel.fd)
	l.poller.close()
}

// turn serves a batch of events. Connections are served by kind, those that were accepted and then those that were
// dialled: writes to the same peer process then follow each other closely, and most of them find it awake; waking it is a
// tenth of the cost of a small message. With 64 busy sessions sched_waking per 1000 sends falls from 144 to 44, and CPU
// per message by 5 to 8 %.
func (l *Loop) turn(events []unix.EpollEvent) {
	posted := false
	l.turns++
	l.moment = 0
	for i := range events {
		ev := &events[i]
		fd := int(ev.Fd)
		switch {
		case fd < len(l.conns) && l.conns[fd] != nil:
			c := l.conns[fd]
			if ev.Pad != c.tag {
				continue // it is of the connection that had the descriptor before
			}
			c.note(ev.Events)
			if c.from != nil {
				l.accepted = append(l.accepted, c)
			} else {
				l.dialled = append(l.dialled, c)
			}
		case fd == l.wheel.fd:
			l.wheel.advance()
		case fd == l.poller.wakeFD:
			posted = true
		default:
			if w := l.watcher(fd); w != nil {
				w.ready(ev.Events)
			}
		}
	}
	l.accepted = serve(l.accepted)
	if len(l.dialled) > 0 {
		l.moment = 0
		l.dialled = serve(l.dialled)
	}
	if len(l.again) > 0 {
		l.moment = 0
		l.runAgain()
	}
	if posted {
		l.moment = 0
		l.poller.runPosted()
	}
	if l.held != l.told {
		l.told = l.held
		l.count.held.Store(l.held)
	}
}

// watcher is what else than a connection has a descriptor on the loop: a socket that accepts, or one of datagrams.
type watcher interface {
	ready(events uint32)
	close()
}

// watch files w under fd, and arms it.
func (l *Loop) watch(fd int, events uint32, w watcher) error {
	for fd >= len(l.watched) {
		l.watched = append(l.watched, nil)
	}
	l.watched[fd] = w
	return l.poller.add(fd, events, 0)
}

// watcher is who watches fd; nil if nobody does.
func (l *Loop) watcher(fd int) watcher {
	if uint(fd) < uint(len(l.watched)) {
		return l.watched[fd]
	}
	return nil
}

// unwatch forgets the watcher of fd. Closing the descriptor is the caller's.
func (l *Loop) unwatch(fd int) {
	if l.watcher(fd) != nil {
		l.watched[fd] = nil
	}
}

// serve has the connections served; those that were closed on the way are left out.
func serve(list []*Conn) []*Conn {
	for _, c := range list {
		if c.state&closed == 0 {
			c.serve()
		}
	}
	clear(list)
	return list[:0]
}

// ID numbers the engine's loops from 0.
func (l *Loop) ID() int { return l.id }

// Counters are this loop's totals; safe from any goroutine.
func (l *Loop) Counters() *Counters { return &l.count }

// Held is what waits in the loop's buffers and pipes, in bytes, as of its last turn; safe from any goroutine.
func (l *Loop) Held() int64 { return l.count.held.Load() }

// Short says that the loop holds more than its share of the engine's memory: what can be refused should be.
func (l *Loop) Short() bool { return l.held > l.share }

// Scratch is the loop's read buffer. What is in it is lost with the next read of anyone on the loop.
func (l *Loop) Scratch() []byte { return l.scratch }

// Draining says that the process finishes what is open and takes nothing new.
func (l *Loop) Draining() bool { return l.draining }

// Now is the loop's clock as of its last tick, at most 25 ms behind. It has no relation to the wall clock.
func (l *Loop) Now() time.Duration {
	l.wheel.arm() // it stands still while nothing is timed
	return l.wheel.now
}

// Moment is the exact time, on the scale of Clock, at which it was first asked for among the connections that are served
// together: those of one batch of events, of one side. It costs a look at the kernel's clock then, and 1 ns afterwards;
// BenchmarkMoment.
func (l *Loop) Moment() time.Duration {
	if l.moment == 0 {
		l.moment = l.Clock()
	}
	return l.moment
}

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
func (l *Loop) Post(f func()) { l.poller.post(f) }

// waiting is a piece of work that used up its turn and goes on after the others.
type waiting interface{ resume() }

// Again calls c's handler once more after the events at hand, for a connection that has used up its turn.
func (l *Loop) Again(c *Conn) {
	if c.state&queued == 0 {
		c.state |= queued
		l.enqueue(c)
	}
}

func (l *Loop) enqueue(w waiting) { l.again = append(l.again, w) }

func (l *Loop) runAgain() {
	work := l.again
	l.again = l.spare[:0]
	for _, w := range work {
		w.resume()
	}
	clear(work)
	l.spare = work[:0]
}

// drain tells every connection to finish.
func (l *Loop) drain() {
	l.draining = true
	l.packets.drain()
	for _, c := range l.conns {
		if c != nil && c.state&dialling == 0 {
			c.handler.Ready(c)
		}
	}
}

func (l *Loop) stop() { l.poller.post(func() { l.stopped = true }) }

// register arms c for both directions, once, and files it under its descriptor.
func (l *Loop) register(c *Conn) error {
	l.tag++
	c.tag = l.tag
	if err := l.poller.add(c.fd, armed, c.tag); err != nil {
		return err
	}
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	l.count.Open.Add(1)
	return nil
}

// unregister forgets c. Closing the descriptor is the caller's.
func (l *Loop) unregister(c *Conn) {
	if c.fd >= 0 && c.fd < len(l.conns) && l.conns[c.fd] == c {
		l.conns[c.fd] = nil
		l.count.Open.Add(-1)
	}
}
