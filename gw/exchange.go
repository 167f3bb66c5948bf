package gw

import (
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
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
	shown  *filter.Matched      // what those want that change paths; kept too
	id     []byte               // of the request
	began  time.Duration        // on the exact clock
	// hopUp and hopDown are the names that Connection nominates in the request and the response, and those that are the filters'
	// to say in the request: no trailers of theirs are passed on. Kept over lives.
	hopUp, hopDown []byte
	client         netip.AddrPort // who it is for, as far as is believed
	facts
	uploading
	attempt
	downloading
	by    timing
	pause pause
	filtering
}

// uploading is what goes to the upstream.
type uploading struct {
	request  []byte // pooled: bytes for the upstream, of which sent are gone
	sent     int
	head     int // of request is its head
	body     h1.Body
	received int64 // of the body
	whole    bool  // request is all that the upstream was sent: it can be sent again
	flood    bool  // the client sends faster than it is read
}

// attempt is the exchange's endpoint, and its connection there from the dial to the end of the response.
type attempt struct {
	cl    *lb.Cluster
	up    *upstream
	ep    *lb.Endpoint
	tried []*lb.Endpoint
	sends uint8        // endpoints that were sent the request
	kept  *lb.Endpoint // whom the client's cookie names
	held  lb.Held      // so that the endpoint can end what goes on with it
	rivalry
	hash  uint64
	until time.Duration // no dial is begun after this, on the loop's clock
	wait  *lb.Waiter    // while every endpoint has as much as it may
	asked time.Duration // when the endpoint was, on the exact clock, if somebody wants to know
	fresh bool          // no warm connection any more: one has failed
	lost  error         // writing failed; what the upstream had said before is still read
}

// downloading is what goes to the client.
type downloading struct {
	partial  []byte // pooled: a head that is not whole
	resume   h1.Resume
	response h1.Body
	framing  framing
	interim  uint8
	status   uint16 // of the final response; 0: none yet
	bulk     bool   // the upstream sends faster than it is read
	headed   bool   // the final head has been read
	wrote    bool   // the client has got some of it
	closing  bool   // the client's connection ends after it
	toClient []byte // pooled: what the client has not taken, from taken on
	taken    int
}

// facts are what must be known of the request when its head is gone.
type facts struct {
	toHEAD, http10, keep, expect, idempotent, chunked, tunnels, trailers bool
	// offer is the protocol that the client would change to, and the route allows; empty: none.
	offer []byte
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
	x.began = x.w.loop.Moment()
	x.asks()
	switch {
	case q.Chunked:
		x.body = h1.ChunkedBody()
		x.hopUp = q.AppendNominated(x.hopUp[:0])
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
	x.identify(lb.ClientOf(x.d.conn))
	if !x.find() {
		return
	}
	if len(q.Upgrade) > 0 {
		x.offer = x.target.upgrade(q.Upgrade)
	}
	if x.chunked {
		x.hopUp = append(x.hopUp, x.target.ours...)
	}
	x.timeFor(x.target)
	x.setDeadline()
	if x.tunnels {
		x.fresh = true
		x.search()
		return
	}
	x.w.out = x.appendRequest(x.w.out[:0])
	if len(x.target.filters) > 0 {
		x.startFilters(data)
		return
	}
	x.dispatch(data)
}

// dispatch has the request, of which data is what is at hand of the body and the rest is in the worker, go to an endpoint.
func (x *exchange) dispatch(data []byte) {
	if x.cl == nil {
		x.reply(404, "no route for this request")
		return
	}
	x.w.out = x.appendRequestEnd(x.w.out)
	x.request = x.w.loop.AppendBuffer(nil, x.w.out)
	x.head, x.whole, x.flood = len(x.request), true, true
	if !x.send(data) {
		return
	}
	if x.body.Done() {
		x.complete()
	}
	x.search()
}

// asks notes what must be known of the request in the worker when its head is gone.
func (x *exchange) asks() {
	q := &x.w.req
	x.facts = facts{toHEAD: string(q.Method) == "HEAD", http10: q.Minor == 0, expect: q.Expect, chunked: q.Chunked,
		keep: q.KeepAlive(), idempotent: idempotent(q.Method), tunnels: string(q.Method) == "CONNECT", trailers: q.TrailersOK}
	x.keep = x.keep && !x.tunnels // what comes behind a refused CONNECT was meant for the tunnel
}

// find routes the request in the worker: to its target, and to one of that's clusters. false: it has been answered.
func (x *exchange) find() bool {
	q := &x.w.req
	var ok bool
	x.w.match = h1.MatchPath(q.Path, x.w.path)
	if x.target, ok = x.d.gw.routes.Find(q, q.Hostname(), x.w.match, x.client.Addr(), &x.w.found); !ok {
		x.reply(404, "no route for this request")
		return false
	}
	t := x.target
	switch {
	case x.tunnels && !t.connect:
		x.reply(405, "method not supported")
		return false
	case len(t.clusters) == 0:
		return true
	case t.split == nil:
		x.cl = t.clusters[0]
	default:
		x.cl = t.clusters[t.split.Pick(x.splitHash())]
	}
	if x.w.loop.Short() {
		x.d.gw.counters(x.w.loop).Shed.Inc()
		x.reply(503, "out of memory for requests")
		return false
	}
	x.hash = x.place(x.d.conn.Peer())
	x.findSticky()
	return true
}

// complete: the whole request is at hand, or has been passed on.
func (x *exchange) complete() {
	x.mirrored()
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
		if x.pause.waits {
			x.forsake(0, "")
			return
		}
		x.abandon() // the client has reset the connection: nobody waits for the answer
		return
	}
	switch {
	case x.pause.waits:
	case x.pause.stands():
		x.collectMore()
	case x.upload():
		x.download()
	}
}

// keepAlive says whether the client's connection may live on after this response.
func (x *exchange) keepAlive() bool {
	return x.keep && x.body.Done() && !x.w.loop.Draining() && !x.d.gw.stale(x.d.gw)
}

// count counts the response that the client gets.
func (x *exchange) count(status int) {
	l := x.w.loop
	x.d.gw.counters(l).Responses[status/100].Inc()
	x.status = uint16(status)
}

// leave parts with the upstream connection, or with the queue for one. It is kept warm if both messages were whole and
// nothing else came.
func (x *exchange) leave() {
	x.unqueue()
	x.dropRival()
	up := x.up
	if up == nil {
		return
	}
	x.up, up.x = nil, nil
	x.unhold()
	x.ep.End(x.w.loop)
	if x.headed && x.response.Done() && x.body.Done() && x.sent == len(x.request) && x.lost == nil && !up.unsound {
		up.park(x.cl.Config())
	} else {
		up.HangUp()
	}
}

// finish ends the exchange: the response is out.
func (x *exchange) finish() {
	x.leave()
	x.measure()
	x.d.finished(!x.closing, !x.body.Done())
}

// measure counts the exchange, and how long it took, for its route.
func (x *exchange) measure() {
	if x.target != nil && x.status > 0 {
		x.target.stats.count(x.w.loop.ID(), int(x.status), x.w.loop.Moment()-x.began)
	}
}
