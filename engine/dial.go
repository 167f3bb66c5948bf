package engine

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDialTimeout is why a dial ended at its deadline.
var ErrDialTimeout = errors.New("connect timed out")

// dial is a connection attempt over the addresses of one endpoint, in order.
type dial struct {
	addrs []Addr
	next  int           // the address to try after the present one
	until time.Duration // deadline of the whole, on the loop's clock
}

// Dial connects to the first of addrs that answers, within timeout for all of them together; each has an equal share
// of what is left. The connection is returned at once, and h.Connected tells how it went: never before Dial
// returns, unless it returns nil: then nothing could be started and err says why.
func (l *Loop) Dial(addrs []Addr, timeout time.Duration, h Handler) (*Conn, error) {
	if len(addrs) == 0 {
		return nil, errors.New("connect: no address")
	}
	l.wheel.arm()
	c := &Conn{loop: l, handler: h, fd: -1, state: dialling}
	c.timer.on = c
	c.dial = &dial{addrs: addrs, until: l.wheel.now + timeout}
	l.count.Dialled.Inc()
	if err := c.dialNext(); err != nil {
		c.state = closed
		l.count.DialErrors.Inc()
		return nil, err
	}
	return c, nil
}

// dialNext starts on the next address; its error is the last one's if none could be started.
func (c *Conn) dialNext() error {
	d, l := c.dial, c.loop
	var err error
	for d.next < len(d.addrs) {
		a := &d.addrs[d.next]
		d.next++
		if err = c.dialStart(a); err != nil {
			err = fmt.Errorf("connect %s: %w", a, err)
			continue
		}
		share := (d.until - l.wheel.now) / time.Duration(len(d.addrs)-d.next+1)
		c.SetTimeout(max(share, 1))
		return nil
	}
	if err == nil {
		err = ErrDialTimeout
	}
	return err
}

func (c *Conn) dialStart(a *Addr) error {
	fd, err := unix.Socket(a.Family(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if a.Family() != unix.AF_UNIX {
		// Streams are written in whole pieces: Nagle's algorithm would only hold back their last segment.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if e := connect(fd, a); e != 0 && e != unix.EINPROGRESS {
		closeFD(fd)
		return sysErr("connect", e)
	}
	c.fd, c.peer = fd, a.AddrPort()
	if err := c.loop.register(c); err != nil {
		closeFD(fd)
		return err
	}
	return nil
}

// dialProgress is called on every event while dialling. An event may be a stale one of the descriptor's former life:
// a second connect(2) tells for sure.
func (c *Conn) dialProgress() {
	a := &c.dial.addrs[c.dial.next-1]
	switch e := connect(c.fd, a); e {
	case unix.EALREADY, unix.EINPROGRESS:
		return
	case 0, unix.EISCONN:
		c.dial = nil
		c.state = c.state&^(dialling|failed) | writable
		c.SetTimeout(0)
		c.handler.Connected(c, nil)
	default:
		c.dialFailed(fmt.Errorf("connect %s: %w", a, sysErr("connect", e)))
	}
}

func (c *Conn) dialTimeout() {
	c.dialFailed(fmt.Errorf("connect %s: %w", &c.dial.addrs[c.dial.next-1], ErrDialTimeout))
}

// dialFailed goes on to the next address, or tells the handler.
func (c *Conn) dialFailed(err error) {
	l := c.loop
	l.unregister(c)
	closeFD(c.fd)
	c.fd = -1
	c.state &^= readable | writable | hungUp | failed
	if c.dial.next < len(c.dial.addrs) && l.wheel.now < c.dial.until {
		if nerr := c.dialNext(); nerr == nil {
			return
		}
	}
	l.wheel.drop(&c.timer)
	l.count.DialErrors.Inc()
	c.dial = nil
	c.state = c.state&^dialling | closed
	c.handler.Connected(c, err)
}
