package route

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		m    Match
		path string
		want bool
	}{
		{Match{Path: "/a"}, "/a", true}, {Match{Path: "/a"}, "/a/", false}, {Match{Path: "/a/"}, "/a", false}, {Match{Path: "/a/"}, "/a/", true},
		{Match{Path: "/a"}, "/a/b", false}, {Match{Path: "/a"}, "/A", false}, {Match{Path: "/"}, "/", true}, {Match{Path: "/"}, "/a", false},
		{Match{Path: "/"}, "*", false}, {Match{Path: "/a"}, "/", false},
		{Match{PathTemplate: "/{a}"}, "/x", true}, {Match{PathTemplate: "/{a}"}, "/", false}, {Match{PathTemplate: "/{a}"}, "/x/", false},
		{Match{PathTemplate: "/{a}"}, "/x/y", false}, {Match{PathTemplate: "/{a}"}, "*", false}, {Match{PathTemplate: "/{a}/"}, "/x/", true},
		{Match{PathTemplate: "/{a}/"}, "/x", false}, {Match{PathTemplate: "/a/{b}/c"}, "/a/b/c", true}, {Match{PathTemplate: "/a/{b}/c"}, "/a/b/d", false},
		{Match{PathTemplate: "/a/{b}/c"}, "/a/b", false}, {Match{PathTemplate: "/a/{b...}"}, "/a", false}, {Match{PathTemplate: "/a/{b...}"}, "/a/", true},
		{Match{PathTemplate: "/a/{b...}"}, "/a/b/c/", true}, {Match{PathTemplate: "/{a...}"}, "/", true}, {Match{PathTemplate: "/{a...}"}, "*", false},
		{Match{PathRegexp: "/a"}, "/a", true}, {Match{PathRegexp: "/a"}, "/a/", false}, {Match{PathRegexp: "/a"}, "/x/a", false},
		{Match{PathRegexp: "/a|/b"}, "/b", true}, {Match{PathRegexp: "/a|/b"}, "/ab", false}, {Match{PathRegexp: "(?m)/a$"}, "/a", true},
		{Match{PathRegexp: ".*"}, "*", true}, {Match{PathRegexp: "/A"}, "/a", false}, {Match{}, "*", true},
	} {
		if _, ok := table(t, c.m).at("a", c.path); ok != c.want {
			t.Errorf("%s, asked for %s: %v", c.m, c.path, ok)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		m    Match
		host string
		want bool
	}{
		{Match{Host: "*.api.test"}, "a.api.test", true}, {Match{Host: "*.API.test."}, "A.B.Api.Test.", true}, {Match{Host: "*.api.test"}, "api.test", false},
		{Match{Host: "*.api.test"}, ".api.test", false}, {Match{Host: "*.api.test"}, "xapi.test", false}, {Match{Host: "*.api.test"}, "a.api.test.x", false},
		{Match{Host: "*.api.test"}, "", false}, {Match{Host: "*.api.test"}, "a.api.tes", false},
		{Match{HostRegexp: "a[0-9].test"}, "A7.test", true}, {Match{HostRegexp: "A7.TEST"}, "a7.test.", true}, {Match{HostRegexp: "a7"}, "a7.test", false},
		{Match{HostRegexp: "a7.test"}, "xa7.test", false}, {Match{HostRegexp: ".*"}, "", false}, {Match{HostRegexp: ".*"}, ".", false},
		{Match{HostRegexp: ".*"}, strings.Repeat("h", maxHost+1), false}, {Match{HostRegexp: `\[.*:1\]`}, "[0::1]", true},
	} {
		if _, ok := table(t, c.m).at(c.host, "/"); ok != c.want {
			t.Errorf("%s, asked for %q: %v", c.m, c.host, ok)
		}
	}
}

