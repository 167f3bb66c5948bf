package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The way of a datagram:
//
//	client ──► PacketListener ─recvmmsg─► PacketHandler ──► PacketConn.Queue ─send─► endpoint
//	       ◄─sendmmsg── PacketSocket.Reply ◄── PacketConnHandler ◄─recv── PacketConn ◄──
//
// Clients share a socket on each loop, on which one system call moves a batch. An endpoint is talked to through a
// connected socket for each flow: the kernel knows by it whose an answer is, and tells it that nobody listens there. What
// a flow has several of in a batch goes as a train, in one system call and once through the kernel's way.

// PacketHandler serves a listener of datagrams. All calls come on the socket's loop.
type PacketHandler interface {
	// Datagram takes what has come from a client: one datagram, or several of segment bytes, the last of which may be
	// shorter, if segment is not 0. The bytes are the engine's: they may be given to PacketConn.Queue, which sends them
	// before the next batch is received; whoever keeps them copies them.
	Datagram(s *PacketSocket, from *Path, p []byte, segment int)
	// Lost says that n answers could not be sent: the socket's buffer was full, or the network refused them.
	Lost(s *PacketSocket, n int)
	// Draining says that nothing new is to be taken. The handler closes the socket when its last flow has ended. It may
	// come more than once.
	Draining(s *PacketSocket)
}

// socketBuffer is what is asked for of receive and send buffer of a listener's sockets: bursts of a few thousand small
// datagrams, or of 60 of the largest, are not lost.
const socketBuffer = 4 << 20

// packetTurn bounds how many batches are taken before the answers have their turn.
const packetTurn = 4

// PacketListener is one bound address of UDP: a SO_REUSEPORT socket for each loop, among which the kernel spreads
// clients by a hash of their addresses.
type PacketListener struct {
	address string
	bound   string
	sockets []*PacketSocket
	handler atomic.Pointer[PacketHandler]
}

// PacketSocket is a listener's socket on one loop. Owned by the loop.
type PacketSocket struct {
	listener *PacketListener
	loop     *Loop
	fd       int
	family   uint16
	state    any
	answers
}

// ListenPackets binds address, and has every loop receive on it. An address that somebody else is bound to is an error
// that wraps EADDRINUSE.
func (e *Engine) ListenPackets(address string, h PacketHandler) (*PacketListener, error) {
	addrs, err := Resolve(context.Background(), address)
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s: %w", address, err)
	}
	ln := &PacketListener{address: address}
	ln.Set(h)
	if err := ln.bind(e.loops, &addrs[0]); err != nil {
		for _, s := range ln.sockets {
			closeFD(s.fd)
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("listen on udp %s: another process is bound there: %w", address, err)
		}
		return nil, fmt.Errorf("listen on udp %s: %w", address, err)
	}
	for _, s := range ln.sockets {
		s.loop.Post(s.start)
	}
	return ln, nil
}

func (ln *PacketListener) bind(loops []*Loop, a *Addr) error {
	if a.Family() == unix.AF_UNIX {
		return errors.New("a UNIX socket has no datagrams that are balanced")
	}
	// As for streams: a bind without SO_REUSEPORT finds whoever is there already, and resolves port 0 for all loops.
	probe, err := packetSocket(a, false)
	if err != nil {
		return err
	}
	if a.AddrPort().Port() == 0 {
		var sa unix.RawSockaddrAny
		size := uint32(unix.SizeofSockaddrAny)
		if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(probe), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); e != 0 {
			closeFD(probe)
			return sysErr("getsockname", e)
		}
		putRawPort(a, addrPort(&sa).Port())
	}
	closeFD(probe)
	ln.bound = a.AddrPort().String()
	for _, l := range loops {
		fd, err := packetSocket(a, true)
		if err != nil {
			return err
		}
		s := &PacketSocket{listener: ln, loop: l, fd: fd, family: uint16(a.Family())}
		s.longest = longestTrain(fd)
		ln.sockets = append(ln.sockets, s)
	}
	return nil
}

// packetSocket opens and binds.
func packetSocket(a *Addr, shared bool) (int, error) {
	fd, err := unix.Socket(a.Family(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	set := func(level, opt, v int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, opt, v))
		}
	}
	any := a.AddrPort().Addr().IsUnspecified()
	if a.Family() == unix.AF_INET6 {
		v6only := 1
		if any {
			v6only = 0
		}
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only)
	}
	if shared {
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if any {
			// An answer comes from the address that was asked, so datagrams have to tell it.
			if a.Family() == unix.AF_INET6 {
				set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			} else {
				set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			}
		}
		growBuffers(fd)
		// Bulk that the network's driver has put together stays so. Kernels before 5.0 have no such thing.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	if err == nil {
		if _, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.size)); e != 0 {
			err = sysErr("bind", e)
		}
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// growBuffers asks for socketBuffer, beyond net.core.rmem_max where that is permitted.
func growBuffers(fd int) {
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], socketBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], socketBuffer)
		}
	}
}

