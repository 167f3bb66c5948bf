package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"

	"sluice/engine"
)

func TestAggregate(t *testing.T) {
	ok := map[string]any{"/user": `{"n":1}`, "/orders": " [7,8]\n"}
	with := func(path string, v any) map[string]any { return map[string]any{"/user": ok["/user"], path: v} }
	for _, c := range []struct {
		name    string
		onFail  Failure        // of orders
		answers map[string]any // by path: a body, a status, an error
		status  int
		want    string // the body, or the refusal's reason
	}{
		{"all there", "", ok, 200, `{"user":{"n":1},"or\"ders":[7,8]}`},
		{"scalars", "", with("/orders", `"x"`), 200, `{"user":{"n":1},"or\"ders":"x"}`},
		{"slow", "", with("/orders", fmt.Errorf("call: %w", ErrCallTimeout)), 504, "timeout"},
		{"down", FailAll, with("/orders", errors.New("connect")), 503, "unreachable"},
		{"404", FailAll, with("/orders", 404), 502, "status"},
		{"302", FailAll, with("/orders", 302), 502, "status"},
		{"too large", FailAll, with("/orders", ErrCallTooLarge), 502, "too large"},
		{"too large all the same", FailAll, with("/orders", `"`+strings.Repeat("a", 100_000)+`"`), 502, "too large"},
		{"HTML", FailAll, with("/orders", "<html>"), 502, "not JSON"},
		{"empty", FailAll, with("/orders", ""), 502, "not JSON"},
		{"two values", FailAll, with("/orders", `1,"admin":true`), 502, "not JSON"},
		{"an end of ours", FailAll, with("/orders", `1}`), 502, "not JSON"},
		{"deep", FailAll, with("/orders", strings.Repeat("[", 40_000)+strings.Repeat("]", 40_000)), 502, "not JSON"},
		{"omitted", FailOmit, with("/orders", 500), 200, `{"user":{"n":1}}`},
		{"null", FailNull, with("/orders", ErrCallTimeout), 200, `{"user":{"n":1},"or\"ders":null}`},
		{"null for what is not JSON", FailNull, with("/orders", "<"), 200, `{"user":{"n":1},"or\"ders":null}`},
		{"large", FailAll, with("/orders", `"`+strings.Repeat("b", 50_000)+`"`), 200, `{"user":{"n":1},"or\"ders":"` + strings.Repeat("b", 50_000) + `"}`},
	} {
		f := New(Config{Aggregate: &Aggregate{MaxBody: 90_000, Parts: []Part{
			{Key: "user", Cluster: "users", Path: "/user"}, {Key: `or"ders`, Cluster: "orders", Path: "/orders", OnFailure: c.onFail}}}})
		for _, async := range []bool{false, true, false, true} { // also with what another request has left
			ctx := parsed(t)
			got := run(t, f, ctx, &fakeCaller{async, func(_ string, req *fasthttp.Request, _ time.Duration, _ int) (*fasthttp.Response, error) {
				switch v := c.answers[string(req.Header.RequestURI())].(type) {
				case string:
					return response(200, v), nil
				case int:
					return response(v, `{"a":1}`), nil
				case error:
					return nil, v
				}
				return nil, errors.New("asked for something else")
			}})
			body := string(ctx.Response.Body())
			if got != Answer || ctx.Response.StatusCode() != c.status || string(ctx.Response.Header.ContentType()) != "application/json" || !json.Valid([]byte(body)) {
				t.Errorf("%s: %v, %d, %q", c.name, got, ctx.Response.StatusCode(), body)
			}
			if w := RefusalOf(ctx); c.status == 200 && (body != c.want || w != nil) || c.status != 200 && (w == nil || *w != (Refusal{"aggregate", c.want})) {
				t.Errorf("%s: %.100s, %v", c.name, body, w)
			}
		}
	}
}

