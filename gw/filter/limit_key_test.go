package filter

import (
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

func TestLimitExpressionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		cfg  RateLimit
		want []string
	}{
		{RateLimit{Rate: 1, Key: "expression:identity.claims.tenant", Cost: Cost{Expression: "request.method == 'POST' ? 5 : 1"}}, nil},
		{RateLimit{Rate: 1, Key: "expression: source.ip + request.path"}, nil},
		{RateLimit{Rate: 1, Key: "expression:"}, []string{"rate_limit.key: the expression is empty"}},
		{RateLimit{Rate: 1, Key: "expression:request.headers"},
			[]string{"rate_limit.key: 1:1: the expression is of type map(string, string), not string or int or uint or double or bool"}},
		{RateLimit{Rate: 1, Cost: Cost{Expression: "request.method"}}, []string{"rate_limit.cost: 1:1: the expression is of type string, not int or uint"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{RateLimit: &c.cfg})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.cfg, diff)
		}
	}
}

func TestCostText(t *testing.T) {
	for in, want := range map[string]Cost{
		"1": {Units: 1}, "1_000": {Units: 1000}, "expression:1": {Expression: "1"},
		"0": {}, "-1": {}, "1.5": {}, "": {}, "request.method": {}, "1099511627777": {}, "expression:": {}, "expression:1 +": {}, "expression:'a'": {},
	} {
		var c Cost
		if err := c.UnmarshalText([]byte(in)); c != want || (err == nil) != (want != Cost{}) {
			t.Errorf("%q: %+v, %v", in, c, err)
		}
	}
}

// asTenant is a request of somebody with such a claim; nil: nobody.
func asTenant(ip string, claim any) *fasthttp.RequestCtx {
	ctx := from(ip)
	if claim != nil {
		SetIdentity(ctx, &Identity{By: "jwt", Subject: "ann", Claims: map[string]any{"tenant": claim}})
	}
	return ctx
}

// Requests count together by what the expression says, and by their client where it says nothing; that is counted.
func TestKeyExpression(t *testing.T) {
	for _, c := range []struct {
		name     string
		a, b     *fasthttp.RequestCtx
		together bool
		failures uint64
	}{
		{"one tenant", asTenant("192.0.2.1", "x"), asTenant("192.0.2.2", "x"), true, 0},
		{"two tenants", asTenant("192.0.2.1", "x"), asTenant("192.0.2.1", "y"), false, 0},
		{"a number", asTenant("192.0.2.1", 7.), asTenant("192.0.2.2", "7"), true, 0},
		{"two numbers", asTenant("192.0.2.1", 7.), asTenant("192.0.2.1", 8.), false, 0},
		{"yes and no", asTenant("192.0.2.1", true), asTenant("192.0.2.1", false), false, 0},
		{"long", asTenant("192.0.2.1", strings.Repeat("x", 5000)), asTenant("192.0.2.1", strings.Repeat("x", 5001)), false, 0},
		{"no claim, one client", asTenant("192.0.2.1", nil), asTenant("192.0.2.1", nil), true, 2},
		{"no claim, two clients", asTenant("192.0.2.1", nil), asTenant("192.0.2.2", nil), false, 2},
		{"a list", asTenant("192.0.2.1", []any{"x"}), asTenant("192.0.2.2", []any{"x"}), false, 2},
		{"empty", asTenant("192.0.2.1", ""), asTenant("192.0.2.2", ""), false, 0},
	} {
		l := newLimiter(t, RateLimit{Rate: 1, Burst: 1, Key: "expression:identity.claims.tenant"})
		if l.Request(c.a) != Continue || (l.Request(c.b) == Answer) != c.together || l.failed.Load() != c.failures {
			t.Errorf("%s: %d failures", c.name, l.failed.Load())
		}
	}
}

// What the expression says is taken; 0 is free and no more told of; a request of which it says nothing is refused.
func TestCostExpression(t *testing.T) {
	const source = `request.method == "POST" ? 5 : int(request.headers["x-units"])`
	ask := func(l *limiter, method, units string) (Result, *fasthttp.RequestCtx) {
		return l.ask("192.0.2.1", func(ctx *fasthttp.RequestCtx) {
			ctx.Request.Header.SetMethod(method)
			if units != "" {
				ctx.Request.Header.Set("X-Units", units)
			}
		})
	}
	l := newLimiter(t, RateLimit{Rate: 1, Burst: 10, Cost: Cost{Expression: source}})
	for i, c := range []struct {
		method, units string
		result        Result
		status        int
		left          string
		why           *Refusal
	}{
		{"POST", "", Continue, 200, "r=5;", nil},
		{"GET", "2", Continue, 200, "r=3;", nil},
		{"GET", "0", Continue, 200, "", nil},
		{"POST", "", Answer, 429, "r=3;", &overRate},
		{"GET", "", Answer, 400, "", &noCost},
		{"GET", "x", Answer, 400, "", &noCost},
		{"GET", "-1", Answer, 400, "", &noCost},
		{"GET", "1099511627777", Answer, 400, "", &noCost},
		{"GET", "1099511627776", Answer, 429, "r=3;", &overRate},
		{"GET", "3", Continue, 200, "r=0;", nil},
	} {
		r, ctx := ask(l, c.method, c.units)
		told := string(ctx.Response.Header.Peek("RateLimit"))
		if r != c.result || ctx.Response.StatusCode() != c.status || !strings.Contains(told, c.left) || (told == "") != (c.left == "") || RefusalOf(ctx) != c.why {
			t.Errorf("request %d: %v %d %q %v", i, r, ctx.Response.StatusCode(), told, RefusalOf(ctx))
		}
	}
	l = newLimiter(t, RateLimit{Rate: 1, Burst: 10, Shadow: true, Cost: Cost{Expression: source}})
	if r, ctx := ask(l, "GET", ""); r != Continue || Shadowed(ctx) != &noCost {
		t.Errorf("in shadow: %v, %v", r, Shadowed(ctx))
	}
}

// What expressions allocate stays what it was: most of it is CEL's, which boxes what it looks at.
func TestLimitExpressionAllocations(t *testing.T) {
	f := New(Config{RateLimit: &RateLimit{Rate: 1e6, Burst: 1e6, Key: "expression:identity.claims.tenant",
		Cost: Cost{Expression: "request.method == 'POST' ? 5 : 1"}}})
	ctx := asTenant("192.0.2.1", "x")
	ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")})
	id := IdentityOf(ctx)
	if n := testing.AllocsPerRun(1000, func() {
		SetIdentity(ctx, id)
		f.Request(ctx)
		ctx.ResetUserValues()
	}); n > 5 {
		t.Errorf("%v allocations", n)
	} else {
		t.Logf("%v allocations", n)
	}
}
