package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// burst is how many datagrams of a busy flow are received at a time.
const burst = 8

// outbox is where a loop's answers wait, from when they were received until the loop's turn ends or the box is full.
type outbox struct {
	packets *packets
	area    area
	used    int  // slots
	waits   bool // for the end of the turn
	longest int  // of the loop's sockets: see answers
	// For reading a busy flow, into burst slots from used on.
	vec     [burst]unix.Mmsghdr
	iov     [burst]unix.Iovec
	control [burst]control
}

func (o *outbox) link() {
	for i := range o.vec {
		o.vec[i].Hdr.Iov, o.vec[i].Hdr.Iovlen = &o.iov[i], 1
		o.vec[i].Hdr.Control = (*byte)(unsafe.Pointer(&o.control[i]))
	}
}

// room makes sure that n slots are free, and returns the number of the first.
func (o *outbox) room(n int) int {
	if o.used+n > packetBatch {
		o.flush()
	}
	return o.used
}

// take says that n more slots are in use.
func (o *outbox) take(l *Loop, n int) {
	o.used += n
	if !o.waits {
		o.waits = true
		l.enqueue(o)
	}
}

// resume ends the turn.
func (o *outbox) resume() {
	o.waits = false
	o.flush()
}

func (o *outbox) flush() {
	for i := len(o.packets.sockets) - 1; i >= 0; i-- { // backwards: a socket may be closed on the way
		o.packets.sockets[i].flush()
	}
	o.used = 0
}

// answers are what a listener's socket has to send. A message may be a train, whose datagrams are as many vectors.
type answers struct {
	vec      [packetBatch]unix.Mmsghdr
	iov      [packetBatch]unix.Iovec
	name     [packetBatch]sockaddr
	control  [packetBatch]control
	trains   [packetBatch]train
	last     Path // of the last message
	messages int
	vectors  int
	longest  int // datagrams from this size on are not joined
}

// Reply sends p, one datagram or several of segment bytes, to the client of a path, from the address that it asked: at
// the end of the loop's turn, or before. p is what PacketConnHandler.Received was given.
func (s *PacketSocket) Reply(to *Path, p []byte, segment int) {
	a := &s.answers
	if s.fd < 0 {
		return
	}
	if a.vectors == packetBatch {
		s.flush()
	}
	v := a.vectors
	a.vectors++
	a.iov[v] = iovec(p)
	if m := a.messages - 1; m >= 0 && a.last == *to && a.trains[m].size < a.longest && a.trains[m].add(len(p), segment) {
		a.vec[m].Hdr.Iovlen++
		return
	}
	m := a.messages
	a.messages++
	a.last = *to
	a.trains[m].start(len(p), segment)
	h := &a.vec[m].Hdr
	h.Iov, h.Iovlen = &a.iov[v], 1
	h.Name = (*byte)(unsafe.Pointer(&a.name[m]))
	h.Namelen = to.name(&a.name[m], s.family)
	h.Control = (*byte)(unsafe.Pointer(&a.control[m]))
	h.SetControllen(to.source(&a.control[m], 0, s.family))
}

// flush sends what waits.
func (s *PacketSocket) flush() {
	a := &s.answers
	to := a.messages
	a.messages, a.vectors = 0, 0
	for m := range a.vec[:to] {
		if t := &a.trains[m]; t.segments > 1 {
			h := &a.vec[m].Hdr
			h.SetControllen(segmented(&a.control[m], int(h.Controllen), t.size))
		}
	}
	for at := 0; at < to; {
		n, e := sendmmsg(s.fd, a.vec[at:to])
		at += n
		switch {
		case e == 0 || e == unix.EINTR:
		case e == unix.EAGAIN:
			// The buffer is full. Answers that come late are worth less than those after them.
			s.lose(at, to)
			return
		case a.trains[at].segments > 1 && ofTrain(e):
			a.longest = min(a.longest, shorter(a.trains[at].size, e))
			s.singly(at)
			at++
		default:
			s.lose(at, at+1)
			at++
		}
	}
}

func (s *PacketSocket) lose(from, to int) {
	n := 0
	for _, t := range s.answers.trains[from:to] {
		n += t.segments
	}
	(*s.listener.handler.Load()).Lost(s, n)
}

// singly sends the datagrams of a train one by one.
func (s *PacketSocket) singly(m int) {
	a := &s.answers
	h := a.vec[m].Hdr
	h.SetControllen(int(h.Controllen) - unix.SizeofCmsghdr - cmsgAlign(2))
	if h.Controllen == 0 {
		h.Control = nil
	}
	lost := sendSingly(s.fd, &h, a.trains[m].size)
	if lost > 0 {
		(*s.listener.handler.Load()).Lost(s, lost)
	}
}

// sendSingly sends the vectors of h as datagrams of a size, and returns how many of them were not taken.
func sendSingly(fd int, h *unix.Msghdr, size int) (lost int) {
	for _, v := range unsafe.Slice(h.Iov, h.Iovlen) {
		for p := bytesOf(&v); len(p) > 0; {
			n := min(size, len(p))
			one := iovec(p[:n])
			h.Iov, h.Iovlen = &one, 1
			if sendmsg(fd, h) != 0 {
				lost++
			}
			p = p[n:]
		}
	}
	return lost
}
