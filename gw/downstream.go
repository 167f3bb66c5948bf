package gw

import (
	"io"
	"time"

	"sluice/engine"
	"sluice/gw/filter"
	"sluice/gw/h1"
)

// downstream is a client's connection. Idle, it holds no exchange and no buffer.
type downstream struct {
	conn   *engine.Conn
	gw     *Gateway
	x      *exchange // that is going on; nil between requests
	in     []byte    // pooled: what came and was not read yet
	off    int32
	resume h1.Resume
	// more: what is in hand is not a whole head. linger: the response is out, the rest is thrown away.
	more, linger, began bool
	start               time.Duration    // of the request, on the loop's clock
	identity            *filter.Identity // by the client's certificate; nil: it was not asked for, or there is none
}

// lingerTime is how long a client may go on sending what nobody wants, so that it reads the response before it meets
// a reset.
const lingerTime = 2 * time.Second

// turnRequests bounds how many requests of one connection are served before the loop's others have their turn.
const turnRequests = 32

// Ready implements engine.Handler.
func (d *downstream) Ready(c *engine.Conn) {
	switch {
	case d.linger:
		d.discard()
	case d.x != nil:
		d.x.run()
	default:
		d.serve()
	}
}

// Timeout implements engine.Handler.
func (d *downstream) Timeout(c *engine.Conn) {
	switch {
	case d.linger || !d.began && d.x == nil:
		d.close()
	case d.x != nil:
		d.x.downstreamTimeout()
	default:
		d.gw.counters(c.Loop()).Timeouts.Inc()
		d.refuse(&h1.Error{Status: 408, Reason: "request head not complete in time"})
	}
}

// Connected implements engine.Handler; accepted connections are.
func (d *downstream) Connected(*engine.Conn, error) {}

// serve reads requests and starts their exchanges, until one is under way or nothing is left to read.
func (d *downstream) serve() {
	l := d.conn.Loop()
	w := d.gw.worker(l)
	for n := 0; d.x == nil && !d.linger && !d.conn.Closed(); n++ {
		if n == turnRequests {
			l.Again(d.conn)
			return
		}
		b := d.in[d.off:]
		if len(b) == 0 || d.more {
			if len(b) == 0 {
				d.dropInput()
			}
			n, err := d.conn.Read(l.Scratch())
			if err == engine.ErrAgain {
				if l.Draining() && !d.began {
					d.close()
				}
				return
			}
			if err != nil {
				if err == io.EOF && d.began {
					d.gw.counters(l).Aborted.Inc()
				}
				d.close()
				return
			}
			b = l.Scratch()[:n]
			if d.in != nil {
				d.in = l.AppendBuffer(d.in, b)
				b = d.in[d.off:]
			}
			d.more = false
		}
		if !d.began {
			d.began, d.start = true, l.Now()
			d.conn.SetTimeout(d.gw.cfg.HeaderTimeout)
		}
		size, err := w.req.Scan(b, &d.resume, &d.gw.limits)
		if err == h1.ErrPartial {
			if d.in == nil {
				d.in = l.AppendBuffer(nil, b)
			}
			d.more = true
			continue
		}
		if err != nil {
			d.refuse(err.(*h1.Error))
			return
		}
		d.begin(w, b, size)
	}
}

// begin starts an exchange; of what follows the head, the body is the exchange's, and the rest is kept.
func (d *downstream) begin(w *worker, b []byte, size int) {
	d.resume, d.more = h1.Resume{}, false
	held := d.in
	d.in, d.off = nil, 0
	x := w.exchange()
	x.d = d
	d.x = x
	x.begin(b[size:])
	w.loop.PutBuffer(held)
}

// keep puts back what an exchange did not use. It may point into the buffer that is being read.
func (d *downstream) keep(rest []byte) {
	if len(rest) > 0 {
		d.in, d.off = d.conn.Loop().AppendBuffer(nil, rest), 0
	}
}

func (d *downstream) dropInput() {
	d.conn.Loop().PutBuffer(d.in)
	d.in, d.off, d.more = nil, 0, false
}

// finished ends an exchange whose response is out; keep says whether the connection lives on.
func (d *downstream) finished(keep, unread bool) {
	l := d.conn.Loop()
	d.x.w.release(d.x)
	d.x, d.began = nil, false
	switch {
	case d.conn.Closed():
		d.dropInput()
	case keep && !l.Draining():
		d.conn.SetTimeout(d.gw.cfg.IdleTimeout)
		if len(d.in) > 0 || d.conn.Readable() {
			l.Again(d.conn)
		}
	case unread || len(d.in) > 0 || d.conn.Readable():
		d.lingering()
	default:
		d.close()
	}
}

// lingering says goodbye and reads on for a while: closing over unread bytes would reset the connection, and the
// response with it (RFC 9112, section 9.6).
func (d *downstream) lingering() {
	d.dropInput()
	d.linger = true
	_ = d.conn.CloseWrite()
	d.conn.SetTimeout(lingerTime)
	d.discard()
}

func (d *downstream) discard() {
	l := d.conn.Loop()
	for range 16 {
		_, err := d.conn.Read(l.Scratch())
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			d.close()
			return
		}
	}
	l.Again(d.conn)
}

func (d *downstream) close() {
	d.dropInput()
	d.conn.Close()
}

// refuse answers a request that cannot be read, and ends the connection.
func (d *downstream) refuse(err *h1.Error) {
	l := d.conn.Loop()
	n := d.gw.counters(l)
	n.Refused.Inc()
	n.Responses[err.Status/100].Inc()
	w := d.gw.worker(l)
	w.out = appendReply(w.out[:0], l.Date(), err.Status, err.Reason, w.newID(nil), true, false, false)
	_, _ = d.conn.Write(w.out)
	d.lingering()
}
