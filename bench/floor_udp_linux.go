package bench

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The floor's UDP side: a socket for each client, and four system calls for a datagram there and back, one at a time. A
// flow ends only to make room: the oldest one for the newest.

// floorFlows bounds the flows; a round has 1,000 new ones.
const floorFlows = 4096

// datagramTurn bounds how many datagrams of clients are passed on before the answers have their turn.
const datagramTurn = 64

func (l *floorLoop) openUDP(at unix.Sockaddr) error {
	var err error
	if l.udp, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(l.udp, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	_ = unix.SetsockoptInt(l.udp, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	if err := unix.Bind(l.udp, at); err != nil {
		return err
	}
	l.watch(l.udp, unix.EPOLLIN)
	return nil
}

// fromClients passes on what clients have sent.
func (l *floorLoop) fromClients() {
	for range datagramTurn {
		var from unix.RawSockaddrInet4
		size := uint32(unix.SizeofSockaddrInet4)
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(l.udp), address(l.buf), uintptr(len(l.buf)), 0, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
		if e != 0 {
			return
		}
		up, ok := l.flows[from]
		if !ok {
			if len(l.order) == floorFlows {
				old := l.flows[l.order[0]]
				delete(l.flows, l.order[0])
				delete(l.clients, old)
				unix.Close(old)
				l.order = l.order[1:]
			}
			var err error
			if up, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
				continue
			}
			if err := unix.Connect(up, l.to); err != nil {
				unix.Close(up)
				continue
			}
			l.flows[from], l.clients[up] = up, from
			l.order = append(l.order, from)
			l.watch(up, unix.EPOLLIN)
		}
		_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(up), address(l.buf), n, 0, 0, 0)
	}
}

// toClient passes on what has come for a client; ok is false if the descriptor is no client's.
func (l *floorLoop) toClient(up int) (ok bool) {
	to, ok := l.clients[up]
	if !ok {
		return false
	}
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(up), address(l.buf), uintptr(len(l.buf)), 0, 0, 0)
	if e == 0 {
		_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(l.udp), address(l.buf), n, 0, uintptr(unsafe.Pointer(&to)), unix.SizeofSockaddrInet4)
	}
	return true
}
