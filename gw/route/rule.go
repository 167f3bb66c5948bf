package route

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// hostClass and pathClass are kinds of matches, the more specific first.
type (
	hostClass uint8
	pathClass uint8
)

const (
	exactHost hostClass = iota
	wildcardHost
	regexpHost
	anyHost
)

const (
	byPath pathClass = iota
	byTemplate
	byPrefix
	byRegexp
	anyPath
)

// rule is a Match, ready for use. Immutable once it has its rank.
type rule struct {
	index int // in the file
	rank  int // among all in the order in which they are tried
	match Match

	hostClass  hostClass
	host       string // in its normal form; what follows "*."; or the regexp
	hostOrder  int    // of the regexp's first appearance
	hostRegexp *regexp.Regexp

	pathClass  pathClass
	path       string // a prefix has no slash at its end
	pathOrder  int
	pathRegexp *regexp.Regexp
	named      bool // the regexp has groups to capture
	template   []segment
	literals   int
	open       bool // the template takes the rest
	forms      string

	plain      bool     // there is nothing below
	methods    []string // sorted, none twice
	conditions []condition
	counts     [3]int // of conditions by kind
	sources    []netip.Prefix
	widest     int // of sources: bits of the shortest, IPv4 as if mapped
}

// compiler makes rules, and compiles a pattern once.
type compiler struct {
	regexps map[string]*regexp.Regexp // by flags and pattern
	seen    map[string]int            // first appearances of patterns
}

func newCompiler() *compiler {
	return &compiler{regexps: map[string]*regexp.Regexp{}, seen: map[string]int{}}
}

func (c *compiler) regexp(pattern, flags string) (*regexp.Regexp, error) {
	key := flags + ":" + pattern
	if re := c.regexps[key]; re != nil {
		return re, nil
	}
	re, err := anchored(pattern, flags)
	if err == nil {
		c.regexps[key] = re
	}
	return re, err
}

// order is when a pattern was first there.
func (c *compiler) order(key string) int {
	n, ok := c.seen[key]
	if !ok {
		n = len(c.seen)
		c.seen[key] = n
	}
	return n
}

// rule prepares m, the index-th; an error is one that Validate reports.
func (c *compiler) rule(m Match, index int) (r *rule, err error) {
	r = &rule{index: index, match: m, hostClass: anyHost, pathClass: anyPath}
	switch suffix, wild := strings.CutPrefix(m.Host, "*."); {
	case wild:
		r.hostClass, r.host = wildcardHost, string(normalHost(nil, []byte(suffix)))
	case m.Host != "":
		r.hostClass, r.host = exactHost, string(normalHost(nil, []byte(m.Host)))
	case m.HostRegexp != "":
		r.hostClass, r.host, r.hostOrder = regexpHost, m.HostRegexp, c.order("host "+m.HostRegexp)
		if r.hostRegexp, err = c.regexp(m.HostRegexp, "i"); err != nil {
			return nil, err
		}
	}
	switch {
	case m.Path != "":
		r.pathClass, r.path = byPath, m.Path
	case m.PathTemplate != "":
		r.pathClass, r.path = byTemplate, m.PathTemplate
		if r.template, err = parseTemplate(m.PathTemplate); err != nil {
			return nil, err
		}
		r.literals, r.open, r.forms = shape(r.template)
	case strings.TrimSuffix(m.PathPrefix, "/") != "":
		r.pathClass, r.path = byPrefix, strings.TrimSuffix(m.PathPrefix, "/")
	case m.PathRegexp != "":
		r.pathClass, r.path, r.pathOrder = byRegexp, m.PathRegexp, c.order("path "+m.PathRegexp)
		if r.pathRegexp, err = c.regexp(m.PathRegexp, ""); err != nil {
			return nil, err
		}
		r.named = slices.ContainsFunc(r.pathRegexp.SubexpNames(), func(s string) bool { return s != "" })
	}
	r.methods = slices.Clone(m.Methods)
	slices.Sort(r.methods)
	r.methods = slices.Compact(r.methods)
	for _, l := range m.lists() {
		for _, x := range l.conditions {
			made, err := newCondition(l.kind, x, c.regexp)
			if err != nil {
				return nil, err
			}
			r.conditions = append(r.conditions, made)
		}
		r.counts[l.kind] = len(l.conditions)
	}
	r.sources, r.widest = slices.Clone(m.Sources), -1
	for i, p := range r.sources {
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		if i == 0 || bits < r.widest {
			r.widest = bits
		}
	}
	slices.SortFunc(r.sources, netip.Prefix.Compare)
	r.sources = slices.Compact(r.sources)
	r.plain = len(r.methods)+len(r.conditions)+len(r.sources) == 0
	return r, nil
}

// compare is the order of the package's documentation.
func compare(a, b *rule) int {
	return cmp.Or(
		cmp.Compare(a.hostClass, b.hostClass),
		a.compareHosts(b),
		cmp.Compare(a.pathClass, b.pathClass),
		a.comparePaths(b),
		compareMethods(len(a.methods), len(b.methods)),
		cmp.Compare(b.counts[header], a.counts[header]),
		cmp.Compare(b.counts[query], a.counts[query]),
		cmp.Compare(b.counts[cookie], a.counts[cookie]),
		cmp.Compare(b.widest, a.widest),
		cmp.Compare(a.index, b.index),
	)
}

func (r *rule) compareHosts(b *rule) int {
	switch r.hostClass {
	case wildcardHost:
		return cmp.Compare(len(b.host), len(r.host))
	case regexpHost:
		return cmp.Compare(r.hostOrder, b.hostOrder)
	}
	return 0
}

func (r *rule) comparePaths(b *rule) int {
	switch r.pathClass {
	case byTemplate:
		switch {
		case r.literals != b.literals:
			return cmp.Compare(b.literals, r.literals)
		case r.open != b.open && b.open:
			return -1
		case r.open != b.open:
			return 1
		}
		return cmp.Compare(r.forms, b.forms)
	case byPrefix:
		return cmp.Compare(len(b.path), len(r.path))
	case byRegexp:
		return cmp.Compare(r.pathOrder, b.pathOrder)
	}
	return 0
}

func compareMethods(a, b int) int {
	if a == 0 || b == 0 {
		a, b = b, a // none at all is all there are
	}
	return cmp.Compare(a, b)
}

// holds says whether what is neither host nor path holds. It does if r is plain.
func (r *rule) holds(l *lookup) bool {
	if len(r.methods) > 0 && !r.hasMethod(l.q.Method) {
		return false
	}
	for i := range r.conditions {
		if !r.conditions[i].holds(l) {
			return false
		}
	}
	return len(r.sources) == 0 || r.hasSource(l.source)
}

func (r *rule) hasMethod(method []byte) bool {
	for _, m := range r.methods {
		if string(method) == m {
			return true
		}
	}
	return false
}

func (r *rule) hasSource(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range r.sources {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
