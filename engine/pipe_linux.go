package engine

import "golang.org/x/sys/unix"

// keepPipes bounds a loop's free pipes, two descriptors each.
const keepPipes = 32

// pipeRoom is asked for as the pipe's capacity: its slots, of a page each, limit how many network fragments one splice
// can take. It is not what a session holds: that is bulk.
const pipeRoom = 256 << 10

// pipe is where spliced bytes stay between two sockets. Invariant: a pipe in the pool is empty.
type pipe struct{ r, w int }

// pipes is a loop's pool. Owned by the loop.
type pipes struct {
	free      []*pipe
	pipesOpen int
}

// getPipe takes an empty pipe; nil if the process has no descriptors left, and the caller copies then.
func (l *Loop) getPipe() *pipe {
	if n := len(l.pipes.free); n > 0 {
		p := l.pipes.free[n-1]
		l.pipes.free = l.pipes.free[:n-1]
		return p
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil
	}
	// Refused beyond the user's allowance (pipe-user-pages-soft): the default size serves as well, in more calls.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeRoom)
	l.pipesOpen++
	return &pipe{r: fds[0], w: fds[1]}
}

// putPipe gives p back. One that is not empty is closed: its bytes must never reach another session.
func (l *Loop) putPipe(p *pipe, empty bool) {
	if empty && len(l.pipes.free) < keepPipes {
		l.pipes.free = append(l.pipes.free, p)
		return
	}
	closeFD(p.r)
	closeFD(p.w)
	l.pipesOpen--
}

func (l *Loop) closePipes() {
	for _, p := range l.pipes.free {
		l.putPipe(p, false)
	}
	l.pipes.free = nil
}
