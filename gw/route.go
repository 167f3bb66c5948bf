package gw

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
	"sluice/gw/h1"
	"sluice/gw/route"
	"sluice/gw/split"
	"sluice/lb"
)

// Route is match → filters → cluster.
type Route struct {
	// Name is the route's in metrics and explanations; not given: what it matches.
	Name    string          `yaml:"name"`
	Match   route.Match     `yaml:"match"`
	Filters []filter.Config `yaml:"filters"`
	Cluster string          `yaml:"cluster"`
	// Clusters are taken in Cluster's place, by their weights: a canary beside what it is to replace. SplitBy keeps a
	// client with one of them; not given: by chance.
	Clusters []split.Config `yaml:"clusters"`
	SplitBy  lb.HashKey     `yaml:"split_by"`
	Mirror   *MirrorConfig  `yaml:"mirror"`
	// Timeout bounds the whole exchange, from the end of the request's head to the end of the response; the endpoint is
	// told what is left of it. 0: 1 h, of which it is not told; a stream of events has no bound then.
	Timeout time.Duration `yaml:"timeout"`
	// Upgrades are the protocols that connections may change to; not given: websocket. none: none.
	Upgrades []string `yaml:"upgrades"`
	// Bare routes are not seen by the listener's filters, which could stand in the way of what a process answers for itself.
	Bare bool `yaml:"-"`
	// Connect answers CONNECT by a tunnel to an endpoint of the cluster, whatever host was asked for: see Match.
	Connect bool `yaml:"connect"`
}

// Validate reports what is wrong with r, by the path of the key.
func (r *Route) Validate(report func(path, message string)) {
	r.Match.Validate(func(p, m string) { report("match."+p, m) })
	answers := validateFilters(r.Filters, r.Match.PathPrefix != "", captured(&r.Match), report)
	switch {
	case r.Cluster != "" && len(r.Clusters) > 0:
		report("clusters", "a route has a cluster or clusters, not both")
	case !answers && r.Cluster == "" && len(r.Clusters) == 0:
		report("match", "the route needs a cluster, or a filter that answers")
	}
	if len(r.Clusters) > 0 {
		split.Validate(r.Clusters, func(p, m string) { report("clusters"+p, m) })
	}
	if r.SplitBy != "" {
		if len(r.Clusters) == 0 {
			report("split_by", "is for a route with clusters")
		}
		by, err := r.SplitBy.By()
		switch {
		case err != nil:
			report("split_by", err.Error())
		case !by.OfRequest() && by.Kind != lb.HashClientIP:
			report("split_by", "is client_ip, path, header:NAME, cookie:NAME or query:NAME")
		}
	}
	if m := r.Mirror; m != nil && m.Percent != nil && !(*m.Percent >= 0 && *m.Percent <= 100) {
		report("mirror.percent", fmt.Sprintf("%v: 0 to 100 percent", *m.Percent))
	}
	if r.Timeout < 0 {
		report("timeout", "must not be negative")
	}
	for i, u := range r.Upgrades {
		switch {
		case !h1.ValidProtocol(u):
			report(fmt.Sprintf("upgrades[%d]", i), fmt.Sprintf("%q is not a protocol's name", u))
		case strings.EqualFold(u, "h2c"):
			report(fmt.Sprintf("upgrades[%d]", i), "h2c would carry requests past the routes")
		case u == "none" && len(r.Upgrades) > 1:
			report(fmt.Sprintf("upgrades[%d]", i), "none stands alone")
		}
	}
	if r.Connect && len(r.Filters) > 0 {
		report("filters", "a tunnel has no heads to filter")
	}
}

// validateFilters reports what is wrong with a list under the key filters, of a match that has a path_prefix and captures these
// names. It says whether one of them answers every request.
func validateFilters(list []filter.Config, prefix bool, captured []string, report func(path, message string)) (answers bool) {
	for i := range list {
		at := "filters[" + strconv.Itoa(i) + "]"
		said := func(p, m string) {
			if p != "" {
				p = "." + p
			}
			report(at+p, m)
		}
		list[i].Validate(said)
		list[i].ValidateMatch(prefix, captured, said)
		if answers {
			report(at, "is never reached: the filter before it answers")
		}
		answers = answers || list[i].Answers()
	}
	return answers
}

// ClusterNames are the clusters that the route needs, each with its key's path.
func (r *Route) ClusterNames(each func(path, name string)) {
	if r.Cluster != "" {
		each("cluster", r.Cluster)
	}
	for i := range r.Clusters {
		each("clusters["+strconv.Itoa(i)+"].cluster", r.Clusters[i].Cluster)
	}
	if r.Mirror != nil {
		each("mirror.cluster", r.Mirror.Cluster)
	}
	for i := range r.Filters {
		r.Filters[i].ClusterNames(func(path, name string) { each("filters["+strconv.Itoa(i)+"]."+path, name) })
	}
}

// String is the route's name, or what it matches.
func (r *Route) String() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Match.String()
}

// ValidateRoutes reports, by index, routes that no request can reach.
func ValidateRoutes(routes []Route, report func(i int, message string)) {
	matches := make([]route.Match, len(routes))
	for i := range routes {
		matches[i] = routes[i].Match
	}
	route.Unreachable(matches, report)
}

