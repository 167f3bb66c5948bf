package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// datagramBatch is how many datagrams the generator and the origin move in one system call.
	datagramBatch = 64
	// datagramWindow is how many datagrams are under way at a time, over all flows: a few hundred keep every proxy busy,
	// and fit the receive buffers of all, each of which takes 768 bytes of the kernel's for 64 of ours.
	datagramWindow = 256
	// datagramBurst is the most datagrams that a flow sends before it waits for their answers.
	datagramBurst = 4
	// datagramLost is how long an answer may take before the datagram counts as lost. A wait behind a full window is a
	// few milliseconds.
	datagramLost = 200 * time.Millisecond
)

// datagrams is one loop of the generator over UDP, closed or open. It is cheap, so that the CPU is the target's: all of
// its flows are one socket, which sends from as many addresses of 127.0.0.0/8 (IP_PKTINFO), a batch in a system call.
// Each datagram is one to the target: they are not joined (UDP_SEGMENT). Everything but newDatagrams happens on its
// goroutine.
type datagrams struct {
	g        *Generator
	tally    *tally
	fd       int
	interval int64
	next     int64 // when the next datagram is due (open loop)
	flows    []flow
	idle     []int32 // flows that may send, in the order of a queue
	sent     []sent  // what is under way, the oldest first; some are answered already
	under    int     // way
	window   int
	burst    int
	out, in  mmsg
	started  bool
}

// flow is one source address.
type flow struct {
	number uint64               // of the next burst
	under  int                  // datagrams of this burst that are not answered
	due    [datagramBurst]int64 // when they were; 0: answered
}

// sent is a burst.
type sent struct {
	at     int64
	number uint64
	flow   int32
}

// mmsg is what one sendmmsg or recvmmsg moves. The vectors refer to each other: it is not to be copied.
type mmsg struct {
	vec  [datagramBatch]unix.Mmsghdr
	iov  [datagramBatch]unix.Iovec
	name [datagramBatch]unix.RawSockaddrInet4
	info [datagramBatch]pktinfo
	buf  [datagramBatch][2048]byte
}

// pktinfo is the control message IP_PKTINFO (ip(7)).
type pktinfo struct {
	unix.Cmsghdr
	unix.Inet4Pktinfo
	_ [4]byte
}

func (m *mmsg) link() {
	for i := range m.vec {
		h := &m.vec[i].Hdr
		m.iov[i] = unix.Iovec{Base: &m.buf[i][0]}
		h.Iov, h.Iovlen = &m.iov[i], 1
		h.Name = (*byte)(unsafe.Pointer(&m.name[i]))
		h.Namelen = unix.SizeofSockaddrInet4
	}
}

// withInfo has each message carry IP_PKTINFO.
func (m *mmsg) withInfo() {
	for i := range m.vec {
		p := &m.info[i]
		p.Cmsghdr = unix.Cmsghdr{Level: unix.IPPROTO_IP, Type: unix.IP_PKTINFO, Len: unix.SizeofCmsghdr + unix.SizeofInet4Pktinfo}
		m.vec[i].Hdr.Control = (*byte)(unsafe.Pointer(p))
		m.vec[i].Hdr.SetControllen(int(unsafe.Sizeof(*p)))
	}
}

// recv takes what there is; e is EAGAIN if that is nothing. flags 0 waits, as far as the socket does.
func (m *mmsg) recv(fd, flags int) (int, unix.Errno) {
	for i := range m.vec {
		m.iov[i].Len = uint64(len(m.buf[i]))
		m.vec[i].Hdr.Namelen = unix.SizeofSockaddrInet4
		if m.vec[i].Hdr.Control != nil {
			m.vec[i].Hdr.SetControllen(int(unsafe.Sizeof(m.info[i])))
		}
	}
	n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.vec)), datagramBatch, uintptr(flags), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// send sends messages from up to to, which the socket may take in several calls.
func (m *mmsg) send(fd, to int) unix.Errno {
	for at := 0; at < to; {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.vec[at])), uintptr(to-at), 0, 0, 0)
		switch e {
		case 0:
			at += int(n)
		case unix.EINTR, unix.ECONNREFUSED: // the latter is about one before
		default:
			return e
		}
	}
	return 0
}

