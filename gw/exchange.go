package gw

import (
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/engine"
	"sluice/gw/h1"
	"sluice/lb"
)

const (
	// turnBytes is what an exchange may move in one direction before the loop's others have their turn.
	turnBytes = 512 << 10
	// spliceFrom is how much of a body must be left, and spliceWorth what a round must bring, for going through the kernel
	// to be cheaper than copying.
	spliceFrom  = 32 << 10
	spliceWorth = 16 << 10
	// maxInterim bounds the 1xx responses before the final one.
	maxInterim = 16
)

// exchange is one request and its response: begin, connect, upload, download, finish. Both its ends call run whenever
// something may go on, and run does what can be done. Owned by the loop.
type exchange struct {
	w      *worker
	d      *downstream
	target *target
	ctx    *fasthttp.RequestCtx // what the route's filters see; kept over lives
	id     []byte               // of the request
	began  time.Duration        // on the loop's clock

	// The request. request is pooled: bytes for the upstream, of which sent are gone. As long as it is the whole of
	// what the upstream got, replay says that it may be sent again.
	request  []byte
	sent     int
	body     h1.Body
	received int64 // of the body
	facts
	replay bool

	// Its endpoint, and its connection there from the dial to the end of the response.
	up    *upstream
	ep    *lb.Endpoint
	tried []*lb.Endpoint
	hash  uint64
	until time.Duration // no dial is begun after this, on the loop's clock
	wait  *lb.Waiter    // while every endpoint has as much as it may
	asked time.Duration // when the endpoint was, on the exact clock, if somebody wants to know
	fresh bool          // no warm connection any more: one has failed
	lost  error         // writing failed; what the upstream had said before is still read

	// The response. partial and toClient are pooled: a head that is not whole, and what the client has not taken.
	partial  []byte
	resume   h1.Resume
	response h1.Body
	framing  framing
	interim  uint8
	bulk     bool // the upstream sends faster than it is read
	headed   bool // the final head has been read
	wrote    bool // the client has got some of it
	closing  bool // the client's connection ends after it
	toClient []byte
	taken    int
}

// facts are what must be known of the request when its head is gone.
type facts struct {
	toHEAD, http10, keep, expect, idempotent, chunked bool
}

// framing is how the client is told where the body ends.
type framing uint8

const (
	asIs     framing = iota // by length, by closing, or there is none
	inChunks                // the chunked coding is put on
)

// begin takes over a request whose head is in the worker and what came after it.
func (x *exchange) begin(rest []byte) {
	q := &x.w.req
	x.began = x.w.loop.Now()
	x.facts = facts{toHEAD: string(q.Method) == "HEAD", http10: q.Minor == 0, expect: q.Expect, chunked: q.Chunked,
		keep: q.KeepAlive(), idempotent: idempotent(q.Method)}
	switch {
	case q.Chunked:
		x.body = h1.ChunkedBody()
	case q.Length > 0:
		x.body = h1.LengthBody(q.Length)
	default:
		x.body = h1.NoBody()
	}
	x.id = x.w.requestID(x.id[:0])
	if limit := x.d.gw.cfg.MaxBody; limit > 0 && q.Length > limit {
		x.reply(413, "request body too large")
		return
	}
	data, rest, err := x.body.Next(rest)
	if err != nil {
		x.refuse(400, err.Error())
		return
	}
	x.d.keep(rest)
	x.setDeadline()

	var ok bool
	if x.target, ok = x.d.gw.routes.Find(q.Hostname(), h1.MatchPath(q.Path, x.w.path)); !ok {
		x.reply(404, "no route for this request")
		return
	}
	x.w.out = x.appendRequest(x.w.out[:0])
	if len(x.target.filters) > 0 {
		if answered := x.filterRequest(); answered {
			return
		}
	}
	if x.target.cluster == nil {
		x.reply(404, "no route for this request")
		return
	}
	x.request = x.w.loop.AppendBuffer(nil, x.w.out)
	x.replay = true
	if !x.send(data) {
		return
	}
	x.hash = x.target.cluster.Hash(lb.ClientOf(x.d.conn), x.d.conn.Peer(), nil)
	x.search()
}

// idempotent methods may be sent again if it is not known whether they arrived (RFC 9110, section 9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// run does what can be done, in both directions.
func (x *exchange) run() {
	if x.d.conn.Failure() != nil {
		x.abandon() // the client has reset the connection: nobody waits for the answer
		return
	}
	if x.upload() {
		x.download()
	}
}

