package route

import (
	"fmt"
	"net/netip"
	"slices"

	"sluice/gw/h1"
)

// Table maps requests to values of type T, which are a gateway's routes. It is immutable, and safe for all loops.
type Table[T any] struct {
	values []T
	index
}

// Entry is a match and what it leads to.
type Entry[T any] struct {
	Match Match
	Value T
}

// index finds a rule.
type index struct {
	rules []*rule // by rank
	hosts hosts
}

// Build makes a table of entries in the order of the file. The error is about a match that is not valid, or one that means
// the same as an earlier one.
func Build[T any](entries []Entry[T]) (*Table[T], error) {
	t := &Table[T]{values: make([]T, len(entries))}
	c := newCompiler()
	rules := make([]*rule, len(entries))
	seen := make(map[string]int, len(entries))
	for i, e := range entries {
		var err error
		e.Match.Validate(func(path, message string) {
			if err == nil {
				err = fmt.Errorf("route %d: %s: %s", i, path, message)
			}
		})
		if err != nil {
			return nil, err
		}
		if rules[i], err = c.rule(e.Match, i); err != nil {
			return nil, fmt.Errorf("route %d: %w", i, err)
		}
		key := rules[i].key()
		if first, dup := seen[key]; dup {
			return nil, fmt.Errorf("route %d: the match of route %d once more: %s", i, first, e.Match)
		}
		seen[key] = i
		t.values[i] = e.Value
	}
	t.index = newIndex(rules)
	return t, nil
}

func newIndex(rules []*rule) index {
	slices.SortFunc(rules, compare)
	x := index{rules: rules, hosts: hosts{exact: map[string]*paths{}, wildcard: map[string]*paths{}}}
	for rank, r := range rules {
		r.rank = rank
		x.hosts.of(r).add(r)
	}
	for _, p := range x.hosts.all() {
		p.root.link()
	}
	return x
}

// of is where r belongs; hosts come by rank.
func (h *hosts) of(r *rule) *paths {
	switch r.hostClass {
	case exactHost, wildcardHost:
		m := h.exact
		if r.hostClass == wildcardHost {
			m, h.longest = h.wildcard, max(h.longest, len(r.host))
		}
		p := m[r.host]
		if p == nil {
			p = &paths{}
			m[r.host] = p
		}
		return p
	case regexpHost:
		if n := len(h.regexps); n == 0 || h.regexps[n-1].matches != r.hostRegexp { // compiled once
			h.regexps = append(h.regexps, hostRegexp{r.hostRegexp, &paths{}})
		}
		return h.regexps[len(h.regexps)-1].paths
	}
	if h.any == nil {
		h.any = &paths{}
	}
	return h.any
}

func (h *hosts) all() (out []*paths) {
	for _, p := range h.exact {
		out = append(out, p)
	}
	for _, p := range h.wildcard {
		out = append(out, p)
	}
	for _, x := range h.regexps {
		out = append(out, x.paths)
	}
	if h.any != nil {
		out = append(out, h.any)
	}
	return out
}

// lookup is one search.
type lookup struct {
	q      *h1.Request
	path   []byte
	source netip.Addr
	c      *Captures
}

// Find is the route of a request, by the order of the package's documentation. q gives the method, the headers and the
// query; host is without port, path canonical and without parameters (h1.MatchPath), source the client's address, which
// may be none. c is left with what the route captures, as offsets into path. It allocates nothing, except for the
// captures of a path_regexp with named groups.
func (t *Table[T]) Find(q *h1.Request, host, path []byte, source netip.Addr, c *Captures) (v T, ok bool) {
	c.n = 0
	l := lookup{q: q, path: path, source: source, c: c}
	r := t.hosts.find(&l, host)
	if r == nil {
		return v, false
	}
	if r.pathClass == byTemplate || r.named {
		c.take(r, path)
	}
	return t.values[r.index], true
}

// first is the first of rules, which are by rank, that holds and comes before won, or won.
func (l *lookup) first(rules []*rule, won *rule) *rule {
	for _, r := range rules {
		if won != nil && won.rank < r.rank {
			break
		}
		if r.plain || r.holds(l) {
			return r
		}
	}
	return won
}

// Captures is what a lookup finds in a path, and the room that it works in. A loop has one for all its lookups. The zero
// value is ready.
type Captures struct {
	n    int
	list [MaxCaptures]capture
	host [maxHost]byte // room for a host
	room []byte        // and for a query parameter
}

type capture struct {
	name       string
	start, end int
}

// Len is how many variables there are.
func (c *Captures) Len() int { return c.n }

// At is the i-th: its name, and where its value is in the path that was looked up.
func (c *Captures) At(i int) (name string, start, end int) {
	x := c.list[:c.n][i]
	return x.name, x.start, x.end
}

// Get is the value of a variable, as the path spells it: escapes are left. false if the route has none of that name, or if
// its group took no part in the match.
func (c *Captures) Get(path []byte, name string) (value []byte, ok bool) {
	for i := range c.list[:c.n] {
		if x := &c.list[i]; x.name == name {
			return path[x.start:x.end], true
		}
	}
	return nil, false
}

func (c *Captures) add(name string, start, end int) {
	c.list[c.n] = capture{name, start, end}
	c.n++
}

// take captures what r, which matches path, has names for.
func (c *Captures) take(r *rule, path []byte) {
	if r.named {
		at := r.pathRegexp.FindSubmatchIndex(path)
		for i, name := range r.pathRegexp.SubexpNames() {
			if name != "" && at[2*i] >= 0 {
				c.add(name, at[2*i], at[2*i+1])
			}
		}
		return
	}
	at := 0
	for _, s := range r.template {
		at++ // its slash
		end := len(path)
		if s.form != rest {
			end = at
			for end < len(path) && path[end] != '/' {
				end++
			}
		}
		if s.form != literal {
			c.add(s.text, at, end)
		}
		at = end
	}
}
