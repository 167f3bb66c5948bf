package filter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// asked is a request as the gateway shows it to filters: target is a path and query in canonical form.
func asked(t testing.TB, target string, m *Matched, fields ...string) *fasthttp.RequestCtx {
	t.Helper()
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.SetRequestURI(target)
	ctx.Request.Header.SetHost("a.test")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		ctx.Request.Header.Set(name, value)
	}
	ctx.Response.Header.SetNoDefaultContentType(true)
	if m != nil {
		ctx.SetUserValue(matchedKey{}, m)
	}
	return ctx
}

// matched is what a route with this prefix has taken, with pairs of names and values.
func matched(prefix string, pairs ...string) *Matched {
	m := &Matched{Prefix: prefix}
	for i := 0; i < len(pairs); i += 2 {
		m.Add(pairs[i], []byte(pairs[i+1]))
	}
	return m
}

func TestRedirectLocation(t *testing.T) {
	https := "X-Forwarded-Proto: https"
	for _, c := range []struct {
		name   string
		r      Redirect
		target string
		m      *Matched
		fields []string
		want   string
	}{
		{"to https", Redirect{Scheme: HTTPS}, "/a/b?x=1&y=?", nil, nil, "https://a.test/a/b?x=1&y=?"},
		{"another scheme has its own port", Redirect{Scheme: HTTPS}, "/", nil, []string{"Host: a.test:8080"}, "https://a.test/"},
		{"the same scheme keeps the port", Redirect{Scheme: HTTP, Path: "/x"}, "/", nil, []string{"Host: a.test:8080"}, "http://a.test:8080/x"},
		{"a port that is given", Redirect{Scheme: HTTPS, Port: 8443}, "/", nil, []string{"Host: a.test:8080"}, "https://a.test:8443/"},
		{"the default port of http", Redirect{Host: "b.test", Port: 80}, "/", nil, nil, "http://b.test/"},
		{"the default port of https", Redirect{Scheme: HTTPS, Port: 443}, "/", nil, nil, "https://a.test/"},
		{"the other's default port", Redirect{Port: 443}, "/", nil, nil, "http://a.test:443/"},
		{"a default port that the client gave", Redirect{Path: "/x"}, "/", nil, []string{"Host: a.test:80"}, "http://a.test/x"},
		{"of a client that came by https", Redirect{Path: "/x"}, "/", nil, []string{https, "Host: a.test:443"}, "https://a.test/x"},
		{"an odd port by https", Redirect{Path: "/x"}, "/", nil, []string{https, "Host: a.test:80"}, "https://a.test:80/x"},
		{"down to http", Redirect{Scheme: HTTP}, "/", nil, []string{https, "Host: a.test:8443"}, "http://a.test/"},
		{"another host keeps the port", Redirect{Host: "b.test"}, "/a", nil, []string{"Host: a.test:8080"}, "http://b.test:8080/a"},
		{"a port and nothing after it", Redirect{Path: "/x"}, "/", nil, []string{"Host: a.test:"}, "http://a.test/x"},
		{"IPv6", Redirect{Path: "/x"}, "/", nil, []string{"Host: [2001:DB8::1]:81"}, "http://[2001:db8::1]:81/x"},
		{"IPv6 without a port", Redirect{Scheme: HTTPS}, "/", nil, []string{"Host: [::1]"}, "https://[::1]/"},
		{"to IPv6", Redirect{Host: "[::1]"}, "/", nil, nil, "http://[::1]/"},
		{"in lower case", Redirect{Scheme: HTTPS}, "/A", nil, []string{"Host: A.Test"}, "https://a.test/A"},
		{"what the gateway knows wins", Redirect{Path: "/x"}, "/", nil,
			[]string{"Host: inner.test:81", "X-Forwarded-Host: Outer.test:82"}, "http://outer.test:82/x"},
		{"no proto is no https", Redirect{Path: "/x"}, "/", nil, []string{"X-Forwarded-Proto: ftp"}, "http://a.test/x"},
		{"path", Redirect{Path: "/new"}, "/old/x?q", nil, nil, "http://a.test/new?q"},
		{"without the query", Redirect{Path: "/new", StripQuery: true}, "/old?q", nil, nil, "http://a.test/new"},
		{"captures", Redirect{Path: "/u-{id}/{rest}"}, "/", matched("", "id", "7", "rest", "a/b%C3%A9"), nil, "http://a.test/u-7/a/b%C3%A9"},
		{"a capture that took no part", Redirect{Path: "/u{id}"}, "/", nil, nil, "http://a.test/u"},
		{"prefix", Redirect{PathPrefix: "/new/"}, "/old/a;v=1/b?q", matched("/old"), nil, "http://a.test/new/a;v=1/b?q"},
		{"all of it is the prefix", Redirect{PathPrefix: "/new"}, "/old", matched("/old"), nil, "http://a.test/new"},
		{"off", Redirect{PathPrefix: "/"}, "/old/a", matched("/old"), nil, "http://a.test/a"},
		{"off, and nothing else is there", Redirect{PathPrefix: "/"}, "/old", matched("/old"), nil, "http://a.test/"},
		{"a prefix that is gone", Redirect{PathPrefix: "/new"}, "/older/a", matched("/old"), nil, "http://a.test/older/a"},
		{"two slashes do not make a host", Redirect{PathPrefix: "/"}, "/old///evil.test", matched("/old"), nil, "http://a.test/evil.test"},
		{"the host as a whole", Redirect{Scheme: HTTPS}, "*", nil, nil, "https://a.test"},
		{"no host", Redirect{Path: "/x"}, "/", nil, []string{"Host: "}, "400"},
		{"no host needed", Redirect{Host: "b.test"}, "/", nil, []string{"Host: "}, "http://b.test/"},
		{"odd host", Redirect{Path: "/x"}, "/", nil, []string{"Host: a@evil.test"}, "400"},
		{"odd forwarded host", Redirect{Path: "/x"}, "/", nil, []string{"X-Forwarded-Host: a/b"}, "http://a.test/x"},
		{"hostile capture", Redirect{Path: "/x/.{id}"}, "/", matched("", "id", "."), nil, "400"},
		{"hostile capture after the host", Redirect{Path: "/{id}"}, "/", matched("", "id", "/evil.test"), nil, "400"},
		{"line feed", Redirect{Path: "/{id}"}, "/", matched("", "id", "a\r\nX: y"), nil, "400"},
	} {
		ctx := asked(t, c.target, c.m, c.fields...)
		if New(Config{Redirect: &c.r}).Request(ctx) != Answer {
			t.Errorf("%s: it does not answer", c.name)
		}
		got := string(ctx.Response.Header.Peek("Location"))
		if ctx.Response.StatusCode() == 400 {
			got = "400" + got
		}
		if got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}

func TestRedirectStatus(t *testing.T) {
	for given, want := range map[int]int{0: 302, 301: 301, 303: 303, 308: 308} {
		ctx := asked(t, "/", nil)
		f := New(Config{Redirect: &Redirect{Status: given, Scheme: HTTPS}})
		f.Request(ctx)
		f.Response(ctx)
		if r := &ctx.Response; r.StatusCode() != want || len(r.Body()) > 0 || len(r.Header.ContentType()) > 0 {
			t.Errorf("%d: %s", given, r)
		}
	}
}

// The client of a path that cannot be is told so as the gateway tells: in JSON, with the request's id.
func TestRefusalLooksLikeTheGateways(t *testing.T) {
	ctx := asked(t, "/", matched("", "id", ".."), "X-Request-Id: abc")
	New(Config{Redirect: &Redirect{Path: "/{id}"}}).Request(ctx)
	const want = `{"status":400,"error":"path cannot be rewritten","request_id":"abc"}` + "\n"
	if got := string(ctx.Response.Body()); got != want || string(ctx.Response.Header.ContentType()) != "application/json" {
		t.Errorf("%s: %s", ctx.Response.Header.ContentType(), got)
	}
}

func TestRedirectIsValidated(t *testing.T) {
	for _, c := range []struct {
		r    Redirect
		want []string
	}{
		{Redirect{Scheme: HTTPS, Host: "b.test", Port: 65535, PathPrefix: "/", Status: 307}, nil},
		{Redirect{Path: "/{a}/b-{c};v={d}", Status: 303}, nil},
		{Redirect{Host: "[::1]"}, nil},
		{Redirect{}, []string{"redirect: leads to where it comes from: give scheme, host, port, path or path_prefix"}},
		{Redirect{StripQuery: true, Status: 301}, []string{"redirect: leads to where it comes from: give scheme, host, port, path or path_prefix"}},
		{Redirect{Path: "/", Status: 300}, []string{"redirect.status: status 300: 301, 302, 303, 307 or 308"}},
		{Redirect{Path: "/", Status: 304}, []string{"redirect.status: status 304: 301, 302, 303, 307 or 308"}},
		{Redirect{Host: "b.test:80"}, []string{`redirect.host: "b.test:80" is not a host without a port`}},
		{Redirect{Host: "b.test:"}, []string{`redirect.host: "b.test:" is not a host without a port`}},
		{Redirect{Host: "a@b"}, []string{`redirect.host: "a@b" is not a host without a port`}},
		{Redirect{Host: "a\r\nb"}, []string{`redirect.host: "a\r\nb" is not a host without a port`}},
		{Redirect{Port: -1}, []string{"redirect.port: port -1: 1 to 65535"}},
		{Redirect{Port: 65536}, []string{"redirect.port: port 65536: 1 to 65535"}},
		{Redirect{Path: "/a", PathPrefix: "/b"}, []string{"redirect.path_prefix: path is given too: one of them can be"}},
		{Redirect{Path: "a"}, []string{`redirect.path: "a": request target is neither a path nor an http URI`}},
		{Redirect{Path: "/a?b"}, []string{`redirect.path: "/a?b": request target has a character that none may have`}},
		{Redirect{Path: "/a/../b"}, []string{`redirect.path: "/a/../b" is not in the form that paths are forwarded in, which is like "/b"`}},
		{Redirect{Path: "/{a"}, []string{`redirect.path: "/{a": a variable is {name}, the name of letters, digits and _`}},
		{Redirect{Path: "/{}"}, []string{`redirect.path: "/{}": a variable is {name}, the name of letters, digits and _`}},
		{Redirect{Path: "/a}"}, []string{`redirect.path: "/a}": a } without a {`}},
		{Redirect{PathPrefix: "/a//b"}, []string{`redirect.path_prefix: "/a//b" is not in the form that paths are forwarded in: "/a/b"`}},
		{Redirect{PathPrefix: "b"}, []string{`redirect.path_prefix: "b": request target is neither a path nor an http URI`}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Redirect: &c.r})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.r, diff)
		}
	}
}

func TestRedirectAllocatesNothing(t *testing.T) {
	f := New(Config{Redirect: &Redirect{Scheme: HTTPS, Path: "/u/{id}"}})
	m := matched("")
	ctx := asked(t, "/a?b", m)
	id := []byte("7")
	if n := testing.AllocsPerRun(100, func() {
		ctx.ResetUserValues()
		m.Attach(ctx)
		m.Add("id", id)
		f.Request(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