// datagramSocket is a blocking one that waits up to stopPoll for a datagram.
func datagramSocket(at *unix.SockaddrInet4, shared bool) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if shared {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	// Several windows fit. Where the first is not permitted, the second gives what is.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	}
	tv := unix.NsecToTimeval(int64(stopPoll))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	if err := unix.Bind(fd, at); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// newDatagrams has n flows.
func newDatagrams(ctx context.Context, g *Generator, n int) (*datagrams, error) {
	to, err := netip.ParseAddrPort(g.aim.Address)
	if err != nil {
		return nil, err
	}
	if !to.Addr().Is4() || !to.Addr().IsLoopback() {
		return nil, fmt.Errorf("%s: datagrams are sent from 127.0.0.0/8, so the target has to be there", to)
	}
	d := &datagrams{g: g, tally: newTally(), flows: make([]flow, n), burst: max(1, g.aim.Scenario.Burst), window: datagramWindow / g.aim.Loops, interval: g.interval(g.aim.Loops)}
	if d.fd, err = datagramSocket(&unix.SockaddrInet4{}, false); err != nil {
		return nil, err
	}
	d.in.link()
	d.in.withInfo()
	d.out.link()
	d.out.withInfo()
	for i := range d.out.vec {
		name := &d.out.name[i]
		name.Family, name.Addr = unix.AF_INET, to.Addr().As4()
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], to.Port())
		d.out.iov[i].Len = pingSize
	}
	if err := unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
		d.close()
		return nil, err
	}
	for i := range d.flows {
		d.idle = append(d.idle, int32(i))
	}
	if err := d.knock(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// source is the address that a flow of one loop has: 127.1.0.0 and on. Loops differ by their port.
func source(flow int32) [4]byte { return [4]byte{127, 1 + byte(flow>>16), byte(flow >> 8), byte(flow)} }

// knock waits until the target answers at all. That nobody is there, a socket of UDP tells only if asked (IP_RECVERR).
func (d *datagrams) knock(ctx context.Context) error {
	_ = unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	defer func() { _ = unix.SetsockoptInt(d.fd, unix.IPPROTO_IP, unix.IP_RECVERR, 0) }()
	for began := time.Now(); time.Since(began) < patience && ctx.Err() == nil; {
		d.put(0, 0, 0)
		_ = d.out.send(d.fd, 1)
		for until := time.Now().Add(datagramLost); time.Now().Before(until); {
			n, e := d.in.recv(d.fd, unix.MSG_WAITFORONE)
			if n > 0 {
				return nil
			}
			if e == unix.ECONNREFUSED {
				return fmt.Errorf("%w: %s: %w", errTarget, d.g.aim.Address, e)
			}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return fmt.Errorf("%w: no datagram to %s is answered in %v", errTarget, d.g.aim.Address, patience)
}

func (d *datagrams) tallied() *tally { return d.tally }

func (d *datagrams) start() {
	d.started = true
	d.g.spawn(d.run)
}

// close releases what run does not: it ends, and releases all, with the generator's stop.
func (d *datagrams) close() {
	if !d.started {
		_ = unix.Close(d.fd)
	}
}

func (d *datagrams) run() {
	runtime.LockOSThread()
	if d.interval > 0 { // the thread ends with the goroutine, and with it what it is set to
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, pacerNice)
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	} else {
		defer runtime.UnlockOSThread()
	}
	defer unix.Close(d.fd)
	d.next = d.g.now()
	for !d.g.stopped() {
		if err := d.dispatch(); err != nil {
			d.g.fail(err)
			return
		}
		flags := unix.MSG_WAITFORONE
		if d.interval > 0 && d.under < d.window {
			flags = unix.MSG_DONTWAIT
		}
		n, e := d.in.recv(d.fd, flags)
		switch e {
		case 0:
			d.answered(n)
		case unix.EAGAIN:
			d.rest()
		case unix.EINTR, unix.ECONNREFUSED:
		default:
			d.g.fail(fmt.Errorf("%w: receive: %w", errTarget, e))
			return
		}
		d.forget()
	}
}

// rest waits in the open loop until a datagram is due, or comes.
func (d *datagrams) rest() {
	if d.interval == 0 {
		return
	}
	ts := unix.NsecToTimespec(min(int64(stopPoll), max(0, d.next-d.g.now())))
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}, &ts, nil)
}

