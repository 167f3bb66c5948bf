package engine

import "time"

// lingerTime is for how long a closed connection's socket is kept for what its layer has still to write. A reader that
// takes nothing of at most one batch of records for so long does not want it.
const lingerTime = 5 * time.Second

// lingerer serves a socket whose owner has closed it, until its layer has written all.
type lingerer struct{}

// linger closes c for its owner, and gives its socket and its layer to another connection, on which the rest is written.
func (c *Conn) linger(y Layer) {
	l := c.loop
	k := &Conn{loop: l, handler: lingerer{}, from: c.from, peer: c.peer, fd: c.fd, source: c.source, tag: c.tag, state: c.state &^ queued}
	k.timer.on = k
	l.conns[c.fd] = k // registered it is, by its tag
	k.SetLayer(y)
	c.SetLayer(nil)
	c.state |= closed
	l.wheel.drop(&c.timer)
	k.SetTimeout(lingerTime)
}

// Ready implements Handler: Conn.serve has written what it could.
func (lingerer) Ready(c *Conn) {
	switch {
	case c.Broken() || c.Failure() != nil:
		c.Reset()
	case !c.layer().Pending():
		c.Close()
	}
}

// Timeout implements Handler.
func (lingerer) Timeout(c *Conn) { c.Reset() }

// Connected implements Handler.
func (lingerer) Connected(*Conn, error) { panic("BUG: a closed connection was dialled") }
