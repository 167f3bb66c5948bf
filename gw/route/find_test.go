package route

import (
	"net/netip"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	routes := table(t, Match{PathPrefix: "/"}, Match{PathPrefix: "/a"}, Match{PathPrefix: "/a/b/"}, Match{Host: "A.test", PathPrefix: "/a"},
		Match{Host: "b.test"}, Match{Host: "[::1]", PathPrefix: "/v6"},
		Match{Host: "b.test", PathPrefix: "/much/longer"}, Match{Host: "b.test", PathPrefix: "/c"}, Match{Host: "C.test.", PathPrefix: "/"})
	for _, c := range []struct {
		host, path string
		want       int
	}{
		{"x.test", "/", 0}, {"x.test", "/ab", 0}, {"x.test", "/a", 1}, {"x.test", "/a/", 1}, {"x.test", "/a/bc", 1}, {"x.test", "/a/b", 2}, {"x.test", "/a/b/c/d", 2},
		{"a.test", "/a/b", 3}, {"a.TEST", "/a", 3}, {"a.test.", "/a", 3},
		{"a.test", "/c", 0}, // its host has no such prefix: those of any host have their turn
		{"b.test", "/much/longer/x", 6}, {"b.test", "/much/long", 4}, {"b.test", "/C", 4}, {"b.test", "/c/", 7},
		{"c.test", "/", 8}, {"c.test.", "/a", 8}, // a dot at the end of either
		{"xa.test", "/a", 1}, {"a.test.x", "/a", 1}, {"a.test..", "/a", 1}, {".", "/a", 1}, {"x.test", "*", 0}, {"b.test", "*", 4},
		{"b.test", "/a/b", 4}, {"b.test", "/", 4}, {"[::1]", "/v6/x", 5}, {"[::1]", "/", 0}, {"", "/a", 1}, {strings.Repeat("h", 300), "/a", 1},
	} {
		got, ok := routes.at(c.host, c.path)
		if !ok || got != c.want {
			t.Errorf("%s%s: route %d, %v; not %d", c.host, c.path, got, ok, c.want)
		}
	}
}

func TestFindNothing(t *testing.T) {
	if _, ok := table(t).at("a", "/"); ok {
		t.Error("an empty table has a route")
	}
	routes := table(t, Match{Host: "a", PathPrefix: "/x"})
	for _, at := range [][2]string{{"a", "/"}, {"a", "/xy"}, {"b", "/x"}} {
		if _, ok := routes.at(at[0], at[1]); ok {
			t.Errorf("%v has a route", at)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	routes := table(t, Match{PathPrefix: "/a"}, Match{Host: "a.test", PathPrefix: "/a/b"}, Match{Host: "*.w.test", PathTemplate: "/t/{x}/{rest...}"},
		Match{HostRegexp: "r[0-9]+.test", PathRegexp: "/r/[0-9]+(/.*)?"}, Match{Host: "[::1]", Path: "/a"},
		Match{PathPrefix: "/c", Methods: []string{"GET"}, Headers: all(like("x", "[0-9]+"), hasNo("none")), Query: all(is("a b", "1 2"), like("c", "d e.*")),
			Cookies: all(is("k", "v"), like("l", "m.*")), Sources: prefixes("192.0.2.0/24")})
	q := scan(t, "GET /?c=d%20e&a+b=1%202", "X: 12", "Cookie: k=v; l=mn")
	source := netip.MustParseAddr("::ffff:192.0.2.1")
	for _, c := range []struct {
		host, path string
		want       int
	}{
		{"A.test", "/a/b/c/d", 1}, {"a.test.", "/a", 0}, {"b", "/a", 0}, {"b", "/none", -1}, {strings.Repeat("h", 300), "/a", 0}, {"b.W.test", "/t/x/y/z", 2},
		{"r17.test", "/r/17/x", 3}, {"r17.test", "/none", -1}, {"[0::1]", "/a", 4}, {"b", "/c/d", 5},
	} {
		host, path := []byte(c.host), []byte(c.path)
		n := allocations(func() {
			got, ok := routes.Find(q, host, path, source, &routes.c)
			if ok != (c.want >= 0) || ok && got != c.want {
				t.Fatalf("%s%s: route %d, %v", c.host, c.path, got, ok)
			}
		})
		if n != 0 {
			t.Errorf("%s%s: %v allocations", c.host, c.path, n)
		}
	}
}

// What a path_regexp captures is the one thing that is allocated: regexp's list of offsets.
func TestNamedGroupsAllocateTheirList(t *testing.T) {
	routes := table(t, Match{PathRegexp: "/(?P<x>.*)"})
	q, path := scan(t, "GET /"), []byte("/b")
	if n := allocations(func() { routes.Find(q, nil, path, netip.Addr{}, &routes.c) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// allocations is what each run of f allocates. Of several measurements the least counts: regexp keeps its machines in a
// sync.Pool, which loses some of them on purpose under the race detector.
func allocations(f func()) float64 {
	least := testing.AllocsPerRun(4, f)
	for range 20 {
		least = min(least, testing.AllocsPerRun(4, f))
	}
	return least
}
