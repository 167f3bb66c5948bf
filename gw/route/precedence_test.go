package route

import (
	"slices"
	"strings"
	"testing"
)

// Each rule of the order, pair by pair: the first of two matches wins for a request that both are for, whichever is first
// in the file. Beyond the line that decides, the other one has every advantage.
func TestOrder(t *testing.T) {
	x, y, z := has("x"), has("y"), has("z")
	for name, c := range map[string]struct{ first, second Match }{
		"exact host, wildcard":             {Match{Host: "api.test", PathPrefix: "/a"}, Match{Host: "*.test", Path: "/a/b/c"}},
		"exact host, host regexp":          {Match{Host: "api.test", PathPrefix: "/a"}, Match{HostRegexp: "api.*", Path: "/a/b/c"}},
		"exact host, any":                  {Match{Host: "api.test", PathPrefix: "/a"}, Match{Path: "/a/b/c", Methods: []string{"GET"}}},
		"wildcard, host regexp":            {Match{Host: "*.test"}, Match{HostRegexp: "api.test", Path: "/a/b/c"}},
		"wildcard, any host":               {Match{Host: "*.test"}, Match{Path: "/a/b/c"}},
		"host regexp, any host":            {Match{HostRegexp: "api.*"}, Match{Path: "/a/b/c"}},
		"path, template":                   {Match{Path: "/a/b/c"}, Match{PathTemplate: "/a/b/{c}", Headers: all(x)}},
		"path, prefix":                     {Match{Path: "/a/b/c"}, Match{PathPrefix: "/a/b/c", Headers: all(x)}},
		"path, regexp":                     {Match{Path: "/a/b/c"}, Match{PathRegexp: "/a/b/c", Headers: all(x)}},
		"path, any":                        {Match{Path: "/a/b/c"}, Match{Headers: all(x)}},
		"template, prefix":                 {Match{PathTemplate: "/{a}/{rest...}"}, Match{PathPrefix: "/a/b/c", Headers: all(x)}},
		"template, regexp":                 {Match{PathTemplate: "/{a}/{rest...}"}, Match{PathRegexp: "/a/b/c", Headers: all(x)}},
		"template, any":                    {Match{PathTemplate: "/{a}/{rest...}"}, Match{Headers: all(x)}},
		"prefix, regexp":                   {Match{PathPrefix: "/a"}, Match{PathRegexp: "/a/b/c", Headers: all(x)}},
		"prefix, any":                      {Match{PathPrefix: "/a"}, Match{Headers: all(x)}},
		"prefix, /":                        {Match{PathPrefix: "/a"}, Match{PathPrefix: "/", Headers: all(x)}},
		"regexp, any":                      {Match{PathRegexp: ".*"}, Match{Headers: all(x)}},
		"regexp, /":                        {Match{PathRegexp: ".*"}, Match{PathPrefix: "/", Headers: all(x)}},
		"more literal segments":            {Match{PathTemplate: "/{a}/b/{rest...}"}, Match{PathTemplate: "/{a}/{b}/{c}", Headers: all(x)}},
		"literals count, not their place":  {Match{PathTemplate: "/{a}/b/c"}, Match{PathTemplate: "/a/{b}/{c}", Headers: all(x)}},
		"template that ends":               {Match{PathTemplate: "/{a}/{b}/c"}, Match{PathTemplate: "/a/{b}/{rest...}", Headers: all(x)}},
		"literal further to the left":      {Match{PathTemplate: "/a/{b}/c"}, Match{PathTemplate: "/{a}/b/c", Headers: all(x)}},
		"longer template":                  {Match{PathTemplate: "/a/{b}/{rest...}"}, Match{PathTemplate: "/a/{rest...}", Headers: all(x)}},
		"longer prefix":                    {Match{PathPrefix: "/a/b"}, Match{PathPrefix: "/a", Headers: all(x)}},
		"methods":                          {Match{Methods: []string{"GET"}}, Match{Headers: all(x, y)}},
		"fewer methods":                    {Match{Methods: []string{"GET"}}, Match{Methods: []string{"GET", "PUT"}, Headers: all(x, y)}},
		"more headers":                     {Match{Headers: all(x, y)}, Match{Headers: all(z), Query: all(x, y)}},
		"headers, query":                   {Match{Headers: all(x)}, Match{Query: all(x, y), Cookies: all(x, y)}},
		"query, cookies":                   {Match{Query: all(x)}, Match{Cookies: all(x, y)}},
		"more query":                       {Match{Query: all(x, y)}, Match{Query: all(x), Cookies: all(x, y)}},
		"cookies, sources":                 {Match{Cookies: all(x)}, Match{Sources: prefixes("192.0.2.1/32")}},
		"more cookies":                     {Match{Cookies: all(x, y)}, Match{Cookies: all(x), Sources: prefixes("192.0.2.1/32")}},
		"narrower sources":                 {Match{Sources: prefixes("192.0.2.0/24")}, Match{Sources: prefixes("192.0.2.1/32", "10.0.0.0/8")}},
		"narrower sources, of IPv4 and v6": {Match{Sources: prefixes("192.0.2.0/24")}, Match{Sources: prefixes("192.0.2.0/24", "2001:db8::/64")}},
		"sources":                          {Match{Sources: prefixes("0.0.0.0/0")}, Match{}},
		"longer wildcard":                  {Match{Host: "*.api.test"}, Match{Host: "*.test", Path: "/a/b/c"}},
	} {
		host := "Host: api.test"
		if name == "longer wildcard" {
			host = "Host: v1.api.test"
		}
		for _, order := range [][]Match{{c.first, c.second}, {c.second, c.first}} {
			want := 0
			if order[1].String() == c.first.String() {
				want = 1
			}
			if got := table(t, order...).asked("GET /a/b/c?x&y", host, "X: 1", "Y: 1", "Z: 1", "Cookie: x=1; y=1"); got != want {
				t.Errorf("%s, first %s: route %d", name, order[0], got)
			}
			for _, one := range order {
				if got := table(t, one).asked("GET /a/b/c?x&y", host, "X: 1", "Y: 1", "Z: 1", "Cookie: x=1; y=1"); got != 0 {
					t.Fatalf("%s: %s is not for the request", name, one)
				}
			}
		}
	}
}

