package engine

import (
	"errors"
	"fmt"
	"net/netip"
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
	opts  *DialOptions
	from  netip.AddrPort // for whom, if opts are transparent
	first func(c *Conn) (later bool, err error)
}

// Dial is DialWith without options.
func (l *Loop) Dial(addrs []Addr, timeout time.Duration, h Handler) (*Conn, error) {
	return l.DialWith(addrs, timeout, nil, netip.AddrPort{}, h)
}

// DialWith connects to the first of addrs that answers, within timeout for all of them together; each has an equal share
// of what is left. The connection is returned at once, and h.Connected tells how it went: never before Dial
// returns, unless it returns nil: then nothing could be started and err says why. opts may be nil; from is the client
// on whose behalf it is done, whose address transparent ones take, and may be zero.
func (l *Loop) DialWith(addrs []Addr, timeout time.Duration, opts *DialOptions, from netip.AddrPort, h Handler) (*Conn, error) {
	if len(addrs) == 0 {
		return nil, errors.New("connect: no address")
	}
	l.wheel.arm()
	c := &Conn{loop: l, handler: h, fd: -1, state: dialling}
	c.timer.on = c
	c.extra().dial = dial{addrs: addrs, until: l.wheel.now + timeout, opts: opts, from: from}
	l.count.Dialled.Inc()
	if err := c.dialNext(); err != nil {
		c.state = closed
		c.endDial()
		l.count.DialErrors.Inc()
		return nil, err
	}
	return c, nil
}

// dialNext starts on the next address; its error is the last one's if none could be started.
func (c *Conn) dialNext() error {
	d, l := &c.more.dial, c.loop
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
	if o := c.more.dial.opts; o != nil {
		if err := o.prepare(fd, a.Family(), c.more.dial.from); err != nil {
			closeFD(fd)
			return err
		}
	}
	if e := connect(fd, a); e != 0 && e != unix.EINPROGRESS {
		closeFD(fd)
		return sysErr("connect", e)
	}
	c.fd, c.peer = fd, a.AddrPort()
	if a.Family() != unix.AF_UNIX {
		c.state |= nagle
	}
	if err := c.loop.register(c); err != nil {
		closeFD(fd)
		return err
	}
	return nil
}

// BeforeConnected has f see a connection that is on its way before its handler hears of it: to begin it with a header, or to put a
// layer on it. With later, the handler is told by Opened; with an error, at once. Until then the connection counts as Dialling.
func (c *Conn) BeforeConnected(f func(c *Conn) (later bool, err error)) { c.more.dial.first = f }

// Opened tells the handler what BeforeConnected has left to tell; after an error the connection is closed.
func (c *Conn) Opened(err error) {
	c.state &^= opening
	if err != nil {
		c.Reset()
	}
	c.handler.Connected(c, err)
}

// dialProgress is called on the events of a connection that is dialled: it can be written to once it is there, and an
// error comes with the event.
func (c *Conn) dialProgress() {
	switch {
	case c.state&failed != 0:
		e := socketError(c.fd)
		if e == 0 {
			e = unix.ECONNABORTED // somebody has asked before: nobody else does
		}
		c.dialFailed(fmt.Errorf("connect %s: %w", &c.more.dial.addrs[c.more.dial.next-1], sysErr("connect", e)))
	case c.state&writable != 0:
		first := c.more.dial.first
		c.endDial()
		c.state &^= dialling
		c.SetTimeout(0)
		if first != nil {
			c.state |= opening
			if later, err := first(c); later && err == nil {
				return
			} else {
				c.Opened(err)
				return
			}
		}
		c.handler.Connected(c, nil)
	}
}

func (c *Conn) dialTimeout() {
	c.dialFailed(fmt.Errorf("connect %s: %w", &c.more.dial.addrs[c.more.dial.next-1], ErrDialTimeout))
}

// dialFailed goes on to the next address, or tells the handler.
func (c *Conn) dialFailed(err error) {
	l := c.loop
	l.unregister(c)
	closeFD(c.fd)
	c.fd = -1
	c.state &^= readable | writable | hungUp | failed | nagle
	if c.more.dial.next < len(c.more.dial.addrs) && l.wheel.now < c.more.dial.until {
		if nerr := c.dialNext(); nerr == nil {
			return
		}
	}
	l.wheel.drop(&c.timer)
	l.count.DialErrors.Inc()
	c.endDial()
	c.state = c.state&^dialling | closed
	c.handler.Connected(c, err)
}
