package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// callers are clients with a goroutine each, for a connection for each request, and for all that speaks TLS. They do not
// stand on gnet, whose client dials through net in a goroutine and then duplicates the descriptor: net alone is the
// cheaper; and crypto/tls reads from a net.Conn, which waits.
type callers struct {
	g        *Generator
	request  []byte // as often as it is pipelined
	tally    *tally
	interval int64
	first    int64
	turn     atomic.Int64 // of the open loop
}

func newCallers(g *Generator) *callers {
	request := g.aim.Scenario.request(g.aim.Address)
	return &callers{g: g, tally: newTally(), request: bytes.Repeat(request, g.batch()), interval: g.interval(1)}
}

// batch is how many requests a connection sends at a time.
func (g *Generator) batch() int {
	if g.aim.Scenario.perConn() || g.aim.Rate > 0 {
		return 1
	}
	return g.aim.Pipeline
}

func (k *callers) tallied() *tally { return k.tally }
func (k *callers) close()          {}

func (k *callers) start() {
	k.first = k.g.now()
	for range k.g.aim.Conns {
		sc := &k.g.aim.Scenario
		c := &client{k: k, answers: answers{reader: reader{tally: k.tally, ping: sc.Load == PerConnPP}, buf: make([]byte, answersBuffer)}}
		if sc.secure() {
			c.tls = k.g.aim.Trust.config(sc.cache())
		}
		k.g.spawn(c.run)
	}
}

// client is one of them. It is for one goroutine.
type client struct {
	answers
	k    *callers
	tls  *tls.Config // nil: in clear
	conn net.Conn    // nil: none is open
	// resumed says that the last connection was, by a ticket.
	resumed bool
}

func (c *client) run() {
	k := c.k
	defer c.hangUp()
	if k.g.aim.Scenario.Resume && c.call(func(int) {}) != nil {
		c.hangUp() // this one is for the ticket, and does not count; why it fails the next one will tell
	}
	for refused := 0; !k.g.stopped(); {
		due := k.g.now()
		if k.interval > 0 {
			due = k.first + k.turn.Add(1)*k.interval
			if wait := due - k.g.now(); wait > 0 {
				t := time.NewTimer(time.Duration(wait))
				select {
				case <-t.C:
				case <-k.g.stop:
					t.Stop()
					return
				}
				k.tally.slipped(k.g.now() - due)
			}
		}
		err := c.call(func(size int) { k.tally.done(k.g.now()-due, size) })
		if err == nil {
			refused = 0
			if c.resumed {
				k.tally.resume()
			}
			continue
		}
		c.hangUp()
		if k.g.stopped() {
			return
		}
		k.tally.failed(kindOf(err))
		// One that fails may be bad luck; a row of them is a target that is gone, and one that speaks another TLS always will.
		if refused++; refused == 10 {
			err = fmt.Errorf("%w: %w", errTarget, err)
		}
		if errors.Is(err, errTarget) {
			k.g.fail(err)
			return
		}
	}
}

// call asks, on a new connection if none is open, and calls done with the size of each answer.
func (c *client) call(done func(size int)) error {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return err
		}
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := c.conn.Write(c.k.request); err != nil {
		return err
	}
	if err := c.read(c.conn, c.k.g.batch(), done); err != nil {
		return err
	}
	if c.last || c.k.g.aim.Scenario.perConn() {
		c.hangUp()
	}
	return nil
}

func (c *client) dial() error {
	conn, err := c.k.g.dial(context.Background())
	if err != nil {
		return err
	}
	c.answers.reader = reader{tally: c.tally, ping: c.ping}
	c.conn = conn
	if c.tls == nil {
		return nil
	}
	t := tls.Client(conn, c.tls)
	c.conn = t
	_ = t.SetDeadline(time.Now().Add(patience))
	if err := t.Handshake(); err != nil {
		return err
	}
	cs := t.ConnectionState()
	if err := c.k.g.aim.Scenario.agreed(&cs); err != nil {
		return err
	}
	c.resumed = cs.DidResume
	return nil
}

// hangUp closes the connection, if one is open.
func (c *client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// answers reads whole answers from a connection.
type answers struct {
	reader
	buf []byte
}

// answersBuffer has room for a head of the greatest size, and more.
const answersBuffer = 128 << 10

// read reads n answers, and calls done with the size of each.
func (a *answers) read(c net.Conn, n int, done func(size int)) error {
	for have := 0; n > 0; {
		m, err := c.Read(a.buf[have:])
		b := a.buf[:have+m]
		for len(b) > 0 {
			if n == 0 {
				return fmt.Errorf("%w: an answer that nobody asked for", errTarget)
			}
			took, whole, bad := a.reader.read(b)
			if bad != nil {
				return bad
			}
			b = b[took:]
			if whole {
				done(a.size)
				a.size = 0
				n--
			} else if took == 0 {
				break
			}
		}
		if n > 0 && err != nil {
			return err
		}
		have = copy(a.buf, b)
	}
	return nil
}
