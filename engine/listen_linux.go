package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// acceptBatch bounds how many connections a loop takes before it serves those that it has.
const acceptBatch = 64

// acceptRetry is how long accepting rests after a failure for want of descriptors or memory, or at maxconn.
const acceptRetry = 4 * tick

// maxBacklog asks for as much as the kernel allows (net.core.somaxconn).
const maxBacklog = 65535

// Acceptor takes over new connections: it sets their handler. It is called on the connection's loop.
type Acceptor interface{ Accept(c *Conn) }

// Listener is one bound address: a SO_REUSEPORT socket for each loop, among which the kernel spreads connections; for
// a UNIX socket, which has no such thing, one socket that all loops poll.
type Listener struct {
	engine    *Engine
	address   string
	addr      Addr // where it is bound
	bound     string
	acceptors []*acceptor
	options   ListenOptions
	deferred  atomic.Bool // the options defer: connections come with their first bytes
	terms     atomic.Pointer[Terms]
	open      atomic.Int64
	since     time.Time // pace's clock starts here
	pace      pace
	sources   atomic.Pointer[sources] // made when a limit per source is set first
}

// acceptor is a listener's socket on one loop. Owned by the loop.
type acceptor struct {
	*Listener
	loop   *Loop
	fd     int
	rest   timer
	most   int    // how many a turn takes, see ready
	filled uint32 // the last turn that took so many
	wary   uint32 // no growth before this turn
	paused bool
	count  ListenerCounters
}

// Listen is ListenWith for what most need: maxConn bounds the connections that are open at a time, 0 does not.
func (e *Engine) Listen(address string, maxConn int, h Acceptor) (*Listener, error) {
	return e.ListenWith(address, ListenOptions{}, Terms{Limits: Limits{MaxConn: maxConn}, Handler: h})
}

