package route

import (
	"net/netip"
	"strings"
	"testing"

	"sluice/gw/h1"
)

// finder is a table of indices, with what a loop has.
type finder struct {
	*Table[int]
	c Captures
	t testing.TB
}

// table files matches under their index; all must be valid.
func table(t testing.TB, matches ...Match) *finder {
	t.Helper()
	entries := make([]Entry[int], len(matches))
	for i, m := range matches {
		entries[i] = Entry[int]{m, i}
	}
	out, err := Build(entries)
	if err != nil {
		t.Fatal(err)
	}
	return &finder{Table: out, t: t}
}

// at looks up a host and a path for a GET without anything else.
func (f *finder) at(host, path string) (int, bool) {
	return f.Find(&h1.Request{Method: []byte("GET")}, []byte(host), []byte(path), netip.Addr{}, &f.c)
}

// asked looks up a head, "GET /x" and more lines, from 192.0.2.1. -1: there is no route.
func (f *finder) asked(lines ...string) int {
	f.t.Helper()
	q := scan(f.t, lines...)
	v, ok := f.Find(q, q.Hostname(), h1.MatchPath(q.Path, nil), netip.MustParseAddr("192.0.2.1"), &f.c)
	if !ok {
		return -1
	}
	return v
}

// scan reads a request of a first line without its version and of fields; Host is api.test if none is given.
func scan(t testing.TB, lines ...string) *h1.Request {
	t.Helper()
	head := lines[0] + " HTTP/1.1\r\n"
	for _, l := range lines[1:] {
		head += l + "\r\n"
	}
	if !strings.Contains(head, "Host:") {
		head += "Host: api.test\r\n"
	}
	q := &h1.Request{}
	if _, err := q.Scan([]byte(head+"\r\n"), &h1.Resume{}, &h1.DefaultLimits); err != nil {
		t.Fatalf("%q: %v", lines, err)
	}
	return q
}

// captured is "name=value" of everything.
func (f *finder) captured(path string) string {
	var out []string
	for i := range f.c.Len() {
		name, start, end := f.c.At(i)
		out = append(out, name+"="+path[start:end])
	}
	return strings.Join(out, " ")
}

func reports(m Match) (out []string) {
	m.Validate(func(path, message string) { out = append(out, path+": "+message) })
	return out
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func has(name string) Condition           { return Condition{Name: name} }
func is(name, value string) Condition     { return Condition{Name: name, Value: &value} }
func like(name, pattern string) Condition { return Condition{Name: name, Regexp: &pattern} }
func hasNo(name string) Condition         { return Condition{Name: name, Present: new(bool)} }
func all(list ...Condition) []Condition   { return list }
