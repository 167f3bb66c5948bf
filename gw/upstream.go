package gw

import (
	"net/netip"
	"slices"

	"sluice/engine"
	"sluice/lb"
)

// upstream is a connection to an endpoint: an exchange's, or kept warm in its endpoint's Local.
type upstream struct {
	conn    *engine.Conn
	ep      *lb.Endpoint
	x       *exchange
	reused  bool // it has served an exchange before
	unsound bool // it is not to be used again
}

// dialUpstream takes a connection kept warm, if warm says that one will do, or dials.
func dialUpstream(l *engine.Loop, ep *lb.Endpoint, cl *lb.Cluster, client netip.AddrPort, warm bool) (*upstream, error) {
	for local := ep.Local(l); warm && len(local.Idle) > 0; {
		n := len(local.Idle) - 1
		up := local.Idle[n].Handler().(*upstream)
		local.Idle = local.Idle[:n]
		if up.conn.Readable() { // it has ended, and has not had its turn yet
			up.conn.Close()
			continue
		}
		up.reused = true
		return up, nil
	}
	up := &upstream{ep: ep}
	var err error
	up.conn, err = cl.Dial(l, ep, client, up)
	return up, err
}

// Connected implements engine.Handler.
func (up *upstream) Connected(_ *engine.Conn, err error) { up.x.connected(err) }

// Ready implements engine.Handler.
func (up *upstream) Ready(c *engine.Conn) {
	if up.x != nil {
		up.x.run()
	} else if c.Loop().Draining() || up.spoke() {
		up.close()
	}
}

// Timeout implements engine.Handler.
func (up *upstream) Timeout(*engine.Conn) {
	if up.x != nil {
		up.x.upstreamTimeout()
	} else {
		up.close()
	}
}

// spoke says that an idle connection has ended, or that the endpoint has sent what nobody asked for.
func (up *upstream) spoke() bool {
	_, err := up.conn.Read(up.conn.Loop().Scratch()[:1])
	return err != engine.ErrAgain
}

// park keeps the connection warm for the next exchange.
func (up *upstream) park(cfg *lb.Config) {
	l := up.conn.Loop()
	local := up.ep.Local(l)
	if up.ep.Leaving() || l.Draining() || len(local.Idle) >= cfg.MaxIdle || up.conn.Readable() && up.spoke() {
		up.conn.Close()
		return
	}
	local.Idle = append(local.Idle, up.conn)
	up.conn.SetTimeout(cfg.IdleTimeout)
}

// close ends an idle connection.
func (up *upstream) close() {
	local := up.ep.Local(up.conn.Loop())
	if i := slices.Index(local.Idle, up.conn); i >= 0 {
		local.Idle = slices.Delete(local.Idle, i, i+1)
	}
	up.conn.Close()
}