// Where the order leaves nothing else, the file decides.
func TestOrderOfTheFile(t *testing.T) {
	for name, list := range map[string][]Match{
		"host regexps": {{HostRegexp: "a.*"}, {HostRegexp: "api.*", Path: "/a/b/c"}},
		"path regexps": {{PathRegexp: "/a/.*"}, {PathRegexp: "/a/b/.*", Headers: all(has("x"))}},
		"headers":      {{Headers: all(has("x"))}, {Headers: all(is("x", "1"))}},
		"sources":      {{Sources: prefixes("192.0.2.0/24", "10.0.0.0/8")}, {Sources: prefixes("192.0.0.0/8", "10.1.0.0/16")}},
		"methods":      {{Methods: []string{"GET", "PUT"}}, {Methods: []string{"POST", "GET"}}},
	} {
		if got := table(t, list...).asked("GET /a/b/c", "X: 1"); got != 0 {
			t.Errorf("%s: route %d", name, got)
		}
		slices.Reverse(list)
		if got := table(t, list...).asked("GET /a/b/c", "X: 1"); got != 0 {
			t.Errorf("%s, reversed: route %d", name, got)
		}
	}
	// A pattern's place is that of its first appearance, whatever comes there of it.
	if got := table(t, Match{PathRegexp: "/a/.*", Headers: all(has("none"))}, Match{PathRegexp: "/a/b/.*"}, Match{PathRegexp: "/a/.*"}).asked("GET /a/b/c"); got != 2 {
		t.Errorf("route %d", got)
	}
}

// Regexps of one host are each for what they match.
func TestSeveralRegexps(t *testing.T) {
	routes := table(t, Match{PathRegexp: "/a.*"}, Match{PathRegexp: "/b.*"}, Match{HostRegexp: "x.*", PathRegexp: "/b.*"}, Match{HostRegexp: "y.*", PathRegexp: "/b.*"})
	for in, want := range map[string]int{"x /a": 0, "z /b": 1, "x /b": 2, "y /b": 3} {
		host, path, _ := strings.Cut(in, " ")
		if got, ok := routes.at(host, path); !ok || got != want {
			t.Errorf("%s: route %d, %v; not %d", in, got, ok, want)
		}
	}
}

// The ranks, which Explain goes by, are in the order in which the tree of prefixes and the names of hosts are searched.
func TestRanks(t *testing.T) {
	routes := table(t, Match{Host: "*.a"}, Match{Host: "*.b.a"}, Match{PathPrefix: "/a"}, Match{PathPrefix: "/a/b"})
	var got []int
	for _, r := range routes.rules {
		got = append(got, r.index)
	}
	if want := []int{1, 0, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

// A route whose finer conditions fail leaves the request to the next, down to less specific paths and hosts.
func TestFallThrough(t *testing.T) {
	no := all(has("missing"))
	list := []Match{
		{Host: "v1.api.test", Path: "/a/b/c", Headers: no},
		{Host: "v1.api.test", PathTemplate: "/a/b/{c}", Headers: no},
		{Host: "v1.api.test", PathTemplate: "/a/{b}/{c}", Query: no},
		{Host: "v1.api.test", PathPrefix: "/a/b/c", Cookies: no},
		{Host: "v1.api.test", PathPrefix: "/a", Methods: []string{"PUT"}},
		{Host: "v1.api.test", PathRegexp: "/a.*", Headers: no},
		{Host: "v1.api.test", PathRegexp: "/.*", Headers: no},
		{Host: "v1.api.test", Sources: prefixes("10.0.0.0/8")},
		{Host: "*.api.test", Path: "/a/b/c", Headers: no},
		{Host: "*.test", Path: "/a/b/c", Headers: no},
		{HostRegexp: "v1.*", PathRegexp: ".*c", Headers: no},
		{HostRegexp: "v.*", PathPrefix: "/a", Headers: no},
		{PathPrefix: "/a", Headers: no},
		{PathPrefix: "/"},
	}
	if got := table(t, list...).asked("GET /a/b/c", "Host: v1.api.test"); got != len(list)-1 {
		t.Errorf("route %d", got)
	}
	// Each in turn is the one that holds.
	for i := range list {
		those := slices.Clone(list)
		m := &those[i]
		m.Headers, m.Query, m.Cookies, m.Methods, m.Sources = nil, nil, nil, nil, nil
		if got := table(t, those...).asked("GET /a/b/c", "Host: v1.api.test"); got != i {
			t.Errorf("route %d, not %d", got, i)
		}
	}
	if got := table(t, list[:len(list)-1]...).asked("GET /a/b/c", "Host: v1.api.test"); got != -1 {
		t.Errorf("route %d, and none holds", got)
	}
}
