package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pacer is one loop of the open loop, with the connections that last: requests go out when they are due, on whichever
// connection is free. It stands on epoll alone: gnet has no timers, and waking its loop from outside for every request
// costs more than the request. Everything but newPacer happens on its thread.
type pacer struct {
	g         *Generator
	tally     *tally
	request   []byte
	interval  int64
	next      int64 // when the next request is due
	free      []*slot
	freeSince int64 // since when free has not been empty
	slots     map[int]*slot
	epoll     int
	buf       []byte
	lost      int // connections closed since the last answer
	started   bool
}

// slot is a connection of the open loop.
type slot struct {
	reader
	fd   int
	due  int64
	busy bool
	rest []byte // what came of a head that is not whole
	out  []byte // of the request, what the socket did not take
}

// pacerNice puts the pacer before what it measures, where it may: what waits for a CPU cannot keep a schedule.
const pacerNice = -15

func newPacer(ctx context.Context, g *Generator, conns int) (*pacer, error) {
	p := &pacer{g: g, tally: newTally(), request: g.aim.Scenario.request(g.aim.Address), interval: g.interval(g.aim.Loops),
		slots: map[int]*slot{}, buf: make([]byte, 256<<10)}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for range conns {
		if err := p.open(ctx); err != nil {
			p.release()
			return nil, err
		}
	}
	return p, nil
}

// open adds a free connection.
func (p *pacer) open(ctx context.Context) error {
	c, err := p.g.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	s := &slot{reader: reader{tally: p.tally, ping: p.g.aim.Scenario.Load == PingPong}}
	var dup error
	if err := raw.Control(func(fd uintptr) {
		s.fd, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return err
	}
	if dup != nil {
		return dup
	}
	p.slots[s.fd] = s
	p.setFree(s)
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, s.fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(s.fd)})
}

// setFree gives a connection to the next request.
func (p *pacer) setFree(s *slot) {
	if len(p.free) == 0 {
		p.freeSince = p.g.now()
	}
	s.busy = false
	p.free = append(p.free, s)
}

func (p *pacer) tallied() *tally { return p.tally }

func (p *pacer) start() {
	p.started = true
	p.g.spawn(p.run)
}

// close releases what run does not: it ends, and releases all, with the generator's stop.
func (p *pacer) close() {
	if !p.started {
		p.release()
	}
}

func (p *pacer) release() {
	for fd := range p.slots {
		unix.Close(fd)
	}
	unix.Close(p.epoll)
}

// stopPoll is how long the loop may wait for anything before it looks whether it is to stop.
const stopPoll = 20 * time.Millisecond

func (p *pacer) run() {
	// The thread ends with the goroutine, and its priority with it.
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, pacerNice)
	// The kernel may otherwise put a wake-up off by 50 µs.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	defer p.release()
	var events [128]unix.EpollEvent
	p.next = p.g.now()
	p.freeSince = p.next
	for !p.g.stopped() {
		wait := int64(stopPoll)
		if err := p.dispatch(); err != nil {
			p.g.fail(err)
			return
		}
		if len(p.free) > 0 {
			wait = min(wait, max(0, p.next-p.g.now()))
		}
		ts := unix.NsecToTimespec(wait)
		n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
			uintptr(unsafe.Pointer(&ts)), 0, 0)
		if e == unix.ENOSYS {
			p.g.fail(fmt.Errorf("the open loop needs epoll_pwait2: Linux 5.11 or later"))
			return
		}
		if e != 0 {
			continue // EINTR
		}
		for _, ev := range events[:n] {
			s := p.slots[int(ev.Fd)]
			if s == nil {
				continue
			}
			if err := p.serve(s); err != nil {
				p.g.fail(err)
				return
			}
			if err := p.dispatch(); err != nil {
				p.g.fail(err)
				return
			}
		}
	}
}

// dispatch sends what is due, as far as connections are free.
func (p *pacer) dispatch() error {
	for now := p.g.now(); p.next <= now && len(p.free) > 0; now = p.g.now() {
		s := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		p.tally.slipped(now - max(p.next, p.freeSince))
		s.busy, s.due, s.out = true, p.next, p.request
		p.next += p.interval
		if err := p.flush(s); err != nil {
			return err
		}
	}
	return nil
}

// flush sends what is left of the request.
func (p *pacer) flush(s *slot) error {
	for len(s.out) > 0 {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), address(s.out), uintptr(len(s.out)), unix.MSG_NOSIGNAL, 0, 0)
		switch {
		case e == unix.EAGAIN:
			return nil
		case e == unix.EINTR:
		case e != 0:
			return p.closed(s, e)
		default:
			s.out = s.out[n:]
		}
	}
	return nil
}

// serve reads what has come. An error ends the measurement.
func (p *pacer) serve(s *slot) error {
	if err := p.flush(s); err != nil {
		return err
	}
	for p.slots[s.fd] == s {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), address(p.buf), uintptr(len(p.buf)), 0, 0, 0)
		switch {
		case e == unix.EAGAIN:
			return nil
		case e == unix.EINTR:
			continue
		case e != 0:
			return p.closed(s, e)
		case n == 0:
			return p.closed(s, io.EOF)
		}
		b := p.buf[:n]
		if len(s.rest) > 0 {
			s.rest = append(s.rest, b...)
			b = s.rest
		}
		for len(b) > 0 {
			n, whole, err := s.read(b)
			if err != nil {
				return fmt.Errorf("%w: %w", errTarget, err)
			}
			b = b[n:]
			if whole {
				if !s.busy {
					return fmt.Errorf("%w: an answer that nobody asked for", errTarget)
				}
				p.tally.done(p.g.now()-s.due, s.size)
				s.size, p.lost = 0, 0
				if !s.last {
					p.setFree(s)
				} else {
					s.busy = false
				}
			} else if n == 0 {
				break
			}
		}
		s.rest = append(s.rest[:0], b...)
	}
	return nil
}

// closed puts a new connection in the place of one that the target has closed.
func (p *pacer) closed(s *slot, why error) error {
	if s.busy {
		p.tally.failed(kindOf(why))
	}
	if p.lost++; p.lost > 10+3*len(p.slots) {
		return fmt.Errorf("%w: it closes every connection without an answer", errTarget)
	}
	for i := range p.free {
		if p.free[i] == s {
			p.free = append(p.free[:i], p.free[i+1:]...)
			break
		}
	}
	delete(p.slots, s.fd)
	unix.Close(s.fd)
	if err := p.open(context.Background()); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	return nil
}
