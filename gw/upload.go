package gw

import (
	"io"

	"sluice/engine"
	"sluice/gw/h1"
)

// The request on its way: its head and what is at hand of its body wait in a pooled buffer, and the rest is passed on as
// the upstream takes it. A body of known length that comes faster than it is read goes through the kernel.

// upload passes the request on as far as the upstream takes it. It reads the client only when nothing waits: a slow
// upstream stalls its client through the kernel's window. false: the exchange has ended.
func (x *exchange) upload() bool {
	l := x.w.loop
	for budget := turnBytes; x.up != nil && x.lost == nil && !x.up.conn.Dialling(); {
		if x.sent < len(x.request) {
			if x.sent == 0 && x.whole && x.by.toldAt > 0 {
				x.tell()
			}
			n, err := x.up.conn.Write(x.request[x.sent:])
			x.sent += n
			x.ep.Local(l).Sent.Add(uint64(n))
			if n > 0 {
				x.awaitUpstream()
			}
			if err == engine.ErrAgain {
				return true
			}
			if err != nil {
				x.lost = err
				return true
			}
		}
		if x.whole && !x.body.Done() && int64(len(x.request))+x.body.Left() > int64(x.keepable()) {
			x.forget()
		}
		switch {
		case x.body.Done():
			if x.cl.Hedges() {
				x.timeHedge()
			}
			return true
		case budget <= 0:
			l.Again(x.d.conn)
			return true
		case x.flood && !x.chunked && !x.whole && x.body.Left() >= spliceFrom:
			n, err := x.uploadThrough()
			if err != nil {
				return err == engine.ErrAgain
			}
			budget -= n
			continue
		}
		n, err := x.d.conn.Read(l.Scratch())
		if err == engine.ErrAgain {
			return true
		}
		if err != nil {
			x.clientEnded(err)
			return false
		}
		budget -= n
		x.flood = n == len(l.Scratch())
		data, rest, err := x.body.Next(l.Scratch()[:n])
		if err != nil {
			x.refuse(400, err.Error())
			return false
		}
		x.d.keep(rest)
		if !x.sendOn(data) {
			return false
		}
		if x.body.Done() {
			x.setDeadline()
			x.complete()
		}
	}
	return true
}

// uploadThrough passes on a piece of a large body without a copy, when nothing waits for the upstream. The error is ErrAgain
// if there is nothing to pass on now; after any other the exchange has ended.
func (x *exchange) uploadThrough() (int, error) {
	l := x.w.loop
	x.forget()
	n, rest, err := l.Through(x.d.conn, x.up.conn, x.body.Left())
	if n > 0 {
		x.ep.Local(l).Sent.Add(uint64(n))
		x.received += int64(n)
		x.body.Skip(int64(n))
		x.request, x.sent = rest, 0
		x.awaitUpstream()
		if x.body.Done() {
			x.setDeadline()
		}
	}
	switch {
	case err == nil:
		x.flood = n >= spliceWorth
	case x.up.conn.Broken():
		x.lost = err
		return n, engine.ErrAgain
	case err == engine.ErrCopy:
		x.flood = false
		return n, nil
	case err != engine.ErrAgain:
		x.clientEnded(err)
	}
	return n, err
}

// clientEnded: the client's connection has ended before its request.
func (x *exchange) clientEnded(err error) {
	if err == io.EOF && !x.wrote {
		x.reply(400, "request body ends early")
	} else {
		x.abandon()
	}
}

// sendOn passes on a piece of the body while nothing waits for the upstream. As long as the request may have to be sent
// again, all of it is kept; after that what needs no framing goes out without a copy. false: it was too much, and the
// exchange has ended.
func (x *exchange) sendOn(data []byte) bool {
	if x.whole && len(x.request)+len(data) > x.keepable() {
		x.forget()
	}
	if x.whole || x.chunked || len(data) == 0 {
		if !x.whole {
			x.forget()
		}
		return x.send(data)
	}
	if !x.within(data) {
		return false
	}
	x.forget()
	n, err := x.up.conn.Write(data)
	x.ep.Local(x.w.loop).Sent.Add(uint64(n))
	if err != nil && err != engine.ErrAgain {
		x.lost = err
		return true
	}
	if n < len(data) {
		x.request = x.w.loop.AppendBuffer(nil, data[n:])
	}
	x.awaitUpstream()
	return true
}

// keepable is how much of a request is kept to be sent again.
func (x *exchange) keepable() int { return x.head + x.cl.Config().Retry.MaxBody }

// within counts a piece of the body against the limit. false: it was too much, and the exchange has ended.
func (x *exchange) within(data []byte) bool {
	x.received += int64(len(data))
	switch limit := x.d.gw.cfg.MaxBody; {
	case x.target.maxBody >= 0 && x.received > x.target.maxBody:
		x.refuseBody(x.target.maxBodyBy)
		return false
	case limit > 0 && x.received > limit:
		x.refuse(413, "request body too large")
		return false
	}
	return true
}

// forget lets go of what has been sent: the request cannot be sent again.
func (x *exchange) forget() {
	x.whole = false
	x.w.loop.PutBuffer(x.request)
	x.request, x.sent = nil, 0
}

// send frames a piece of the request's body for the upstream. false: it was too much, and the exchange has ended.
func (x *exchange) send(data []byte) bool {
	l := x.w.loop
	if !x.within(data) {
		return false
	}
	if !x.chunked {
		x.request = l.AppendBuffer(x.request, data)
		return true
	}
	x.w.out = h1.AppendChunk(x.w.out[:0], data)
	if x.body.Done() {
		x.w.out = h1.AppendLastChunk(x.w.out, h1.DropNominated(x.body.Trailers(), x.hopUp))
	}
	x.request = l.AppendBuffer(x.request, x.w.out)
	return true
}
