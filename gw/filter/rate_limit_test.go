package filter

import (
	"fmt"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

func TestRateLimitIsValidated(t *testing.T) {
	two := []RateBurst{{Rate: 1000}, {Rate: 10, Burst: 50}}
	for _, c := range []struct {
		r    RateLimit
		want []string
	}{
		{RateLimit{Rate: 1}, nil},
		{RateLimit{Limits: two, Cost: Cost{Units: 50}, Key: "header:X-Key", Status: 503, Keys: maxKeys, Prefix: Prefix{32, 128}}, nil},
		{RateLimit{}, []string{"rate_limit.rate: a limit needs a rate, as in 1000/s"}},
		{RateLimit{Limits: []RateBurst{{Rate: 1}, {Burst: 5}}}, []string{"rate_limit.limits[1].rate: a limit needs a rate, as in 1000/s"}},
		{RateLimit{Rate: 1, Limits: two}, []string{"rate_limit.limits: takes the place of rate and burst: give one or the other"}},
		{RateLimit{Burst: 1, Limits: two}, []string{"rate_limit.limits: takes the place of rate and burst: give one or the other"}},
		{RateLimit{Limits: append(two[:2:2], append(two, two...)...)}, []string{"rate_limit.limits: 6 limits: at most 4"}},
		{RateLimit{Rate: 1, Burst: -1}, []string{"rate_limit.burst: burst -1: 1 or more"}},
		{RateLimit{Rate: 1, Burst: math.MaxInt64}, []string{"rate_limit.burst: burst 9223372036854775807 takes more than 20 years to come back at 1/s"}},
		{RateLimit{Rate: 10, Cost: Cost{Units: 11}}, []string{"rate_limit.cost: a request of cost 11 is never within a burst of 10"}},
		{RateLimit{Limits: two, Cost: Cost{Units: 51}}, []string{"rate_limit.cost: a request of cost 51 is never within a burst of 50"}},
		{RateLimit{Rate: 1, Cost: Cost{Units: -1}}, []string{"rate_limit.cost: cost -1: 1 or more"}},
		{RateLimit{Rate: 1, Status: 200}, []string{"rate_limit.status: status 200: 400 to 599"}},
		{RateLimit{Rate: 1, Status: 600}, []string{"rate_limit.status: status 600: 400 to 599"}},
		{RateLimit{Rate: 1, Keys: -1}, []string{"rate_limit.keys: -1 keys: 1 to 10000000"}},
		{RateLimit{Rate: 1, Keys: maxKeys + 1}, []string{"rate_limit.keys: 10000001 keys: 1 to 10000000"}},
		{RateLimit{Rate: 1, Key: "client"}, []string{`rate_limit.key: "client" is not one of client_ip, identity, route, header:NAME, expression:CEL`}},
		{RateLimit{Rate: 1, Key: "header:"}, []string{`rate_limit.key: "header:" is not one of client_ip, identity, route, header:NAME, expression:CEL`}},
		{RateLimit{Rate: 1, Key: "header:a b"}, []string{`rate_limit.key: "header:a b" is not one of client_ip, identity, route, header:NAME, expression:CEL`}},
		{RateLimit{Rate: 1, Prefix: Prefix{33, 129}}, []string{"rate_limit.prefix.v4: prefix of 33 bits: 1 to 32", "rate_limit.prefix.v6: prefix of 129 bits: 1 to 128"}},
		{RateLimit{Rate: 1, Prefix: Prefix{-1, -1}}, []string{"rate_limit.prefix.v4: prefix of -1 bits: 1 to 32", "rate_limit.prefix.v6: prefix of -1 bits: 1 to 128"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{RateLimit: &c.r})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.r, diff)
		}
	}
}

func TestRateText(t *testing.T) {
	for in, want := range map[string]string{
		"1000/s": "1000/s", "10k/s": "10000/s", "1M/s": "1000000/s", "1M/d": "1000000/d", "86400/d": "1/s", "5/h": "5/h", "0.5/s": "30/m", "1/d": "1/d",
		"": "", "5": "", "5/w": "", "k/s": "", "5kk/s": "", "-1/s": "", "0/s": "", "NaN/s": "", "1e400/s": "", "2M/s": "", "1.5k/m": "25/s", "\"\n/s": "",
	} {
		var r Rate
		err := r.UnmarshalText([]byte(in))
		if want == "" && (err == nil || !strings.Contains(err.Error(), "is not a rate") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: %v", in, err)
		} else if want != "" && (err != nil || r.String() != want) {
			t.Errorf("%q: %v, %v, not %s", in, r, err, want)
		}
	}
}

