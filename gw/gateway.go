package gw

import (
	"log/slog"
	"math/rand/v2"

	"sluice/engine"
	"sluice/gw/filter"
	"sluice/gw/h1"
	"sluice/gw/route"
	"sluice/lb"
)

// Gateway is what an http listener does with its connections. It is immutable; a connection keeps the one that it
// started with until it is asked to go.
type Gateway struct {
	cfg     Config
	limits  h1.Limits
	routes  *route.Table[*target]
	workers *Workers
	stats   *Stats
	log     *slog.Logger
	stale   func(*Gateway) bool
	// sendProxy begins upstream connections with a PROXY header, whatever the cluster's configuration says.
	sendProxy lb.ProxyVersion
}

// target is a route, ready for use.
type target struct {
	filters []filter.Filter
	cluster *lb.Cluster
}

// Workers are the loops' states for HTTP; they outlive any configuration.
type Workers struct{ list []*worker }

// worker is one loop's state. Owned by the loop.
type worker struct {
	loop   *engine.Loop
	req    h1.Request
	resp   h1.Response
	out    []byte // where heads and small responses are put together
	path   []byte
	parser parser
	free   []*exchange
	rand   *rand.PCG
}

// NewWorkers prepares loops.
func NewWorkers(loops []*engine.Loop) *Workers {
	w := &Workers{}
	for _, l := range loops {
		w.list = append(w.list, &worker{loop: l, path: make([]byte, 0, h1.DefaultLimits.Line), rand: rand.NewPCG(rand.Uint64(), rand.Uint64())})
	}
	return w
}

// Stats are a listener's totals by loop; they outlive a reload.
type Stats struct{ Loops []Counters }

// Counters is one loop's share, written by it alone.
type Counters struct {
	_ [64]byte
	// Requests have got a response of each class, 1xx excluded: [2] counts 2xx.
	Responses [6]engine.Counter
	// Refused requests were malformed or against a limit; Aborted exchanges ended without a whole response.
	Refused, Aborted, Retries, Timeouts engine.Counter
	_                                   [64]byte
}

// New builds a gateway of a valid configuration. stale says whether another has taken its place since.
func New(cfg Config, sendProxy lb.ProxyVersion, routes []Route, clusters func(string) *lb.Cluster, workers *Workers, stats *Stats,
	stale func(*Gateway) bool, log *slog.Logger) *Gateway {
	g := &Gateway{cfg: cfg.withDefaults(), limits: h1.DefaultLimits, routes: route.New[*target](), workers: workers,
		stats: stats, stale: stale, sendProxy: sendProxy, log: log}
	for _, r := range routes {
		t := &target{}
		for _, f := range r.Filters {
			t.filters = append(t.filters, filter.New(f))
		}
		if r.Cluster != "" {
			t.cluster = clusters(r.Cluster)
		}
		g.routes.Add(r.Match, t)
	}
	return g
}

// Accept implements engine.Acceptor.
func (g *Gateway) Accept(c *engine.Conn) {
	d := &downstream{conn: c, gw: g}
	c.SetHandler(d)
	c.SetTimeout(g.cfg.HeaderTimeout)
}

func (g *Gateway) worker(l *engine.Loop) *worker     { return g.workers.list[l.ID()] }
func (g *Gateway) counters(l *engine.Loop) *Counters { return &g.stats.Loops[l.ID()] }

func (w *worker) exchange() *exchange {
	if n := len(w.free); n > 0 {
		x := w.free[n-1]
		w.free = w.free[:n-1]
		return x
	}
	return &exchange{w: w}
}

// keepExchanges bounds a loop's free exchanges, some 500 bytes each, and more with a filter's context.
const keepExchanges = 1024

func (w *worker) release(x *exchange) {
	for _, b := range [][]byte{x.request, x.partial, x.toClient} {
		w.loop.PutBuffer(b)
	}
	clear(x.tried)
	*x = exchange{w: w, id: x.id[:0], ctx: x.ctx, tried: x.tried[:0]}
	if len(w.free) < keepExchanges {
		w.free = append(w.free, x)
	}
}
