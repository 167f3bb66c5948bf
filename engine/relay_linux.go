package engine

import (
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// ErrIdle is why a relay ended that saw no byte for its idle timeout.
var ErrIdle = errors.New("idle timeout")

const (
	// bulk is the most that one splice moves, and so the most that a direction holds in its pipe. In copy mode a
	// direction holds at most readScratch. Both directions together: 256 KiB.
	bulk = 128 << 10
	// bulkSeen makes a direction splice: a read of so much says that more is coming. Below it, copying is cheaper than
	// two splices (DESIGN.md, Figures: 10.5 against 11.5 µs for a small message).
	bulkSeen = readScratch
	// smallRound splices that brought less than this, smallRounds in a row, bring a direction back to copying.
	smallRound  = 16 << 10
	smallRounds = 8
	// relayTurn is what a direction may move before the loop's other connections have their turn.
	relayTurn = 512 << 10
)

// RelayOwner hears of a relay's end.
type RelayOwner interface {
	// Ended is called once, when both connections are closed: nil after both FINs, else what ended it.
	Ended(r *Relay, err error)
}

// Relay moves bytes between two connections of one loop, in both directions, until both have ended. It reads only
// what it can pass on: a slow reader stalls its sender through the kernel's window. Small messages are copied through
// the loop's scratch buffer, bulk is spliced through a pooled pipe, by what each direction sees. FIN is relayed per
// direction, after everything before it; RST as RST.
//
// The zero value is ready for Start, and meant to be embedded. Owned by the loop.
type Relay struct {
	a, b  *Conn
	owner RelayOwner
	idle  time.Duration
	ab    half
	ba    half
}

// half is one direction.
type half struct {
	bytes uint64
	buf   []byte // pooled, but between Prime and begin; read and not yet written, from off on
	pipe  *pipe  // held only while bytes are in it, or within a turn
	off   int32
	piped int32 // bytes in the pipe
	small uint8 // rounds of splicing that were not worth it
	bulk  bool  // splice rather than copy
	eof   bool  // src has ended
	fin   bool  // and dst has got everything before that
	alone bool  // of ab: its end, or the other's, is the relay's
}

// EndTogether has the relay end when one of the connections has said all, and both have got what was said by then. To be
// called before Start.
func (r *Relay) EndTogether() { r.ab.alone = true }

// Prime has the relay begin with bytes that a protocol has read beyond its own: toA are for a, as b said them, and toB for
// b. They count as Bytes. To be called before Start, which copies them: until then they must stand.
func (r *Relay) Prime(toA, toB []byte) { r.ba.buf, r.ab.buf = toA, toB }

// Start takes over both connections. idle ends the relay when no byte has moved for so long; 0: never.
func (r *Relay) Start(a, b *Conn, idle time.Duration, owner RelayOwner) {
	r.a, r.b, r.idle, r.owner = a, b, idle, owner
	a.SetHandler(r)
	b.SetHandler(r)
	a.SetTimeout(idle)
	b.SetTimeout(0)
	r.ab.begin(a.loop)
	r.ba.begin(a.loop)
	r.Ready(a)
}

// Bytes counts what was read from a and from b.
func (r *Relay) Bytes() (fromA, fromB uint64) { return r.ab.bytes, r.ba.bytes }

// Ready implements Handler.
func (r *Relay) Ready(*Conn) {
	if r.a.Closed() {
		return
	}
	read, held := r.ab.bytes+r.ba.bytes, r.ab.held()+r.ba.held()
	// Both, even if the first fails: an endpoint that answers and resets, because it did not want the rest of the
	// request, has its answer passed on.
	err := r.ab.move(r.a, r.b)
	if e := r.ba.move(r.b, r.a); err == nil {
		err = e
	}
	if err == nil && (r.a.state|r.b.state)&failed != 0 {
		err = errors.Join(unread(r.a), unread(r.b))
	}
	if r.ab.alone && (r.ab.fin || r.ba.fin) {
		if r.ab.held() == 0 && r.ba.held() == 0 {
			r.ab.fin, r.ba.fin = true, true
		}
	} else if r.ab.fin != r.ba.fin {
		// If both have ended, closing says so.
		err = errors.Join(err, r.ab.passFIN(r.b), r.ba.passFIN(r.a))
	}
	switch {
	case err != nil:
		r.end(err)
	case r.ab.fin && r.ba.fin:
		r.end(nil)
	case r.idle > 0 && (r.ab.bytes+r.ba.bytes != read || r.ab.held()+r.ba.held() != held):
		r.a.SetTimeout(r.idle)
	}
}

// unread finds a reset of a connection that nobody reads now: the other end is slow, or it had said FIN before.
func unread(c *Conn) error {
	if c.state&queued != 0 {
		return nil // what came before the reset has a turn first
	}
	return c.Failure()
}

// Timeout implements Handler.
func (r *Relay) Timeout(*Conn) { r.end(ErrIdle) }

// Abort resets both connections, whatever they have still to say; err is why.
func (r *Relay) Abort(err error) { r.end(err) }

// Connected implements Handler; a relay's connections are.
func (r *Relay) Connected(*Conn, error) { panic("BUG: relay of an unconnected connection") }

// end closes both: with FIN if all that was said has been passed on, with RST if not.
func (r *Relay) end(err error) {
	whole := err == nil || err == ErrIdle && r.ab.held() == 0 && r.ba.held() == 0
	r.ab.release(r.a.loop)
	r.ba.release(r.a.loop)
	if whole {
		r.a.Close()
		r.b.Close()
	} else {
		r.a.Reset()
		r.b.Reset()
	}
	r.owner.Ended(r, err)
}

// begin takes what is to go first. Both directions do before any moves: it may be in the loop's scratch buffer.
func (h *half) begin(l *Loop) {
	if len(h.buf) == 0 {
		h.buf = nil
		return
	}
	h.bytes += uint64(len(h.buf))
	h.buf = l.AppendBuffer(nil, h.buf)
}

// move passes on what src has said as far as dst takes it, for one turn. An error is either connection's.
func (h *half) move(src, dst *Conn) error {
	if h.fin {
		return nil
	}
	l := src.loop
	err := h.turn(l, src, dst)
	if h.pipe != nil && h.piped == 0 {
		l.putPipe(h.pipe, true)
		h.pipe = nil
	}
	if err == ErrAgain {
		return nil
	}
	return err
}

func (h *half) turn(l *Loop, src, dst *Conn) error {
	for budget := relayTurn; ; {
		if err := h.flush(l, dst); err != nil {
			return err
		}
		if h.eof {
			h.fin = true
			return nil
		}
		if !src.Readable() && src.layer() == nil || !dst.Writable() {
			return nil
		}
		if budget <= 0 {
			l.Again(src)
			return nil
		}
		var n int
		var err error
		if h.bulk && src.layer() == nil && dst.layer() == nil && h.takePipe(l) {
			n, err = h.fill(src)
		} else {
			n, err = h.copy(l, src, dst)
		}
		budget -= n
		h.bytes += uint64(n)
		if err == io.EOF {
			h.eof = true
		} else if err != nil {
			return err
		}
	}
}

// passFIN tells dst that src has ended.
func (h *half) passFIN(dst *Conn) error {
	if !h.fin {
		return nil
	}
	return dst.CloseWrite()
}

// held is what is read and not yet written.
func (h *half) held() int { return len(h.buf) - int(h.off) + int(h.piped) }

// copy reads once and writes at once; what dst does not take waits in a pooled buffer.
func (h *half) copy(l *Loop, src, dst *Conn) (int, error) {
	n, err := src.Read(l.scratch)
	if n == 0 {
		return 0, err
	}
	h.bulk = n >= bulkSeen
	m, err := dst.Write(l.scratch[:n])
	if m < n {
		h.buf = append(l.GetBuffer(n-m), l.scratch[m:n]...)
		h.off = 0
	}
	return n, err
}

func (h *half) takePipe(l *Loop) bool {
	if h.pipe == nil {
		h.pipe = l.getPipe()
	}
	return h.pipe != nil
}

// fill splices src's bytes into the pipe. The pipe is empty on entry: so EAGAIN means that src is, and never that the
// pipe is full.
func (h *half) fill(src *Conn) (int, error) {
	n, e := spliceOnce(src.fd, h.pipe.w, bulk)
	switch {
	case e == unix.EAGAIN:
		src.state &^= readable
		return 0, ErrAgain
	case e != 0:
		src.state |= broken
		return 0, sysErr("splice", e)
	case n == 0:
		return 0, io.EOF
	}
	h.piped = int32(n)
	src.loop.held += int64(n)
	if n >= smallRound {
		h.small = 0
	} else if h.small++; h.small == smallRounds {
		h.small, h.bulk = 0, false
	}
	src.loop.count.Spliced.Add(uint64(n))
	return n, nil
}

// flush writes what is held; ErrAgain if dst did not take all.
func (h *half) flush(l *Loop, dst *Conn) error {
	if h.buf != nil {
		n, err := dst.Write(h.buf[h.off:])
		h.off += int32(n)
		if err != nil {
			return err
		}
		l.PutBuffer(h.buf)
		h.buf, h.off = nil, 0
	}
	if h.piped > 0 && dst.state&nagle != 0 {
		dst.noDelay()
	}
	for h.piped > 0 {
		if !dst.Writable() {
			return ErrAgain
		}
		n, e := spliceOnce(h.pipe.r, dst.fd, int(h.piped))
		if e == unix.EAGAIN {
			// The pipe is not empty: it is dst that is full.
			dst.state &^= writable
			return ErrAgain
		}
		if e != 0 {
			dst.state |= readable | hungUp | broken // as in RawWrite
			return sysErr("splice", e)
		}
		h.piped -= int32(n)
		l.held -= int64(n)
	}
	return nil
}

// release gives back what the direction holds.
func (h *half) release(l *Loop) {
	l.PutBuffer(h.buf)
	h.buf = nil
	if h.pipe != nil {
		l.held -= int64(h.piped)
		l.putPipe(h.pipe, h.piped == 0)
		h.pipe, h.piped = nil, 0
	}
}
