package gw

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"

	"sluice/engine"
	"sluice/gw/filter"
	"sluice/gw/forwarded"
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
	names   []string // of the routes
	targets []*target
	common  []filter.Filter // those of all routes
	trusted *forwarded.Trusted
	scheme  string // of requests, if no proxy says another
	calls   calls
	callers []caller    // by loop
	closers []io.Closer // filters that do something beside the loops
	workers *Workers
	stats   *Stats
	log     *slog.Logger
	stale   func(*Gateway) bool
	// sendProxy begins upstream connections with a PROXY header, whatever the cluster's configuration says.
	sendProxy lb.ProxyVersion
}

// Workers are the loops' states for HTTP; they outlive any configuration.
type Workers struct{ list []*worker }

// worker is one loop's state. Owned by the loop.
type worker struct {
	loop   *engine.Loop
	req    h1.Request
	resp   h1.Response
	out    []byte         // where heads and small responses are put together
	path   []byte         // room for the path that routes match
	match  []byte         // that path of the request at hand
	found  route.Captures // what its route captures of it
	who    forwarded.Result
	peer   netip.Addr // whom the connection is for
	parser parser
	head   []byte // of a request that goes on after it stood still, and what came of its body
	early  []byte
	// warming counts the connections that are dialled to be kept warm.
	warming map[*lb.Endpoint]int
	free    []*exchange
	rand    *rand.PCG
}

// NewWorkers prepares loops.
func NewWorkers(loops []*engine.Loop) *Workers {
	w := &Workers{}
	for _, l := range loops {
		w.list = append(w.list, &worker{loop: l, path: make([]byte, 0, h1.DefaultLimits.Line),
			warming: map[*lb.Endpoint]int{}, rand: rand.NewPCG(rand.Uint64(), rand.Uint64())})
	}
	return w
}

// New builds a gateway of a valid configuration. stale says whether another has taken its place since.
func New(cfg Config, sendProxy lb.ProxyVersion, routes []Route, clusters func(string) *lb.Cluster, workers *Workers, stats *Stats,
	stale func(*Gateway) bool, log *slog.Logger) *Gateway {
	g := &Gateway{cfg: cfg.withDefaults(), limits: h1.DefaultLimits, workers: workers, stats: stats, stale: stale,
		sendProxy: sendProxy, log: log}
	g.limits.Slashes = cfg.Slashes
	if g.scheme = "http"; cfg.Secure {
		g.scheme = "https"
	}
	g.trusted = forwarded.New(cfg.Trusted)
	g.calls.clusters = map[string]*lb.Cluster{}
	for _, w := range workers.list {
		g.callers = append(g.callers, caller{g, w})
	}
	var all []filter.Filter
	var allNames []string
	allCall, allMatched := false, false
	for k := range g.cfg.Filters {
		f := &g.cfg.Filters[k]
		all, allNames = append(all, filter.New(*f)), append(allNames, f.Name())
		f.ClusterNames(func(_, name string) { g.calls.clusters[name], allCall = clusters(name), true })
		allMatched = allMatched || f.WantsMatched()
		if c, ok := all[k].(io.Closer); ok {
			g.closers = append(g.closers, c)
		}
	}
	g.common = all
	entries := make([]route.Entry[*target], len(routes))
	for i := range routes {
		r := &routes[i]
		entries[i] = route.Entry[*target]{Match: r.Match, Value: newTarget(r, all, allNames, clusters, stats.Route(r.String()))}
		t := entries[i].Value
		g.targets = append(g.targets, t)
		t.calls = t.calls || allCall
		t.wantsMatched = t.wantsMatched || allMatched
		for k := range r.Filters {
			r.Filters[k].ClusterNames(func(_, name string) { g.calls.clusters[name] = clusters(name) })
		}
		for _, f := range t.filters[t.own:] {
			if c, ok := f.(io.Closer); ok {
				g.closers = append(g.closers, c)
			}
		}
		g.names = append(g.names, r.String())
		g.limits.Connect = g.limits.Connect || r.Connect
	}
	var err error
	if g.routes, err = route.Build(entries); err != nil {
		panic("BUG: routes that are not valid: " + err.Error())
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

// chance is a random number from 0 to 1.
func (w *worker) chance() float64 { return float64(w.rand.Uint64()>>11) / (1 << 53) }

// keepExchanges bounds a loop's free exchanges, some 500 bytes each, and more with a filter's context.
const keepExchanges = 1024

func (w *worker) release(x *exchange) {
	for _, b := range [][]byte{x.request, x.partial, x.toClient, x.pause.head, x.pause.early} {
		w.loop.PutBuffer(b)
	}
	x.endFilters()
	clear(x.tried)
	*x = exchange{w: w, id: x.id[:0], ctx: x.ctx, shown: x.shown, hopUp: x.hopUp[:0], hopDown: x.hopDown[:0],
		filtering: filtering{resumeFilters: x.resumeFilters, transforms: x.transforms[:0]},
		attempt: attempt{tried: x.tried[:0], held: lb.Held{Abort: x.held.Abort},
			rivalry: rivalry{rivalHeld: lb.Held{Abort: x.rivalHeld.Abort}}}}
	if len(w.free) < keepExchanges {
		w.free = append(w.free, x)
	}
}
