package route

import (
	"strings"
	"testing"
)

// table files matches under their index.
func table(t testing.TB, matches ...Match) *Table[int] {
	t.Helper()
	out := New[int]()
	for i, m := range matches {
		if !out.Add(m, i) {
			t.Fatalf("%s is there twice", m)
		}
	}
	return out
}

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
		got, ok := routes.Find([]byte(c.host), []byte(c.path))
		if !ok || got != c.want {
			t.Errorf("%s%s: route %d, %v; not %d", c.host, c.path, got, ok, c.want)
		}
	}
}

func TestFindNothing(t *testing.T) {
	if _, ok := New[int]().Find([]byte("a"), []byte("/")); ok {
		t.Error("an empty table has a route")
	}
	routes := table(t, Match{Host: "a", PathPrefix: "/x"})
	for _, at := range [][2]string{{"a", "/"}, {"a", "/xy"}, {"b", "/x"}} {
		if _, ok := routes.Find([]byte(at[0]), []byte(at[1])); ok {
			t.Errorf("%v has a route", at)
		}
	}
}

func TestSecondOfAKind(t *testing.T) {
	routes := table(t, Match{Host: "a", PathPrefix: "/x"}, Match{})
	for _, m := range []Match{{Host: "A", PathPrefix: "/x/"}, {PathPrefix: "/"}, {Host: "a.", PathPrefix: "/x"}} {
		if routes.Add(m, 9) {
			t.Errorf("%s is taken, and never matched", m)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		m          Match
		path, says string
	}{
		{Match{Host: "a.test", PathPrefix: "/a"}, "", ""},
		{Match{Host: "[::1]"}, "", ""},
		{Match{Host: "a:80"}, "host", "without a port"},
		{Match{Host: "a b"}, "host", "host name"},
		{Match{Host: "[a::b c]"}, "host", "IP address"},
		{Match{Host: "[::1"}, "host", "IP address"},
		{Match{}, "", ""},
		{Match{Host: "A_b-c.test", PathPrefix: "/A/%20/"}, "", ""},
		{Match{Host: "[::1"}, "host", "without a port"},
		{Match{Host: "[a]"}, "host", "without a port"},
		{Match{Host: "[::1]:80"}, "host", "without a port"},
		{Match{Host: "*.test"}, "host", `"*.test" is not a host name`},
		{Match{PathPrefix: "/a?b"}, "path_prefix", "character"},
		{Match{PathPrefix: "/a/;x"}, "path_prefix", "parameters"},
		{Match{PathPrefix: "//"}, "path_prefix", "never matched"},
		{Match{PathPrefix: "/../a"}, "path_prefix", "above the root"},
		{Match{PathPrefix: "a"}, "path_prefix", "neither a path"},
		{Match{PathPrefix: "/a/../b"}, "path_prefix", `"/b"`},
		{Match{PathPrefix: "/%61"}, "path_prefix", `"/a"`},
		{Match{PathPrefix: "/a;x"}, "path_prefix", "parameters"},
		{Match{PathPrefix: "/%2f"}, "path_prefix", "slash"},
	} {
		var path, message string
		c.m.Validate(func(p, m string) { path, message = p, m })
		if path != c.path || !strings.Contains(message, c.says) {
			t.Errorf("%+v: %q %q", c.m, path, message)
		}
	}
}

// It stands in messages, where an empty text would say nothing.
func TestMatchInWords(t *testing.T) {
	for m, want := range map[Match]string{{}: "any host /", {Host: "a"}: "a /", {PathPrefix: "/x"}: "any host /x", {Host: "a", PathPrefix: "/x"}: "a /x"} {
		if got := m.String(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	routes := table(t, Match{PathPrefix: "/a"}, Match{Host: "a.test", PathPrefix: "/a/b"})
	for _, at := range [][2]string{{"A.test", "/a/b/c/d"}, {"a.test.", "/a"}, {"b", "/a"}, {"b", "/none"}, {strings.Repeat("h", 300), "/a"}} {
		host, path := []byte(at[0]), []byte(at[1])
		if n := testing.AllocsPerRun(100, func() { routes.Find(host, path) }); n != 0 {
			t.Errorf("%v: %v allocations", at, n)
		}
	}
}

// naive is Find by trying every route.
func naive(matches []Match, host, path string) int {
	best, score := -1, -1
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for i, m := range matches {
		prefix := strings.TrimSuffix(m.PathPrefix, "/")
		if m.Host != "" && strings.TrimSuffix(strings.ToLower(m.Host), ".") != host || path != prefix && !strings.HasPrefix(path, prefix+"/") {
			continue
		}
		s := len(prefix)
		if m.Host != "" {
			s += 1 << 20
		}
		if s > score {
			best, score = i, s
		}
	}
	return best
}

func FuzzFind(f *testing.F) {
	f.Add("a", "/a/b", "a", "/a", "A.", "/a/b", "/")
	f.Add("b", "/ab", "a", "/a", "b", "/", "/x")
	f.Add("A.", "/a/b/c", "a", "/", "a", "/a/b/", "/a/b/c")
	f.Add("", "", "x", "/x", "y", "", "/")
	f.Add("a..", "/", "a.", "/", "a..", "/", "")
	f.Fuzz(func(t *testing.T, host, path, h1, p1, h2, p2, p3 string) {
		for _, p := range []string{path, p1, p2, p3} {
			if p != "" && !strings.HasPrefix(p, "/") || strings.Contains(p, "//") {
				return // not canonical
			}
		}
		for _, h := range []string{host, h1, h2} {
			if len(h) > 200 || strings.ToLower(h) != string(lowerASCII(h)) || h == "." {
				return // not valid
			}
		}
		var matches []Match
		routes := New[int]()
		for i, m := range []Match{{PathPrefix: p1}, {Host: h1, PathPrefix: p1}, {Host: h2, PathPrefix: p2}, {Host: h1, PathPrefix: p3}, {PathPrefix: p2}} {
			// One that is not taken is never matched: naive prefers the first of two that are alike.
			routes.Add(m, i)
			matches = append(matches, m)
		}
		want := naive(matches, host, path)
		got, ok := routes.Find([]byte(host), []byte(path))
		if !ok {
			got = -1
		}
		if got != want {
			t.Fatalf("%q %q among %v: %d, not %d", host, path, matches, got, want)
		}
	})
}

func lowerASCII(s string) []byte {
	out := []byte(s)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c | 0x20
		}
	}
	return out
}
