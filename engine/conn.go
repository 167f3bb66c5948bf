package engine

import (
	"errors"
	"io"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrAgain says that a read or write would block: a state, not a failure. The handler is called when that changes.
var ErrAgain = errors.New("not ready")

// ErrClosed is what a closed connection answers.
var ErrClosed = errors.New("connection closed")

// Handler serves a connection. All calls come on the connection's loop.
type Handler interface {
	// Ready is called when the connection may have become readable or writable, was asked for with Loop.Again, or when
	// the engine starts to drain. Calls without cause happen.
	Ready(c *Conn)
	// Timeout is called when the deadline of SetTimeout has passed.
	Timeout(c *Conn)
	// Connected is called once for a dialled connection: with nil, or with why it could not be had; it is closed then.
	Connected(c *Conn, err error)
}

// Layer stands between a connection and its socket: TLS. Read and Write have the meaning of Conn's and use the
// connection's Raw… methods below them. What a layer has read from the socket and not yet given to a reader it tells
// with HoldRead. A connection with a layer is not spliced.
type Layer interface {
	Read(c *Conn, p []byte) (int, error)
	Write(c *Conn, p []byte) (int, error)
	// Await is Conn's.
	Await(c *Conn) error
	// CloseWrite says goodbye (close_notify); the socket's own half-close follows, once nothing is Pending.
	CloseWrite(c *Conn) error
	// Pending says that bytes wait for the socket which Write or CloseWrite has taken. The socket is not Writable then, or
	// has failed.
	Pending() bool
	// Flush writes what is Pending as far as the socket takes it. It is called on the connection's events.
	Flush(c *Conn)
	// Released is called once, when the socket is closed: what the layer holds of the loop's goes back.
	Released(c *Conn)
}

const (
	readable uint16 = 1 << iota
	writable
	hungUp // the event carried RDHUP: a short read proves nothing, read on to EOF
	failed // the event carried ERR
	dialling
	queued // waits for the turn that Loop.Again promised
	broken // a read or a write has failed, or the socket told of an error
	nagle  // Nagle's algorithm is still on: see RawWrite
	wrote  // something has been written
	wroteFIN
	owesFIN // wroteFIN, but the layer's bytes go first
	inLayer // the layer may have bytes to read: see HoldRead
	opening // it is connected, and somebody comes before its handler: see BeforeConnected
	closed
)

// Conn is a non-blocking stream socket on a loop. Owned by the loop; no lock.
type Conn struct {
	loop    *Loop
	handler Handler
	more    *extra    // what few connections have; nil if this is not one of them
	from    *Listener // that accepted it; nil if dialled
	timer   timer
	peer    netip.AddrPort
	fd      int
	source  uint32 // where the listener counts its source; 0: nowhere
	tag     int32  // on its events
	state   uint16
}

// extra is what a connection has for a time, or few have at all: an idle one is to be small.
type extra struct {
	layer Layer
	about any  // what is known of the connection beyond its socket
	dial  dial // while it is on its way
}

// extras is a loop's pool of them.
type extras []*extra

// keepExtras bounds the pool.
const keepExtras = 64

func (c *Conn) extra() *extra {
	if c.more != nil {
		return c.more
	}
	l := c.loop
	if n := len(l.extras); n > 0 {
		c.more, l.extras = l.extras[n-1], l.extras[:n-1]
	} else {
		c.more = &extra{}
	}
	return c.more
}

// trim gives back what is of no use any more.
func (c *Conn) trim() {
	if x := c.more; x != nil && x.layer == nil && x.about == nil && x.dial.addrs == nil {
		c.more = nil
		if len(c.loop.extras) < keepExtras {
			c.loop.extras = append(c.loop.extras, x)
		}
	}
}

// endDial forgets the way to the endpoint, if there is one to forget.
func (c *Conn) endDial() {
	if c.more != nil {
		c.more.dial = dial{}
		c.trim()
	}
}

func (c *Conn) layer() Layer {
	if c.more == nil {
		return nil
	}
	return c.more.layer
}

// Loop is where the connection lives.
func (c *Conn) Loop() *Loop { return c.loop }

// Peer is the other end's address; the zero value on a UNIX socket.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

// LocalAddr is this end's address, which the kernel is asked for; the zero value on a UNIX socket.
func (c *Conn) LocalAddr() netip.AddrPort {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(c.fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&sa)
}

// Attach keeps what else is known of the connection, such as whom its peer speaks for; Attached returns it, or nil.
func (c *Conn) Attach(about any) {
	if about != nil || c.more != nil {
		c.extra().about = about
		c.trim()
	}
}

// Attached is what Attach was given last.
func (c *Conn) Attached() any {
	if c.more == nil {
		return nil
	}
	return c.more.about
}

// SetHandler passes the connection on, as from a pool to an exchange.
func (c *Conn) SetHandler(h Handler) { c.handler = h }

// Handler is who serves the connection.
func (c *Conn) Handler() Handler { return c.handler }

// SetLayer puts y between the connection and its socket; nil takes it away.
func (c *Conn) SetLayer(y Layer) {
	if y != nil || c.more != nil {
		c.extra().layer = y
		c.trim()
	}
}

// Closed says that Close or Reset was called, or that the dial failed.
func (c *Conn) Closed() bool { return c.state&closed != 0 }

// Dialling says that the connection is not there yet, or not its handler's.
func (c *Conn) Dialling() bool { return c.state&(dialling|opening) != 0 }

// Readable says that a read may find something.
func (c *Conn) Readable() bool { return c.state&(readable|inLayer) != 0 }

// HoldRead is for a layer: it says whether the layer may have bytes to read that are not in the socket any more. No event
// tells of them: Loop.Again does.
func (c *Conn) HoldRead(some bool) {
	if c.state &^= inLayer; some {
		c.state |= inLayer
	}
}

// Writable says that a write may take something.
func (c *Conn) Writable() bool { return c.state&writable != 0 }

// LookAgain has the next read or peek ask the kernel, whatever events have told: when time is up, say, and what was
// waited for may have come in the same batch.
func (c *Conn) LookAgain() { c.state |= readable }

// Failure is the socket's pending error (ECONNRESET, ETIMEDOUT), asked for only if an event told of one; nil
// otherwise. It finds a reset also on a connection that nobody reads.
func (c *Conn) Failure() error {
	if c.state&failed == 0 {
		return nil
	}
	c.state &^= failed
	if e := socketError(c.fd); e != 0 {
		c.state |= broken
		return sysErr("socket", e)
	}
	return nil
}

// Broken says that the connection has failed: that a read, a write or Failure has returned its error.
func (c *Conn) Broken() bool { return c.state&broken != 0 }

// HungUp says that the peer has sent FIN, or a reset: nothing follows what can be read now.
func (c *Conn) HungUp() bool { return c.state&hungUp != 0 }

// SetTimeout calls the handler's Timeout d from now, as of the wheel's last tick, and rounded up to the next: up to 25 ms
// early or late. 0 turns it off. Putting a deadline off costs a store. What has to be exact is a Deadline.
func (c *Conn) SetTimeout(d time.Duration) {
	if d <= 0 {
		c.loop.wheel.clear(&c.timer)
		return
	}
	c.loop.wheel.set(&c.timer, d)
}

func (c *Conn) expire() {
	if c.state&dialling != 0 {
		c.dialTimeout()
		return
	}
	c.handler.Timeout(c)
}

// note remembers what an event tells.
func (c *Conn) note(ev uint32) {
	if ev&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.state |= readable
	}
	if ev&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.state |= writable
	}
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		c.state |= hungUp
	}
	if ev&unix.EPOLLERR != 0 {
		c.state |= failed
	}
}