// ListenWith binds address and has every loop accept on it. An address that somebody else listens on is an error that
// wraps EADDRINUSE.
func (e *Engine) ListenWith(address string, o ListenOptions, t Terms) (*Listener, error) {
	if err := o.Suits(address); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	addrs, err := Resolve(context.Background(), address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	ln := &Listener{engine: e, address: address, addr: addrs[0], options: o, since: time.Now()}
	ln.deferred.Store(o.DeferAccept > 0)
	ln.SetTerms(t)
	if err := ln.bind(&ln.addr); err != nil {
		for _, x := range ln.acceptors {
			closeFD(x.fd)
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("listen on %s: %w: another process listens there", address, unix.EADDRINUSE)
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
		fd, err := listenSocket(a, false, ln.options)
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
	probe, err := listenSocket(a, false, ln.options)
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
		fd, err := listenSocket(a, true, ln.options)
		if err != nil {
			return err
		}
		ln.add(l, fd)
	}
	if err := ln.engine.steer(ln.acceptors[0].fd); err != nil {
		ln.engine.log.Warn("connections are spread by hash, not by the CPU that receives them", "listener", ln.address, "error", err)
	}
	return nil
}

func (ln *Listener) add(l *Loop, fd int) {
	x := &acceptor{Listener: ln, loop: l, fd: fd}
	x.rest.on = x
	ln.acceptors = append(ln.acceptors, x)
}

// listenSocket opens, binds and, if shared, listens; unshared it only binds, but for a UNIX socket.
func listenSocket(a *Addr, shared bool, o ListenOptions) (int, error) {
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
		if a.dual() {
			v6only = 0
		}
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only)
	}
	if err == nil {
		err = setAll(fd, o.list(a))
	}
	if err == nil {
		if e := bind(fd, &a.raw, a.size); e != 0 {
			err = sysErr("bind", e)
		}
	}
	if err == nil && o.Mode != 0 {
		// Nobody can have connected before it listens.
		err = os.Chmod(a.path(), os.FileMode(o.Mode))
	}
	if err == nil && (shared || a.Family() == unix.AF_UNIX) {
		err = os.NewSyscallError("listen", unix.Listen(fd, cmp.Or(o.Backlog, maxBacklog)))
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// removeStale unlinks the socket file of a process that is gone: one that nobody answers on.
func removeStale(a *Addr) {
	path := a.path()
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

// Close takes the connections that wait in the backlog, as far as the limits let it, and then stops listening. It
// returns once all loops have.
func (ln *Listener) Close() {
	var wg sync.WaitGroup
	for _, a := range ln.acceptors {
		wg.Add(1)
		a.loop.Post(func() {
			defer wg.Done()
			a.acceptUpTo(maxBacklog)
			a.close()
		})
	}
	wg.Wait()
	if path, ok := strings.CutPrefix(ln.address, "unix:/"); ok {
		_ = os.Remove("/" + path)
	}
}

// left is called when a connection ends; slot is where its source was counted.
func (ln *Listener) left(slot uint32) {
	ln.open.Add(-1)
	ln.engine.open.Add(-1)
	if slot != 0 {
		ln.sources.Load().leave(slot)
	}
}

func (a *acceptor) start() {
	a.most = 1
	if err := a.loop.watch(a.fd, unix.EPOLLIN, a); err != nil {
		a.loop.log.Error("listener cannot be polled", "listener", a.address, "error", err)
	}
}

func (a *acceptor) close() {
	l := a.loop
	l.wheel.drop(&a.rest)
	if l.watcher(a.fd) == a {
		l.unwatch(a.fd)
		closeFD(a.fd)
	}
}

// ready implements watcher. The socket is armed level-triggered, unlike connections: an accept that finds nothing costs
// the kernel nearly as much as one that does, for it has made the new socket by then, and to be told that nothing is
// there the price is a look in the next wait. So a turn takes as many as came of late: twice as many as the last one if
// there are still more, and half as many once it was told that there are not.
func (a *acceptor) ready(uint32) {
	turn := a.loop.turns
	if a.filled == turn-1 && int32(turn-a.wary) >= 0 {
		a.most = min(2*a.most, acceptBatch)
	}
	switch a.acceptUpTo(a.most) {
	case a.most:
		a.filled = turn
	default:
		a.most, a.wary = max(a.most/2, 1), turn+acceptWary
	}
}

// expire ends a rest.
func (a *acceptor) expire() {
	if a.paused {
		a.paused = false
		a.loop.poller.change(a.fd, unix.EPOLLIN)
	}
}

func (a *acceptor) acceptUpTo(n int) int {
	l := a.loop
	for i := range n {
		t := a.terms.Load()
		var p permit
		wait := time.Duration(0)
		if a.full(int64(t.MaxConn)) {
			wait = acceptRetry
		} else if t.AcceptRate > 0 {
			p, wait = a.pace.take(t.AcceptRate, int64(time.Since(a.since)))
		}
		if wait > 0 {
			l.count.AcceptPaused.Inc()
			a.count.Paused.Inc()
			a.pause(wait)
			return i
		}
		var sa unix.RawSockaddrAny
		size := uint32(unix.SizeofSockaddrAny)
		fd, e := accept4(a.fd, &sa, &size)
		if e == 0 && a.take(fd, addrPort(&sa), t) {
			continue
		}
		if t.AcceptRate > 0 {
			a.pace.undo(p)
		}
		switch e {
		case unix.EAGAIN:
			return i
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// What waits stays in the backlog: come back by the clock.
			if l.count.AcceptErrors.Load()%logEvery == 0 {
				l.log.Warn("cannot accept, resting", "listener", a.address, "error", e, "rest", acceptRetry)
			}
			l.count.AcceptErrors.Inc()
			a.pause(acceptRetry)
			return i
		}
		// ECONNABORTED and what the network left on the new socket (accept(2), "Error handling"), or one that was not
		// taken: the next one.
	}
	return n
}

// acceptWary is for how many turns a batch does not grow after one that was too large.
const acceptWary = 32

// take makes a connection of fd and hands it over, or resets it: false then.
func (a *acceptor) take(fd int, peer netip.AddrPort, t *Terms) bool {
	l := a.loop
	source, ok := a.admit(peer.Addr(), t)
	if !ok {
		lingerZero(fd)
		closeFD(fd)
		return false
	}
	c := &Conn{loop: l, fd: fd, from: a.Listener, state: writable, peer: peer, source: source}
	c.timer.on = c
	if a.deferred.Load() {
		c.state |= readable // the first read need not wait for an event
	}
	a.open.Add(1)
	a.engine.open.Add(1)
	l.count.Accepted.Inc()
	if err := l.register(c); err != nil {
		l.log.Error("connection cannot be polled", slog.String("listener", a.address), "error", err)
		c.Close()
		return true
	}
	t.Handler.Accept(c)
	return true
}

// pause comes back in about d, but soon: there may be other terms by then, or what is waited for was given back. Loops
// that wait for the same come back in an order that changes, so that each of them gets some of it.
func (a *acceptor) pause(d time.Duration) {
	if !a.paused {
		a.paused = true
		a.loop.poller.change(a.fd, 0)
	}
	a.loop.wheel.set(&a.rest, min(d, acceptRetry)+rand.N(2*tick))
}

// logEvery thins a log line that a lasting failure would repeat ten times a second.
const logEvery = 100
