package route

import (
	"net/netip"
	"strings"
	"testing"

	"sluice/gw/h1"
)

// found is whether a request for this host and path is scanned, and finds a route among routes.
func found(routes *finder, authority, path string) (route int, scanned, ok bool) {
	var q h1.Request
	head := "GET " + path + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n"
	if _, err := q.Scan([]byte(head), &h1.Resume{}, &h1.DefaultLimits); err != nil {
		return 0, false, false
	}
	route, ok = routes.Find(&q, q.Hostname(), h1.MatchPath(q.Path, nil), netip.Addr{}, &routes.c)
	return route, true, ok
}

var spellings = []struct {
	match     Match
	authority string
	path      string
	want      bool
}{
	{Match{Host: "a.test", PathPrefix: "/x"}, "A.Test:8080", "/x", true},
	{Match{Host: "a.test", PathPrefix: "/x"}, "a.test.:80", "/x/y", true},
	{Match{Host: "[::1]", PathPrefix: "/x"}, "[::1]:80", "/x", true},
	{Match{Host: "[2001:DB8::1]"}, "[2001:db8::1]", "/", true},
	{Match{PathPrefix: "/admin"}, "a", "/%61dmin", true},
	{Match{PathPrefix: "/admin"}, "a", "//admin", true},
	{Match{PathPrefix: "/admin"}, "a", "/x/../admin/", true},
	{Match{PathPrefix: "/admin"}, "a", "/admin;x=1/y", true},
	{Match{PathPrefix: "/admin"}, "a", "/;x/admin", true},
	{Match{PathPrefix: "/admin"}, "a", "/admin?x", true},
	{Match{PathPrefix: "/admin/"}, "a", "/admin", true},
	{Match{PathPrefix: "/a%20b"}, "a", "/a%20b/c", true},
	{Match{PathPrefix: "/admin"}, "a", "/ADMIN", false},
	{Match{PathPrefix: "/admin"}, "a", "/admin/../x", false},
	{Match{PathPrefix: "/admin"}, "a", "/administrator", false},
	{Match{PathPrefix: "/admin"}, "a", "/x?/admin", false},
	{Match{Host: "a"}, "a.b", "/", false},
}

// No spelling of a path or a host leads past its route.
func TestSpellingsOfARequest(t *testing.T) {
	for _, c := range spellings {
		if said := reports(c.match); said != nil {
			t.Errorf("%s: %q", c.match, said)
		}
		if _, scanned, ok := found(table(t, c.match), c.authority, c.path); !scanned || ok != c.want {
			t.Errorf("%s, asked for %s%s: scanned %v, found %v", c.match, c.authority, c.path, scanned, ok)
		}
	}
}

// A match that Validate has nothing against is that of some request: of the one that is spelt as it is.
func FuzzValidMatchIsReachable(f *testing.F) {
	for _, c := range spellings {
		f.Add(c.match.Host, c.match.PathPrefix)
		f.Add(c.authority, c.path)
	}
	f.Add(".", "/")
	f.Add("a..", "/a/")
	f.Fuzz(func(t *testing.T, host, prefix string) {
		m := Match{Host: host, PathPrefix: prefix}
		if suffix, wild := strings.CutPrefix(host, "*."); wild {
			host = "a." + suffix
		}
		if len(prefix) > 4000 || len(host) > maxHost || reports(m) != nil {
			return
		}
		routes := table(t, m)
		if host == "" {
			host = "any.test"
		} else if v, ok := routes.at("", "/"+strings.Trim(prefix, "/")); ok {
			t.Fatalf("%s: a request without a host has route %d", m, v)
		}
		if prefix == "" {
			prefix = "/"
		}
		for _, path := range []string{prefix, strings.TrimSuffix(prefix, "/") + "/", strings.TrimSuffix(prefix, "/") + "/below"} {
			if _, scanned, ok := found(routes, host+":80", path); !scanned || !ok {
				t.Fatalf("%s, asked for %s%s: scanned %v, found %v", m, host, path, scanned, ok)
			}
		}
	})
}
