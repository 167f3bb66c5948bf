package gw

import (
	"sluice/engine"
	"sluice/gw/h1"
)

// The response on its way: its head is read and written anew, its body streamed. A body of known length that comes faster
// than it is read goes through the kernel.

// download passes the response on as far as the client takes it, and ends the exchange after it.
func (x *exchange) download() {
	l := x.w.loop
	for budget := turnBytes; ; {
		if len(x.toClient) > 0 && !x.flush() {
			return
		}
		switch {
		case x.headed && x.response.Done():
			x.finish()
			return
		case x.up == nil || x.up.conn.Dialling() || !x.d.conn.Writable():
			return
		case budget <= 0:
			l.Again(x.up.conn)
			return
		case x.bulk && x.headed && x.framing == asIs && x.responseWhole == 0 && len(x.transforms) == 0 && x.partial == nil && x.response.Left() >= spliceFrom:
			n, ok := x.through()
			if !ok {
				return
			}
			budget -= n
			continue
		}
		n, err := x.up.conn.Read(l.Scratch())
		if err == engine.ErrAgain {
			if x.lost == nil {
				return
			}
			err = x.lost
		}
		if err != nil {
			x.upstreamEnded(err)
			return
		}
		budget -= n
		x.dropRival()
		x.bulk = n == len(l.Scratch())
		x.ep.Local(l).Received.Add(uint64(n))
		b := l.Scratch()[:n]
		if x.partial != nil {
			x.partial = l.AppendBuffer(x.partial, b)
			b = x.partial
		}
		if !x.read(b) {
			return
		}
	}
}

// through passes on a piece of a large body without a copy. false: there is nothing to pass on now, or the exchange has
// ended.
func (x *exchange) through() (n int, ok bool) {
	l := x.w.loop
	n, rest, err := l.Through(x.up.conn, x.d.conn, x.response.Left())
	if n > 0 {
		x.ep.Local(l).Received.Add(uint64(n))
		x.response.Skip(int64(n))
		x.wrote = true
		if rest != nil {
			x.toClient = rest
			x.setDeadline()
		}
	}
	switch {
	case x.d.conn.Broken():
		x.abandon()
		return n, false
	case err == engine.ErrCopy:
		x.bulk = false
		return 0, true
	case err == engine.ErrAgain && x.lost == nil:
		return 0, false
	case err == engine.ErrAgain:
		x.upstreamEnded(x.lost)
		return 0, false
	case err != nil:
		x.upstreamEnded(err)
		return 0, false
	}
	x.bulk = n >= spliceWorth
	if x.response.Done() {
		x.leave()
	} else {
		x.awaitUpstream()
	}
	return n, true
}

// read reads a piece of what the upstream says, and passes it on. false: the exchange has ended, or begun anew.
func (x *exchange) read(b []byte) bool {
	l, p := x.w.loop, &x.w.resp
	out := x.w.out[:0]
	for !x.headed {
		p.Offered = x.offer
		size, err := p.Scan(b, &x.resume)
		if err == h1.ErrPartial {
			if held := x.partial; len(b) != len(held) {
				x.partial = l.AppendBuffer(nil, b)
				l.PutBuffer(held)
			}
			x.w.out = out
			return x.pass(out)
		}
		if err != nil {
			x.spoiled("upstream sent a malformed response")
			return false
		}
		if p.Status == 101 {
			x.w.out = append(x.appendSwitch(out), b[size:]...)
			x.tunnel(101, x.w.out)
			return false
		}
		if p.Status < 200 {
			if x.interim++; x.interim > maxInterim {
				x.spoiled("upstream sent too many interim responses")
				return false
			}
			if !x.http10 && (p.Status != 100 || x.expect) {
				out = appendInterim(out, p)
			}
		} else {
			x.cl.Served(x.ep, p.Status)
			if x.asked > 0 {
				x.cl.Answered(l, x.ep, l.Clock()-x.asked)
			}
			if x.wantsAnother(p.Status) {
				x.sendAgain()
				return false
			}
			x.headed = true
			out = x.appendResponse(out)
		}
		b = b[size:]
	}
	data, rest, err := x.response.Next(b)
	if err != nil {
		x.spoiled("upstream sent a malformed response body")
		return false
	}
	if len(rest) > 0 {
		x.up.unsound = true // it says more than it was asked
	}
	if x.responseWhole > 0 {
		return x.hoard(out, data)
	}
	if len(x.transforms) > 0 {
		if data, err = x.transformed(data, x.response.Done()); err != nil {
			x.spoiled("response body cannot be transformed")
			return false
		}
	}
	switch {
	case x.framing == inChunks:
		out = h1.AppendChunk(out, data)
		if x.response.Done() {
			out = h1.AppendLastChunk(out, h1.DropNominated(x.response.Trailers(), x.hopDown))
		}
		x.w.out = out
	case len(out) == 0:
		out = data
	default:
		out = append(out, data...)
		x.w.out = out
	}
	if !x.pass(out) {
		return false
	}
	l.PutBuffer(x.partial)
	x.partial = nil
	if x.response.Done() {
		x.leave()
	} else {
		x.awaitUpstream()
	}
	return true
}

// hoard keeps a piece of the response's body for the filters, who want it whole. out is what came before it. false: the exchange
// has ended.
func (x *exchange) hoard(out, data []byte) bool {
	x.w.out = out
	if len(x.ctx.Response.Body())+len(data) > x.responseWhole {
		x.countTooLarge(x.wholeBy)
		x.spoiled("response body too large for the filters")
		return false
	}
	x.ctx.Response.AppendBody(data)
	x.w.loop.PutBuffer(x.partial)
	x.partial = nil
	if !x.pass(out) {
		return false
	}
	if x.response.Done() {
		x.collected()
		return false
	}
	x.awaitUpstream()
	return true
}

// wantsAnother says that the response is one after which another endpoint is to be asked, and can be.
func (x *exchange) wantsAnother(status int) bool {
	for _, s := range x.cl.Config().Retry.Statuses {
		if s == status {
			held := x.partial
			x.partial = nil // what has come is this response's head
			may := x.maySendAgain()
			x.partial = held
			if may {
				x.up.unsound = true
				x.w.loop.PutBuffer(held)
				x.partial = nil
			}
			return may
		}
	}
	return false
}

// pass writes to the client; what it does not take waits. false: the client is gone, and the exchange has ended.
func (x *exchange) pass(out []byte) bool {
	if len(out) == 0 {
		return true
	}
	n, err := x.d.conn.Write(out)
	if err != nil && err != engine.ErrAgain {
		x.abandon()
		return false
	}
	x.wrote = x.wrote || x.headed
	if n < len(out) {
		x.toClient = x.w.loop.AppendBuffer(x.toClient, out[n:])
		x.setDeadline()
	}
	return true
}

// flush writes what waits for the client. false: not all of it could be.
func (x *exchange) flush() bool {
	n, err := x.d.conn.Write(x.toClient[x.taken:])
	x.taken += n
	if err != nil && err != engine.ErrAgain {
		x.abandon()
		return false
	}
	if x.taken < len(x.toClient) {
		if n > 0 {
			x.setDeadline()
		}
		return false
	}
	x.w.loop.PutBuffer(x.toClient)
	x.toClient, x.taken = nil, 0
	x.setDeadline()
	return true
}