// limiter is a filter whose clock stands where the test puts it.
type limiter struct {
	*rateLimit
	at time.Duration
}

func newLimiter(t *testing.T, cfg RateLimit) *limiter {
	t.Helper()
	if said := reports(Config{RateLimit: &cfg}); said != nil {
		t.Fatal(said)
	}
	l := &limiter{rateLimit: New(Config{RateLimit: &cfg}).(*rateLimit)}
	l.now = func() int64 { return 1 + int64(l.at) }
	return l
}

// ask is a request through the filter and, if it goes on, its response.
func (l *limiter) ask(from string, edit func(ctx *fasthttp.RequestCtx)) (Result, *fasthttp.RequestCtx) {
	ctx := &fasthttp.RequestCtx{}
	ctx.Init2(nil, nil, false)
	if from != "" {
		ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP(from), Port: 1})
	}
	if edit != nil {
		edit(ctx)
	}
	r := l.Request(ctx)
	if r == Continue {
		l.Response(ctx)
	}
	return r, ctx
}

// What passes and what does not is told where the client stands.
func TestRateLimitTells(t *testing.T) {
	l := newLimiter(t, RateLimit{Rate: 1, Burst: 3, Cost: Cost{Units: 2}})
	said := func(ctx *fasthttp.RequestCtx) string {
		h := &ctx.Response.Header
		return fmt.Sprintf("%d %s|%s|%s", ctx.Response.StatusCode(), h.Peek("RateLimit"), h.Peek("RateLimit-Policy"), h.Peek("Retry-After"))
	}
	for i, want := range []string{
		`200 "1/s";r=1;t=2|"1/s";q=3;w=3|`,
		`429 "1/s";r=1;t=2|"1/s";q=3;w=3|1`,
	} {
		r, ctx := l.ask("192.0.2.1", nil)
		if got := said(ctx); got != want || (r == Answer) != (i == 1) {
			t.Errorf("request %d: %s, not %s", i, got, want)
		}
		if r == Answer && (RefusalOf(ctx) == nil || *RefusalOf(ctx) != overRate || !strings.Contains(string(ctx.Response.Body()), `"status":429,"error":"too many requests"`)) {
			t.Errorf("refused for %v: %s", RefusalOf(ctx), ctx.Response.Body())
		}
	}
	l.at = 999 * time.Millisecond
	if r, _ := l.ask("192.0.2.1", nil); r != Answer {
		t.Error("granted too early")
	}
	l.at = time.Second
	if r, ctx := l.ask("192.0.2.1", nil); r != Continue {
		t.Errorf("after the time of Retry-After: %s", said(ctx))
	}
}

// The tightest of several limits speaks, and all policies are told.
func TestRateLimitOfSeveral(t *testing.T) {
	l := newLimiter(t, RateLimit{Limits: []RateBurst{{Rate: 1000}, {Rate: 1e6 / 86400., Burst: 5}}, Status: 503})
	var last *fasthttp.RequestCtx
	given := 0
	for range 10 {
		var r Result
		if r, last = l.ask("192.0.2.1", nil); r == Continue {
			given++
		}
	}
	h := &last.Response.Header
	if want := `"1000/s";q=1000;w=1, "1000000/d";q=11;w=1`; given != 5 || string(h.Peek("RateLimit-Policy")) != want || string(h.Peek("RateLimit")) != `"1000000/d";r=0;t=1` || last.Response.StatusCode() != 503 {
		t.Errorf("%d given; %s", given, h)
	}
}

