package engine

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PacketConnHandler is a flow. All calls come on its loop.
type PacketConnHandler interface {
	// Received takes what the endpoint has sent: one datagram, or several of segment bytes if that is not 0. The bytes
	// may be given to PacketSocket.Reply.
	Received(p []byte, segment int)
	// Refused says that nobody takes what was sent before: an ICMP error came back. What is queued has not been sent; it
	// is once the handler has connected the flow elsewhere, and lost if it closes it.
	Refused(e unix.Errno)
	// Lost says that n datagrams could not be sent.
	Lost(n int)
}

// PacketConn is a socket that is connected to an endpoint for one flow. The zero value is closed. Owned by the loop.
type PacketConn struct {
	loop        *Loop
	handler     PacketConnHandler
	fd          int32
	open        bool
	touched     bool   // has something queued
	coalesced   bool   // the kernel may hand over several datagrams as one (UDP_GRO)
	bursts      uint8  // receives to come that ask for several
	streak      uint8  // of turns of the loop with something to receive
	turn        uint32 // the last of them
	first, last int16  // of what is queued
	longest     int    // datagrams from this size on are not joined
}

// A plain recv is cheaper for one datagram by 0.3 µs, and dearer for each of four by 0.2, than asking for several. That
// is done where several are likely: after several were sent, or have come at once, as long as there are not burstCredit
// receives in a row that bring but one; and to try, after busyStreak turns of the loop in a row that brought one.
const (
	burstCredit = 4
	busyStreak  = 4
)

// parcel is a datagram, or several, on its way to an endpoint.
type parcel struct {
	iov     unix.Iovec
	segment int
	next    int16
}

// parcels is what a batch of a listener's datagrams has to be sent to endpoints, in a chain for each flow.
type parcels struct {
	n       int
	items   [packetBatch]parcel
	touched []*PacketConn
	// For sending a train.
	iov     [packetBatch]unix.Iovec
	control control
}

const none = int16(-1)