func TestConditions(t *testing.T) {
	headers := func(c ...Condition) Match { return Match{Headers: c} }
	query := func(c ...Condition) Match { return Match{Query: c} }
	cookies := func(c ...Condition) Match { return Match{Cookies: c} }
	for _, c := range []struct {
		m     Match
		lines string
		want  bool
	}{
		{Match{Methods: []string{"GET", "POST"}}, "POST /", true}, {Match{Methods: []string{"GET", "POST"}}, "PUT /", false},
		{Match{Methods: []string{"GET"}}, "HEAD /", false}, {Match{Methods: []string{"GET"}}, "get /", false}, {Match{}, "PURGE /", true},
		{headers(has("X-a")), "GET /|x-A:", true}, {headers(has("X-a")), "GET /|X-Ab: 1", false}, {headers(is("x", "1")), "GET /|X:  1 ", true},
		{headers(is("x", "a")), "GET /|X: A", false}, {headers(is("x", "1")), "GET /|X: 2|X: 1", true}, {headers(is("x", "1")), "GET /|X: 2, 1", false},
		{headers(is("x", "")), "GET /|X: 1", false}, {headers(is("x", "")), "GET /|X: ", true}, {headers(is("x", "")), "GET /", false},
		{headers(like("x", "a|b")), "GET /|X: b", true}, {headers(like("x", "a|b")), "GET /|X: ab", false}, {headers(like("x", "")), "GET /|X: ab", false},
		{headers(hasNo("x")), "GET /", true}, {headers(hasNo("x")), "GET /|X:", false}, {headers(has("x"), has("y")), "GET /|X: 1", false},
		{headers(has("x"), has("y")), "GET /|X: 1|Y: 1", true}, {headers(is("x", "1"), is("x", "2")), "GET /|X: 1|X: 2", true},
		{Match{Headers: all(Condition{Name: "x", Present: new(true)})}, "GET /|X: 1", true},
		{Match{Headers: all(Condition{Name: "x", Present: new(true)})}, "GET /", false},
		{query(has("a")), "GET /?a", true}, {query(has("a")), "GET /?a=", true}, {query(has("a")), "GET /?b&a=1", true}, {query(has("a")), "GET /?A=1", false},
		{query(has("a")), "GET /", false}, {query(has("a")), "GET /?", false}, {query(has("a")), "GET /?ab=1&=a&b=a", false}, {query(is("a", "")), "GET /?a", true},
		{query(is("a", "1")), "GET /?a=2&a=1", true}, {query(is("a", "1")), "GET /?a=2", false}, {query(is("a", "x y")), "GET /?a=x+y", true},
		{query(is("a", "x y")), "GET /?%61=x%20y", true}, {query(is("a", "x+y")), "GET /?a=x%2By", true}, {query(is("a", "x+y")), "GET /?a=x+y", false},
		{query(is("a b", "é")), "GET /?a+b=%C3%a9", true}, {query(is("a", "%zz")), "GET /?a=%zz", true}, {query(is("a", "x%4")), "GET /?a=x%4", true},
		{query(is("a", "%")), "GET /?a=%", true}, {query(is("a", "1;b=2")), "GET /?a=1;b=2", true}, {query(is("a", "b=c")), "GET /?a=b=c", true},
		{query(is("a", "b?")), "GET /?a=b?", true}, {query(has("a")), "GET /??a", false}, {query(has("?a")), "GET /??a", true}, {query(hasNo("a")), "GET /?b", true},
		{query(hasNo("a")), "GET /?%61", false}, {query(like("a", "[0-9]+ x")), "GET /?a=12+x", true}, {query(like("a", "[0-9]+")), "GET /?a=12x", false},
		{query(is("a", "1"), is("b", "2")), "GET /?b=%32&a=%31", true}, {query(is("a", "1&2")), "GET /?a=1%262", true},
		{cookies(has("a")), "GET /|Cookie: a=", true}, {cookies(has("a")), "GET /|Cookie: a", false}, {cookies(is("a", "1")), "GET /|Cookie: b=2; a=1", true},
		{cookies(is("a", "1")), "GET /|cookie: b=2;a = 1 ;", true}, {cookies(is("a", "1")), "GET /|Cookie: b=1|Cookie: a=1", true},
		{cookies(is("a", "1")), "GET /|Cookie: A=1", false}, {cookies(is("a", "1")), `GET /|Cookie: a="1"`, false}, {cookies(is("a", `"1"`)), `GET /|Cookie: a="1"`, true},
		{cookies(is("a", "%31")), "GET /|Cookie: a=%31", true}, {cookies(is("a", "b=c")), "GET /|Cookie: a=b=c", true}, {cookies(is("a", "1")), "GET /|Cookie: a=2; a=1", true},
		{cookies(hasNo("a")), "GET /|Cookie: b=1", true}, {cookies(hasNo("a")), "GET /|Cookie: b=1; a=2", false}, {cookies(like("a", "[0-9]+")), "GET /|Cookie: a=12", true},
		{cookies(has("a")), "GET /|X-Cookie: a=1", false}, {cookies(has("a"), is("b", "2")), "GET /|Cookie: a=1|Cookie: b=2", true},
		{Match{Sources: prefixes("10.0.0.0/8", "192.0.2.0/24")}, "GET /", true}, {Match{Sources: prefixes("10.0.0.0/8")}, "GET /", false},
		{Match{Sources: prefixes("::/0")}, "GET /", false},
	} {
		if said := reports(c.m); said != nil {
			t.Errorf("%s: %q", c.m, said)
		}
		if got := table(t, c.m).asked(strings.Split(c.lines, "|")...); got >= 0 != c.want {
			t.Errorf("%s, asked %q: %d", c.m, c.lines, got)
		}
	}
}

