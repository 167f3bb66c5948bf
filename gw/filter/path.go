package filter

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// change is what a filter makes of a path: another, or another prefix. The zero value leaves it.
type change struct {
	path   text
	prefix *string // without a slash at its end
}

func newChange(path, prefix string) (c change) {
	if path != "" {
		c.path = mustText(path, nil)
	}
	if prefix != "" {
		p := strings.TrimSuffix(prefix, "/")
		c.prefix = &p
	}
	return c
}

// append appends what becomes of path; false: nothing that can be forwarded.
func (c *change) append(dst, path []byte, m *Matched) ([]byte, bool) {
	at := len(dst)
	switch {
	case c.path != nil:
		return canonical(c.path.append(dst, m, nil, nil), at)
	case c.prefix != nil:
		// Canonical are both, and joined at a slash.
		if rest, ok := after(path, m.Prefix); ok {
			for *c.prefix == "" && len(rest) > 1 && rest[1] == '/' {
				rest = rest[1:] // h1.Keep, too, leaves one slash at the start: what follows two is a host to some
			}
			dst = append(append(dst, *c.prefix...), rest...)
			if len(dst) == at {
				dst = append(dst, '/')
			}
			return dst, len(dst)-at <= maxPath
		}
	}
	return append(dst, path...), true // which an earlier filter has given another prefix, if c is for one
}

// maxPath bounds, in bytes, what a path may grow to: a longer one could not have come either.
var maxPath = h1.DefaultLimits.Line

// pathOf are the request's path, as earlier filters have left it, and its query with the "?".
func pathOf(ctx *fasthttp.RequestCtx) (path, query []byte) {
	path = ctx.Request.Header.RequestURI()
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i:]
	}
	return path, query
}

// after is what follows prefix in path, compared as routes compare: by segments, without their parameters, and without those
// of which nothing is left then (h1.MatchPath). The parameters of the prefix go with it.
func after(path []byte, prefix string) (rest []byte, ok bool) {
	for prefix != "" {
		if len(path) == 0 || path[0] != '/' {
			return nil, false
		}
		n := 1
		for n < len(path) && path[n] != '/' {
			n++
		}
		name, _, _ := bytes.Cut(path[1:n], []byte(";"))
		path = path[n:]
		if len(name) == 0 {
			continue
		}
		want, _, _ := strings.Cut(prefix[1:], "/")
		if string(name) != want {
			return nil, false
		}
		prefix = prefix[1+len(want):]
	}
	return path, true
}

// canonical brings dst[at:], a path that was put together, into the form that is forwarded. false: it is another than it seems,
// by a dot segment, an empty segment or an escape that only the joining made, and whoever looks at it may see one or the other.
func canonical(dst []byte, at int) ([]byte, bool) {
	path := dst[at:]
	if len(path) > maxPath {
		return dst, false
	}
	if plain(path) {
		return dst, true
	}
	p, err := h1.CanonicalPath(string(path))
	if err != nil {
		return dst, false
	}
	// An escape of an unreserved character is 3 bytes for one. If more is gone, segments are.
	decoded := bytes.Count(path, percent) - strings.Count(p, "%")
	if len(p) != len(path)-2*decoded {
		return dst, false
	}
	return append(dst[:at], p...), true
}

var percent = []byte("%")

// plain says that a path is canonical and has nothing that needs a closer look.
func plain(path []byte) bool {
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	for i, b := range path {
		switch {
		case b|0x20 >= 'a' && b|0x20 <= 'z', b >= '0' && b <= '9', b == '-', b == '_', b == '~':
		case (b == '.' || b == '/') && (i == 0 || path[i-1] != '/'):
		default:
			return false
		}
	}
	return true
}

// text is a path with places: {name} for what the route has captured, and with a regexp $1, ${1} or ${name} for its groups.
type text []piece

// piece is one of: literal, a variable's name, a group's number.
type piece struct {
	literal, name string
	group         int // 0: none
}

// append appends t; groups are offsets into path, as regexp has them.
func (t text) append(dst []byte, m *Matched, path []byte, groups []int) []byte {
	for i := range t {
		switch p := &t[i]; {
		case p.name != "":
			dst = append(dst, m.value(p.name)...)
		case p.group == 0:
			dst = append(dst, p.literal...)
		case groups[2*p.group] >= 0:
			dst = append(dst, path[groups[2*p.group]:groups[2*p.group+1]]...)
		}
	}
	return dst
}

