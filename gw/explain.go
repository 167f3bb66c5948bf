package gw

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"

	"sluice/engine"
	"sluice/gw/filter"
	"sluice/gw/h1"
	"sluice/lb"
)

// farRoutes is how many of the routes that are for other hosts and paths Explain names.
const farRoutes = 5

// Explain writes what the gateway would do with a request, of which head is all to the empty line, on a connection from peer:
// the routes that are considered and why each lost, the filters with their effect, the endpoint and why it is the one.
// Nothing is sent or counted. On loop l, whose clusters' states it looks at, or while no loop runs.
func (g *Gateway) Explain(w io.Writer, l *engine.Loop, head []byte, peer netip.AddrPort) {
	wk := &worker{loop: l, path: make([]byte, 0, h1.DefaultLimits.Line), rand: rand.NewPCG(1, 2)}
	x := &exchange{w: wk, d: &downstream{gw: g}}
	q := &wk.req
	if _, err := q.Scan(head, &h1.Resume{}, &g.limits); err != nil {
		e, refused := err.(*h1.Error)
		if !refused {
			e = &h1.Error{Status: 408, Reason: "request head is not whole"}
		}
		fmt.Fprintf(w, "refused: %d %s\n", e.Status, e.Reason)
		return
	}
	x.asks()
	x.id = wk.requestID(nil)
	x.identify(peer)
	wk.match = h1.MatchPath(q.Path, wk.path)
	fmt.Fprintf(w, "client   %s", x.client.Addr())
	if x.client.Addr() != peer.Addr() {
		fmt.Fprintf(w, ", as the trusted proxy %s says", peer.Addr())
	}
	fmt.Fprintf(w, "\nrequest  %s %s%s of host %s\n", q.Method, q.Path, q.Query, q.Hostname())
	if !bytes.Equal(wk.match, q.Path) {
		fmt.Fprintf(w, "         matched as %s\n", wk.match)
	}
	fmt.Fprintf(w, "\nroutes\n")
	list, others := g.routes.Explain(q, q.Hostname(), wk.match, x.client.Addr(), farRoutes)
	for _, c := range list {
		mark := "  "
		if c.Won {
			mark = "→ "
		}
		fmt.Fprintf(w, "%s#%d %s: %s\n", mark, c.Index, g.names[c.Index], c.Why)
	}
	if others > 0 {
		fmt.Fprintf(w, "  %d others: host or path differ\n", others)
	}
	t, ok := g.routes.Find(q, q.Hostname(), wk.match, x.client.Addr(), &wk.found)
	if !ok {
		fmt.Fprintf(w, "  none matches: 404\n")
		return
	}
	x.target = t
	if x.tunnels {
		if !t.connect {
			fmt.Fprintf(w, "\nrefused: 405 the route does not allow CONNECT\n")
			return
		}
	} else if len(q.Upgrade) > 0 {
		if x.offer = t.upgrade(q.Upgrade); len(x.offer) == 0 {
			fmt.Fprintf(w, "\nupgrade  %s is not allowed by the route, and not passed on\n", q.Upgrade)
		} else {
			fmt.Fprintf(w, "\nupgrade  %s is passed on\n", x.offer)
		}
	}
	wk.out = x.appendRequest(nil)
	if !x.tunnels && !x.explainFilters(w) {
		return
	}
	x.timeFor(t)
	if len(t.clusters) == 0 {
		fmt.Fprintf(w, "\nno cluster: 404\n")
		return
	}
	x.explainCluster(w, peer)
	if !x.tunnels {
		x.request = x.appendRequestEnd(wk.out)
		if x.by.toldAt > 0 {
			x.tell()
		}
		fmt.Fprintf(w, "\nsent\n%s", indent(x.request))
	}
}

// explainFilters says what each filter does to the head in the worker; false if one answers.
func (x *exchange) explainFilters(w io.Writer) bool {
	t := x.target
	if len(t.filters) == 0 {
		return true
	}
	fmt.Fprintf(w, "\nfilters\n")
	if err := x.readHead(); err != nil {
		fmt.Fprintf(w, "  the head cannot be parsed: 400\n")
		return false
	}
	before := lines(x.appendFiltered(nil))
	for i, f := range t.filters {
		fmt.Fprintf(w, "  %d %s\n", i, t.filterNames[i])
		if f.Request(x.ctx) == filter.Answer {
			fmt.Fprintf(w, "      answers %d\n", x.ctx.Response.StatusCode())
			for k, v := range x.ctx.Response.Header.All() {
				if !framed.Has(h1.KindOf(k)) {
					fmt.Fprintf(w, "      %s: %s\n", k, v)
				}
			}
			return false
		}
		after := lines(x.appendFiltered(nil))
		for _, s := range missing(before, after) {
			fmt.Fprintf(w, "    - %s\n", s)
		}
		for _, s := range missing(after, before) {
			fmt.Fprintf(w, "    + %s\n", s)
		}
		before = after
	}
	x.w.out = x.appendFiltered(nil)
	return true
}

