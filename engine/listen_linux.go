package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// acceptBatch bounds how many connections a loop takes before it serves those that it has.
const acceptBatch = 64

// acceptRetry is how long accepting rests after a failure for want of descriptors or memory, or at maxconn.
const acceptRetry = 4 * tick

// backlog asks for as much as the kernel allows (net.core.somaxconn).
const backlog = 65535

// Acceptor takes over new connections: it sets their handler. It is called on the connection's loop.
type Acceptor interface{ Accept(c *Conn) }

// Listener is one bound address: a SO_REUSEPORT socket for each loop, among which the kernel spreads connections; for
// a UNIX socket, which has no such thing, one socket that all loops poll.
type Listener struct {
	engine    *Engine
	address   string
	bound     string
	acceptors []*acceptor
	handler   atomic.Pointer[Acceptor]
	open      atomic.Int64
	max       atomic.Int64
}

// acceptor is a listener's socket on one loop. Owned by the loop.
type acceptor struct {
	*Listener
	loop   *Loop
	fd     int
	rest   timer
	queued bool
}

// Listen binds address and has every loop accept on it. maxConn bounds the connections that it has open at a time, 0
// does not; those beyond wait in the kernel's backlog. An address that somebody else listens on is an error that
// wraps EADDRINUSE.
func (e *Engine) Listen(address string, maxConn int, h Acceptor) (*Listener, error) {
	addrs, err := Resolve(context.Background(), address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	a := &addrs[0]
	ln := &Listener{engine: e, address: address}
	ln.Set(maxConn, h)
	if err := ln.bind(a); err != nil {
		for _, x := range ln.acceptors {
			closeFD(x.fd)
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("listen on %s: address already in use: another process listens there", address)
		}
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	for _, x := range ln.acceptors {
		x.loop.Post(x.start)
	}
	return ln, nil
}

func (ln *Listener) bind(a *Addr) error {
	loops := ln.engine.loops
	if a.Family() == unix.AF_UNIX {
		removeStale(a)
		fd, err := listenSocket(a, false)
		if err != nil {
			return err
		}
		ln.bound = ln.address
		for i, l := range loops {
			dup := fd
			if i > 0 {
				if dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
					return os.NewSyscallError("dup", err)
				}
			}
			ln.add(l, dup)
		}
		return nil
	}
	// SO_REUSEPORT would let a second instance share the address and take half of its connections, silently. A bind
	// without it finds whoever listens already.
	probe, err := listenSocket(a, false)
	if err != nil {
		return err
	}
	if sa, err := unix.Getsockname(probe); err == nil && a.AddrPort().Port() == 0 {
		// Port 0: take the one that the kernel chose for all loops.
		port := 0
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			port = sa.Port
		case *unix.SockaddrInet6:
			port = sa.Port
		}
		putRawPort(a, uint16(port))
	}
	closeFD(probe)
	ln.bound = a.AddrPort().String()
	for _, l := range loops {
		fd, err := listenSocket(a, true)
		if err != nil {
			return err
		}
		ln.add(l, fd)
	}
	return nil
}

func (ln *Listener) add(l *Loop, fd int) {
	x := &acceptor{Listener: ln, loop: l, fd: fd}
	x.rest.on = x
	ln.acceptors = append(ln.acceptors, x)
}

