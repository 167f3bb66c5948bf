package engine

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/panjf2000/gnet/v2/pkg/queue"
	"golang.org/x/sys/unix"
)

const (
	// batch is the most events that one wait takes.
	batch = 256
	// briefly is how long a wait stays on its thread before it tells the scheduler that it blocks, in milliseconds.
	briefly = 1
	// postedTurn bounds how many posted functions run before the connections have their turn.
	postedTurn = 256
)

// armed is what connections are registered for, once.
const armed = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// poller is a loop's epoll set, and its letter box. It takes the place of netpoll's Polling, which yields to the Go
// scheduler whenever nothing is ready: that wakes a second thread to look for work, which takes the loop over, so that it
// hops between CPUs a thousand times a second; it also reallocates its list of events as the load swings, and does not
// tell where a batch ends. Together that cost 8 % of the CPU of a small L4 message. The lock-free queue is gnet's.
type poller struct {
	fd     int
	wakeFD int // an eventfd whose edges call for what was posted
	awake  atomic.Bool
	wakers sync.Mutex // wakeFD is not closed while somebody writes to it: its number may be another's by then
	closed bool
	posted queue.AsyncTaskQueue
	events [batch]unix.EpollEvent
}

func (p *poller) open() error {
	var err error
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if p.wakeFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		closeFD(p.fd)
		return os.NewSyscallError("eventfd", err)
	}
	p.posted = queue.NewLockFreeQueue()
	return p.add(p.wakeFD, unix.EPOLLIN|unix.EPOLLET, 0)
}

func (p *poller) close() {
	p.wakers.Lock()
	defer p.wakers.Unlock()
	p.closed = true
	closeFD(p.wakeFD)
	closeFD(p.fd)
}

// add arms fd; its events bear tag, by which those of a descriptor's former life are known. Closing it takes it out
// again: nobody else holds it.
func (p *poller) add(fd int, events uint32, tag int32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: tag}
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if e != 0 {
		return sysErr("epoll_ctl", e)
	}
	return nil
}

// change arms fd, which was added with tag 0, for other events.
func (p *poller) change(fd int, events uint32) {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), unix.EPOLL_CTL_MOD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
}

// wait takes a batch of events; block says whether to wait for one.
//
// It blocks in two steps. A busy loop waits for less than a millisecond, and stays on its thread and processor for that:
// a garbage collection that wants to stop it sends a signal, which ends the wait, and is held up for briefly at the worst.
// An idle loop then blocks as ordinary system calls do, and gives its processor to others. Done in every wait, that costs
// 2 % under load: the runtime's monitor keeps taking the processor away, and wakes every 20 µs for it.
func (p *poller) wait(block bool) []unix.EpollEvent {
	at := uintptr(unsafe.Pointer(&p.events[0]))
	timeout := uintptr(0)
	if block {
		timeout = briefly
	}
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), at, batch, timeout, 0, 0)
	if block && n == 0 && e == 0 {
		n, _, e = syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), at, batch, ^uintptr(0), 0, 0)
	}
	switch e {
	case 0:
	case unix.EINTR:
		return nil
	default:
		panic("BUG: " + sysErr("epoll_pwait", e).Error())
	}
	return p.events[:n]
}

// post leaves f for the loop, from any goroutine.
func (p *poller) post(f func()) {
	t := queue.GetTask()
	t.Exec, t.Param = run, f
	p.posted.Enqueue(t)
	p.wake()
}

func run(f any) error {
	f.(func())()
	return nil
}

func (p *poller) wake() {
	if !p.awake.CompareAndSwap(false, true) {
		return // somebody has, and the loop has not looked yet
	}
	p.wakers.Lock()
	defer p.wakers.Unlock()
	if one := uint64(1); !p.closed {
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p.wakeFD), uintptr(unsafe.Pointer(&one)), 8)
	}
}

// runPosted runs what was posted, in order.
func (p *poller) runPosted() {
	p.awake.Store(false)
	for range postedTurn {
		t := p.posted.Dequeue()
		if t == nil {
			return
		}
		_ = t.Exec(t.Param)
		queue.PutTask(t)
	}
	p.wake()
}
