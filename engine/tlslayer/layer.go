package tlslayer

import (
	"crypto/tls"
	"io"

	"sluice/engine"
)

const (
	// batch is the most plaintext that is encrypted before the socket is asked to take it: four records of full length,
	// or some ten while crypto/tls still writes short ones. It is what a relay reads at once, and with its framing it fits
	// in a large pooled buffer.
	batch = 64 << 10
	// single is surely one record, which goes to the socket from where crypto/tls has encrypted it: it is less than the
	// shortest that crypto/tls begins with on a fresh connection (tcpMSSEstimate). More is gathered, for one system call a
	// batch: with records of full length the copy costs what three calls less save (BenchmarkSend), and there are ten
	// records in the first batch of a connection.
	single = 1 << 10
	// answersMost is how many bytes of answers to KeyUpdate may wait before nothing more is read. They are 27 each.
	answersMost = 1 << 10
)

// layer implements engine.Layer. Owned by the loop; during the handshake its goroutine has tls.
type layer struct {
	conn *engine.Conn
	tls  *tls.Conn
	hs   *handshake // nil after it

	in      []byte // what the handshake has read ahead, from inAt on; pooled, nil as soon as it was read
	inAt    int
	out     []byte // ciphertext that the socket has not taken, from outAt on; pooled, nil if there is none
	outAt   int
	lent    []byte // what crypto/tls reads into; pooled: see lend
	answers int    // bytes in out that nobody has written: answers to what was read
	gather  bool   // records go to out first
	reading bool
	first   [1]byte // what Await has read, if ahead
	ahead   bool

	readErr, writeErr error // they last
}

// Read implements engine.Layer. It reads on until p is full or nothing is left, so that a short read has the meaning that it
// has on a socket: no decrypted byte waits for an event that does not come.
func (y *layer) Read(c *engine.Conn, p []byte) (n int, err error) {
	if y.hs != nil || y.answers > answersMost {
		return 0, engine.ErrAgain
	}
	if y.ahead && len(p) > 0 {
		p[0], y.ahead = y.first[0], false
		if len(p) == 1 {
			c.Loop().Again(c)
			return 1, nil
		}
		n, _ := y.Read(c, p[1:]) // an error lasts
		return n + 1, nil
	}
	if y.readErr != nil {
		return 0, y.readErr
	}
	y.reading = true
	y.lend(c.Loop())
	for n < len(p) && err == nil {
		var m int
		m, err = y.tls.Read(p[n:])
		n += m
		if y.answers > answersMost {
			break
		}
	}
	y.reading = false
	if err != nil {
		y.takeBack(c.Loop())
	}
	if err == blocked {
		c.HoldRead(false)
		if n == 0 {
			return 0, engine.ErrAgain
		}
		return n, nil
	}
	if err != nil {
		if y.readErr = err; err == (cut{}) {
			y.readErr = io.ErrUnexpectedEOF
		}
	}
	c.HoldRead(true)
	switch {
	case n > 0:
		c.Loop().Again(c) // no event tells of what is left
		return n, nil
	case err != nil:
		return 0, y.readErr
	}
	return 0, engine.ErrAgain // Flush is waited for
}

// Await implements engine.Layer.
func (y *layer) Await(c *engine.Conn) error {
	if y.ahead {
		return nil
	}
	if _, err := y.Read(c, y.first[:]); err != nil {
		return err
	}
	y.ahead = true
	c.HoldRead(true)
	return nil
}

// Write implements engine.Layer. Nothing is encrypted while ciphertext is Pending.
func (y *layer) Write(c *engine.Conn, p []byte) (n int, err error) {
	if y.Pending() {
		y.Flush(c)
	}
	switch {
	case y.writeErr != nil:
		return 0, y.writeErr
	case y.hs != nil || !c.Writable(): // as it is while something is Pending
		return 0, engine.ErrAgain
	}
	for n < len(p) {
		piece := p[n:min(n+batch, len(p))]
		if len(piece) > single {
			y.out, y.outAt = c.Loop().GetBuffer(len(piece)+len(piece)/16), 0
			y.gather = true
		}
		m, err := y.tls.Write(piece)
		y.gather = false
		n += m
		if y.out != nil {
			y.Flush(c)
		}
		switch {
		case y.writeErr != nil:
			return n, y.writeErr
		case err != nil:
			y.writeErr = err
			return n, err
		case y.Pending() && n < len(p):
			return n, engine.ErrAgain
		}
	}
	return n, nil
}

// send writes b, and keeps what the socket does not take.
func (y *layer) send(c *engine.Conn, b []byte) {
	if !y.Pending() && y.writeErr == nil {
		n, err := c.RawWrite(b)
		if err != nil && err != engine.ErrAgain {
			y.writeErr = err
		}
		b = b[n:]
	}
	if len(b) > 0 && y.writeErr == nil {
		y.out = c.Loop().AppendBuffer(y.out, b)
	}
}

// CloseWrite implements engine.Layer: close_notify (RFC 8446, section 6.1).
func (y *layer) CloseWrite(*engine.Conn) error {
	if y.hs != nil || y.readErr != nil && y.readErr != io.EOF && y.readErr != io.ErrUnexpectedEOF {
		return nil // there is nothing to end, or an alert has ended it
	}
	if y.writeErr != nil {
		return y.writeErr
	}
	err := y.tls.CloseWrite()
	if y.writeErr != nil {
		return y.writeErr
	}
	return err
}

// Pending implements engine.Layer.
func (y *layer) Pending() bool { return y.out != nil }

// Flush implements engine.Layer.
func (y *layer) Flush(c *engine.Conn) {
	n, err := c.RawWrite(y.out[y.outAt:])
	y.outAt += n
	l := c.Loop()
	if err == engine.ErrAgain {
		// Little that is left may wait for long: not in a large buffer.
		if rest := y.out[y.outAt:]; len(rest) <= cap(y.out)/4 && cap(y.out) > engine.TinyBuffer {
			small := l.AppendBuffer(nil, rest)
			l.PutBuffer(y.out)
			y.out, y.outAt = small, 0
		}
		return
	}
	if err != nil {
		y.writeErr = err
	}
	l.PutBuffer(y.out)
	y.out, y.outAt, y.answers = nil, 0, 0
}

// Released implements engine.Layer.
func (y *layer) Released(c *engine.Conn) {
	if y.hs != nil {
		y.hs.abandon(c)
	}
	if y.hs == nil {
		y.takeBack(c.Loop())
	}
	c.Loop().PutBuffer(y.in)
	c.Loop().PutBuffer(y.out)
	y.in, y.out = nil, nil
}