// put writes the k-th datagram of flow f's burst into place i: which it is, and whose.
func (d *datagrams) put(i int, f int32, k int) {
	b := d.out.buf[i][:pingSize]
	binary.LittleEndian.PutUint64(b, d.flows[f].number)
	binary.LittleEndian.PutUint32(b[8:], uint32(f))
	b[12] = byte(k)
	d.out.info[i].Spec_dst = source(f)
}

// dispatch sends as much as the window, and in the open loop the time, has room for.
func (d *datagrams) dispatch() error {
	for {
		n, now := 0, d.g.now()
		for n+d.burst <= datagramBatch && d.under+d.burst <= d.window && len(d.idle) > 0 && (d.interval == 0 || d.next <= now) {
			f := d.idle[0]
			d.idle = d.idle[1:]
			fl := &d.flows[f]
			fl.number++
			fl.under = d.burst
			for k := range d.burst {
				fl.due[k] = now
				if d.interval > 0 {
					fl.due[k] = d.next
					d.tally.slipped(max(0, now-d.next))
					d.next += d.interval
				}
				d.put(n, f, k)
				n++
			}
			d.sent = append(d.sent, sent{now, fl.number, f})
			d.under += d.burst
		}
		if n == 0 {
			return nil
		}
		if e := d.out.send(d.fd, n); e != 0 {
			return fmt.Errorf("%w: send: %w", errTarget, e)
		}
	}
}

// answered takes n answers. One that is late, twice there, or none of ours, is none.
func (d *datagrams) answered(n int) {
	now := d.g.now()
	for i := range n {
		b := d.in.buf[i][:d.in.vec[i].Len]
		if len(b) != pingSize {
			continue
		}
		f, k := int32(binary.LittleEndian.Uint32(b[8:])), int(b[12])
		if int(f) >= len(d.flows) || k >= d.burst || d.in.info[i].Addr != source(f) {
			d.tally.failed("answer to another flow")
			continue
		}
		if fl := &d.flows[f]; fl.due[k] != 0 && fl.number == binary.LittleEndian.Uint64(b) {
			d.tally.done(now-fl.due[k], len(b))
			fl.due[k] = 0
			d.under--
			if fl.under--; fl.under == 0 {
				d.idle = append(d.idle, f)
			}
		}
	}
}

// forget gives up what is under way for too long: datagrams may be lost.
func (d *datagrams) forget() {
	now := d.g.now()
	k := 0
	for ; k < len(d.sent); k++ {
		s := d.sent[k]
		fl := &d.flows[s.flow]
		if fl.under == 0 || fl.number != s.number {
			continue
		}
		if now-s.at < int64(datagramLost) {
			break
		}
		d.tally.lose(fl.under)
		d.under -= fl.under
		fl.under = 0
		clear(fl.due[:])
		d.idle = append(d.idle, s.flow)
	}
	d.sent = d.sent[k:]
}

// datagramOrigin sends back every datagram that comes.
type datagramOrigin struct {
	fds  []int
	stop chan struct{}
	done []chan struct{}
}

func startDatagramOrigin(address string, loops int) (*datagramOrigin, error) {
	at, err := sockaddr(address)
	if err != nil {
		return nil, err
	}
	o := &datagramOrigin{stop: make(chan struct{})}
	for range loops {
		fd, err := datagramSocket(at.(*unix.SockaddrInet4), loops > 1)
		if err != nil {
			o.end()
			return nil, err
		}
		done := make(chan struct{})
		o.fds, o.done = append(o.fds, fd), append(o.done, done)
		go func() {
			defer close(done)
			echoDatagrams(fd, o.stop)
		}()
	}
	return o, nil
}

func (o *datagramOrigin) end() {
	close(o.stop)
	for i, fd := range o.fds {
		<-o.done[i]
		_ = unix.Close(fd)
	}
}

func echoDatagrams(fd int, stop chan struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m := &mmsg{}
	m.link()
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, e := m.recv(fd, unix.MSG_WAITFORONE)
		if e != 0 {
			continue
		}
		for i := range n {
			m.iov[i].Len = uint64(m.vec[i].Len)
		}
		_ = m.send(fd, n)
	}
}
