package bench

import (
	"fmt"
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Floor is the bare relay that proxies are compared with: receive and send, there and back, and nothing else. It is no
// proxy to use: it connects while everything else waits, and so does a send that does not fit.
type Floor struct{ loops []*floorLoop }

type floorLoop struct {
	listen, epoll int
	to            unix.Sockaddr
	peer          map[int]int
	buf           []byte
	done          chan struct{}
	stop          int
	udp           int
	flows         map[unix.RawSockaddrInet4]int
	order         []unix.RawSockaddrInet4       // of the flows, the oldest first
	clients       map[int]unix.RawSockaddrInet4 // of the flows' sockets
}

// StartFloor relays what comes to address to another address on this host, with so many threads.
func StartFloor(address, to string, loops int) (*Floor, error) {
	at, err := sockaddr(address)
	if err != nil {
		return nil, err
	}
	dest, err := sockaddr(to)
	if err != nil {
		return nil, err
	}
	f := &Floor{}
	for range loops {
		l := &floorLoop{to: dest, peer: map[int]int{}, buf: make([]byte, 256<<10), done: make(chan struct{}),
			flows: map[unix.RawSockaddrInet4]int{}, clients: map[int]unix.RawSockaddrInet4{}}
		if err := l.open(at); err != nil {
			return nil, fmt.Errorf("floor on %s: %w", address, err)
		}
		f.loops = append(f.loops, l)
		go l.run()
	}
	return f, nil
}

// Stop ends the relay and closes what is open.
func (f *Floor) Stop() {
	for _, l := range f.loops {
		_, _ = unix.Write(l.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-l.done
		for fd := range l.peer {
			unix.Close(fd)
		}
		for fd := range l.clients {
			unix.Close(fd)
		}
		for _, fd := range []int{l.listen, l.udp, l.epoll, l.stop} {
			unix.Close(fd)
		}
	}
}

func sockaddr(address string) (unix.Sockaddr, error) {
	a, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	sa := &unix.SockaddrInet4{Port: a.Port}
	copy(sa.Addr[:], a.IP.To4())
	return sa, nil
}

func (l *floorLoop) open(at unix.Sockaddr) error {
	var err error
	if l.listen, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(l.listen, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	_ = unix.SetsockoptInt(l.listen, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	_ = unix.SetsockoptInt(l.listen, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Bind(l.listen, at); err != nil {
		return err
	}
	if err := unix.Listen(l.listen, 4096); err != nil {
		return err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if l.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return err
	}
	l.watch(l.listen, unix.EPOLLIN)
	l.watch(l.stop, unix.EPOLLIN)
	return l.openUDP(at)
}

func (l *floorLoop) watch(fd int, events uint32) {
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (l *floorLoop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(l.done)
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			switch fd := int(ev.Fd); fd {
			case l.listen:
				l.accept()
			case l.stop:
				return
			case l.udp:
				l.fromClients()
			default:
				if l.toClient(fd) {
					continue
				}
				l.relay(fd, ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0)
			}
		}
	}
}

func (l *floorLoop) accept() {
	for {
		fd, _, err := unix.Accept4(l.listen, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		up, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			unix.Close(fd)
			return
		}
		_ = unix.SetsockoptInt(up, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := unix.Connect(up, l.to); err != nil {
			unix.Close(up)
			unix.Close(fd)
			continue
		}
		_ = unix.SetNonblock(up, true)
		l.peer[fd], l.peer[up] = up, fd
		l.watch(fd, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET)
		l.watch(up, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET)
	}
}

// relay passes on what has come; ended says that FIN has, so that a short read does not mean an empty socket.
func (l *floorLoop) relay(fd int, ended bool) {
	to, ok := l.peer[fd]
	if !ok {
		return
	}
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), address(l.buf), uintptr(len(l.buf)), 0, 0, 0)
		switch {
		case e == unix.EAGAIN:
			return
		case e != 0 || n == 0:
			delete(l.peer, fd)
			delete(l.peer, to)
			unix.Close(fd)
			unix.Close(to)
			return
		}
		for b := l.buf[:n]; len(b) > 0; {
			m, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(to), address(b), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
			switch {
			case e == unix.EAGAIN:
				if k, _ := unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLOUT}}, int(time.Second/time.Millisecond)); k == 0 {
					b = nil // it does not read: this is no proxy
				}
			case e != 0:
				b = nil
			default:
				b = b[m:]
			}
		}
		if n < uintptr(len(l.buf)) && !ended {
			return
		}
	}
}
