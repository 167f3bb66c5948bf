package filter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/gw/h1"
)

func TestRewritePath(t *testing.T) {
	long := strings.Repeat("a", 8<<10)
	for _, c := range []struct {
		name, target string
		r            Rewrite
		m            *Matched
		want         string // 400: refused
	}{
		{"path", "/old/x?q=1?2", Rewrite{Path: "/new"}, nil, "/new?q=1?2"},
		{"captures", "/", Rewrite{Path: "/v2/{id}/{rest}"}, matched("", "id", "7", "rest", "a/b"), "/v2/7/a/b"},
		{"an empty capture at the end", "/", Rewrite{Path: "/v2/{rest}"}, matched("", "rest", ""), "/v2/"},
		{"an empty capture before a slash", "/", Rewrite{Path: "/v2/{rest}/x"}, matched("", "rest", ""), "400"},
		{"a variable is no text", "/", Rewrite{Path: "/{a}"}, matched("", "a", "{b}", "b", "no"), "/{b}"},

		{"prefix", "/old/a?q", Rewrite{PathPrefix: "/new"}, matched("/old"), "/new/a?q"},
		{"prefix with a slash", "/old/a", Rewrite{PathPrefix: "/new/"}, matched("/old"), "/new/a"},
		{"the whole is the prefix", "/old", Rewrite{PathPrefix: "/new/"}, matched("/old"), "/new"},
		{"a slash after it", "/old/", Rewrite{PathPrefix: "/new"}, matched("/old"), "/new/"},
		{"prefix off", "/old/a", Rewrite{PathPrefix: "/"}, matched("/old"), "/a"},
		{"prefix off, and nothing left", "/old?q", Rewrite{PathPrefix: "/"}, matched("/old"), "/?q"},
		{"prefix off before slashes that are kept", "/old///a//b", Rewrite{PathPrefix: "/"}, matched("/old"), "/a//b"},
		{"prefix off before nothing but slashes", "/old//", Rewrite{PathPrefix: "/"}, matched("/old"), "/"},
		{"prefix of all", "/a/b", Rewrite{PathPrefix: "/new"}, matched(""), "/new/a/b"},
		{"prefix of two", "/a/b/c", Rewrite{PathPrefix: "/new"}, matched("/a/b"), "/new/c"},
		{"parameters of the prefix go with it", "/a;v=1/b;w/c;x", Rewrite{PathPrefix: "/new"}, matched("/a/b"), "/new/c;x"},
		{"segments that are only parameters", "/;z/a/;y/b/c", Rewrite{PathPrefix: "/new"}, matched("/a/b"), "/new/c"},
		{"slashes that are kept", "//a//b//c", Rewrite{PathPrefix: "/new"}, matched("/a/b"), "/new//c"},
		{"a path that an earlier filter changed", "/x/b", Rewrite{PathPrefix: "/new"}, matched("/a"), "/x/b"},
		{"a segment that begins like it", "/ab/c", Rewrite{PathPrefix: "/new"}, matched("/a"), "/ab/c"},
		{"a path that is shorter", "/a", Rewrite{PathPrefix: "/new"}, matched("/a/b"), "/a"},

		{"regexp", "/u/7/x", Rewrite{Regexp: "/u/([0-9]+)(/.*)?", Substitution: "/users/$1$2"}, nil, "/users/7/x"},
		{"a group that took no part", "/u/7", Rewrite{Regexp: "/u/([0-9]+)(/.*)?", Substitution: "/users/$1$2"}, nil, "/users/7"},
		{"named groups", "/u/7", Rewrite{Regexp: "/u/(?P<id>.*)", Substitution: "/users/${id}0"}, nil, "/users/70"},
		{"digits end at a letter", "/u/7", Rewrite{Regexp: "/u/(.*)", Substitution: "/users/$1x${1}y"}, nil, "/users/7x7y"},
		{"a dollar sign", "/u/7", Rewrite{Regexp: "/u/(.*)", Substitution: "/$$1/$1"}, nil, "/$1/7"},
		{"groups and the route's captures", "/u/7", Rewrite{Regexp: "/u/(.*)", Substitution: "/{t}/$1"}, matched("", "t", "acme"), "/acme/7"},
		{"a group with the slash", "/u/7", Rewrite{Regexp: "/u(/.*)", Substitution: "$1"}, nil, "/7"},
		{"the whole path must match", "/x/u/7", Rewrite{Regexp: "/u/(.*)", Substitution: "/$1"}, nil, "/x/u/7"},
		{"alternatives are anchored too", "/bc", Rewrite{Regexp: "/a|/b", Substitution: "/x"}, nil, "/bc"},
		{"the query is not matched", "/u?/u", Rewrite{Regexp: "/u", Substitution: "/v"}, nil, "/v?/u"},
		{"a dollar sign in a path", "/", Rewrite{Path: "/$1"}, nil, "/$1"},

		{"dot segment", "/", Rewrite{Path: "/a/{x}/b"}, matched("", "x", ".."), "400"},
		{"one dot", "/", Rewrite{Path: "/a/{x}/b"}, matched("", "x", "."), "400"},
		{"one dot at the end", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "."), "400"},
		{"dot and dot", "/", Rewrite{Path: "/a/{x}{y}"}, matched("", "x", ".", "y", "."), "400"},
		{"dots of which one is the file's", "/", Rewrite{Path: "/a/.{x}"}, matched("", "x", "."), "400"},
		{"three dots are a name", "/", Rewrite{Path: "/a/.{x}"}, matched("", "x", ".."), "/a/..."},
		{"encoded dots", "/", Rewrite{Path: "/a/{x}/b"}, matched("", "x", "%2e%2E"), "400"},
		{"encoded dots from two", "/", Rewrite{Path: "/a/{x}{y}/b"}, matched("", "x", "%2", "y", "e."), "400"},
		{"dots with parameters", "/", Rewrite{Path: "/a/.{x};v/b"}, matched("", "x", "."), "400"},
		{"parameters after dots", "/", Rewrite{Path: "/a/..{x}/b"}, matched("", "x", ";v"), "400"},
		{"parameters", "/", Rewrite{Path: "/a/b{x}/c"}, matched("", "x", ";v"), "/a/b;v/c"},
		{"above the root", "/", Rewrite{Path: "/{x}"}, matched("", "x", ".."), "400"},
		{"encoded slash", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b%2fc"), "400"},
		{"encoded slash from two", "/", Rewrite{Path: "/a/{x}{y}"}, matched("", "x", "%2", "y", "F"), "400"},
		{"encoded backslash", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b%5Cc"), "400"},
		{"two slashes", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "/b"), "400"},
		{"two slashes in front", "/x//b", Rewrite{Regexp: "/x(.*)", Substitution: "$1"}, nil, "400"},
		{"no slash in front", "/x/b", Rewrite{Regexp: "/x/(.*)", Substitution: "$1"}, nil, "400"},
		{"nothing", "/x", Rewrite{Regexp: "/x(.*)", Substitution: "$1"}, nil, "400"},
		{"two slashes and an escape", "/", Rewrite{Path: "/%C3%A9/{x}"}, matched("", "x", "/b%41"), "400"},
		{"query", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b?c"), "400"},
		{"fragment", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b#c"), "400"},
		{"space", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b c"), "400"},
		{"line feed", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b\nc"), "400"},
		{"NUL", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b\x00c"), "400"},
		{"encoded NUL", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b%00c"), "400"},
		{"half an escape", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "b%4"), "400"},
		{"half a character", "/%C3%A9", Rewrite{Regexp: "/(%C3).*", Substitution: "/$1"}, nil, "400"},
		{"a whole character", "/%C3%A9", Rewrite{Regexp: "/(.*)", Substitution: "/a/$1"}, nil, "/a/%C3%A9"},
		{"escapes are brought into form", "/", Rewrite{Path: "/a/{x}"}, matched("", "x", "%c3%a9%41"), "/a/%C3%A9A"},
		{"too long", "/", Rewrite{Path: "/{x}"}, matched("", "x", long), "400"},
		{"as long as can be", "/", Rewrite{Path: "/{x}"}, matched("", "x", long[1:]), "/" + long[1:]},
		{"longer with every place", "/", Rewrite{Path: "/{x}/{x}/{x}"}, matched("", "x", long[:4000]), "400"},
		{"a prefix that makes it too long", "/a/" + long[10:], Rewrite{PathPrefix: "/" + long[:20]}, matched("/a"), "400"},

		{"OPTIONS *", "*", Rewrite{Path: "/x", Host: "b.test"}, nil, "*"},
	} {
		if got := reports(Config{Rewrite: &c.r}); got != nil {
			t.Errorf("%s: %q", c.name, got)
		}
		ctx := asked(t, c.target, c.m)
		_ = ctx.URI() // whoever looks at it later shall see the new one
		result := New(Config{Rewrite: &c.r}).Request(ctx)
		got := string(ctx.Request.Header.RequestURI())
		if result == Answer && ctx.Response.StatusCode() == 400 && got == c.target {
			got = "400"
		}
		if got != c.want {
			t.Errorf("%s: %.60q, not %.60q", c.name, got, c.want)
		}
		if got != "400" && got != "*" && string(ctx.URI().PathOriginal()) != strings.SplitN(got, "?", 2)[0] {
			t.Errorf("%s: the URI has still %q", c.name, ctx.URI().PathOriginal())
		}
	}
}

func TestRewriteHost(t *testing.T) {
	for _, host := range []string{"b.test", "b.test:81", "[::1]:81"} {
		ctx := asked(t, "/a?b", nil, "X-Forwarded-Host: a.test")
		if New(Config{Rewrite: &Rewrite{Host: host}}).Request(ctx) != Continue {
			t.Error("it answers")
		}
		h := &ctx.Request.Header
		if got := []string{string(h.Host()), string(h.Peek("X-Forwarded-Host")), string(h.RequestURI())}; !cmp.Equal(got, []string{host, "a.test", "/a?b"}) {
			t.Errorf("%q", got)
		}
	}
}

// A filter sees what those before it made of the path; a redirect leads by the client's host all the same.
func TestRewriteTwice(t *testing.T) {
	m := matched("/a", "x", "1")
	ctx := asked(t, "/a/b", m, "X-Forwarded-Host: a.test")
	for _, c := range []Config{
		{Rewrite: &Rewrite{PathPrefix: "/c", Host: "b.test"}},
		{Rewrite: &Rewrite{PathPrefix: "/d"}},
		{Rewrite: &Rewrite{Regexp: "/c/(.*)", Substitution: "/{x}/$1"}},
		{Redirect: &Redirect{Scheme: HTTPS}},
	} {
		New(c).Request(ctx)
	}
	if got := string(ctx.Response.Header.Peek("Location")); got != "https://a.test/1/b" {
		t.Errorf("%q", got)
	}
}

func TestRewriteIsValidated(t *testing.T) {
	for _, c := range []struct {
		r    Rewrite
		want []string
	}{
		{Rewrite{Host: "b.test:81"}, nil},
		{Rewrite{Host: "b.test", PathPrefix: "/"}, nil},
		{Rewrite{Regexp: "/(a)(?P<n>b)", Substitution: "/$1/$2/${2}/${n}/$$"}, nil},
		{Rewrite{}, []string{"rewrite: changes nothing: give host, path, path_prefix, or regexp and substitution"}},
		{Rewrite{Host: "a b"}, []string{`rewrite.host: "a b" is not a host, with or without a port`}},
		{Rewrite{Host: "a:x"}, []string{`rewrite.host: "a:x" is not a host, with or without a port`}},
		{Rewrite{Path: "/a", PathPrefix: "/b"}, []string{"rewrite.path_prefix: path is given too: one of them can be"}},
		{Rewrite{Path: "/a", Regexp: "a", Substitution: "/b"}, []string{"rewrite.regexp: path or path_prefix is given too: one of them can be"}},
		{Rewrite{PathPrefix: "/a", Regexp: "a", Substitution: "/b"}, []string{"rewrite.regexp: path or path_prefix is given too: one of them can be"}},
		{Rewrite{Regexp: "a"}, []string{"rewrite.substitution: is what regexp needs"}},
		{Rewrite{Substitution: "/a"}, []string{"rewrite.regexp: is what substitution needs"}},
		{Rewrite{Regexp: "a)|(b", Substitution: "/a"}, []string{"rewrite.regexp: error parsing regexp: unexpected ): `a)|(b`"}},
		{Rewrite{Regexp: "(a)", Substitution: "/$2"}, []string{`rewrite.substitution: "/$2": the regexp has no group 2`}},
		{Rewrite{Regexp: "(a)", Substitution: "/$0"}, []string{`rewrite.substitution: "/$0": the regexp has no group 0`}},
		{Rewrite{Regexp: "(a)", Substitution: "/${n}"}, []string{`rewrite.substitution: "/${n}": the regexp has no group n`}},
		{Rewrite{Regexp: "(a)", Substitution: "/$99999999999999999999"}, []string{`rewrite.substitution: "/$99999999999999999999": the regexp has no group 99999999999999999999`}},
		{Rewrite{Regexp: "(a)", Substitution: "/$n"}, []string{`rewrite.substitution: "/$n": a $ is followed by a number, {number}, {name} or another $`}},
		{Rewrite{Regexp: "(a)", Substitution: "/$"}, []string{`rewrite.substitution: "/$": a $ is followed by a number, {number}, {name} or another $`}},
		{Rewrite{Regexp: "(a)", Substitution: "b/$1"}, []string{`rewrite.substitution: "b/$1": request target is neither a path nor an http URI`}},
		{Rewrite{Regexp: "(a)", Substitution: "/$1/%2e"}, []string{`rewrite.substitution: "/$1/%2e" is not in the form that paths are forwarded in, which is like "/x/"`}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Rewrite: &c.r})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.r, diff)
		}
	}
}

// What a path or a prefix wants of the match has to be there.
func TestMatchIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg    Config
		prefix bool
		names  []string
		want   []string
	}{
		{Config{Respond: &Respond{}}, false, nil, nil},
		{Config{Rewrite: &Rewrite{PathPrefix: "/a"}}, true, nil, nil},
		{Config{Rewrite: &Rewrite{PathPrefix: "/a"}}, false, nil, []string{"rewrite.path_prefix: the route's match has no path_prefix to replace"}},
		{Config{Redirect: &Redirect{PathPrefix: "/a"}}, true, nil, nil},
		{Config{Redirect: &Redirect{PathPrefix: "/a"}}, false, nil, []string{"redirect.path_prefix: the route's match has no path_prefix to replace"}},
		{Config{Redirect: &Redirect{Path: "/{a}/{b}/{c}"}}, false, []string{"b"}, []string{`redirect.path: the route's match captures no "a"`, `redirect.path: the route's match captures no "c"`}},
		{Config{Rewrite: &Rewrite{Path: "/{a}"}}, false, []string{"a"}, nil},
		{Config{Rewrite: &Rewrite{Path: "/{a}"}}, false, nil, []string{`rewrite.path: the route's match captures no "a"`}},
		{Config{Rewrite: &Rewrite{Regexp: "/(?P<b>.*)", Substitution: "/{a}/${b}"}}, false, []string{"b"}, []string{`rewrite.substitution: the route's match captures no "a"`}},
	} {
		var got []string
		c.cfg.ValidateMatch(c.prefix, c.names, func(path, message string) { got = append(got, path+": "+message) })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestRewriteAllocatesNothing(t *testing.T) {
	for _, r := range []Rewrite{{Host: "b.test", Path: "/u/{id}"}, {PathPrefix: "/new"}} {
		f := New(Config{Rewrite: &r})
		m := matched("")
		ctx := asked(t, "/a/b?c", m)
		id := []byte("7")
		if n := testing.AllocsPerRun(100, func() {
			ctx.ResetUserValues()
			m.Attach(ctx)
			m.Prefix = "/a"
			m.Add("id", id)
			ctx.Request.Header.SetRequestURI("/a/b?c")
			f.Request(ctx)
		}); n != 0 {
			t.Errorf("%+v: %v allocations", r, n)
		}
	}
}

// Whatever is captured, the path that comes out is canonical, or the request is refused; and what was captured can be seen in it.
func FuzzRewrite(f *testing.F) {
	for _, s := range [][3]string{{"/a/{x}/b{y}", "..", "%2e"}, {"/{x}{y}", "%2", "e"}, {"/.{x};p/{y}", ".", "%C3"}, {"/{x}", "/evil", ""},
		{"/%C3{x}", "%A9", ""}, {"{x}{y}", "/", "/"}, {"/a;{x}/{y}", "/..", "?#"}} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, path, x, y string) {
		r := Rewrite{Path: path}
		if path == "" || reports(Config{Rewrite: &r}) != nil {
			return
		}
		ctx := asked(t, "/", matched("", "x", x, "y", y))
		if New(Config{Rewrite: &r}).Request(ctx) == Answer {
			if ctx.Response.StatusCode() != 400 {
				t.Errorf("%d", ctx.Response.StatusCode())
			}
			return
		}
		got := string(ctx.Request.Header.RequestURI())
		if c, err := h1.CanonicalPath(got); err != nil || c != got || len(got) > maxPath {
			t.Errorf("%q of %q, %q in %q: %q, %v", got, x, y, path, c, err)
		}
		// Each slash is one of those that were put in.
		put := strings.NewReplacer("{x}", x, "{y}", y).Replace(path)
		if strings.Count(got, "/") != strings.Count(put, "/") {
			t.Errorf("%q of %q", got, put)
		}
	})
}