// An IPv4 client is one on whatever socket it came; a client without an address is in no prefix.
func TestSourcesOfClients(t *testing.T) {
	routes := table(t, Match{Sources: prefixes("192.0.2.0/24", "2001:db8::/32")})
	for in, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.3.7": false, "2001:db8::1": true, "2001:db9::1": false, "": false} {
		a, _ := netip.ParseAddr(in)
		if _, ok := routes.Find(scan(t, "GET /"), []byte("a"), []byte("/"), a, &routes.c); ok != want {
			t.Errorf("%q: %v", in, ok)
		}
	}
}

func TestCaptures(t *testing.T) {
	for _, c := range []struct {
		m          Match
		path, want string
	}{
		{Match{PathTemplate: "/users/{id}/orders/{n}"}, "/users/7/orders/12", "id=7 n=12"},
		{Match{PathTemplate: "/{a}"}, "/x%20y", "a=x%20y"},
		{Match{PathTemplate: "/{a}/{rest...}"}, "/x/", "a=x rest="},
		{Match{PathTemplate: "/{a}/{rest...}"}, "/x/y/z/", "a=x rest=y/z/"},
		{Match{PathRegexp: "/(?P<a>[a-z]+)(-(?<b>[0-9]+))?/(?P<c>.*)"}, "/x-1/y/z", "a=x b=1 c=y/z"},
		{Match{PathRegexp: "/(?P<a>[a-z]+)(-(?<b>[0-9]+))?/(?P<c>.*)"}, "/x/", "a=x c="},
		{Match{PathRegexp: "/(.*)"}, "/x", ""},
		{Match{PathPrefix: "/x"}, "/x", ""},
	} {
		routes := table(t, c.m, Match{Host: "other", PathTemplate: "/{x}"})
		if _, ok := routes.at("other", "/x"); !ok || routes.captured("/x") != "x=x" {
			t.Fatal("what a lookup left")
		}
		if _, ok := routes.at("a", c.path); !ok || routes.captured(c.path) != c.want {
			t.Errorf("%s, asked for %s: %v, %q, not %q", c.m, c.path, ok, routes.captured(c.path), c.want)
		}
		for _, pair := range strings.Fields(c.want) {
			name, want, _ := strings.Cut(pair, "=")
			if got, ok := routes.c.Get([]byte(c.path), name); !ok || string(got) != want {
				t.Errorf("%s: %s is %q, %v", c.path, name, got, ok)
			}
		}
		if v, ok := routes.c.Get([]byte(c.path), "none"); ok {
			t.Errorf("none is %q", v)
		}
		if _, ok := routes.at("a", "x"); ok || routes.c.Len() != 0 {
			t.Errorf("%s: captures of no route", c.m)
		}
	}
}

