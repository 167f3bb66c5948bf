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
	x.until = x.w.loop.Now() + maxTries*x.cl.Config().ConnectTimeout
	if x.connect(nil) {
		x.run()
	}
}

// connect gives the exchange a connection: the one used last of those kept warm, or a new one. why is what the last
// dial failed of. false: it has ended, or waits.
func (x *exchange) connect(why error) bool {
	l, cl := x.w.loop, x.cl
	for len(x.tried) == 0 || l.Now() < x.until {
		ep, err := x.take()
		if err == lb.ErrFull && x.queue() {
			// Somebody may have left before the exchange stood in the queue for others to see.
			if ep, err = x.take(); err != nil {
				return false
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
		up, err := dialUpstream(l, ep, cl, lb.ClientOf(x.d.conn), !x.fresh && x.d.gw.introduces(cl) == "", x.introduction())
		if err == nil {
			x.up, x.ep, up.x = up, ep, x
			x.hold()
			return true
		}
		ep.End(l)
		why = err
		if err == lb.ErrFull {
			x.tried = append(x.tried, ep)
			continue
		}
		x.unreachable(ep)
	}
	x.noEndpoint(why)
	return false
}

// take counts the exchange in at an endpoint: the one that the client's cookie names, if it may be used, or whom the
// picker chooses.
func (x *exchange) take() (*lb.Endpoint, error) {
	if s := x.cl.Sticky(); s != nil && x.kept != nil {
		if err := x.cl.TakeEndpoint(x.w.loop, x.kept, x.tried); err == nil {
			return x.kept, nil
		}
	}
	return x.cl.Take(x.w.loop, x.hash, x.tried)
}

// hold has the endpoint end the exchange when its sessions are ended; unhold takes that back.
func (x *exchange) hold() {
	if x.held.Abort == nil {
		x.held.Abort = x.evicted
	}
	x.ep.Local(x.w.loop).Attach(&x.held)
}

func (x *exchange) unhold() { x.ep.Local(x.w.loop).Detach(&x.held) }

func (x *exchange) unreachable(ep *lb.Endpoint) {
	x.cl.ConnectFailed(x.w.loop, ep)
	x.tried = append(x.tried, ep)
}

// queue has the exchange wait for an endpoint that has room; false if it cannot.
func (x *exchange) queue() bool {
	again := x.wait != nil
	if !again {
		x.wait = &lb.Waiter{Retry: x.search}
	}
	if !x.cl.Wait(x.w.loop, x.wait, again) {
		x.wait = nil
		return false
	}
	if !again {
		x.by.queue = x.w.loop.Now() + x.cl.Config().Queue.Timeout
		x.arm()
	}
	return true
}

// unqueue ends the exchange's wait, if it has waited.
func (x *exchange) unqueue() {
	if x.wait != nil {
		x.cl.Leave(x.w.loop, x.wait)
		x.wait = nil
		x.by.queue = 0
		x.arm()
	}
}

// connected tells how the dial went.
func (x *exchange) connected(err error) {
	if err == nil && x.introduce(x.up) {
		if x.tunnels {
			x.w.out = append(x.w.out[:0], established...)
			x.tunnel(200, x.w.out)
			return
		}
		x.run()
		return
	}
	if err == nil {
		err = x.up.conn.Failure()
	}
	x.leave()
	x.unreachable(x.ep)
	if x.connect(err) {
		x.run()
	}
}

// introduces is the version of the PROXY header that connections to a cluster begin with; empty: none.
func (g *Gateway) introduces(cl *lb.Cluster) lb.ProxyVersion {
	if v := g.sendProxy; v != "" {
		return v
	}
	return cl.Config().SendProxyProtocol
}

// introduction is introduce, for a cluster that is to be told before it is spoken to in TLS; nil: it is not told.
func (x *exchange) introduction() func(*engine.Conn) bool {
	v := x.d.gw.introduces(x.cl)
	if v == "" || !x.cl.Secure() {
		return nil
	}
	client := x.d.conn
	return func(up *engine.Conn) bool { return lb.Introduce(up, client, v, proxyproto.Header{}) }
}

// introduce tells the endpoint who the client is, if it wants to know: the connection is for this client alone then.
func (x *exchange) introduce(up *upstream) bool {
	v := x.d.gw.introduces(x.cl)
	if v == "" {
		return true
	}
	up.unsound = true
	if x.cl.Secure() {
		return true // it was
	}
	return lb.Introduce(up.conn, x.d.conn, v, proxyproto.Header{})
}

func (x *exchange) noEndpoint(why error) {
	switch {
	case errors.Is(why, engine.ErrDialTimeout):
		x.reply(504, "no endpoint answered in time")
	case why == lb.ErrFull:
		x.reply(503, "every endpoint is busy")
	case why == lb.ErrShed:
		x.d.gw.counters(x.w.loop).Shed.Inc()
		x.reply(503, "too many requests are under way")
	default:
		x.reply(503, "no endpoint can be reached")
	}
}
