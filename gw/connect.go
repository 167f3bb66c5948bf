package gw

import (
	"errors"

	"sluice/engine"
	"sluice/lb"
	"sluice/lb/proxyproto"
)

// How an exchange comes to a connection: it takes an endpoint, or waits for one that has room, and a warm connection or
// a new one, whose endpoint may want to be told who the client is. An endpoint that cannot be reached is left for another.

// maxTries times the connect timeout bounds the search for an endpoint that answers.
const maxTries = 3

// search finds the exchange a connection, with all the time that it may take before it, and goes on.
func (x *exchange) search() {
	x.until = x.w.loop.Now() + maxTries*x.target.cluster.Config().ConnectTimeout
	if x.connect(nil) {
		x.run()
	}
}

// connect gives the exchange a connection: the one used last of those kept warm, or a new one. why is what the last
// dial failed of. false: it has ended.
func (x *exchange) connect(why error) bool {
	l, cl := x.w.loop, x.target.cluster
	for len(x.tried) == 0 || l.Now() < x.until {
		ep, err := cl.Take(l, x.hash, x.tried)
		if err == lb.ErrFull && x.queue() {
			// Somebody may have left before the exchange stood in the queue for others to see.
			if ep, err = cl.Take(l, x.hash, x.tried); err != nil {
				return true
			}
		}
		if err != nil {
			if why == nil || err == lb.ErrFull {
				why = err
			}
			break
		}
		x.unqueue()
		if len(x.tried) > 0 {
			x.d.gw.counters(l).Retries.Inc()
		}
		if cl.Timed() {
			x.asked = l.Clock()
		}
		up, err := dialUpstream(l, ep, cl, lb.ClientOf(x.d.conn), !x.fresh && x.introduces() == "")
		if err == nil {
			x.up, x.ep, up.x = up, ep, x
			return true
		}
		why = err
		ep.End(l)
		x.unreachable(ep)
	}
	x.noEndpoint(why)
	return false
}

func (x *exchange) unreachable(ep *lb.Endpoint) {
	x.target.cluster.ConnectFailed(x.w.loop, ep)
	x.tried = append(x.tried, ep)
}

// queue has the exchange wait for an endpoint that has room; false if it cannot.
func (x *exchange) queue() bool {
	again := x.wait != nil
	if !again {
		x.wait = &lb.Waiter{Retry: x.search}
	}
	if !x.target.cluster.Wait(x.w.loop, x.wait, again) {
		x.wait = nil
		return false
	}
	if !again {
		x.d.conn.SetTimeout(x.target.cluster.Config().Queue.Timeout)
	}
	return true
}

// unqueue ends the exchange's wait, if it has waited.
func (x *exchange) unqueue() {
	if x.wait != nil {
		x.target.cluster.Leave(x.w.loop, x.wait)
		x.wait = nil
		x.setDeadline()
	}
}

// connected tells how the dial went.
func (x *exchange) connected(err error) {
	if err == nil && x.introduce() {
		x.run()
		return
	}
	x.leave()
	x.unreachable(x.ep)
	if x.connect(err) {
		x.run()
	}
}

// introduces is the version of the PROXY header that the upstream connection begins with; empty: none.
func (x *exchange) introduces() lb.ProxyVersion {
	if v := x.d.gw.sendProxy; v != "" {
		return v
	}
	return x.target.cluster.Config().SendProxyProtocol
}

// introduce tells the endpoint who the client is, if it wants to know: the connection is for this client alone then.
func (x *exchange) introduce() bool {
	v := x.introduces()
	if v == "" {
		return true
	}
	x.up.unsound = true
	return lb.Introduce(x.up.conn, x.d.conn, v, proxyproto.Header{})
}

func (x *exchange) noEndpoint(why error) {
	switch {
	case errors.Is(why, engine.ErrDialTimeout):
		x.reply(504, "no endpoint answered in time")
	case why == lb.ErrFull:
		x.reply(503, "every endpoint is busy")
	default:
		x.reply(503, "no endpoint can be reached")
	}
}
