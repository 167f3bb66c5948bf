package route

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sluice/gw/h1"
)

// Considered is a route and what became of it for one request.
type Considered struct {
	// Index is its place in the file, from 0.
	Index int
	// Why says why it lost, or by what it won.
	Why string
	Won bool
}

// Explain lists routes in the order in which they come into question, with the reason for which each lost: all whose host
// and path match, and of the others the first far ones. others counts the rest. The arguments before are as for Find. It
// looks at every route, on any goroutine.
func (t *Table[T]) Explain(q *h1.Request, host, path []byte, source netip.Addr, far int) (list []Considered, others int) {
	l := &lookup{q: q, path: path, source: source, c: &Captures{}}
	asked := request{l: l, host: ""}
	if len(host) <= maxHost {
		asked.host = string(normalHost(nil, host))
	}
	asked.name = asked.host
	if asked.name == "" {
		asked.name = string(host)
	}
	won := -1
	for _, r := range t.rules {
		why, near := asked.differs(r)
		switch {
		case !near && far <= 0:
			others++
			continue
		case !near:
			far--
		case why != "":
		case won < 0:
			won = r.index
			list = append(list, Considered{r.index, "matches " + r.match.String(), true})
			continue
		default:
			why = fmt.Sprintf("matches %s, but comes after #%d", r.match, won)
		}
		list = append(list, Considered{r.index, why, false})
	}
	return list, others
}

// request is what is asked for.
type request struct {
	l    *lookup
	host string // as it is compared; empty if it is of any host only
	name string // for messages
}

// differs says what of r does not match, or "". near: host and path do.
func (a *request) differs(r *rule) (why string, near bool) {
	if !r.takesHost(a.host) {
		return fmt.Sprintf("host %q is not %s", a.name, strings.TrimSuffix(Match{Host: r.match.Host, HostRegexp: r.match.HostRegexp}.String(), " /")), false
	}
	if !r.takesPath(a.l.path) {
		m := Match{Path: r.match.Path, PathTemplate: r.match.PathTemplate, PathPrefix: r.match.PathPrefix, PathRegexp: r.match.PathRegexp}
		return fmt.Sprintf("path %q is not %s", a.l.path, strings.TrimPrefix(m.String(), "any host ")), false
	}
	if len(r.methods) > 0 && !r.hasMethod(a.l.q.Method) {
		return fmt.Sprintf("method %s is not %s", a.l.q.Method, strings.Join(r.methods, " or ")), true
	}
	i := 0
	for _, list := range r.match.lists() {
		for _, c := range list.conditions {
			if x := &r.conditions[i]; !x.holds(a.l) {
				return a.unlike(x, c), true
			}
			i++
		}
	}
	if len(r.sources) > 0 && !r.hasSource(a.l.source) {
		from := "unknown"
		if a.l.source.IsValid() {
			from = a.l.source.String()
		}
		list := make([]string, len(r.sources))
		for i, p := range r.sources {
			list[i] = p.String()
		}
		return fmt.Sprintf("source %s is not in %s", from, strings.Join(list, " or ")), true
	}
	return "", true
}

// unlike says how a condition does not hold.
func (a *request) unlike(c *condition, as Condition) string {
	var has []string
	c.each(a.l, func(value []byte) bool {
		has = append(has, strconv.Quote(string(value)))
		return true
	})
	if len(has) == 0 {
		return fmt.Sprintf("%s %s is absent", c.kind, as.Name)
	}
	is := fmt.Sprintf("%s %s is %s", c.kind, as.Name, strings.Join(has, " and "))
	switch {
	case c.absent:
		return is + ", not absent"
	case c.equals:
		return is + fmt.Sprintf(", not %q", c.value)
	}
	return is + ", not like " + *as.Regexp
}

func (r *rule) takesHost(host string) bool {
	switch r.hostClass {
	case exactHost:
		return host == r.host
	case wildcardHost:
		return len(host) > len(r.host)+1 && strings.HasSuffix(host, "."+r.host)
	case regexpHost:
		return host != "" && r.hostRegexp.MatchString(host)
	}
	return true
}

func (r *rule) takesPath(path []byte) bool {
	switch r.pathClass {
	case byPath:
		return string(path) == r.path
	case byTemplate:
		return takes(r.template, path)
	case byPrefix:
		return bytes.HasPrefix(path, []byte(r.path)) && (len(path) == len(r.path) || path[len(r.path)] == '/')
	case byRegexp:
		return r.pathRegexp.Match(path)
	}
	return true
}

func takes(t []segment, path []byte) bool {
	for _, s := range t {
		if len(path) == 0 || path[0] != '/' {
			return false
		}
		name, _ := cut(path[1:], '/')
		switch {
		case s.form == rest:
			return true
		case s.form == variable && len(name) == 0, s.form == literal && string(name) != s.text:
			return false
		}
		path = path[1+len(name):]
	}
	return len(path) == 0
}