// Connect opens the connection to an address; after an error it is as it was before. One that was open is closed, and
// what it has queued goes to the new address.
func (c *PacketConn) Connect(l *Loop, a *Addr, h PacketConnHandler) error {
	if a.Family() == unix.AF_UNIX {
		return sysErr("connect", unix.EAFNOSUPPORT)
	}
	fd, err := unix.Socket(a.Family(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if e := connect(fd, a); e != 0 {
		closeFD(fd)
		return sysErr("connect", e)
	}
	// Level-triggered: a flow mostly has one datagram at a time, and that it is the only one would cost another call to
	// find out.
	if err := l.watch(fd, unix.EPOLLIN, c); err != nil {
		l.unwatch(fd)
		closeFD(fd)
		return err
	}
	if c.open {
		c.shut()
	} else {
		c.first, c.last = none, none
	}
	c.loop, c.handler, c.fd, c.open, c.longest = l, h, int32(fd), true, l.packets.out.longest
	l.count.Open.Add(1)
	return nil
}

// Close ends the connection. What is queued is lost.
func (c *PacketConn) Close() {
	if c.open {
		c.shut()
	}
	c.first, c.last = none, none
}

func (c *PacketConn) shut() {
	c.loop.unwatch(int(c.fd))
	closeFD(int(c.fd))
	c.open, c.coalesced, c.bursts = false, false, 0
	c.loop.count.Open.Add(-1)
}

// close implements watcher.
func (c *PacketConn) close() { c.Close() }

// Queue sends p, one datagram or several of segment bytes: when PacketHandler.Datagram, whose bytes they are, has had
// the batch.
func (c *PacketConn) Queue(p []byte, segment int) {
	q := &c.loop.packets.in.parcels
	i := int16(q.n)
	q.n++
	q.items[i] = parcel{iov: iovec(p), segment: segment, next: none}
	if c.first == none {
		c.first = i
	} else {
		q.items[c.last].next = i
	}
	c.last = i
	if !c.touched {
		c.touched = true
		q.touched = append(q.touched, c)
	}
}

// Queued is how many datagrams wait to be sent.
func (c *PacketConn) Queued() (n int) {
	if c.loop == nil {
		return 0
	}
	q := &c.loop.packets.in.parcels
	for i := c.first; i != none; i = q.items[i].next {
		var t train
		t.start(int(q.items[i].iov.Len), q.items[i].segment)
		n += t.segments
	}
	return n
}

// sendQueued sends what a batch has brought.
func (p *packets) sendQueued() {
	q := &p.in.parcels
	for i := 0; i < len(q.touched); i++ {
		c := q.touched[i]
		c.touched = false
		c.Flush()
	}
	clear(q.touched)
	q.touched = q.touched[:0]
	q.n = 0
}

// Flush sends what is queued now.
func (c *PacketConn) Flush() {
	for c.open && c.first != none {
		q := &c.loop.packets.in.parcels
		next, e, t := c.send(q)
		switch e {
		case 0:
			c.first = next
		case unix.EINTR:
		default:
			if unreachable(e) { // it is about one before: this one has not been sent
				c.handler.Refused(e)
				continue
			}
			c.first = next
			c.handler.Lost(t.segments)
		}
	}
	c.first, c.last = none, none
}

// unreachable says that e is what an ICMP error comes as: icmp_err_convert and icmpv6_err_convert in the kernel.
func unreachable(e unix.Errno) bool {
	switch e {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET, unix.ENOPROTOOPT, unix.EPROTO, unix.EACCES:
		return true
	}
	return false
}

// send sends the first of what is queued with all that can be joined to it; next is what follows.
func (c *PacketConn) send(q *parcels) (next int16, e unix.Errno, t train) {
	it := &q.items[c.first]
	t.start(int(it.iov.Len), it.segment)
	n := 0
	q.iov[n] = it.iov
	n++
	for next = it.next; next != none && t.size < c.longest; next = it.next {
		it = &q.items[next]
		if !t.add(int(it.iov.Len), it.segment) {
			break
		}
		q.iov[n] = it.iov
		n++
	}
	if t.segments == 1 {
		_, e = send(int(c.fd), bytesOf(&q.iov[0]))
		return next, e, t
	}
	c.bursts = burstCredit // the answers will be several too
	h := unix.Msghdr{Iov: &q.iov[0], Iovlen: uint64(n), Control: (*byte)(unsafe.Pointer(&q.control))}
	h.SetControllen(segmented(&q.control, 0, t.size))
	if t.size < c.longest {
		if e = sendmsg(int(c.fd), &h); !ofTrain(e) {
			return next, e, t
		}
		c.longest = shorter(t.size, e)
	}
	h.Control, h.Controllen = nil, 0
	if lost := sendSingly(int(c.fd), &h, t.size); lost > 0 {
		c.handler.Lost(lost)
	}
	return next, 0, t
}

// ready implements watcher.
func (c *PacketConn) ready(uint32) {
	o := c.loop.packets.out
	if c.bursts > 0 || c.coalesced {
		c.receive(o)
		return
	}
	if turns := c.loop.turns; turns-c.turn > 1 {
		c.streak, c.turn = 0, turns
	} else if c.streak, c.turn = c.streak+1, turns; c.streak == busyStreak {
		c.streak, c.bursts = 0, 1
	}
	p := o.area.slot(o.room(1))
	n, e := recv(int(c.fd), p, 0)
	switch {
	case e == 0:
		o.take(c.loop, 1)
		c.handler.Received(p[:n], 0)
	case unreachable(e):
		c.handler.Refused(e)
	}
}

// receive takes what there is, up to burst.
func (c *PacketConn) receive(o *outbox) {
	want := burst
	if c.bursts == 0 {
		want = 1
	}
	first := o.room(want)
	for i := range want {
		o.iov[i] = iovec(o.area.slot(first + i))
		o.vec[i].Hdr.SetControllen(int(unsafe.Sizeof(o.control[i])))
	}
	n, e := recvmmsg(int(c.fd), o.vec[:want])
	if e != 0 {
		if unreachable(e) {
			c.handler.Refused(e)
		}
		return
	}
	o.take(c.loop, n)
	switch {
	case n == 1:
		c.bursts -= min(c.bursts, 1)
	case n == burst && !c.coalesced:
		// This is bulk, which the network's driver may put together. From now on control messages are always read: they
		// tell where datagrams begin.
		c.coalesced = true
		_ = unix.SetsockoptInt(int(c.fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		fallthrough
	default:
		c.bursts = burstCredit
	}
	fd := c.fd
	for i := range n {
		if !c.open || c.fd != fd {
			return // the handler has had enough
		}
		v := &o.vec[i]
		segment := 0
		if v.Hdr.Controllen > 0 {
			var from Path
			segment = from.from(&sockaddr{}, unsafe.Slice(v.Hdr.Control, v.Hdr.Controllen))
		}
		c.handler.Received(o.area.slot(first + i)[:v.Len], segment)
	}
}