// listenSocket opens, binds and, if shared, listens; unshared it only binds, but for a UNIX socket.
func listenSocket(a *Addr, shared bool) (int, error) {
	fd, err := unix.Socket(a.Family(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	set := func(level, opt, v int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, opt, v))
		}
	}
	if a.Family() != unix.AF_UNIX {
		set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if shared {
			set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
		// Accepted sockets inherit it: one system call less for each.
		set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if a.Family() == unix.AF_INET6 {
		v6only := 1
		if a.AddrPort().Addr().IsUnspecified() {
			v6only = 0
		}
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only)
	}
	if err == nil {
		if _, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), a.pointer(), uintptr(a.size)); e != 0 {
			err = sysErr("bind", e)
		}
	}
	if err == nil && (shared || a.Family() == unix.AF_UNIX) {
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// removeStale unlinks the socket file of a process that is gone: one that nobody answers on.
func removeStale(a *Addr) {
	path := strings.TrimPrefix(a.text, "unix:")
	if st, err := os.Stat(path); err != nil || st.Mode()&os.ModeSocket == 0 {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer closeFD(fd)
	if connect(fd, a) == unix.ECONNREFUSED {
		_ = os.Remove(path)
	}
}

// Address is the address as it was configured, Bound as it was bound: they differ for port 0.
func (ln *Listener) Address() string { return ln.address }

// Bound is the bound address.
func (ln *Listener) Bound() string { return ln.bound }

// Open is the number of connections that the listener accepted and that are open.
func (ln *Listener) Open() int64 { return ln.open.Load() }

// Set exchanges what new connections meet; those that are open keep what they started with. Safe at any time.
func (ln *Listener) Set(maxConn int, h Acceptor) {
	ln.max.Store(int64(maxConn))
	ln.handler.Store(&h)
}

// Close takes the connections that wait in the backlog, and then stops listening. It returns once all loops have.
func (ln *Listener) Close() {
	var wg sync.WaitGroup
	for _, a := range ln.acceptors {
		wg.Add(1)
		a.loop.Post(func() {
			defer wg.Done()
			a.acceptUpTo(backlog)
			a.close()
		})
	}
	wg.Wait()
	if path, ok := strings.CutPrefix(ln.address, "unix:/"); ok {
		_ = os.Remove("/" + path)
	}
}

func (ln *Listener) left() {
	ln.open.Add(-1)
	ln.engine.open.Add(-1)
}

func (ln *Listener) full() bool {
	m, e := ln.max.Load(), ln.engine
	return m > 0 && ln.open.Load() >= m || e.maxConn > 0 && e.open.Load() >= e.maxConn
}

func (a *acceptor) start() {
	a.loop.listen[a.fd] = a
	if err := a.loop.poller.add(a.fd, unix.EPOLLIN|unix.EPOLLET); err != nil {
		a.loop.log.Error("listener cannot be polled", "listener", a.address, "error", err)
	}
}

func (a *acceptor) close() {
	l := a.loop
	l.wheel.drop(&a.rest)
	if l.listen[a.fd] == a {
		delete(l.listen, a.fd)
		closeFD(a.fd)
	}
}

// expire ends a rest.
func (a *acceptor) expire() { a.accept() }

// resume goes on after a full batch.
func (a *acceptor) resume() {
	a.queued = false
	if a.loop.listen[a.fd] == a {
		a.accept()
	}
}

// accept takes a batch. The socket is armed edge-triggered: as long as it is not empty, somebody must come back.
func (a *acceptor) accept() {
	if a.acceptUpTo(acceptBatch) == acceptBatch && !a.queued {
		a.queued = true
		a.loop.enqueue(a)
	}
}

func (a *acceptor) acceptUpTo(n int) int {
	l := a.loop
	for i := range n {
		if a.full() {
			l.count.AcceptPaused.Inc()
			l.wheel.set(&a.rest, acceptRetry)
			return i
		}
		var sa unix.RawSockaddrAny
		size := uint32(unix.SizeofSockaddrAny)
		fd, e := accept4(a.fd, &sa, &size)
		switch e {
		case 0:
		case unix.EAGAIN:
			return i
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// What waits stays in the backlog, and the edge has been spent: come back by the clock.
			if l.count.AcceptErrors.Load()%logEvery == 0 {
				l.log.Warn("cannot accept, resting", "listener", a.address, "error", e, "rest", acceptRetry)
			}
			l.count.AcceptErrors.Inc()
			l.wheel.set(&a.rest, acceptRetry)
			return i
		default:
			// ECONNABORTED and what the network left on the new socket (accept(2), "Error handling"): the next one.
			continue
		}
		c := &Conn{loop: l, fd: fd, from: a.Listener, state: writable, peer: addrPort(&sa)}
		c.timer.on = c
		a.open.Add(1)
		a.engine.open.Add(1)
		l.count.Accepted.Inc()
		if err := l.register(c); err != nil {
			l.log.Error("connection cannot be polled", slog.String("listener", a.address), "error", err)
			c.Close()
			continue
		}
		(*a.handler.Load()).Accept(c)
	}
	return n
}

// logEvery thins a log line that a lasting failure would repeat ten times a second.
const logEvery = 100
