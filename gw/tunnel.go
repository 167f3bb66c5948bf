package gw

import (
	"errors"

	"sluice/engine"
	"sluice/gw/h1"
	"sluice/lb"
)

// tunnel is what an exchange becomes when its connections change to another protocol: a WebSocket, or what CONNECT asked
// for. Its bytes are relayed, unseen, until both sides have ended, nothing has moved for the tunnel timeout, or its
// endpoint's time to drain is over. Owned by the loop.
type tunnel struct {
	relay engine.Relay
	held  lb.Held
	loop  *engine.Loop
	ep    *lb.Endpoint
	up    *upstream
	count *Counters
}

var errEvicted = errors.New("endpoint takes no sessions any more")

// upgrade is the first protocol of the route's that the client offers to change to; nil if the route allows none of them:
// what comes behind such a request is another one.
func (t *target) upgrade(offer []byte) []byte {
	for _, name := range t.upgrades {
		if h1.Offers(offer, name) {
			return name
		}
	}
	return nil
}

// tunnel ends the exchange: both connections go on without it. toClient is what the client gets first; what it has sent
// after its request is the endpoint's.
func (x *exchange) tunnel(status int, toClient []byte) {
	l, d, up := x.w.loop, x.d, x.up
	x.count(status)
	x.measure()
	t := &tunnel{loop: l, ep: x.ep, up: up, count: d.gw.counters(l)}
	t.count.Tunnels.Inc()
	t.held.Abort = func() { t.relay.Abort(errEvicted) }
	x.unhold()
	t.ep.Local(l).Attach(&t.held)
	t.relay.Prime(toClient, d.in[d.off:])
	x.up, up.x = nil, nil
	x.w.release(x)
	d.x = nil
	t.relay.Start(d.conn, up.conn, d.gw.cfg.TunnelTimeout, t)
	d.dropInput()
}

// Ended implements engine.RelayOwner.
func (t *tunnel) Ended(r *engine.Relay, _ error) {
	local := t.ep.Local(t.loop)
	local.Detach(&t.held)
	fromClient, toClient := r.Bytes()
	local.Sent.Add(fromClient)
	local.Received.Add(toClient)
	t.up.Link.Close()
	t.ep.End(t.loop)
	t.count.TunnelsEnded.Inc()
}