// serve acts on what was noted.
func (c *Conn) serve() {
	if c.state&dialling != 0 {
		c.dialProgress()
		return
	}
	if y := c.layer(); y != nil && y.Pending() {
		y.Flush(c)
		if c.state&owesFIN != 0 && !y.Pending() {
			c.state &^= owesFIN
			_ = shutdownWrite(c.fd)
		}
	}
	c.handler.Ready(c)
}

// Read fills p with what has come. It returns n > 0, or 0 with ErrAgain, io.EOF after the peer's FIN, or the socket's
// error.
func (c *Conn) Read(p []byte) (int, error) {
	if y := c.layer(); y != nil {
		n, err := y.Read(c, p)
		if err != nil && err != ErrAgain && err != io.EOF {
			c.state |= broken
		}
		return n, err
	}
	return c.RawRead(p)
}

// RawRead reads below the layer.
func (c *Conn) RawRead(p []byte) (int, error) {
	n, err := c.receive(p, 0)
	// The socket is empty after a short read, and the next byte will be an edge; but a FIN that came with the data
	// has had its edge already.
	if n > 0 && n < len(p) && c.state&hungUp == 0 {
		c.state &^= readable
	}
	return n, err
}

// Await says whether a Read would find a byte, and leaves it there: nil, or what Read would return.
func (c *Conn) Await() error {
	if y := c.layer(); y != nil {
		return y.Await(c)
	}
	_, err := c.Peek(c.loop.scratch[:1])
	return err
}