// longestTrain is the size from which on a socket's datagrams are not joined: 0 where the kernel does not join any.
func longestTrain(fd int) int {
	if unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) != nil {
		return 0
	}
	return maxTrain
}

// Address is the address as it was configured, Bound as it was bound: they differ for port 0.
func (ln *PacketListener) Address() string { return ln.address }

// Bound is the bound address.
func (ln *PacketListener) Bound() string { return ln.bound }

// Set exchanges who takes what comes. Safe at any time.
func (ln *PacketListener) Set(h PacketHandler) { ln.handler.Store(&h) }

// Close has the handler drain every loop's socket, and returns when all have been told to. A socket is closed when its
// handler does so, or with the engine.
func (ln *PacketListener) Close() {
	var wg sync.WaitGroup
	for _, s := range ln.sockets {
		wg.Add(1)
		s.loop.Post(func() {
			defer wg.Done()
			s.drain()
		})
	}
	wg.Wait()
}

// SetState keeps what the handler knows of the socket; it outlives the handler.
func (s *PacketSocket) SetState(v any) { s.state = v }

// State is what SetState was given last.
func (s *PacketSocket) State() any { return s.state }

// Loop is where the socket lives.
func (s *PacketSocket) Loop() *Loop { return s.loop }

func (s *PacketSocket) start() {
	l := s.loop
	err := l.packets.open()
	if err == nil {
		l.packets.out.longest = s.longest
		// Level-triggered, so that nobody has to find out that it is empty.
		err = l.watch(s.fd, unix.EPOLLIN, s)
	}
	if err != nil {
		l.log.Error("listener cannot be polled", "listener", s.listener.address, "error", err)
		s.Close()
		return
	}
	l.packets.sockets = append(l.packets.sockets, s)
	if l.draining {
		s.drain()
	}
}

func (s *PacketSocket) drain() {
	if s.fd >= 0 {
		(*s.listener.handler.Load()).Draining(s)
	}
}

// Close ends the socket. Answers that wait are sent before.
func (s *PacketSocket) Close() {
	if s.fd < 0 {
		return
	}
	s.flush()
	s.close()
	p := &s.loop.packets
	for i, x := range p.sockets {
		if x == s {
			p.sockets = append(p.sockets[:i], p.sockets[i+1:]...)
			break
		}
	}
}

// close implements watcher.
func (s *PacketSocket) close() {
	if s.fd >= 0 {
		s.loop.unwatch(s.fd)
		closeFD(s.fd)
		s.fd = -1
	}
}

// ready implements watcher.
func (s *PacketSocket) ready(uint32) {
	for range packetTurn {
		if s.fd < 0 || s.receive() < packetBatch {
			return
		}
	}
}

// receive takes one batch and has it sent on.
func (s *PacketSocket) receive() int {
	p := &s.loop.packets
	in := p.in
	n, _ := recvmmsg(s.fd, in.vec[:])
	h := *s.listener.handler.Load()
	for i := range n {
		v := &in.vec[i]
		segment := in.from.from(&in.name[i], unsafe.Slice(v.Hdr.Control, v.Hdr.Controllen))
		in.reset(i)
		if s.fd >= 0 {
			h.Datagram(s, &in.from, in.area.slot(i)[:v.Len], segment)
		}
	}
	p.sendQueued()
	return n
}

// inbox is what a batch of a listener's datagrams is received into.
type inbox struct {
	parcels parcels
	from    Path // of the datagram at hand
	area    area
	vec     [packetBatch]unix.Mmsghdr
	iov     [packetBatch]unix.Iovec
	name    [packetBatch]sockaddr
	control [packetBatch]control
}

// reset makes a message's place fit to receive again: the kernel has shortened what it tells the room by.
func (in *inbox) reset(i int) {
	h := &in.vec[i].Hdr
	h.Namelen = unix.SizeofSockaddrInet6
	h.Controllen = uint64(unsafe.Sizeof(in.control[i]))
}

// packets is a loop's share of what moves datagrams. It takes memory once there is a listener.
type packets struct {
	sockets []*PacketSocket
	in      *inbox
	out     *outbox
}

func (p *packets) open() error {
	if p.in != nil {
		return nil
	}
	in, out := &inbox{}, &outbox{}
	var err error
	if in.area, err = newArea(); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	if out.area, err = newArea(); err != nil {
		in.area.release()
		return os.NewSyscallError("mmap", err)
	}
	for i := range in.vec {
		h := &in.vec[i].Hdr
		in.iov[i] = iovec(in.area.slot(i))
		h.Iov, h.Iovlen = &in.iov[i], 1
		h.Name = (*byte)(unsafe.Pointer(&in.name[i]))
		h.Control = (*byte)(unsafe.Pointer(&in.control[i]))
		in.reset(i)
	}
	out.packets = p
	out.link()
	p.in, p.out = in, out
	return nil
}

func (p *packets) close() {
	if p.in != nil {
		p.in.area.release()
		p.out.area.release()
	}
}

// drain tells the handlers of all sockets.
func (p *packets) drain() {
	for _, s := range append([]*PacketSocket(nil), p.sockets...) {
		s.drain()
	}
}
