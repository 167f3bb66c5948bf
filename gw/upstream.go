package gw

import (
	"crypto/tls"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"sluice/engine"
	"sluice/lb"
)

// upstream is a connection to an endpoint: an exchange's, or kept warm in its endpoint's Local.
type upstream struct {
	lb.Link
	conn    *engine.Conn
	ep      *lb.Endpoint
	x       *exchange
	until   time.Duration // it is not used after this, on the loop's clock; 0: for as long as it lives
	uses    int           // exchanges that it has served
	reused  bool          // it has served an exchange before
	unsound bool          // it is not to be used again
	secured *tls.Config   // as which it speaks TLS; nil: it does not
}

// dialUpstream takes a connection kept warm, if warm says that one will do, or dials. introduce is for cl.Dial.
func dialUpstream(l *engine.Loop, ep *lb.Endpoint, cl *lb.Cluster, client netip.AddrPort, warm bool, introduce func(*engine.Conn) bool) (*upstream, error) {
	secured := cl.TLSConfig(ep)
	for local := ep.Local(l); warm && len(local.Idle) > 0; {
		n := len(local.Idle) - 1
		up := local.Idle[n].Handler().(*upstream)
		local.Idle = local.Idle[:n]
		// It has ended, and has not had its turn yet; or the cluster's configuration has another idea of TLS since.
		if up.conn.Readable() && up.conn.Await() != engine.ErrAgain || up.old() || up.secured != secured {
			up.HangUp()
			continue
		}
		up.reused = true
		up.conn.SetTimeout(0) // it is idle no more
		return up, nil
	}
	up := &upstream{ep: ep, secured: secured}
	if err := up.Link.Open(cl, l, ep); err != nil {
		return nil, err
	}
	if age := cl.Config().MaxAge; age > 0 {
		up.until = l.Now() + age - time.Duration(rand.Int64N(int64(age)/10+1)) // so that they do not end together
	}
	var err error
	if up.conn, err = cl.Dial(l, ep, client, introduce, up); err != nil {
		up.Link.Close()
	}
	return up, err
}

// dialled is told how the dial went.
func (up *upstream) dialled(err error) {
	if err != nil {
		up.Link.Close()
	} else {
		up.Link.Connected()
	}
}

// HangUp ends the connection.
func (up *upstream) HangUp() {
	up.Link.Close()
	up.conn.Close()
}

// Connected implements engine.Handler.
func (up *upstream) Connected(_ *engine.Conn, err error) {
	up.dialled(err)
	if x := up.x; up == x.rival {
		x.rivalConnected(err)
	} else {
		x.connected(err)
	}
}

// Ready implements engine.Handler.
func (up *upstream) Ready(c *engine.Conn) {
	if x := up.x; x != nil && up == x.rival {
		x.rivalReady()
	} else if x != nil {
		x.run()
	} else if c.Loop().Draining() || up.spoke() {
		up.discard()
	}
}

// Timeout implements engine.Handler.
func (up *upstream) Timeout(*engine.Conn) {
	if x := up.x; x != nil && up == x.rival {
		x.dropRival()
	} else if x != nil {
		x.upstreamTimeout()
	} else {
		up.discard()
	}
}

// spoke says that an idle connection has ended, or that the endpoint has sent what nobody asked for.
func (up *upstream) spoke() bool {
	return up.conn.Await() != engine.ErrAgain
}

// park keeps the connection warm for the next exchange.
func (up *upstream) park(cfg *lb.Config) {
	l := up.conn.Loop()
	local := up.ep.Local(l)
	up.uses++
	if up.ep.Leaving() || l.Draining() || up.old() || cfg.MaxUses > 0 && up.uses >= cfg.MaxUses ||
		len(local.Idle) >= cfg.MaxIdle || up.conn.Readable() && up.spoke() {
		up.HangUp()
		return
	}
	local.Idle = append(local.Idle, up.conn)
	up.conn.SetTimeout(cfg.IdleTimeout)
}

// discard ends an idle connection.
func (up *upstream) discard() {
	local := up.ep.Local(up.conn.Loop())
	if i := slices.Index(local.Idle, up.conn); i >= 0 {
		local.Idle = slices.Delete(local.Idle, i, i+1)
	}
	up.HangUp()
}

// old says that the connection has lived for as long as it may.
func (up *upstream) old() bool { return up.until > 0 && up.conn.Loop().Now() >= up.until }