// What counts together and what does not.
func TestRateLimitKeys(t *testing.T) {
	head := func(v string) func(ctx *fasthttp.RequestCtx) {
		return func(ctx *fasthttp.RequestCtx) { ctx.Request.Header.Set("X-Key", v) }
	}
	who := func(by, subject string) func(ctx *fasthttp.RequestCtx) {
		return func(ctx *fasthttp.RequestCtx) { SetIdentity(ctx, &Identity{By: by, Subject: subject}) }
	}
	type from struct {
		ip   string
		edit func(ctx *fasthttp.RequestCtx)
	}
	for _, c := range []struct {
		name   string
		cfg    RateLimit
		a, b   from
		shared bool
	}{
		{"one address", RateLimit{}, from{"192.0.2.1", nil}, from{"192.0.2.1", head("x")}, true},
		{"two addresses", RateLimit{}, from{"192.0.2.1", nil}, from{"192.0.2.2", nil}, false},
		{"a network", RateLimit{Prefix: Prefix{V4: 24}}, from{"192.0.2.1", nil}, from{"192.0.2.255", nil}, true},
		{"two networks", RateLimit{Prefix: Prefix{V4: 24}}, from{"192.0.2.1", nil}, from{"192.0.3.1", nil}, false},
		{"one v6 network", RateLimit{}, from{"2001:db8::1", nil}, from{"2001:db8::ffff:1:2:3", nil}, true},
		{"two v6 networks", RateLimit{}, from{"2001:db8::1", nil}, from{"2001:db8:0:1::1", nil}, false},
		{"whole v6 address", RateLimit{Prefix: Prefix{V6: 128}}, from{"2001:db8::1", nil}, from{"2001:db8::2", nil}, false},
		{"a v6 prefix past 64", RateLimit{Prefix: Prefix{V6: 127}}, from{"2001:db8::2", nil}, from{"2001:db8::3", nil}, true},
		{"a /1", RateLimit{Prefix: Prefix{V4: 1, V6: 1}}, from{"1.1.1.1", nil}, from{"126.0.0.1", nil}, true},
		{"v4 in v6", RateLimit{}, from{"192.0.2.1", nil}, from{"::ffff:192.0.2.1", nil}, true},
		{"v4 in v6, another", RateLimit{}, from{"192.0.2.1", nil}, from{"::ffff:192.0.2.2", nil}, false},
		{"no address", RateLimit{}, from{"", nil}, from{"192.0.2.2", nil}, false},
		{"route", RateLimit{Key: ByRoute}, from{"192.0.2.1", nil}, from{"192.0.2.2", head("x")}, true},
		{"header", RateLimit{Key: "header:x-key"}, from{"192.0.2.1", head("a")}, from{"192.0.2.2", head("a")}, true},
		{"two values", RateLimit{Key: "header:x-key"}, from{"192.0.2.1", head("a")}, from{"192.0.2.1", head("b")}, false},
		{"no header", RateLimit{Key: "header:x-key"}, from{"192.0.2.1", nil}, from{"192.0.2.1", head("")}, true},
		{"no header, two clients", RateLimit{Key: "header:x-key"}, from{"192.0.2.1", nil}, from{"192.0.2.2", nil}, false},
		{"a header like an address", RateLimit{Key: "header:x-key"}, from{"61:6161:6161:6161::", nil}, from{"", head("\x00aaaaaaa\x00\x00\x00\x00\x00\x00\x00\x00")}, false},
		{"identity", RateLimit{Key: ByIdentity}, from{"192.0.2.1", who("jwt", "a")}, from{"192.0.2.2", who("jwt", "a")}, true},
		{"two subjects", RateLimit{Key: ByIdentity}, from{"192.0.2.1", who("jwt", "a")}, from{"192.0.2.1", who("jwt", "b")}, false},
		{"two ways", RateLimit{Key: ByIdentity}, from{"192.0.2.1", who("jwt", "a")}, from{"192.0.2.1", who("basic", "a")}, false},
		{"nobody", RateLimit{Key: ByIdentity}, from{"192.0.2.1", nil}, from{"192.0.2.2", nil}, false},
	} {
		c.cfg.Rate, c.cfg.Burst = 1, 1
		l := newLimiter(t, c.cfg)
		l.ask(c.a.ip, c.a.edit)
		if r, _ := l.ask(c.b.ip, c.b.edit); (r == Answer) != c.shared {
			t.Errorf("%s: count together: %v", c.name, r == Answer)
		}
		if r, _ := l.ask(c.a.ip, c.a.edit); r != Answer {
			t.Errorf("%s: the same twice", c.name)
		}
	}
}

func TestRateLimitInShadow(t *testing.T) {
	l := newLimiter(t, RateLimit{Rate: 1, Burst: 1, Shadow: true})
	for i := range 3 {
		r, ctx := l.ask("192.0.2.1", nil)
		if r != Continue || (Shadowed(ctx) != nil) != (i > 0) || len(ctx.Response.Header.Peek("RateLimit")) > 0 || RefusalOf(ctx) != nil {
			t.Errorf("request %d: %v, %v", i, r, Shadowed(ctx))
		}
	}
}