// It stands in messages, where an empty text would say nothing.
func TestMatchInWords(t *testing.T) {
	for _, c := range []struct {
		m    Match
		want string
	}{
		{Match{}, "any host /"}, {Match{Host: "a"}, "a /"}, {Match{PathPrefix: "/x"}, "any host /x"}, {Match{Host: "a", PathPrefix: "/x"}, "a /x"},
		{Match{HostRegexp: "a.*", PathRegexp: "/b.*"}, "~a.* ~/b.*"}, {Match{Path: "/x"}, "any host =/x"}, {Match{PathTemplate: "/{x}"}, "any host /{x}"},
		{Match{Methods: []string{"GET", "PUT"}, Headers: all(has("a"), is("b", "1")), Query: all(like("c", "d.*")), Cookies: all(hasNo("e")), Sources: prefixes("10.0.0.0/8", "::/0")},
			`any host / GET,PUT header a header b="1" query parameter c~d.* cookie no e from 10.0.0.0/8,::/0`},
	} {
		if got := c.m.String(); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// Matches that mean the same are found however they are written.
func TestSecondOfAKind(t *testing.T) {
	base := Match{Host: "a", PathPrefix: "/x", Methods: []string{"GET", "PUT"}, Headers: all(has("A"), is("b", "1")), Query: all(has("q")), Sources: prefixes("10.0.0.0/8", "::/0")}
	with := func(f func(*Match)) Match {
		m := base
		f(&m)
		return m
	}
	list := []Match{
		base,
		with(func(m *Match) { m.Host = "A." }),
		with(func(m *Match) { m.PathPrefix = "/x/" }),
		with(func(m *Match) { m.Methods = []string{"PUT", "GET", "PUT"} }),
		with(func(m *Match) { m.Headers = all(is("B", "1"), Condition{Name: "a", Present: new(true)}) }),
		with(func(m *Match) { m.Sources = prefixes("::/0", "10.0.0.0/8") }),
		with(func(m *Match) { m.Host = "b" }),
		with(func(m *Match) { m.Host = "*.a" }),
		with(func(m *Match) { m.Host, m.HostRegexp = "", "a" }),
		with(func(m *Match) { m.PathPrefix, m.Path = "", "/x" }),
		with(func(m *Match) { m.PathPrefix, m.PathRegexp = "", "/x" }),
		with(func(m *Match) { m.Methods = []string{"PUT"} }),
		with(func(m *Match) { m.Headers = all(has("A"), is("b", "2")) }),
		with(func(m *Match) { m.Headers = all(has("A"), like("b", "1")) }),
		with(func(m *Match) { m.Headers = all(hasNo("A"), is("b", "1")) }),
		with(func(m *Match) { m.Query = all(has("Q")) }),
		with(func(m *Match) { m.Query, m.Cookies = nil, all(has("q")) }),
		with(func(m *Match) { m.Sources = prefixes("10.0.0.0/8") }),
		{Host: "[0::1]"}, {Host: "[::1]", PathPrefix: "/"}, {PathTemplate: "/{a}/b"}, {PathTemplate: "/{c}/b"}, {PathTemplate: "/{a}/c"}, {PathTemplate: "/a/{b}"},
		{}, {PathPrefix: "/"}, {PathRegexp: "("}, {PathRegexp: "("}, {HostRegexp: "("}, {HostRegexp: "("}, {PathTemplate: "/a"}, {PathTemplate: "/a"}, {Headers: all(like("a", "("))}, {Headers: all(like("a", "("))},
	}
	got := unreachable(list)
	for _, i := range []int{1, 2, 3, 4, 5, 19, 21, 25} {
		if want := "a second route for " + list[i].String(); got[i] != want {
			t.Errorf("%s: %q, not %q", list[i], got[i], want)
		}
		delete(got, i)
	}
	if len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// The second of each is for nothing that the first is not for, or is for more.
func TestNeverReached(t *testing.T) {
	x, x1 := has("x"), is("x", "1")
	for _, c := range []struct {
		first, second Match
		want          bool
	}{
		{Match{Headers: all(x)}, Match{Headers: all(x1)}, true},
		{Match{Headers: all(x1)}, Match{Headers: all(x)}, false},
		{Match{Headers: all(x)}, Match{Headers: all(like("x", "1"))}, true},
		{Match{Headers: all(x)}, Match{Headers: all(hasNo("x"))}, false},
		{Match{Headers: all(hasNo("x"))}, Match{Headers: all(x1)}, false},
		{Match{Headers: all(x)}, Match{Headers: all(is("y", "1"))}, false},
		{Match{Headers: all(x)}, Match{Query: all(x1)}, false},
		{Match{Headers: all(x)}, Match{PathPrefix: "/a", Headers: all(x1)}, false},
		{Match{Headers: all(x)}, Match{Host: "a", Headers: all(x1)}, false},
		{Match{Host: "a", PathTemplate: "/{x}", Headers: all(x)}, Match{Host: "A", PathTemplate: "/{y}", Headers: all(x1)}, true},
		{Match{Headers: all(x, has("y"))}, Match{Headers: all(has("y"), x1)}, true},
		{Match{Headers: all(x, has("y"))}, Match{Headers: all(x1)}, false},
		{Match{Headers: all(x1, x)}, Match{Headers: all(x1)}, true},
		{Match{Headers: all(x)}, Match{Headers: all(x1), Methods: []string{"GET"}}, false},
		{Match{Headers: all(x), Methods: []string{"GET"}}, Match{Headers: all(x1), Methods: []string{"GET"}}, true},
		{Match{Headers: all(x), Methods: []string{"GET"}}, Match{Headers: all(x1)}, false},
		{Match{Headers: all(x), Methods: []string{"GET"}}, Match{Headers: all(x1), Methods: []string{"PUT"}}, false},
		{Match{Sources: prefixes("10.0.0.0/8")}, Match{Sources: prefixes("10.0.0.0/8", "10.1.0.0/16")}, true},
		{Match{Sources: prefixes("10.0.0.0/8")}, Match{Sources: prefixes("10.0.0.0/8", "11.1.0.0/16")}, false},
		{Match{Sources: prefixes("10.0.0.0/8")}, Match{Sources: prefixes("10.0.0.0/7")}, false},
		{Match{Headers: all(x), Sources: prefixes("10.0.0.0/8")}, Match{Headers: all(x1)}, false},
		{Match{Headers: all(x)}, Match{Headers: all(x1), Sources: prefixes("10.0.0.0/8")}, false},
	} {
		got := unreachable([]Match{c.first, c.second})
		want := map[int]string{}
		if c.want {
			want[1] = "is never reached: #0, " + c.first.String() + ", comes first and takes all of its requests"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, %s (-want +got):\n%s", c.first, c.second, diff)
		}
	}
}

func unreachable(list []Match) map[int]string {
	out := map[int]string{}
	Unreachable(list, func(i int, message string) { out[i] = message })
	return out
}

func TestBuildRefuses(t *testing.T) {
	for want, list := range map[string][]Entry[int]{
		"route 1: the match of route 0 once more: a /x/":  {{Match: Match{Host: "A", PathPrefix: "/x"}}, {Match: Match{Host: "a", PathPrefix: "/x/"}}},
		`route 0: host: "a:1" is not a host name`:         {{Match: Match{Host: "a:1"}}},
		"route 1: path_regexp: error parsing regexp":      {{}, {Match: Match{PathRegexp: "("}}},
		"route 0: path_template: \"/a\": there is no var": {{Match: Match{PathTemplate: "/a"}}},
	} {
		if _, err := Build(list); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
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
		{Match{Host: "*.test"}, "", ""},
		{Match{PathPrefix: "/a?b"}, "path_prefix", "character"},
		{Match{PathPrefix: "/a/;x"}, "path_prefix", "parameters"},
		{Match{PathPrefix: "//"}, "path_prefix", "never matched"},
		{Match{PathPrefix: "/../a"}, "path_prefix", "above the root"},
		{Match{PathPrefix: "a"}, "path_prefix", "neither a path"},
		{Match{PathPrefix: "/a/../b"}, "path_prefix", `"/b"`},
		{Match{PathPrefix: "/%61"}, "path_prefix", `"/a"`},
		{Match{PathPrefix: "/a;x"}, "path_prefix", "parameters"},
		{Match{PathPrefix: "/%2f"}, "path_prefix", "slash"},
		{Match{Host: "a", HostRegexp: "b"}, "host_regexp", "host is given too"},
		{Match{HostRegexp: "a)|(b"}, "host_regexp", "unexpected )"},
		{Match{Path: "/a", PathPrefix: "/a"}, "path_prefix", "path is given too"},
		{Match{PathTemplate: "/{a}", PathRegexp: "/a"}, "path_regexp", "path_template is given too"},
		{Match{Path: "/a/../b"}, "path", `form "/b" first`},
		{Match{Path: "/a//"}, "path", `form "/a/" first`},
		{Match{Path: "a"}, "path", "neither a path"},
		{Match{PathTemplate: "{a}"}, "path_template", "neither a path"},
		{Match{PathTemplate: "/./{a}"}, "path_template", `form "/{a}" first`},
		{Match{PathTemplate: "/{a};x"}, "path_template", "parameters"},
		{Match{PathTemplate: "/a"}, "path_template", "no variable"},
		{Match{PathTemplate: "/x{a}"}, "path_template", "whole segment"},
		{Match{PathTemplate: "/{a}x"}, "path_template", "whole segment"},
		{Match{PathTemplate: "/{a"}, "path_template", "whole segment"},
		{Match{PathTemplate: "/{}"}, "path_template", "name"},
		{Match{PathTemplate: "/{1a}"}, "path_template", "name"},
		{Match{PathTemplate: "/{a-b}"}, "path_template", "name"},
		{Match{PathTemplate: "/{...}"}, "path_template", "name"},
		{Match{PathTemplate: "/{a...}/b"}, "path_template", "last"},
		{Match{PathTemplate: "/{a}/{a}"}, "path_template", "second"},
		{Match{PathTemplate: "/{_a1}/%20/{b...}"}, "", ""},
		{Match{PathTemplate: variables(MaxCaptures)}, "", ""},
		{Match{PathTemplate: variables(MaxCaptures + 1)}, "path_template", "17 variables"},
		{Match{PathRegexp: "/["}, "path_regexp", "missing closing ]"},
		{Match{PathRegexp: groups(MaxCaptures)}, "", ""},
		{Match{PathRegexp: groups(MaxCaptures + 1)}, "path_regexp", "17 named groups"},
		{Match{Methods: []string{"GET", "M-SEARCH"}}, "", ""},
		{Match{Methods: []string{"GET", "Post"}}, "methods[1]", `the method is "POST"`},
		{Match{Methods: []string{"A B"}}, "methods[0]", "not a method"},
		{Match{Methods: []string{""}}, "methods[0]", "not a method"},
		{Match{Headers: all(has("x"), has("a b"))}, "headers[1].name", "not a header name"},
		{Match{Headers: all(has("hOst"))}, "headers[0].name", "key host"},
		{Match{Headers: all(is("a", " b"))}, "headers[0].value", "no header has"},
		{Match{Headers: all(like("a", "("))}, "headers[0].regexp", "missing closing )"},
		{Match{Headers: all(Condition{Name: "a", Value: new(""), Present: new(true)})}, "headers[0]", "one of"},
		{Match{Query: all(has(""))}, "query[0].name", "empty"},
		{Match{Query: all(is("a b", " \n"))}, "", ""},
		{Match{Cookies: all(has("a;"))}, "cookies[0].name", "not a cookie name"},
		{Match{Cookies: all(is("a", "b;c"))}, "cookies[0].value", "no cookie has"},
		{Match{Sources: []netip.Prefix{{}}}, "sources[0]", "not a prefix"},
		{Match{Sources: prefixes("10.0.0.0/8", "10.1.0.0/8")}, "sources[1]", "10.0.0.0/8"},
		{Match{Sources: prefixes("::ffff:10.0.0.0/104")}, "sources[0]", "never"},
	} {
		var path, message string
		c.m.Validate(func(p, m string) { path, message = p, m })
		if path != c.path || !strings.Contains(message, c.says) {
			t.Errorf("%+v: %q %q", c.m, path, message)
		}
	}
}

// variables is a template of so many.
func variables(n int) (out string) {
	for i := range n {
		out += fmt.Sprintf("/{a%d}", i)
	}
	return out
}

func groups(n int) (out string) {
	for i := range n {
		out += fmt.Sprintf("/(?P<a%d>.*)", i)
	}
	return out
}