func lines(b []byte) []string { return strings.Split(strings.TrimSpace(string(b)), "\r\n") }

// missing are the lines of a that b has not, as often as a has them.
func missing(a, b []string) (out []string) {
	count := map[string]int{}
	for _, s := range b {
		count[s]++
	}
	for _, s := range a {
		if count[s]--; count[s] < 0 {
			out = append(out, s)
		}
	}
	return out
}

func indent(b []byte) string { return "  " + strings.Join(lines(b), "\n  ") + "\n" }

// explainCluster says which cluster and endpoint the request goes to.
func (x *exchange) explainCluster(w io.Writer, peer netip.AddrPort) {
	t, l := x.target, x.w.loop
	x.cl = t.clusters[0]
	fmt.Fprintf(w, "\ncluster  ")
	switch {
	case t.split == nil:
		fmt.Fprintf(w, "%s\n", x.cl.Name())
	case t.splitBy == nil:
		fmt.Fprintf(w, "by chance, of %s; what follows is of the first\n", names(t.clusters))
	default:
		hash := x.splitHash()
		x.cl = t.clusters[t.split.Pick(hash)]
		fmt.Fprintf(w, "%s, of %s by hash %016x\n", x.cl.Name(), names(t.clusters), hash)
	}
	if t.mirror != nil {
		fmt.Fprintf(w, "mirror   %s, %g %% of the requests\n", t.mirror.Name(), 100*t.mirrorPart)
	}
	cfg := x.cl.Config()
	if s := x.cl.Sticky(); s != nil {
		fmt.Fprintf(w, "sticky   ")
		if x.findSticky(); x.kept != nil {
			fmt.Fprintf(w, "the cookie names %s\n", x.kept)
		} else {
			fmt.Fprintf(w, "no valid cookie: one is set\n")
		}
	}
	fmt.Fprintf(w, "endpoint ")
	x.hash = x.place(peer)
	ep := x.kept
	if ep == nil && cfg.Picker.Hashes() {
		ep = x.cl.Pick(l, x.hash, nil)
	}
	switch {
	case x.cl.Eligible() == 0:
		fmt.Fprintf(w, "none is up: 503\n")
	case x.kept != nil:
		fmt.Fprintf(w, "%s, by its cookie\n", ep)
	case cfg.Picker.Hashes() && ep == nil:
		fmt.Fprintf(w, "every one has as much as it may: 503\n")
	case cfg.Picker.Hashes():
		fmt.Fprintf(w, "%s, by %s of %s, hash %016x\n", ep, cfg.Picker, x.key(), x.hash)
	default:
		fmt.Fprintf(w, "one of %d, by %s\n", x.cl.Eligible(), cfg.Picker)
	}
	for _, e := range x.cl.Endpoints() {
		mark, state := "  ", "up"
		if e == ep {
			mark = "→ "
		}
		switch {
		case len(e.Addrs()) == 0:
			state = "its name is not resolved"
		case e.Leaving():
			state = "takes nothing new"
		case e.Ejected():
			state = "ejected for what it did"
		case !e.Healthy():
			state = "down by its checks"
		}
		fmt.Fprintf(w, "%s%s: %s, %d in flight\n", mark, e, state, e.InFlight())
	}
}

// key is what the cluster's picker places the request by.
func (x *exchange) key() string {
	by, key := x.cl.HashKey(), string(x.cl.Config().HashKey)
	switch v := valueOf(&x.w.req, by); {
	case !by.OfRequest():
		return key
	case len(v) == 0:
		return key + ", which it has not, so of the client's address"
	default:
		return fmt.Sprintf("%s %q", key, v)
	}
}

func names(clusters []*lb.Cluster) string {
	out := make([]string, len(clusters))
	for i, c := range clusters {
		out[i] = c.Name()
	}
	return strings.Join(out, ", ")
}
