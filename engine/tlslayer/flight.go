package tlslayer

import (
	"errors"
	"net"

	"sluice/engine"
)

// What goes between a handshake's goroutine and its loop: whole records in, flights out.

// feedMost bounds what is read ahead of a handshake: more than the longest record, so that there is always a whole one.
const feedMost = 32 << 10

// run is the goroutine.
func (h *handshake) run() {
	h.mu.Lock()
	h.err = h.ended
	closed := errors.Is(h.err, net.ErrClosed) // while it was queued
	h.mu.Unlock()
	if !closed {
		if h.err = h.y.tls.HandshakeContext(h.ctx); h.err == nil {
			state := h.y.tls.ConnectionState()
			h.state = &state
		}
	}
	h.cancel()
	h.crew.leave()
	h.crew.count.UnderWay.Add(-1)
	h.y.conn.Loop().Post(h.finish)
}

// read is the wire's Read, on the goroutine: while there is nothing to read, another handshake has its place.
func (h *handshake) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.whole > h.off {
			n := copy(p, h.in[h.off:h.whole])
			h.off += n
			return n, nil
		}
		if h.ended != nil {
			return 0, h.ended
		}
		h.waiting = true
		if h.stalled {
			h.y.conn.Loop().Post(h.feed)
		}
		h.mu.Unlock()
		h.crew.leave()
		<-h.wake
		h.mu.Lock()
	}
}

// write is the wire's Write, on the goroutine. What a handshake says before it hears again is short: crypto/tls bounds its
// messages, and the certificates are ours.
func (h *handshake) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(h.ended, net.ErrClosed) {
		return 0, h.ended
	}
	if a := alertIn(p); a != 0 {
		h.sent = a
	}
	h.out = append(h.out, p...)
	h.wrote = true
	if !h.posted {
		h.posted = true
		h.y.conn.Loop().Post(h.flush)
	}
	return len(p), nil
}

// flush passes on what the goroutine has written.
func (h *handshake) flush() {
	c := h.y.conn
	h.mu.Lock()
	out := h.out
	h.out, h.posted = nil, false
	if !h.over && h.in != nil && h.off == len(h.in) { // whose turn it is now takes its time
		c.Loop().PutBuffer(h.in)
		h.in, h.off, h.whole = nil, 0, 0
	}
	h.mu.Unlock()
	if !c.Closed() && len(out) > 0 {
		h.y.send(c, out)
	}
}

// feed reads what the socket has, up to feedMost.
func (h *handshake) feed() {
	c := h.y.conn
	if h.over || c.Closed() {
		return
	}
	for h.ended == nil {
		h.mu.Lock()
		room := feedMost - (len(h.in) - h.off)
		h.stalled = room <= 0
		h.mu.Unlock()
		if room <= 0 {
			return
		}
		n, err := c.RawRead(c.Loop().Scratch()[:room])
		if err == engine.ErrAgain {
			return
		}
		h.add(c.Loop(), c.Loop().Scratch()[:n], err)
	}
}

// add hands p to the goroutine, or the socket's end.
func (h *handshake) add(l *engine.Loop, p []byte, err error) {
	h.mu.Lock()
	if len(p) > 0 {
		if h.off > 0 {
			h.in = h.in[:copy(h.in, h.in[h.off:])]
			h.whole, h.off = h.whole-h.off, 0
		}
		h.in = l.AppendBuffer(h.in, p)
		was := h.whole
		h.whole += records(h.in[h.whole:])
		if a := alertIn(h.in[was:h.whole]); a != 0 {
			h.got = a
		}
	}
	if err != nil {
		h.ended = err
	}
	rouse := h.waiting && (h.whole > h.off || h.ended != nil)
	if rouse {
		h.waiting = false
	}
	h.mu.Unlock()
	if rouse {
		h.crew.resume(h)
	}
}

// records is how much of b is whole records; all of it from one on that is none or too long, which crypto/tls refuses by
// its head.
func records(b []byte) int {
	for n := 0; ; {
		rest := b[n:]
		if len(rest) < recordHeader {
			return n
		}
		size := recordHeader + int(rest[3])<<8 + int(rest[4])
		if rest[1] != 3 || size > maxRecord {
			return len(b)
		}
		if size > len(rest) {
			return n
		}
		n += size
	}
}