// Peek is RawRead that leaves the bytes where they are.
func (c *Conn) Peek(p []byte) (int, error) { return c.receive(p, unix.MSG_PEEK) }

func (c *Conn) receive(p []byte, flags int) (int, error) {
	if c.state&(readable|closed) != readable {
		if c.state&closed != 0 {
			return 0, ErrClosed
		}
		return 0, ErrAgain
	}
	n, e := recv(c.fd, p, flags)
	switch {
	case e == unix.EAGAIN:
		c.state &^= readable
		return 0, ErrAgain
	case e != 0:
		c.state |= broken
		return 0, sysErr("read", e)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Discard throws away the next n bytes, which Peek has seen.
func (c *Conn) Discard(n int) error {
	for n > 0 {
		m, e := discard(c.fd, n)
		if e != 0 || m == 0 {
			c.state |= broken
			return sysErr("read", e)
		}
		n -= m
	}
	return nil
}

// Write sends what the socket takes of p: n may be short, with ErrAgain then.
func (c *Conn) Write(p []byte) (int, error) {
	if y := c.layer(); y != nil {
		n, err := y.Write(c, p)
		if err != nil && err != ErrAgain {
			c.state |= broken
		}
		return n, err
	}
	return c.RawWrite(p)
}

// RawWrite writes below the layer.
func (c *Conn) RawWrite(p []byte) (int, error) {
	if c.state&(writable|closed|dialling) != writable {
		if c.state&closed != 0 {
			return 0, ErrClosed
		}
		return 0, ErrAgain
	}
	if c.state&nagle != 0 && (c.state&wrote != 0 || len(p) > oneSegment) {
		c.noDelay()
	}
	c.state |= wrote
	n, e := send(c.fd, p)
	switch {
	case e == unix.EAGAIN:
		c.state &^= writable
		return 0, ErrAgain
	case e != 0:
		// The connection has ended, and its event is still to come: what the peer said before can be read now.
		c.state |= readable | hungUp | broken
		return 0, sysErr("write", e)
	case n < len(p):
		c.state &^= writable
		return n, ErrAgain
	}
	return n, nil
}

// oneSegment goes out whole in a single segment on any network, and so at once if nothing is under way.
const oneSegment = 512

// noDelay turns off Nagle's algorithm, which would hold back the last segment of a write while an earlier one is not
// acknowledged. A connection that makes one small write in its life is spared the system call.
func (c *Conn) noDelay() {
	c.state &^= nagle
	_ = setsockopt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// CloseWrite sends FIN: this end has said all; the other direction stays open.
func (c *Conn) CloseWrite() error {
	if c.state&(closed|wroteFIN) != 0 {
		return nil
	}
	c.state |= wroteFIN
	if y := c.layer(); y != nil {
		if err := y.CloseWrite(c); err != nil {
			return err
		}
		if y.Pending() {
			c.state |= owesFIN
			return nil
		}
	}
	if e := shutdownWrite(c.fd); e != 0 {
		return sysErr("shutdown", e)
	}
	return nil
}

// Close ends the connection in both directions. The kernel still delivers what was written, unless unread bytes are
// left, which it answers with RST. A layer says goodbye first, and what it has Pending is delivered too: for lingerTime the
// socket lives on for that, and counts as open.
func (c *Conn) Close() {
	if c.state&closed != 0 {
		return
	}
	if y := c.layer(); y != nil && c.state&broken == 0 {
		if c.state&wroteFIN == 0 {
			c.state |= wroteFIN // by closing
			_ = y.CloseWrite(c)
		}
		if y.Pending() && c.state&broken == 0 {
			c.linger(y)
			return
		}
	}
	c.release()
	closeFD(c.fd)
}

// Reset ends the connection with RST, throwing away what was written and not yet delivered: the peer learns that what
// it has is not whole.
func (c *Conn) Reset() {
	if c.state&closed != 0 {
		return
	}
	c.release()
	lingerZero(c.fd)
	closeFD(c.fd)
}

// release takes the connection off its loop.
func (c *Conn) release() {
	c.state |= closed
	if y := c.layer(); y != nil {
		y.Released(c)
		c.SetLayer(nil)
	}
	c.endDial()
	c.loop.wheel.drop(&c.timer)
	c.loop.unregister(c)
	if c.from != nil {
		c.from.left(c.source)
	}
}

// resume is the turn that Loop.Again promised.
func (c *Conn) resume() {
	c.state &^= queued
	if c.state&closed == 0 {
		c.handler.Ready(c)
	}
}