// names are the variables that t wants of the route.
func (t text) names() (out []string) {
	for _, p := range t {
		if p.name != "" {
			out = append(out, p.name)
		}
	}
	return out
}

// parseText reads a path with places; re is nil if there are no groups, and "$" stands for itself then.
func parseText(s string, re *regexp.Regexp) (t text, err error) {
	if s == "" {
		return nil, nil
	}
	for rest := s; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if j := strings.IndexByte(rest, '$'); re != nil && j >= 0 && (i < 0 || j < i) {
			i = j
		}
		if i < 0 {
			i = len(rest)
		}
		if i > 0 {
			t = append(t, piece{literal: rest[:i]})
			rest = rest[i:]
			continue
		}
		var p piece
		switch rest[0] {
		case '}':
			return nil, fmt.Errorf("%q: a } without a {", s)
		case '{':
			p.name, rest, err = braced(rest)
		default:
			p, rest, err = parseGroup(rest[1:], re)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		t = append(t, p)
	}
	return t, checkText(s, t)
}

// braced takes {name} off s.
func braced(s string) (name, rest string, err error) {
	name, rest, ok := strings.Cut(s[1:], "}")
	if !ok || name == "" || strings.Trim(name, word) != "" {
		return "", "", errors.New("a variable is {name}, the name of letters, digits and _")
	}
	return name, rest, nil
}

const word = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// parseGroup reads what follows a "$". The digits of $1 end where others would go on with letters, too: $1x is group 1 and
// an x.
func parseGroup(s string, re *regexp.Regexp) (p piece, rest string, err error) {
	name := ""
	switch digits := len(s) - len(strings.TrimLeft(s, "0123456789")); {
	case strings.HasPrefix(s, "$"):
		return piece{literal: "$"}, s[1:], nil
	case strings.HasPrefix(s, "{"):
		if name, rest, err = braced(s); err != nil {
			return p, "", err
		}
	case digits > 0:
		name, rest = s[:digits], s[digits:]
	default:
		return p, "", errors.New("a $ is followed by a number, {number}, {name} or another $")
	}
	if p.group, err = strconv.Atoi(name); err != nil {
		p.group = re.SubexpIndex(name)
	}
	if p.group < 1 || p.group > re.NumSubexp() {
		return p, "", fmt.Errorf("the regexp has no group %s", name)
	}
	return p, rest, nil
}

// checkText finds out whether t, as s has it, can be a path at all: with an x in every place.
func checkText(s string, t text) error {
	var b strings.Builder
	for _, p := range t {
		if p.literal == "" {
			p.literal = "x"
		}
		b.WriteString(p.literal)
	}
	sample := b.String()
	if t[0].literal == "" {
		sample = "/" + sample // which what is captured may begin with
	}
	c, err := h1.CanonicalPath(sample)
	if err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	if c != sample {
		return fmt.Errorf("%q is not in the form that paths are forwarded in, which is like %q", s, c)
	}
	return nil
}

// mustText is for a text that has been validated.
func mustText(s string, re *regexp.Regexp) text {
	t, err := parseText(s, re)
	if err != nil {
		panic("BUG: a path that is not valid: " + err.Error())
	}
	return t
}

// checkPaths reports what is wrong with the keys that redirect and rewrite have in common.
func checkPaths(path, prefix string, report func(path, message string)) {
	if path != "" {
		if _, err := parseText(path, nil); err != nil {
			report("path", err.Error())
		}
		if prefix != "" {
			report("path_prefix", "path is given too: one of them can be")
		}
	}
	if prefix != "" {
		if c, err := h1.CanonicalPath(prefix); err != nil {
			report("path_prefix", fmt.Sprintf("%q: %v", prefix, err))
		} else if c != prefix {
			report("path_prefix", fmt.Sprintf("%q is not in the form that paths are forwarded in: %q", prefix, c))
		}
	}
}

// checkMatched reports what a path, under its key, or a prefix wants of a route that it does not have.
func checkMatched(key string, t text, wantsPrefix, hasPrefix bool, names []string, report func(path, message string)) {
	for _, name := range t.names() {
		if !slices.Contains(names, name) {
			report(key, fmt.Sprintf("the route's match captures no %q", name))
		}
	}
	if wantsPrefix && !hasPrefix {
		report("path_prefix", "the route's match has no path_prefix to replace")
	}
}