// target is a route, ready for use.
type target struct {
	name        string
	own         int // the place of the first filter that is the route's own
	filters     []filter.Filter
	filterNames []string
	// wantsMatched: one of the filters wants to see what the match has taken of the path: of prefix, its path_prefix.
	wantsMatched bool
	shadows      bool  // one of them may be told to refuse nothing
	ends         bool  // one of them wants to know when exchanges end
	calls        bool  // one of them sends requests of its own
	maxBody      int64 // what a body may be, of those that come in pieces; -1: anything
	maxBodyBy    int   // the filter that says so
	// requestBodies and responseBodies are the filters that may need a whole body, by their places.
	requestBodies  []placed[filter.RequestBody]
	responseBodies []placed[filter.ResponseBody]
	idBy           int              // the filter that sets the request's id; -1: none
	ours           []byte           // the names that are the filters' to say, as h1.DropNominated wants them
	tooLarge       []filter.Refusal // by filter: of bodies that are more than it allows
	prefix         string
	clusters       []*lb.Cluster // none: a filter answers
	split          *split.Split  // nil: there is one cluster at most
	splitBy        *lb.HashBy    // nil: by chance
	mirror         *lb.Cluster
	mirrorPart     float64
	timeout        time.Duration // 0: the default, which the endpoint is not told
	upgrades       [][]byte      // in lower case
	connect        bool
	stats          *RouteStats
}

// newTarget is of a route whose filters come after those of all routes.
func newTarget(r *Route, all []filter.Filter, allNames []string, clusters func(string) *lb.Cluster, stats *RouteStats) *target {
	t := &target{name: r.String(), timeout: r.Timeout, connect: r.Connect, stats: stats, upgrades: [][]byte{[]byte("websocket")},
		prefix: strings.TrimSuffix(r.Match.PathPrefix, "/")}
	if r.Bare {
		all, allNames = nil, nil
	}
	filters, names := slices.Clone(all), slices.Clone(allNames)
	t.own = len(filters)
	for _, f := range r.Filters {
		filters, names = append(filters, filter.New(f)), append(names, f.Name())
		f.ClusterNames(func(string, string) { t.calls = true })
		t.wantsMatched = t.wantsMatched || f.WantsMatched()
	}
	t.setFilters(filters)
	t.named(names)
	if r.Cluster != "" {
		t.clusters = []*lb.Cluster{clusters(r.Cluster)}
	}
	for _, c := range r.Clusters {
		t.clusters = append(t.clusters, clusters(c.Cluster))
	}
	if len(r.Clusters) > 0 {
		t.split = split.New(r.Clusters, r.String())
		if by, err := r.SplitBy.By(); err == nil && r.SplitBy != "" {
			t.splitBy = &by
		}
	}
	if m := r.Mirror; m != nil {
		t.mirror, t.mirrorPart = clusters(m.Cluster), 1
		if m.Percent != nil {
			t.mirrorPart = *m.Percent / 100
		}
	}
	if len(r.Upgrades) > 0 {
		t.upgrades = nil
		for _, u := range r.Upgrades {
			if u != "none" {
				t.upgrades = append(t.upgrades, []byte(strings.ToLower(u)))
			}
		}
	}
	return t
}

// placed is a filter of some kind, and its place in the route's list.
type placed[F any] struct {
	at int
	f  F
}

// requestBody is how much of a request's body the filters need, in bytes at most, and which of them needs the least; 0: none.
func (t *target) requestBody(ctx *fasthttp.RequestCtx) (limit, by int) {
	for _, p := range t.requestBodies {
		if n := p.f.RequestBody(ctx); n > 0 && (limit == 0 || n < limit) {
			limit, by = n, p.at
		}
	}
	return limit, by
}

// responseBody is the same of a response's.
func (t *target) responseBody(ctx *fasthttp.RequestCtx) (limit, by int) {
	for _, p := range t.responseBodies {
		if n := p.f.ResponseBody(ctx); n > 0 && (limit == 0 || n < limit) {
			limit, by = n, p.at
		}
	}
	return limit, by
}

// named gives the filters their names, for metrics and explanations.
func (t *target) named(names []string) {
	t.filterNames, t.tooLarge = names, nil
	for _, name := range names {
		t.tooLarge = append(t.tooLarge, filter.Refusal{Filter: name, Reason: "too large"})
	}
}

// setFilters gives the route its filters, and notes what they need.
func (t *target) setFilters(list []filter.Filter) {
	t.filters, t.ends, t.shadows, t.maxBody, t.requestBodies, t.responseBodies, t.ours, t.idBy = list, false, false, -1, nil, nil, nil, -1
	for i, f := range list {
		if s, ok := f.(filter.Shadower); ok && s.Shadows() {
			t.shadows = true
		}
		if b, ok := f.(filter.BodyBound); ok {
			if n := b.MaxBody(); t.maxBody < 0 || n < t.maxBody {
				t.maxBody, t.maxBodyBy = n, i
			}
		}
		if b, ok := f.(filter.RequestBody); ok {
			t.requestBodies = append(t.requestBodies, placed[filter.RequestBody]{i, b})
		}
		if b, ok := f.(filter.ResponseBody); ok {
			t.responseBodies = append(t.responseBodies, placed[filter.ResponseBody]{i, b})
		}
		if n, ok := f.(filter.Identifier); ok && n.SetsID() {
			t.idBy = i
		}
		if n, ok := f.(filter.Namer); ok {
			for _, name := range n.RequestNames() {
				t.ours = append(append(t.ours, name...), ',')
			}
		}
		if _, ok := f.(filter.Ender); ok {
			t.ends = true
		}
	}
}
