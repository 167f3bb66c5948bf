package lb

import (
	"sync/atomic"

	"sluice/engine"
)

// Limits bounds what each endpoint has of the cluster's, over all loops; 0: no bound.
type Limits struct {
	// Requests bounds the sessions and exchanges in flight, as an endpoint's own maxconn does: the smaller holds.
	Requests int `yaml:"max_requests"`
	// Connections bounds the open connections, idle ones and those that are dialled included (http). Where it is reached by
	// connections that are idle on another loop, one of them is closed.
	Connections int `yaml:"max_connections"`
	// Pending bounds the connections that are dialled (http): an endpoint that does not answer holds up so many.
	Pending int `yaml:"max_pending"`
}

func (m *Limits) validate(report func(path, message string)) {
	for _, n := range []struct {
		key string
		n   int
	}{{"max_requests", m.Requests}, {"max_connections", m.Connections}, {"max_pending", m.Pending}} {
		if n.n < 0 {
			report(n.key, "must not be negative")
		}
	}
}

// most is the smaller of two bounds of which 0 is none.
func most(a, b int) int64 {
	if a == 0 || b > 0 && b < a {
		a = b
	}
	return int64(a)
}

// Overflow counts what was refused by each limit: a Take that found nobody counts for every endpoint that it would have
// had, and a Link that was not opened.
type Overflow struct{ Requests, Connections, Pending engine.Counter }

// Link is one upstream connection as its endpoint counts it. It is meant to be embedded in the connection's handler,
// belongs to its loop, and keeps what it has counted: to close it twice, or one that was not opened, does nothing.
//
// A handler of connections in Local.Idle that has a Link must have a method HangUp, which closes both: so are idle
// connections ended that have to make room, or whose endpoint is out of use.
type Link struct {
	ep      *Endpoint // nil: not counted
	pending bool
}

// Open counts a connection in that is about to be dialled; ErrFull if the endpoint has as many as it may. To make room,
// it closes one that is idle, of this loop at once.
func (k *Link) Open(c *Cluster, l *engine.Loop, ep *Endpoint) error {
	m, n := &c.cfg.Limits, ep.Local(l)
	if !increase(&ep.pending, m.Pending) {
		n.Overflow.Pending.Inc()
		return ErrFull
	}
	for !increase(&ep.connections, m.Connections) {
		if n.hangUp() {
			continue
		}
		ep.pending.Add(-1)
		n.Overflow.Connections.Inc()
		ep.reclaim(l.ID())
		return ErrFull
	}
	k.ep, k.pending = ep, true
	return nil
}

// increase counts one more, unless it would be more than most; 0: any number.
func increase(n *atomic.Int64, most int) bool {
	for {
		v := n.Load()
		if most > 0 && v >= int64(most) {
			return false
		}
		if n.CompareAndSwap(v, v+1) {
			return true
		}
	}
}

// Connected tells that the dial has come to a connection.
func (k *Link) Connected() {
	if k.pending {
		k.pending = false
		k.ep.pending.Add(-1)
		k.ep.left()
	}
}

// Close counts the connection out: it is closed, or could not be had.
func (k *Link) Close() {
	ep := k.ep
	if ep == nil {
		return
	}
	if k.pending {
		ep.pending.Add(-1)
	}
	*k = Link{}
	ep.connections.Add(-1)
	ep.left()
}

// left has those look again who wait for room.
func (ep *Endpoint) left() {
	if ep.shared.waiting.Load() > 0 {
		ep.shared.wake()
	}
}

// Connections is how many Links are open; Pending how many of them are dialled.
func (ep *Endpoint) Connections() int64 { return ep.connections.Load() }

// Pending is how many connections are being dialled.
func (ep *Endpoint) Pending() int64 { return ep.pending.Load() }

// connects says that an exchange of the id-th loop that is given to ep can have a connection: a warm one, or a new one.
func (m *Limits) connects(ep *Endpoint, id int) bool {
	switch {
	case len(ep.local[id].Idle) > 0:
		return true
	case m.Pending > 0 && ep.pending.Load() >= int64(m.Pending):
		return false
	case m.Connections > 0 && ep.connections.Load() >= int64(m.Connections):
		ep.reclaim(id)
		return false
	}
	return true
}

// overflow counts the limit for which e was refused on the id-th loop.
func (m *Limits) overflow(e *member, id int) {
	n := &e.local[id].Overflow
	switch {
	case e.max > 0 && e.InFlight() >= e.max:
		n.Requests.Inc()
	case m.Pending > 0 && e.pending.Load() >= int64(m.Pending):
		n.Pending.Inc()
	case m.Connections > 0 && e.connections.Load() >= int64(m.Connections):
		n.Connections.Inc()
	}
}

// overflow counts for those who were not out of the question for another reason.
func (q *query) overflow() {
	for i := range q.members {
		if !q.out(i) {
			q.limits.overflow(&q.members[i], q.id)
		}
	}
}

// reclaim has another loop than the id-th close an idle connection, if there seem to be some: who takes up a connection
// each is in flight. The one that is closed wakes those who wait.
func (ep *Endpoint) reclaim(id int) {
	if ep.connections.Load() <= ep.inFlight.Load() || !ep.reclaiming.CompareAndSwap(false, true) {
		return
	}
	var done atomic.Bool
	var asked atomic.Int64
	asked.Store(int64(len(ep.local)))
	for i, l := range ep.shared.engine {
		l.Post(func() {
			if i != id && !done.Load() && ep.local[i].hangUp() {
				done.Store(true)
			}
			if asked.Add(-1) == 0 {
				ep.reclaiming.Store(false)
			}
		})
	}
}

// hangUp closes the idle connection that was used longest ago; false if there is none.
func (n *Local) hangUp() bool {
	if len(n.Idle) == 0 {
		return false
	}
	c := n.Idle[0]
	n.Idle = append(n.Idle[:0], n.Idle[1:]...)
	hangUp(c)
	return true
}

// hangUp closes a connection that was idle.
func hangUp(c *engine.Conn) {
	if h, ok := c.Handler().(interface{ HangUp() }); ok {
		h.HangUp()
	} else {
		c.Close()
	}
}
