package route

import "regexp"

// paths holds one host's rules by path.
type paths struct {
	root      node
	templates *templates
	regexps   []pathRegexp // in the order of the file
}

// node is a node of a host's paths and prefixes: a tree by segments.
type node struct {
	next   map[string]*node
	parent *node
	exact  []*rule // whose path ends here
	prefix []*rule // whose prefix ends here; the root's are of any path
	// longest is the closest node from here up, without the root, that has prefixes.
	longest *node
}

type pathRegexp struct {
	matches *regexp.Regexp
	rules   []*rule
}

// add files r, the next by rank.
func (p *paths) add(r *rule) {
	switch r.pathClass {
	case byPath:
		n := p.at(r.path)
		n.exact = append(n.exact, r)
	case byTemplate:
		if p.templates == nil {
			p.templates = &templates{best: r.rank}
		}
		p.templates.add(r)
	case byPrefix, anyPath:
		n := p.at(r.path)
		n.prefix = append(n.prefix, r)
	case byRegexp:
		if n := len(p.regexps); n == 0 || p.regexps[n-1].rules[0].path != r.path {
			p.regexps = append(p.regexps, pathRegexp{matches: r.pathRegexp})
		}
		last := &p.regexps[len(p.regexps)-1]
		last.rules = append(last.rules, r)
	}
}

// at is the node of a path, made if need be. One that ends in a slash has a last segment that is empty.
func (p *paths) at(path string) *node {
	n := &p.root
	for path != "" {
		end := 1
		for end < len(path) && path[end] != '/' {
			end++
		}
		next := n.next[path[1:end]]
		if next == nil {
			if n.next == nil {
				n.next = map[string]*node{}
			}
			next = &node{parent: n}
			n.next[path[1:end]] = next
		}
		n, path = next, path[end:]
	}
	return n
}

// link sets longest at and below n.
func (n *node) link() {
	if n.parent != nil {
		n.longest = n.parent.longest
		if len(n.prefix) > 0 {
			n.longest = n
		}
	}
	for _, next := range n.next {
		next.link()
	}
}

// find is the first of p's rules that holds.
func (p *paths) find(l *lookup) *rule {
	n, at := &p.root, 0
	path := l.path
	for at < len(path) && path[at] == '/' && n.next != nil {
		end := at + 1
		for end < len(path) && path[end] != '/' {
			end++
		}
		next := n.next[string(path[at+1:end])]
		if next == nil {
			break
		}
		n, at = next, end
	}
	if at == len(path) {
		if r := l.first(n.exact, nil); r != nil {
			return r
		}
	}
	if p.templates != nil && len(path) > 0 && path[0] == '/' {
		if r := p.templates.search(l, 0, nil); r != nil {
			return r
		}
	}
	for n = n.longest; n != nil; n = n.parent.longest {
		if r := l.first(n.prefix, nil); r != nil {
			return r
		}
	}
	for i := range p.regexps {
		if x := &p.regexps[i]; x.matches.Match(path) {
			if r := l.first(x.rules, nil); r != nil {
				return r
			}
		}
	}
	return l.first(p.root.prefix, nil)
}
