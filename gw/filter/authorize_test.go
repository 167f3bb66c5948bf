package filter

import (
	"net"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestAuthorize(t *testing.T) {
	admin := &Identity{Subject: "ann", By: "jwt", Claims: map[string]any{"role": "admin"}}
	for _, c := range []struct {
		allow string
		id    *Identity
		want  string // the refusal's reason; empty: goes on
	}{
		{`request.method == "GET"`, nil, ""},
		{`request.method == "PUT"`, nil, "not_mine"},
		{`identity.claims.role == "admin"`, admin, ""},
		{`identity.claims.role == "other"`, admin, "not_mine"},
		{`identity.claims.role == "admin"`, nil, "error"},
		{`identity.claims.role != "admin"`, nil, "error"},
		{`identity.claims.role`, admin, "error"},
		{`identity.subject == request.headers["x-user"]`, admin, ""},
		{`cidr(source.ip, "192.0.2.0/24")`, nil, ""},
		{`cidr(source.ip, "198.51.100.0/24")`, nil, "not_mine"},
		{`[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, a > 0))))`, nil, "error"},
	} {
		ctx := parsed(t, "Host: a", "X-User: ann")
		ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")})
		if c.id != nil {
			SetIdentity(ctx, c.id)
		}
		got := ""
		if New(Config{Authorize: &Authorize{Allow: c.allow, Reason: "not_mine"}}).Request(ctx) == Answer {
			w := RefusalOf(ctx)
			if ctx.Response.StatusCode() != 403 || w == nil || w.Filter != "authorize" {
				t.Errorf("%s: %d, %v", c.allow, ctx.Response.StatusCode(), w)
			}
			got = w.Reason
			if body := string(ctx.Response.Body()); strings.Contains(body, "role") || strings.Contains(body, "ann") {
				t.Errorf("%s: tells %s", c.allow, body)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, not %q", c.allow, got, c.want)
		}
	}
}

func TestAuthorizeIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  Authorize
		want string
	}{
		{Authorize{Allow: "true"}, ""},
		{Authorize{}, "authorize.allow: the expression is empty"},
		{Authorize{Allow: "request.path"}, "authorize.allow: 1:1: the expression is of type string, not bool"},
		{Authorize{Allow: "true", Reason: "a b"}, `authorize.reason: "a b" is not of letters`},
		{Authorize{Allow: "true", Reason: "error"}, "authorize.reason: error is what"},
		{Authorize{Allow: "true", CostLimit: 2_000_000}, "authorize.cost_limit: 2000000: at most 100000"},
	} {
		if all := strings.Join(reports(Config{Authorize: &c.cfg}), "\n"); !strings.HasPrefix(all, c.want) || c.want == "" && all != "" {
			t.Errorf("%+v: %q, not %q", c.cfg, all, c.want)
		}
	}
}

// What it costs the loop to hold an expression that is refused for its cost: reported, not judged.
func BenchmarkAuthorizeAtItsLimit(b *testing.B) {
	f := New(Config{Authorize: &Authorize{Allow: `[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, a > 0))))`}})
	for b.Loop() {
		ctx := &fasthttp.RequestCtx{}
		f.Request(ctx)
	}
}