// upload passes the request on as far as the upstream takes it. It reads the client only when nothing waits: a slow
// upstream stalls its client through the kernel's window. false: the exchange has ended.
func (x *exchange) upload() bool {
	l := x.w.loop
	for budget := turnBytes; x.up != nil && x.lost == nil && !x.up.conn.Dialling(); {
		if x.sent < len(x.request) {
			n, err := x.up.conn.Write(x.request[x.sent:])
			x.sent += n
			x.ep.Local(l).Sent.Add(uint64(n))
			if err == engine.ErrAgain {
				return true
			}
			if err != nil {
				x.lost = err
				return true
			}
			x.up.conn.SetTimeout(x.target.cluster.Config().ResponseTimeout)
		}
		if x.body.Done() {
			return true
		}
		if budget <= 0 {
			l.Again(x.d.conn)
			return true
		}
		n, err := x.d.conn.Read(l.Scratch())
		if err == engine.ErrAgain {
			return true
		}
		if err != nil {
			if err == io.EOF && !x.wrote {
				x.reply(400, "request body ends early")
			} else {
				x.abandon()
			}
			return false
		}
		budget -= n
		data, rest, err := x.body.Next(l.Scratch()[:n])
		if err != nil {
			x.refuse(400, err.Error())
			return false
		}
		x.d.keep(rest)
		x.forget()
		if x.body.Done() {
			x.d.conn.SetTimeout(0)
		}
		if !x.sendOn(data) {
			return false
		}
	}
	return true
}

// sendOn passes on a piece of the body while nothing waits for the upstream: without a copy, if it needs no framing. What
// the upstream does not take waits. false: it was too much, and the exchange has ended.
func (x *exchange) sendOn(data []byte) bool {
	if x.chunked || len(data) == 0 {
		return x.send(data)
	}
	if !x.within(data) {
		return false
	}
	n, err := x.up.conn.Write(data)
	x.ep.Local(x.w.loop).Sent.Add(uint64(n))
	if err != nil && err != engine.ErrAgain {
		x.lost = err
		return true
	}
	if n < len(data) {
		x.request = x.w.loop.AppendBuffer(nil, data[n:])
	}
	x.up.conn.SetTimeout(x.target.cluster.Config().ResponseTimeout)
	return true
}

// within counts a piece of the body against the limit. false: it was too much, and the exchange has ended.
func (x *exchange) within(data []byte) bool {
	x.received += int64(len(data))
	if limit := x.d.gw.cfg.MaxBody; limit > 0 && x.received > limit {
		x.refuse(413, "request body too large")
		return false
	}
	return true
}

// forget lets go of what has been sent: the request cannot be sent again.
func (x *exchange) forget() {
	x.replay = false
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
		x.w.out = h1.AppendLastChunk(x.w.out)
	}
	x.request = l.AppendBuffer(x.request, x.w.out)
	return true
}

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
		case x.bulk && x.headed && x.framing == asIs && x.partial == nil && x.response.Left() >= spliceFrom:
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
		x.bulk = n == len(l.Scratch())
		x.ep.Local(l).Received.Add(uint64(n))
		b := l.Scratch()[:n]
		if x.partial != nil {
			x.partial = l.AppendBuffer(x.partial, b)
			b = x.partial
		}
		if !x.take(b) {
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
		x.up.conn.SetTimeout(x.target.cluster.Config().ResponseTimeout)
	}
	return n, true
}

// take reads a piece of what the upstream says, and passes it on. false: the exchange has ended.
func (x *exchange) take(b []byte) bool {
	l, p := x.w.loop, &x.w.resp
	out := x.w.out[:0]
	for !x.headed {
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
		if p.Status < 200 {
			if x.interim++; x.interim > maxInterim {
				x.spoiled("upstream sent too many interim responses")
				return false
			}
			if !x.http10 && (p.Status != 100 || x.expect) {
				out = appendInterim(out, p)
			}
		} else {
			x.headed = true
			x.target.cluster.Served(x.ep, p.Status)
			if x.asked > 0 {
				x.target.cluster.Answered(l, x.ep, l.Clock()-x.asked)
			}
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
	switch {
	case x.framing == inChunks:
		out = h1.AppendChunk(out, data)
		if x.response.Done() {
			out = h1.AppendLastChunk(out)
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
		x.up.conn.SetTimeout(x.target.cluster.Config().ResponseTimeout)
	}
	return true
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

// setDeadline times what is waited for from the client: that it reads, or sends the rest of its request.
func (x *exchange) setDeadline() {
	cfg := &x.d.gw.cfg
	switch {
	case len(x.toClient) > 0:
		x.d.conn.SetTimeout(cfg.IdleTimeout)
	case !x.body.Done():
		x.d.conn.SetTimeout(max(x.d.start+cfg.RequestTimeout-x.w.loop.Now(), 1))
	default:
		x.d.conn.SetTimeout(0)
	}
}

// keepAlive says whether the client's connection may live on after this response.
func (x *exchange) keepAlive() bool {
	return x.keep && x.body.Done() && !x.w.loop.Draining() && !x.d.gw.stale(x.d.gw)
}

func (x *exchange) count(status int) { x.d.gw.counters(x.w.loop).Responses[status/100].Inc() }

// leave parts with the upstream connection, or with the queue for one. It is kept warm if both messages were whole and
// nothing else came.
func (x *exchange) leave() {
	x.unqueue()
	up := x.up
	if up == nil {
		return
	}
	x.up, up.x = nil, nil
	x.ep.End(x.w.loop)
	if x.headed && x.response.Done() && x.body.Done() && x.sent == len(x.request) && x.lost == nil && !up.unsound {
		up.park(x.target.cluster.Config())
	} else {
		up.conn.Close()
	}
}

// finish ends the exchange: the response is out.
func (x *exchange) finish() {
	x.leave()
	x.d.finished(!x.closing, !x.body.Done())
}
