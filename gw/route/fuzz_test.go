package route

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/gw/h1"
)

// naive is Find by trying every match in the order of the package's documentation, written without anything of the package.
func naive(matches []Match, q *h1.Request, host, path string, source netip.Addr) int {
	type at struct {
		m     Match
		index int
		key   []int // the smaller comes first
	}
	var list []at
	firstHost, firstPath := map[string]int{}, map[string]int{}
	for i, m := range matches {
		var key []int
		if _, ok := firstHost[m.HostRegexp]; !ok {
			firstHost[m.HostRegexp] = i
		}
		if _, ok := firstPath[m.PathRegexp]; !ok {
			firstPath[m.PathRegexp] = i
		}
		switch {
		case strings.HasPrefix(m.Host, "*"):
			key = append(key, 1, -len(strings.TrimSuffix(m.Host, ".")))
		case m.Host != "":
			key = append(key, 0, 0)
		case m.HostRegexp != "":
			key = append(key, 2, firstHost[m.HostRegexp])
		default:
			key = append(key, 3, 0)
		}
		prefix := strings.TrimSuffix(m.PathPrefix, "/")
		shape := make([]int, 12) // class, literals, open, forms
		switch {
		case m.Path != "":
		case m.PathTemplate != "":
			shape[0] = 1
			for k, s := range strings.Split(m.PathTemplate[1:], "/") {
				switch {
				case strings.HasSuffix(s, "...}"):
					shape[2], shape[3+k] = 1, 2
				case strings.HasPrefix(s, "{"):
					shape[3+k] = 1
				default:
					shape[1]--
				}
			}
		case prefix != "":
			shape[0], shape[1] = 2, -len(prefix)
		case m.PathRegexp != "":
			shape[0], shape[1] = 3, firstPath[m.PathRegexp]
		default:
			shape[0] = 4
		}
		key = append(key, shape...)
		methods := len(slices.Compact(slices.Sorted(slices.Values(m.Methods))))
		if methods == 0 {
			methods = 1000
		}
		widest := 1000
		for _, p := range m.Sources {
			bits := p.Bits()
			if p.Addr().Is4() {
				bits += 96
			}
			widest = min(widest, bits)
		}
		if len(m.Sources) == 0 {
			widest = -1
		}
		key = append(key, methods, -len(m.Headers), -len(m.Query), -len(m.Cookies), -widest, i)
		list = append(list, at{m, i, key})
	}
	slices.SortFunc(list, func(a, b at) int { return slices.Compare(a.key, b.key) })
	for _, x := range list {
		if holds(x.m, q, host, path, source) {
			return x.index
		}
	}
	return -1
}

func holds(m Match, q *h1.Request, host, path string, source netip.Addr) bool {
	lower := func(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }
	host = lower(host)
	if suffix, wild := strings.CutPrefix(lower(m.Host), "*"); wild && (len(host) <= len(suffix) || !strings.HasSuffix(host, suffix)) || !wild && m.Host != "" && host != suffix {
		return false
	}
	full := func(pattern, s string) bool { return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(s) }
	if m.HostRegexp != "" && (host == "" || !full("(?i)"+m.HostRegexp, host)) {
		return false
	}
	prefix := strings.TrimSuffix(m.PathPrefix, "/")
	template := regexp.MustCompile(`\{\w+\.\.\.\}`).ReplaceAllString(m.PathTemplate, ".*")
	template = regexp.MustCompile(`\{\w+\}`).ReplaceAllString(template, "[^/]+")
	if m.Path != "" && path != m.Path || path != prefix && !strings.HasPrefix(path, prefix+"/") && prefix != "" ||
		m.PathRegexp != "" && !full(m.PathRegexp, path) || m.PathTemplate != "" && !full(template, path) {
		return false
	}
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, string(q.Method)) {
		return false
	}
	inSource := func(p netip.Prefix) bool { return p.Contains(source) }
	if len(m.Sources) > 0 && !slices.ContainsFunc(m.Sources, inSource) {
		return false
	}
	var headers, query, cookies [][2]string
	for i := range q.Fields {
		name, value := strings.ToLower(string(q.Name(&q.Fields[i]))), string(q.Value(&q.Fields[i]))
		headers = append(headers, [2]string{name, value})
		if name == "cookie" {
			for _, pair := range strings.Split(value, "; ") {
				k, v, _ := strings.Cut(pair, "=")
				cookies = append(cookies, [2]string{k, v})
			}
		}
	}
	for _, pair := range strings.Split(strings.TrimPrefix(string(q.Query), "?"), "&") {
		k, v, _ := strings.Cut(pair, "=")
		query = append(query, [2]string{k, v})
	}
	each := func(list []Condition, pairs [][2]string) bool {
		for _, c := range list {
			found := slices.ContainsFunc(pairs, func(p [2]string) bool {
				return p[0] == c.Name && (c.Value == nil || p[1] == *c.Value) && (c.Regexp == nil || full(*c.Regexp, p[1]))
			})
			if found == (c.Present != nil && !*c.Present) {
				return false
			}
		}
		return true
	}
	return each(m.Headers, headers) && each(m.Query, query) && each(m.Cookies, cookies)
}

// dice makes choices of a fuzzer's bytes.
type dice struct{ b []byte }

func (d *dice) n(n int) int {
	if len(d.b) == 0 {
		return 0
	}
	v := int(d.b[0]) % n
	d.b = d.b[1:]
	return v
}