// Entries of one name count together, whatever their keys and costs, and over a reload; those without do not.
func TestRateLimitOfAName(t *testing.T) {
	cfg := RateLimit{Name: "api", Rate: 1, Burst: 10}
	a := newLimiter(t, cfg)
	cfg.Cost.Units = 9
	b := newLimiter(t, cfg)
	a.ask("192.0.2.1", nil)
	if r, ctx := b.ask("192.0.2.1", nil); r != Continue || !strings.Contains(string(ctx.Response.Header.Peek("RateLimit")), "r=0") {
		t.Errorf("%v %s", r, &ctx.Response.Header)
	}
	if r, _ := a.ask("192.0.2.1", nil); r != Answer {
		t.Error("they do not count together")
	}
	other := cfg
	other.Rate = 2
	if r, _ := newLimiter(t, other).ask("192.0.2.1", nil); r != Continue {
		t.Error("another rate counts together")
	}
	cfg.Name = ""
	one, two := newLimiter(t, cfg), newLimiter(t, cfg)
	one.ask("192.0.2.1", nil)
	if r, _ := two.ask("192.0.2.1", nil); r != Continue {
		t.Error("two entries without a name count together")
	}
	runtime.KeepAlive(a)
	a, b = nil, nil
	for range 4 { // a sync.Pool lives for two cycles after its last use
		runtime.GC()
	}
	cfg.Name = "api"
	if r, _ := newLimiter(t, cfg).ask("192.0.2.1", nil); r != Continue {
		t.Error("a table outlives its filters")
	}
}

// Upstream's and another filter's fields stay.
func TestRateLimitKeepsOtherFields(t *testing.T) {
	l := newLimiter(t, RateLimit{Rate: 1})
	ctx := &fasthttp.RequestCtx{}
	l.Request(ctx)
	ctx.Response.Header.Set("RateLimit", `"up";r=3;t=4`)
	l.Response(ctx)
	if all := ctx.Response.Header.PeekAll("RateLimit"); len(all) != 2 || string(all[1]) != `"1/s";r=0;t=1` {
		t.Errorf("%q", all)
	}
}

// All loops at once, on the real clock: no more than burst + rate·t.
func TestRateLimitFromAllLoops(t *testing.T) {
	f := New(Config{RateLimit: &RateLimit{Rate: 5000, Burst: 100, Key: ByRoute}})
	var given atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 4 {
		wg.Go(func() {
			ctx := &fasthttp.RequestCtx{}
			for range 5000 {
				ctx.Response.Reset()
				if f.Request(ctx) == Continue {
					f.Response(ctx)
					given.Add(1)
				}
				ctx.ResetUserValues()
			}
		})
	}
	wg.Wait()
	if got, bound := given.Load(), 100+5000*time.Since(began).Seconds(); float64(got) > bound || got < 100 {
		t.Errorf("%d given, of %.1f", got, bound)
	}
}

func TestRateLimitAllocatesNothing(t *testing.T) {
	for _, cfg := range []RateLimit{
		{Rate: 1e6, Burst: 1e6}, {Rate: 1e6, Burst: 1e6, Key: ByRoute}, {Rate: 1e6, Burst: 1e6, Key: "header:x-key"}, {Rate: 1e6, Burst: 1e6, Key: ByIdentity},
		{Limits: []RateBurst{{1e6, 1e6}, {1e5, 1e6}}}, {Rate: 1, Shadow: true},
	} {
		f := New(Config{RateLimit: &cfg})
		ctx := &fasthttp.RequestCtx{}
		ctx.Init2(nil, nil, false)
		ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")})
		ctx.Request.Header.Set("X-Key", "abc")
		id := &Identity{"a", "jwt", nil}
		if n := testing.AllocsPerRun(1000, func() {
			SetIdentity(ctx, id)
			f.Request(ctx)
			ctx.Response.Header.Reset()
			f.Response(ctx)
			ctx.ResetUserValues()
		}); n != 0 {
			t.Errorf("%+v: %v allocations", cfg, n)
		}
	}
}

func BenchmarkRateLimit(b *testing.B) {
	f := New(Config{RateLimit: &RateLimit{Rate: 1e6, Burst: 1e6}})
	b.RunParallel(func(pb *testing.PB) {
		ctx := &fasthttp.RequestCtx{}
		ctx.Init2(nil, nil, false)
		ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")})
		for pb.Next() {
			f.Request(ctx)
			ctx.Response.Header.Reset()
			f.Response(ctx)
			ctx.ResetUserValues()
		}
	})
}
