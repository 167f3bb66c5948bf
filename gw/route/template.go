package route

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// segment is one of a template: literal, or a variable with a name.
type segment struct {
	text string
	form byte // literal, variable or rest
}

// Forms of a segment, in the order in which the more specific comes first.
const (
	literal  = 'l'
	variable = 'v'
	rest     = 'z'
)

// parseTemplate splits a path of "/" and segments, of which some are {name} and the last may be {name...}.
func parseTemplate(s string) ([]segment, error) {
	parts := strings.Split(s[1:], "/")
	out := make([]segment, 0, len(parts))
	seen := map[string]bool{}
	for i, p := range parts {
		in, opens := strings.CutPrefix(p, "{")
		in, closes := strings.CutSuffix(in, "}")
		if !opens || !closes {
			if strings.ContainsAny(p, "{}") {
				return nil, fmt.Errorf("%q: a variable is a whole segment", p)
			}
			out = append(out, segment{p, literal})
			continue
		}
		name, more := strings.CutSuffix(in, "...")
		switch {
		case !identifier(name):
			return nil, fmt.Errorf("%q: a variable's name is of letters, digits and _, and no digit is first", p)
		case seen[name]:
			return nil, fmt.Errorf("a second variable %q", name)
		case more && i < len(parts)-1:
			return nil, fmt.Errorf("%q: only the last segment takes the rest", p)
		}
		seen[name] = true
		form := byte(variable)
		if more {
			form = rest
		}
		out = append(out, segment{name, form})
	}
	switch {
	case len(seen) == 0:
		return nil, errors.New("there is no variable: path is the key for it")
	case len(seen) > MaxCaptures:
		return nil, fmt.Errorf("%d variables: more than %d", len(seen), MaxCaptures)
	}
	return out, nil
}

func identifier(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// shape is a template's place among others: see compare.
func shape(t []segment) (literals int, open bool, forms string) {
	b := make([]byte, len(t))
	for i, s := range t {
		b[i] = s.form
		if s.form == literal {
			literals++
		}
	}
	return literals, b[len(b)-1] == rest, string(b)
}

// templates is a node of a host's templates: a tree by segments.
type templates struct {
	literal  map[string]*templates
	variable *templates
	whole    []*rule // that end here
	rest     []*rule // that take what follows
	best     int     // rank of the first rule here or below, which is the first that was filed
}

// add files r, the next by rank.
func (n *templates) add(r *rule) {
	for _, s := range r.template {
		switch s.form {
		case rest:
			n.rest = append(n.rest, r)
			return
		case variable:
			if n.variable == nil {
				n.variable = &templates{best: r.rank}
			}
			n = n.variable
		default:
			next := n.literal[s.text]
			if next == nil {
				if n.literal == nil {
					n.literal = map[string]*templates{}
				}
				next = &templates{best: r.rank}
				n.literal[s.text] = next
			}
			n = next
		}
	}
	n.whole = append(n.whole, r)
}

// search is the first rule at or below n that holds and comes before won, or won. The path has been taken up to its byte
// at, a slash unless it is the end.
func (n *templates) search(l *lookup, at int, won *rule) *rule {
	if won != nil && n.best > won.rank {
		return won
	}
	if at == len(l.path) {
		return l.first(n.whole, won)
	}
	if n.literal != nil || n.variable != nil {
		end := len(l.path)
		if i := bytes.IndexByte(l.path[at+1:], '/'); i >= 0 {
			end = at + 1 + i
		}
		name := l.path[at+1 : end]
		if next := n.literal[string(name)]; next != nil {
			won = next.search(l, end, won)
		}
		if n.variable != nil && len(name) > 0 {
			won = n.variable.search(l, end, won)
		}
	}
	return l.first(n.rest, won)
}
