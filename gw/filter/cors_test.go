package filter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// responded is what a filter makes of a request with these fields and of the response, whose fields are the second ones.
func responded(t testing.TB, f Filter, ctx *fasthttp.RequestCtx, fields ...string) string {
	t.Helper()
	if f.Request(ctx) != Answer {
		for _, s := range fields {
			name, value, _ := strings.Cut(s, ": ")
			ctx.Response.Header.Add(name, value)
		}
		f.Response(ctx)
	}
	return lines(ctx)
}

// lines are a response's status, if it is not 200, and fields, in the order of their writing.
func lines(ctx *fasthttp.RequestCtx) string {
	var b strings.Builder
	if s := ctx.Response.StatusCode(); s != 200 {
		fmt.Fprintf(&b, "%d\n", s)
	}
	for k, v := range ctx.Response.Header.All() {
		if string(k) != "Content-Length" && string(k) != "Transfer-Encoding" {
			fmt.Fprintf(&b, "%s: %s\n", k, v)
		}
	}
	return b.String()
}

func TestCORSResponse(t *testing.T) {
	const a = "https://a.test"
	one := CORS{Origins: []string{a}}
	for _, c := range []struct {
		name   string
		cfg    CORS
		origin string
		fields []string
		want   string
	}{
		{"allowed", one, a, nil, "Vary: Origin\nAccess-Control-Allow-Origin: https://a.test\n"},
		{"another", one, "https://b.test", nil, "Vary: Origin\n"},
		{"none", one, "", nil, "Vary: Origin\n"},
		{"all", CORS{Origins: []string{"*"}}, a, nil, "Access-Control-Allow-Origin: *\n"},
		{"all, to one without an origin", CORS{Origins: []string{"*"}}, "", nil, "Access-Control-Allow-Origin: *\n"},
		{"what the upstream says goes", one, "https://b.test",
			[]string{"Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "Access-Control-Expose-Headers: X"}, "Vary: Origin\n"},
		{"it is not there twice", one, a, []string{"Access-Control-Allow-Origin: x", "Access-Control-Allow-Origin: y"},
			"Vary: Origin\nAccess-Control-Allow-Origin: https://a.test\n"},
		{"vary is kept", one, "", []string{"Vary: Accept"}, "Vary: Accept\nVary: Origin\n"},
		{"vary has it", one, "", []string{"Vary: Accept, oRIGIN"}, "Vary: Accept, oRIGIN\n"},
		{"vary has it in another field", one, "", []string{"Vary: Accept", "Vary: Origin"}, "Vary: Accept\nVary: Origin\n"},
		{"vary is all", one, "", []string{"Vary: *"}, "Vary: *\n"},
		{"vary has one like it", one, "", []string{"Vary: Origin-X"}, "Vary: Origin-X\nVary: Origin\n"},
		{"credentials, expose", CORS{Origins: []string{a}, Credentials: true, Expose: []string{"X-A", "X-B"}}, a, nil,
			"Vary: Origin\nAccess-Control-Allow-Origin: https://a.test\nAccess-Control-Allow-Credentials: true\nAccess-Control-Expose-Headers: X-A, X-B\n"},
		{"not to others", CORS{Origins: []string{a}, Credentials: true, Expose: []string{"X-A"}}, "null", nil, "Vary: Origin\n"},
		{"an error too", one, a, []string{"X: 1"}, "X: 1\nVary: Origin\nAccess-Control-Allow-Origin: https://a.test\n"},
	} {
		ctx := asked(t, "/", nil)
		if c.origin != "" {
			ctx.Request.Header.Set("Origin", c.origin)
		}
		if diff := cmp.Diff(c.want, responded(t, New(Config{CORS: &c.cfg}), ctx, c.fields...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// What filters in between do to the request for the upstream's sake does not change who asked.
func TestCORSRemembersTheOrigin(t *testing.T) {
	f := New(Config{CORS: &CORS{Origins: []string{"https://*.a.test"}}})
	ctx := asked(t, "/", nil, "Origin: https://x.a.test")
	f.Request(ctx)
	ctx.Request.Header.Set("Origin", "https://inner.test")
	f.Response(ctx)
	if got := string(ctx.Response.Header.Peek("Access-Control-Allow-Origin")); got != "https://x.a.test" {
		t.Errorf("%q", got)
	}
	// The next exchange is another one.
	ctx.ResetUserValues()
	ctx.Request.Header.Del("Origin")
	ctx.Response.Reset()
	f.Request(ctx)
	f.Response(ctx)
	if got := string(ctx.Response.Header.Peek("Access-Control-Allow-Origin")); got != "" {
		t.Errorf("then %q", got)
	}
}

func TestCORSPreflight(t *testing.T) {
	const vary = "Vary: Origin\nVary: Access-Control-Request-Method\nVary: Access-Control-Request-Headers\n"
	asks := []string{"Origin: https://a.test", "Access-Control-Request-Method: PUT"}
	with := func(fields ...string) []string { return append(append([]string{}, asks...), fields...) }
	one := CORS{Origins: []string{"https://a.test"}}
	for _, c := range []struct {
		name   string
		cfg    CORS
		fields []string
		want   string // empty: goes on
	}{
		{"defaults", one, asks, "204\n" + vary + "Access-Control-Allow-Origin: https://a.test\nAccess-Control-Allow-Methods: GET, HEAD, POST\nAccess-Control-Max-Age: 600\n"},
		{"all", CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*", "Authorization"}, MaxAge: time.Hour}, asks,
			"204\n" + vary + "Access-Control-Allow-Origin: *\nAccess-Control-Allow-Methods: *\nAccess-Control-Allow-Headers: *, Authorization\nAccess-Control-Max-Age: 3600\n"},
		{"credentials", CORS{Origins: one.Origins, Credentials: true, Methods: []string{"PUT", "DELETE"}}, asks,
			"204\n" + vary + "Access-Control-Allow-Origin: https://a.test\nAccess-Control-Allow-Credentials: true\nAccess-Control-Allow-Methods: PUT, DELETE\nAccess-Control-Max-Age: 600\n"},
		{"private network", CORS{Origins: one.Origins, PrivateNetwork: true}, with("Access-Control-Request-Private-Network: true"),
			"204\n" + vary + "Access-Control-Allow-Origin: https://a.test\nAccess-Control-Allow-Methods: GET, HEAD, POST\nAccess-Control-Max-Age: 600\nAccess-Control-Allow-Private-Network: true\n"},
		{"private network is not asked for", CORS{Origins: one.Origins, PrivateNetwork: true}, asks,
			"204\n" + vary + "Access-Control-Allow-Origin: https://a.test\nAccess-Control-Allow-Methods: GET, HEAD, POST\nAccess-Control-Max-Age: 600\n"},
		{"private network is not allowed", one, with("Access-Control-Request-Private-Network: true"),
			"204\n" + vary + "Access-Control-Allow-Origin: https://a.test\nAccess-Control-Allow-Methods: GET, HEAD, POST\nAccess-Control-Max-Age: 600\n"},
		{"another origin", one, []string{"Origin: https://b.test", "Access-Control-Request-Method: PUT"}, "403\nContent-Type: application/json\n" + vary},
		{"no preflight", one, asks[:1], ""},
		{"no origin", one, asks[1:], ""},
	} {
		ctx := asked(t, "/", nil, c.fields...)
		ctx.Request.Header.SetMethod("OPTIONS")
		got := ""
		if New(Config{CORS: &c.cfg}).Request(ctx) == Answer {
			got = lines(ctx)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if r := RefusalOf(ctx); (r != nil) != strings.HasPrefix(c.want, "403") {
			t.Errorf("%s: refusal %v", c.name, r)
		}
	}
	// Only OPTIONS is one.
	if New(Config{CORS: &one}).Request(asked(t, "/", nil, asks...)) != Continue {
		t.Error("a GET is answered")
	}
}

func TestCORSOrigins(t *testing.T) {
	for _, c := range []struct {
		allowed string // a regexp if it begins with /
		yes, no []string
	}{
		{"https://a.test", []string{"https://a.test"}, []string{"http://a.test", "https://a.test:8443", "https://a.test.evil.test", "https://A.test", "https://a.tes",
			"https://a.test/", " https://a.test", "https://xa.test", "https://a.test, https://a.test", "null"}},
		{"https://*.a.test", []string{"https://b.a.test", "https://c-1.b.a.test"}, []string{"https://a.test", "https://.a.test", "https://ba.test", "http://b.a.test",
			"https://b.a.test:8443", "https://evil.test/.a.test", "https://evil.test#.a.test", "https://evil.test?.a.test", "https://b@.a.test", "https://evil.test:1.a.test",
			"https://b..a.test", "https://b.a.test.evil.test", "https://B.a.test", "https://\x00.a.test", "https://evil.test\\.a.test", "https://" + strings.Repeat("a", 300) + ".a.test"}},
		{"https://*.a.test:8443", []string{"https://b.a.test:8443"}, []string{"https://b.a.test", "https://b.a.test:84430"}},
		{"http://localhost:*", []string{"http://localhost", "http://localhost:1", "http://localhost:3000"}, []string{"http://localhost:", "http://localhost3000",
			"http://localhost:3000x", "http://localhost:30:00", "http://localhostx:30", "http://localhost.evil.test:30"}},
		{"http://*.a.test:*", []string{"http://b.a.test", "http://b.a.test:1"}, []string{"http://b.a.test:", "http://evil.test:1/b.a.test", "http://:80"}},
		{"http://[::1]:*", []string{"http://[::1]", "http://[::1]:80"}, []string{"http://[::1", "http://[::1]80", "http://[::1]:"}},
		{`/https://[a-z]+\.a\.test`, []string{"https://b.a.test"}, []string{"https://b.a.test.evil.test", "xhttps://b.a.test", "https://b.a.test\n", "https://b.axtest"}},
		{"/https://a|https://b", []string{"https://a", "https://b"}, []string{"https://ax", "xhttps://b"}},
		{"*", []string{"https://a.test", "null"}, []string{"", strings.Repeat("a", 301)}},
	} {
		o := newOrigins([]string{c.allowed}, nil)
		if re, ok := strings.CutPrefix(c.allowed, "/"); ok {
			o = newOrigins(nil, []string{re})
		} else if err := checkOrigin(c.allowed); err != nil {
			t.Error(err)
		}
		for i, s := range append(c.yes, c.no...) {
			if got := o.allow([]byte(s)); got != (i < len(c.yes)) {
				t.Errorf("%s, %q: %v", c.allowed, s, got)
			}
		}
	}
}

// An origin that a pattern takes is one whose host, as others read it, is in the pattern's domain.
func FuzzOriginPattern(f *testing.F) {
	for _, s := range []string{"https://b.a.test", "https://b.a.test:80", "https://evil/.a.test", "https://evil#.a.test:1", "https://a:b@.a.test"} {
		f.Add(s)
	}
	o := newOrigins([]string{"https://*.a.test", "https://*.a.test:*"}, nil)
	f.Fuzz(func(t *testing.T, s string) {
		if !o.allow([]byte(s)) {
			return
		}
		var u fasthttp.URI
		if err := u.Parse(nil, []byte(s)); err != nil || string(u.Scheme()) != "https" {
			t.Fatalf("%q: %v", s, err)
		}
		if host, _ := splitHost(u.Host()); !strings.HasSuffix(string(host), ".a.test") || strings.ContainsAny(s[8:], "/?#@\\") {
			t.Errorf("%q is of %q", s, host)
		}
	})
}

func TestCORSIsValidated(t *testing.T) {
	o := []string{"https://a.test"}
	for _, c := range []struct {
		cfg  CORS
		want []string
	}{
		{CORS{Origins: []string{"https://a.test", "https://*.a.test", "http://localhost:*", "app://x", "http://[::1]:81"}, OriginRegexps: []string{"https://.+"},
			Credentials: true, Methods: []string{"PUT"}, Headers: []string{"X-A"}, MaxAge: time.Second}, nil},
		{CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}, Expose: []string{"*"}}, nil},
		{CORS{}, []string{"cors: allows nobody: give origins or origin_regexps"}},
		{CORS{Origins: []string{"*"}, Credentials: true}, []string{"cors.origins[0]: * with credentials would let every page act as its reader: name the origins"}},
		{CORS{Origins: []string{"*", "https://a.test"}}, []string{"cors.origins[0]: * allows all: the others are without effect"}},
		{CORS{Origins: []string{"null"}}, []string{"cors.origins[0]: null is the origin of any page in a sandbox: it cannot be told from others"}},
		{CORS{Origins: []string{"https://a.test:443", "http://a.test:80"}}, []string{`cors.origins[0]: "https://a.test:443": browsers leave out a scheme's default port`,
			`cors.origins[1]: "http://a.test:80": browsers leave out a scheme's default port`}},
		{CORS{Origins: []string{"https://A.test"}}, []string{`cors.origins[0]: "https://A.test": browsers send origins in lower case: "https://a.test"`}},
		{CORS{OriginRegexps: []string{"("}}, []string{"cors.origin_regexps[0]: error parsing regexp: missing closing ): `(`"}},
		{CORS{OriginRegexps: []string{".*"}, Credentials: true}, []string{"cors.origin_regexps[0]: matches null, the origin of any page in a sandbox: not with credentials"}},
		{CORS{Origins: o, Credentials: true, Methods: []string{"*"}, Headers: []string{"X", "*"}, Expose: []string{"*"}},
			[]string{"cors.methods[0]: * is no wildcard with credentials: name them", "cors.headers[1]: * is no wildcard with credentials: name them",
				"cors.expose[0]: * is no wildcard with credentials: name them"}},
		{CORS{Origins: o, Methods: []string{"put"}}, []string{`cors.methods[0]: "put": methods have a case: "PUT"`}},
		{CORS{Origins: o, Headers: []string{"X A", ""}}, []string{`cors.headers[0]: "X A" is not a token`, `cors.headers[1]: "" is not a token`}},
		{CORS{Origins: o, MaxAge: 25 * time.Hour}, []string{"cors.max_age: 25h0m0s: 1s to 24h"}},
		{CORS{Origins: o, MaxAge: -1}, []string{"cors.max_age: -1ns: 1s to 24h"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{CORS: &c.cfg})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.cfg, diff)
		}
	}
	for _, s := range []string{"a.test", "https://", "https://a.test/", "https://a.test/x", "https://a@b", "https://*", "https://a.*.test", "https://*.*.test", "https://a.test:80:*",
		"https://a.test:", "://a", "https://a.test:*:*", "https://a b", "https://*a.test", "", "**"} {
		if checkOrigin(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestCORSAllocatesNothing(t *testing.T) {
	for _, cfg := range []CORS{{Origins: []string{"https://a.test"}, Credentials: true}, {Origins: []string{"https://*.test"}}, {Origins: []string{"*"}}, {OriginRegexps: []string{`https://\w+\.test`}}} {
		f := New(Config{CORS: &cfg})
		ctx := asked(t, "/", nil, "Origin: https://a.test")
		if n := testing.AllocsPerRun(100, func() {
			ctx.ResetUserValues()
			ctx.Response.Header.Reset()
			f.Request(ctx)
			f.Response(ctx)
		}); n != 0 && !raced {
			t.Errorf("%+v: %v allocations", cfg, n)
		}
	}
}
