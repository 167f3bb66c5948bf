package gw

import (
	"sluice/engine"
	"sluice/lb"
)

// A hedged request goes to a second endpoint when the first has not begun to answer in the time in which nearly all do
// (Dean and Barroso: The Tail at Scale, 2013). Whoever answers first serves the exchange; the other is hung up on.

// rivalry is the second endpoint of a hedged request.
type rivalry struct {
	rival     *upstream
	rivalOf   *lb.Endpoint
	rivalHeld lb.Held // so that rivalOf can end it
	rivalSent int
	hedged    bool            // the time for it is set, or has passed
	hedgeAt   engine.Deadline // when the second endpoint is asked
}

// timeHedge sets the time, once the request is out.
func (x *exchange) timeHedge() {
	after := x.cl.HedgeAfter(x.w.loop)
	if x.hedged || after == 0 || !x.mayHedge() {
		return
	}
	x.hedged = true
	x.w.loop.After(after, &x.hedgeAt, x)
}

// Due implements engine.DeadlineOwner.
func (x *exchange) Due(*engine.Deadline) { x.hedge() }

// mayHedge says that a second endpoint can be asked: it is no harm if both serve the request (RFC 9110, section 9.2.2).
func (x *exchange) mayHedge() bool {
	return x.idempotent && x.whole && x.body.Done() && x.up != nil && !x.up.conn.Dialling() && x.rival == nil &&
		len(x.offer) == 0 && x.unanswered()
}

// unanswered says that nothing has come from the upstream, so that another one can take its place.
func (x *exchange) unanswered() bool { return !x.headed && x.partial == nil && x.interim == 0 }

// hedge asks a second endpoint, if there is one and the budget allows it.
func (x *exchange) hedge() {
	l := x.w.loop
	if !x.mayHedge() || !x.cl.MayHedge(l) {
		return
	}
	x.tried = append(x.tried, x.ep)
	ep, err := x.cl.Take(l, x.hash, x.tried)
	x.tried = x.tried[:len(x.tried)-1]
	if err != nil {
		return
	}
	up, err := dialUpstream(l, ep, x.cl, lb.ClientOf(x.d.conn), x.d.gw.introduces(x.cl) == "", x.introduction())
	if err != nil {
		ep.End(l)
		return
	}
	x.d.gw.counters(l).Hedges.Inc()
	x.rival, x.rivalOf, x.rivalSent, up.x = up, ep, 0, x
	if x.rivalHeld.Abort == nil {
		x.rivalHeld.Abort = x.dropRival
	}
	ep.Local(l).Attach(&x.rivalHeld)
	if !up.conn.Dialling() {
		x.rivalReady()
	}
}

func (x *exchange) rivalConnected(err error) {
	if err != nil || !x.introduce(x.rival) {
		x.cl.ConnectFailed(x.w.loop, x.rivalOf)
		x.dropRival()
		return
	}
	x.rivalReady()
}

// rivalReady has the second endpoint read the request, and serve the exchange from its first byte on.
func (x *exchange) rivalReady() {
	c := x.rival.conn
	if x.rivalSent < len(x.request) {
		n, err := c.Write(x.request[x.rivalSent:])
		x.rivalSent += n
		x.rivalOf.Local(x.w.loop).Sent.Add(uint64(n))
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			x.cl.Failed(x.w.loop, x.rivalOf)
			x.dropRival()
			return
		}
	}
	switch c.Await() {
	case engine.ErrAgain:
	case nil:
		x.takeRival()
		x.run()
	default:
		if !x.rival.reused {
			x.cl.Failed(x.w.loop, x.rivalOf)
		}
		x.dropRival()
	}
}

// takeRival has the second endpoint be the exchange's.
func (x *exchange) takeRival() {
	x.up.unsound = true // it answers what nobody reads
	rival, ep := x.rival, x.rivalOf
	x.rival = nil
	ep.Local(x.w.loop).Detach(&x.rivalHeld)
	x.leave()
	x.tried = append(x.tried, x.ep)
	x.up, x.ep, x.sent = rival, ep, x.rivalSent
	x.hold()
	x.asked, x.lost = 0, nil // the first one's time says nothing of this one
	if !rival.conn.Dialling() {
		x.awaitUpstream()
	}
}

// dropRival parts with the second endpoint, if it was asked, or asks none.
func (x *exchange) dropRival() {
	x.hedgeAt.Stop()
	up := x.rival
	if up == nil {
		return
	}
	x.rival, up.x = nil, nil
	x.rivalOf.Local(x.w.loop).Detach(&x.rivalHeld)
	x.rivalOf.End(x.w.loop)
	up.HangUp()
}