// A prefix is found in every spelling of a path that the route takes for it.
func FuzzPrefix(f *testing.F) {
	for _, s := range [][2]string{{"/a;x/b//c", "/a/b"}, {"//;/a/..;", "/a"}, {"/ab", "/a"}, {"/", ""}, {"/;/;a", "/a"}, {"/a/", "/a"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, path, prefix string) {
		prefix = strings.TrimSuffix(prefix, "/")
		if c, err := h1.CanonicalPath(prefix + "/"); err != nil || c != prefix+"/" || strings.Contains(c, ";") || path == "" || path[0] != '/' {
			return
		}
		seen := string(h1.MatchPath([]byte(path), nil))
		matches := seen == prefix || strings.HasPrefix(seen, prefix+"/")
		rest, ok := after([]byte(path), prefix)
		if ok != matches {
			t.Fatalf("%q of %q, which is matched as %q: %v", prefix, path, seen, ok)
		}
		if !ok {
			return
		}
		if len(rest) > 0 && rest[0] != '/' {
			t.Errorf("%q of %q leaves %q", prefix, path, rest)
		}
		if again := string(h1.MatchPath([]byte(prefix+string(rest)), nil)); again != seen {
			t.Errorf("%q of %q leaves %q, which is matched as %q, not %q", prefix, path, rest, again, seen)
		}
	})
}