// of is one of list; an empty text, for what is not there, is as likely as the others.
func (d *dice) of(list ...string) string { return list[d.n(len(list))] }

func (d *dice) path(tail ...string) string {
	out := ""
	for range d.n(4) {
		out += "/" + d.of("a", "b", "ab", "a%20b")
	}
	return out + d.of(append(tail, "/a")...)
}

func (d *dice) template() string {
	out := ""
	for i := range d.n(4) {
		out += "/" + d.of("a", "b", fmt.Sprintf("{v%d}", i), fmt.Sprintf("{w%d}", i))
	}
	return out + d.of("/{x}", "/{r...}", "/{x}/", "/{x}/a")
}

func (d *dice) conditions() (out []Condition) {
	for range d.n(3) {
		c := has(d.of("a", "b"))
		switch d.n(4) {
		case 0:
			out = append(out, c)
		case 1:
			out = append(out, is(c.Name, d.of("1", "2")))
		case 2:
			out = append(out, like(c.Name, d.of("1|2", "[2-3]")))
		default:
			out = append(out, hasNo(c.Name))
		}
	}
	return out
}

func (d *dice) match() (m Match) {
	switch d.n(4) {
	case 0:
		m.Host = d.of("a", "b.a", "A.", "c.b.a")
	case 1:
		m.Host = d.of("*.a", "*.b.A")
	case 2:
		m.HostRegexp = d.of(".*", "b.*", "[a-b]|C", ".*\\.a")
	}
	switch d.n(6) {
	case 0:
		m.Path = d.path("/", "")
	case 1:
		m.PathTemplate = d.template()
	case 2, 3:
		m.PathPrefix = d.path("/", "")
	case 4:
		m.PathRegexp = d.of(".*", "/a.*", "(/[ab])+", "/a/?", "(?P<x>/.*)/(?P<y>.*)")
	}
	for range d.n(3) {
		m.Methods = append(m.Methods, d.of("GET", "PUT"))
	}
	if d.n(2) == 1 {
		m.Headers, m.Query, m.Cookies = d.conditions(), d.conditions(), d.conditions()
	}
	for range d.n(3) {
		m.Sources = append(m.Sources, netip.MustParsePrefix(d.of("10.0.0.0/8", "10.1.0.0/16", "::/0", "0.0.0.0/0")))
	}
	return m
}

// Find says what naive says, Explain says the same, and what is captured is in its place.
func FuzzFind(f *testing.F) {
	f.Add([]byte{})
	for i := range 64 {
		b := make([]byte, 200+i)
		for k := range b {
			b[k] = byte((k*k*7 + k*i*13 + i) >> (i % 3))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		d := &dice{seed}
		var matches []Match
		for range d.n(12) {
			m := d.match()
			if said := reports(m); said != nil {
				t.Fatalf("%s: %q", m, said)
			}
			matches = append(matches, m)
		}
		for i, message := range unreachable(matches) {
			if strings.HasPrefix(message, "a second") {
				matches[i] = Match{Host: fmt.Sprintf("repeated%d", i)}
			}
		}
		never := unreachable(matches)
		routes := table(t, matches...)
		for range 1 + d.n(8) {
			lines := []string{d.of("GET", "PUT") + " " + d.path("/", "/a/") + d.of("", "?a=1", "?a=2&b=1", "?b"), "Host: " + d.of("a", "b.a", "C", "c.B.a.", "x.c.b.a", "b")}
			for range d.n(3) {
				lines = append(lines, d.of("A: 1", "b: 2", "B: 3", "Cookie: a=1", "cookie: b=2; a=3"))
			}
			source := netip.MustParseAddr(d.of("10.1.2.3", "10.2.2.3", "192.0.2.1", "::1"))
			q := scan(t, lines...)
			want := naive(matches, q, string(q.Hostname()), string(q.Path), source)
			got, ok := routes.Find(q, q.Hostname(), q.Path, source, &routes.c)
			if !ok {
				got = -1
			}
			if got != want {
				t.Fatalf("%q from %s among %v: %d, not %d", lines, source, matches, got, want)
			}
			if message, ok := never[got]; ok {
				t.Fatalf("%q from %s among %v: %d, which %s", lines, source, matches, got, message)
			}
			list, others := routes.Explain(q, q.Hostname(), q.Path, source, d.n(4))
			won := slices.IndexFunc(list, func(c Considered) bool { return c.Won })
			if len(list)+others != len(matches) || (won >= 0) != (want >= 0) || won >= 0 && list[won].Index != want {
				t.Fatalf("%q from %s among %v: %d, explained as %v", lines, source, matches, want, list)
			}
			if got >= 0 && matches[got].PathTemplate != "" {
				if back := filled(matches[got].PathTemplate, routes, q.Path); back != string(q.Path) {
					t.Fatalf("%s, %s: captures that make %s", matches[got].PathTemplate, q.Path, back)
				}
			}
		}
	})
}

// filled is a template with what was captured.
func filled(template string, f *finder, path []byte) string {
	for i := range f.c.Len() {
		name, _, _ := f.c.At(i)
		value, _ := f.c.Get(path, name)
		template = strings.NewReplacer("{"+name+"}", string(value), "{"+name+"...}", string(value)).Replace(template)
	}
	return template
}