// Each part is asked for in its own way, all at once, and of the client's headers only those that say who asks.
func TestAggregateAsks(t *testing.T) {
	f := New(Config{Aggregate: &Aggregate{Timeout: 3 * time.Second, Query: true, MaxBody: engine.Size(100), Parts: []Part{
		{Key: "a", Cluster: "ca", Path: "/a/{id}"}, {Key: "b", Cluster: "cb", Path: "/b", Timeout: time.Minute}}}})
	ctx := parsed(t, "Host: api.test", "Cookie: c=1", "Accept-Encoding: gzip", "X-Request-Id: 7")
	ctx.Request.SetRequestURI("/all/7?x=1")
	m := &Matched{}
	m.Attach(ctx)
	m.Add("id", []byte("7"))
	var mu sync.Mutex
	var got []string
	var asked atomic.Int32
	both := make(chan struct{})
	run(t, f, ctx, &fakeCaller{true, func(cluster string, req *fasthttp.Request, timeout time.Duration, limit int) (*fasthttp.Response, error) {
		mu.Lock()
		got = append(got, fmt.Sprintf("%s %s %s %s %v %d %s%s%s", cluster, req.Header.Method(), req.Header.RequestURI(), req.Header.Host(), timeout, limit,
			req.Header.Peek("Cookie"), req.Header.Peek("Accept-Encoding"), req.Header.Peek("X-Request-Id")))
		mu.Unlock()
		if asked.Add(1) == 2 {
			close(both)
		}
		<-both
		return response(200, "1"), nil
	}})
	slices.Sort(got)
	if diff := cmp.Diff([]string{"ca GET /a/7?x=1 api.test 3s 100 c=17", "cb GET /b?x=1 api.test 1m0s 100 c=17"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAggregateRefuses(t *testing.T) {
	f := New(Config{Aggregate: &Aggregate{Parts: []Part{{Key: "a", Cluster: "ca", Path: "/a/{id}"}}}})
	never := callerFunc(func(func(*fasthttp.Response, error)) { t.Error("asked") })
	ctx := parsed(t)
	ctx.Request.Header.SetMethod("POST")
	if run(t, f, ctx, never) != Answer || ctx.Response.StatusCode() != 405 || string(ctx.Response.Header.Peek("Allow")) != "GET, HEAD" {
		t.Errorf("%s", &ctx.Response)
	}
	for _, id := range []string{"..", "%2e%2e", "", "a/../b", strings.Repeat("a", 100_000)} {
		ctx := parsed(t)
		m := &Matched{}
		m.Attach(ctx)
		m.Add("id", []byte(id+"/x"))
		if run(t, f, ctx, never) != Answer || ctx.Response.StatusCode() != 400 {
			t.Errorf("%.20q: %s", id, &ctx.Response)
		}
	}
}

func TestAggregateAllocatesNothing(t *testing.T) {
	f := New(Config{Aggregate: &Aggregate{Parts: []Part{{Key: "a", Cluster: "ca", Path: "/a"}, {Key: "b", Cluster: "cb", Path: "/b"}}}})
	ctx := parsed(t, "Host: a", "Authorization: Bearer x")
	(&Matched{}).Attach(ctx)
	resp := response(200, `{"a":1}`)
	SetResume(ctx, func(Result) {})
	SetCaller(ctx, callerFunc(func(done func(*fasthttp.Response, error)) { done(resp, nil) }))
	if n := testing.AllocsPerRun(100, func() { f.Request(ctx) }); n != 0 && !poolsLeak() {
		t.Errorf("%v allocations", n)
	}
}

// A failure is one request's: the next one, in the same room, has its part.
func TestAggregateForgetsFailures(t *testing.T) {
	f := New(Config{Aggregate: &Aggregate{Parts: []Part{{Key: "a", Cluster: "ca", Path: "/a", OnFailure: FailNull}}}})
	for i := range 20 {
		ctx := parsed(t)
		want := `{"a":null}`
		var resp *fasthttp.Response
		err := ErrCallTimeout
		if i%2 == 1 {
			want, resp, err = `{"a":1}`, response(200, "1"), nil
		}
		run(t, f, ctx, callerFunc(func(done func(*fasthttp.Response, error)) { done(resp, err) }))
		if got := string(ctx.Response.Body()); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// What takes a while to look at does not hold who brings it, which may be a loop.
func TestAggregateLooksAtLargePartsElsewhere(t *testing.T) {
	f := New(Config{Aggregate: &Aggregate{Parts: []Part{{Key: "a", Cluster: "ca", Path: "/a"}}}})
	for n, goroutines := range map[int]bool{100: false, 1 << 19: true} {
		ctx := parsed(t)
		resumed := make(chan string, 1)
		SetResume(ctx, func(Result) {
			stack := make([]byte, 16<<10)
			resumed <- string(stack[:runtime.Stack(stack, false)])
		})
		SetCaller(ctx, callerFunc(func(done func(*fasthttp.Response, error)) {
			go done(response(200, `"`+strings.Repeat("a", n)+`"`), nil)
		}))
		if f.Request(ctx) == Wait {
			if stack := <-resumed; strings.Contains(stack, ".answered(") == goroutines {
				t.Errorf("%d bytes: resumed by\n%s", n, stack)
			}
		}
	}
}

// poolsLeak says that sync.Pool forgets at random what it is given, as it does under the race detector.
func poolsLeak() bool {
	var p sync.Pool
	for range 100 {
		p.Put(new(int))
		if p.Get() == nil {
			return true
		}
	}
	return false
}

func TestAggregateIsValidated(t *testing.T) {
	part := func(change func(*Part)) Aggregate {
		p := Part{Key: "a", Cluster: "c", Path: "/a/{id}"}
		change(&p)
		return Aggregate{Parts: []Part{{Key: "first", Cluster: "c", Path: "/"}, p}}
	}
	for _, c := range []struct {
		cfg  Aggregate
		want string
	}{
		{part(func(*Part) {}), ""},
		{Aggregate{}, "aggregate.parts: 0 parts: 1 to 32"},
		{part(func(p *Part) { p.Key = "" }), "aggregate.parts[1].key: is missing"},
		{part(func(p *Part) { p.Key = "first" }), `aggregate.parts[1].key: "first" is there twice`},
		{part(func(p *Part) { p.Cluster = "" }), "aggregate.parts[1].cluster: is missing"},
		{part(func(p *Part) { p.Path = "" }), "aggregate.parts[1].path: is missing"},
		{part(func(p *Part) { p.Path = "/{" }), "aggregate.parts[1].path: "},
		{part(func(p *Part) { p.Path = "/a?b" }), "aggregate.parts[1].path: "},
		{part(func(p *Part) { p.Path = "/{other}" }), `aggregate.parts[1].path: the route's match captures no "other"`},
		{part(func(p *Part) { p.Timeout = -1 }), "aggregate.parts[1].timeout: must"},
		{part(func(p *Part) { p.OnFailure = "x" }), `aggregate.parts[1].on_failure: "x" is not one of fail, omit, null`},
		{Aggregate{Parts: []Part{{Key: "a", Cluster: "c", Path: "/"}}, Timeout: -1}, "aggregate.timeout: must"},
		{Aggregate{Parts: []Part{{Key: "a", Cluster: "c", Path: "/"}}, RequestHeaders: []string{"TE"}}, "aggregate.request_headers[0]: te is"},
	} {
		cfg := Config{Aggregate: &c.cfg}
		said := reports(cfg)
		cfg.ValidateMatch(false, []string{"id"}, func(p, m string) { said = append(said, p+": "+m) })
		if all := strings.Join(said, "\n"); !strings.HasPrefix(all, c.want) || c.want == "" && all != "" {
			t.Errorf("%+v: %q, not %q", c.cfg, all, c.want)
		}
	}
}

func TestClusterNames(t *testing.T) {
	var got []string
	for _, c := range []Config{{ExtAuth: &ExtAuth{Cluster: "a"}}, {Aggregate: &Aggregate{Parts: []Part{{Cluster: "b"}, {Cluster: "c"}}}}, {Headers: &Headers{}}} {
		c.ClusterNames(func(path, name string) { got = append(got, path+"="+name) })
	}
	if diff := cmp.Diff([]string{"ext_auth.cluster=a", "aggregate.parts[0].cluster=b", "aggregate.parts[1].cluster=c"}, got); diff != "" {
		t.Error(diff)
	}
}
