package engine

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The data path's system calls. Those that cannot block go through RawSyscall, which skips the scheduler's
// bookkeeping (about 3 % of a proxied request); splice can move hundreds of KiB in a call and goes through Syscall, so
// that a collection need not wait for it.

// recv reads from a non-blocking socket. It and send, which are most of what a loop does, call package syscall itself: the
// way by x/sys/unix is through an assembly stub, which costs some 5 ns a call.
func recv(fd int, p []byte, flags int) (int, unix.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// discard reads up to n bytes to throw them away. MSG_TRUNC would not copy them, but UNIX sockets know it only for datagrams.
func discard(fd, n int) (int, unix.Errno) {
	var b [512]byte
	for {
		m, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), uintptr(min(n, len(b))), 0, 0, 0)
		if e != unix.EINTR {
			return int(m), e
		}
	}
}

// send writes to a non-blocking socket; a closed peer is EPIPE, never a signal.
func send(fd int, p []byte) (int, unix.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// accept4 takes one connection off a listening socket's queue.
func accept4(fd int, sa *unix.RawSockaddrAny, size *uint32) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(sa)), uintptr(unsafe.Pointer(size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// connect starts a non-blocking connect, or asks how it went: called again it answers 0 once the connection is
// there, EALREADY while it is on its way, and the error if it failed.
func connect(fd int, a *Addr) unix.Errno {
	for {
		_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.size))
		if e != unix.EINTR {
			return e
		}
	}
}

// spliceOnce moves up to n bytes between a socket and a pipe without copying them.
func spliceOnce(from, to, n int) (int, unix.Errno) {
	for {
		m, _, e := unix.Syscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if e != unix.EINTR {
			return int(m), e
		}
	}
}

func closeFD(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func shutdownWrite(fd int) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return e
}

// lingerZero makes the next close of fd send RST.
func lingerZero(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func socketError(fd int) unix.Errno {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return 0
	}
	return unix.Errno(v)
}

func sysErr(call string, e unix.Errno) error { return os.NewSyscallError(call, e) }
