package gw

import (
	"context"
	"net/netip"
	"time"

	"sluice/engine"
	"sluice/lb"
)

// warmEvery is how often it is looked whether a cluster's endpoints have as many warm connections as they are to have.
const warmEvery = time.Second

// KeepWarm keeps connections open ahead to the cluster's endpoints, as many as its configuration says, until ctx ends. It
// returns at once if that is none, or if each begins with its client's address.
func (ws *Workers) KeepWarm(ctx context.Context, cl *lb.Cluster) {
	if cl.Config().Warm == 0 || cl.Config().SendProxyProtocol != "" {
		return
	}
	t := time.NewTicker(warmEvery)
	defer t.Stop()
	for {
		list := cl.Endpoints()
		for _, w := range ws.list {
			w.loop.Post(func() { w.warm(cl, list) })
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// warm dials what is missing, on the loop.
func (w *worker) warm(cl *lb.Cluster, list []*lb.Endpoint) {
	for _, ep := range list {
		for ep.Usable() && len(ep.Local(w.loop).Idle)+w.warming[ep] < cl.Config().Warm && !w.loop.Draining() {
			h := &warming{w: w, cl: cl, ep: ep}
			var err error
			if h.up, err = dialUpstream(w.loop, ep, cl, netip.AddrPort{}, false, nil); err != nil {
				break
			}
			h.up.conn.SetHandler(h)
			w.warming[ep]++
		}
	}
}

// warming is a connection on its way to be kept warm.
type warming struct {
	w  *worker
	cl *lb.Cluster
	ep *lb.Endpoint
	up *upstream
}

// Connected implements engine.Handler. A failure is none of anybody's requests: checks and requests find out for themselves.
func (h *warming) Connected(c *engine.Conn, err error) {
	if h.w.warming[h.ep]--; h.w.warming[h.ep] == 0 {
		delete(h.w.warming, h.ep)
	}
	h.up.dialled(err)
	if err == nil {
		c.SetHandler(h.up)
		h.up.park(h.cl.Config())
	}
}

// Ready implements engine.Handler.
func (h *warming) Ready(*engine.Conn) {}

// Timeout implements engine.Handler.
func (h *warming) Timeout(*engine.Conn) {}
