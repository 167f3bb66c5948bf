package engine

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// ErrCopy says that bytes cannot go through the kernel here, and have to be copied: a connection has a layer, or the
// process has no descriptors left for a pipe.
var ErrCopy = errors.New("not without a copy")

// throughTurn is the most that one Through moves: what its rest would hold is the size of a pooled buffer.
const throughTurn = readScratch

// Through moves up to n bytes from src to dst without a copy through user space, for those who know how many are of one
// message, as Relay does for those who move all: what src says after them stays in its socket. What src gave and dst did
// not take is in rest, a buffer of the loop's pool, to be written first; no pipe is held in between. The error is ErrAgain if
// src has nothing or dst takes nothing, as while it is dialled, io.EOF after src's FIN, ErrCopy, ErrClosed, or either
// connection's, which is Broken then.
func (l *Loop) Through(src, dst *Conn, n int64) (moved int, rest []byte, err error) {
	if (src.state|dst.state)&closed != 0 {
		return 0, nil, ErrClosed
	}
	if n <= 0 {
		return 0, nil, nil // and not what an empty splice says: EOF
	}
	if src.layer() != nil || dst.layer() != nil {
		return 0, nil, ErrCopy
	}
	// A dialled connection is writable by the event that says how it went, before it is there: or failed.
	if !src.Readable() || !dst.Writable() || dst.Dialling() {
		return 0, nil, ErrAgain
	}
	p := l.getPipe()
	if p == nil {
		return 0, nil, ErrCopy
	}
	moved, e := spliceOnce(src.fd, p.w, int(min(n, throughTurn)))
	switch {
	case e == unix.EAGAIN: // the pipe is empty: so is src
		src.state &^= readable
		moved, err = 0, ErrAgain
	case e != 0:
		src.state |= broken
		moved, err = 0, sysErr("splice", e)
	case moved == 0:
		err = io.EOF
	}
	if err != nil {
		l.putPipe(p, true)
		return 0, nil, err
	}
	l.count.Spliced.Add(uint64(moved))
	if dst.state&nagle != 0 {
		dst.noDelay()
	}
	for left := moved; left > 0; {
		m, e := spliceOnce(p.r, dst.fd, left)
		switch {
		case e == unix.EAGAIN:
			dst.state &^= writable
			if rest, err = l.drainPipe(p, left); err == nil {
				l.putPipe(p, true)
				return moved, rest, nil
			}
		case e != 0:
			dst.state |= readable | hungUp | broken // as in RawWrite
			err = sysErr("splice", e)
		}
		if err != nil {
			l.putPipe(p, false)
			return moved, nil, err
		}
		left -= m
	}
	l.putPipe(p, true)
	return moved, nil, nil
}

// drainPipe takes the n bytes that are in p into a buffer.
func (l *Loop) drainPipe(p *pipe, n int) ([]byte, error) {
	b := l.GetBuffer(n)[:n]
	for got := 0; got < n; {
		m, err := unix.Read(p.r, b[got:])
		if err != nil && err != unix.EINTR {
			l.PutBuffer(b)
			return nil, sysErr("read", err.(unix.Errno))
		}
		got += max(m, 0)
	}
	return b, nil
}
