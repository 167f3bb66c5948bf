package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// fakeCaller answers by URI: at once, or from a goroutine of its own.
type fakeCaller struct {
	async  bool
	answer func(cluster string, req *fasthttp.Request, timeout time.Duration, limit int) (*fasthttp.Response, error)
}

func (c *fakeCaller) Call(_ *fasthttp.RequestCtx, cluster string, req *fasthttp.Request, timeout time.Duration, limit int, done func(*fasthttp.Response, error)) {
	run := func() {
		resp, err := c.answer(cluster, req, timeout, limit)
		done(resp, err)
		if resp != nil { // not to be used any more
			resp.Reset()
			resp.SetBodyString("used too late")
		}
	}
	if c.async {
		go run()
	} else {
		run()
	}
}

// run has f see ctx, as its runner does.
func run(t testing.TB, f Filter, ctx *fasthttp.RequestCtx, c Caller) Result {
	t.Helper()
	resumed := make(chan Result, 1)
	SetResume(ctx, func(r Result) { resumed <- r })
	SetCaller(ctx, c)
	r := f.Request(ctx)
	if r != Wait {
		select {
		case <-resumed:
			t.Error("resumed although it did not wait")
		default:
		}
		return r
	}
	select {
	case r = <-resumed:
	case <-time.After(10 * time.Second):
		t.Fatal("never resumed")
	}
	return r
}

// response reads the fields "Name: value" after a status.
func response(status int, body string, fields ...string) *fasthttp.Response {
	r := &fasthttp.Response{}
	r.Header.SetNoDefaultContentType(true)
	r.SetStatusCode(status)
	for _, f := range fields {
		k, v, _ := strings.Cut(f, ": ")
		r.Header.Add(k, v)
	}
	r.SetBodyString(body)
	return r
}

func fieldsOf(h *fasthttp.ResponseHeader) (out []string) {
	for k, v := range h.All() {
		if string(k) != "Content-Length" {
			out = append(out, string(k)+": "+string(v))
		}
	}
	return out
}

func TestExtAuth(t *testing.T) {
	wrapped := fmt.Errorf("call auth: %w", ErrCallTimeout)
	for _, c := range []struct {
		name   string
		cfg    ExtAuth
		resp   *fasthttp.Response
		err    error
		status int    // 0: goes on
		reason string // of the refusal
		body   string
		fields []string // of the refusal
	}{
		{name: "200", resp: response(200, "")},
		{name: "299", resp: response(299, "")},
		{name: "401", resp: response(401, "who?", "Content-Type: text/plain", "WWW-Authenticate: Bearer", "X-Secret: s", "X-Why: so"), cfg: ExtAuth{ToClient: []string{"x-why"}},
			status: 401, reason: "denied", body: "who?", fields: []string{"Content-Type: text/plain", "Www-Authenticate: Bearer", "X-Why: so"}},
		{name: "login", resp: response(302, "", "Location: /login", "Set-Cookie: a=1; HttpOnly", "Set-Cookie: b=2"),
			status: 302, reason: "denied", fields: []string{"Set-Cookie: a=1; HttpOnly", "Set-Cookie: b=2", "Location: /login"}},
		{name: "open is for failures only", resp: response(403, ""), cfg: ExtAuth{Fail: FailOpen}, status: 403, reason: "denied"},
		{name: "500", resp: response(500, "stack trace"), status: 503, reason: "status"},
		{name: "100", resp: response(100, ""), status: 503, reason: "status"},
		{name: "500, open", resp: response(500, ""), cfg: ExtAuth{Fail: FailOpen}},
		{name: "slow", err: wrapped, status: 503, reason: "timeout"},
		{name: "slow, open", err: wrapped, cfg: ExtAuth{Fail: FailOpen}},
		{name: "too large", err: ErrCallTooLarge, status: 503, reason: "too large"},
		{name: "down", err: errors.New("connect 10.0.0.1: refused"), status: 503, reason: "unreachable"},
		{name: "down, open", err: errors.New("connect"), cfg: ExtAuth{Fail: FailOpen}},
	} {
		for _, async := range []bool{false, true} {
			c.cfg.Cluster = "auth"
			f := New(Config{ExtAuth: &c.cfg})
			ctx := parsed(t)
			got := run(t, f, ctx, &fakeCaller{async, func(cluster string, _ *fasthttp.Request, timeout time.Duration, limit int) (*fasthttp.Response, error) {
				if cluster != "auth" || timeout != time.Second || limit != 64<<10 {
					t.Errorf("asked %s for %v and %d bytes", cluster, timeout, limit)
				}
				if c.resp == nil {
					return nil, c.err
				}
				r := &fasthttp.Response{}
				c.resp.CopyTo(r)
				return r, nil
			}})
			if c.status == 0 {
				if got != Continue || RefusalOf(ctx) != nil {
					t.Errorf("%s: %v, %v", c.name, got, RefusalOf(ctx))
				}
				continue
			}
			if w := RefusalOf(ctx); got != Answer || ctx.Response.StatusCode() != c.status || w == nil || *w != (Refusal{"ext_auth", c.reason}) {
				t.Errorf("%s: %v, %d, %v", c.name, got, ctx.Response.StatusCode(), w)
			}
			if c.reason != "denied" {
				c.body = `{"status":503,"error":"authorization is not available","request_id":""}` + "\n"
				c.fields = []string{"Content-Type: application/json"}
			}
			if body := string(ctx.Response.Body()); body != c.body {
				t.Errorf("%s: %q", c.name, body)
			}
			if got := fieldsOf(&ctx.Response.Header); c.reason == "denied" {
				if diff := cmp.Diff(c.fields, got); diff != "" {
					t.Errorf("%s: %s", c.name, diff)
				}
			}
		}
	}
}

// What the service is asked: what says who asks, and nothing else of the client's.
func TestExtAuthQuestion(t *testing.T) {
	ctx := parsed(t, "Host: api.test", "Authorization: Bearer x", "Cookie: a=1", "X-Forwarded-For: 192.0.2.1", "X-Request-Id: 7", "X-Other: o",
		"Accept-Encoding: gzip", "X-Forwarded-Uri: /forged", "Content-Length: 5")
	ctx.Request.Header.SetMethod("DELETE")
	ctx.Request.SetRequestURI("/orders/7?x=1")
	f := New(Config{ExtAuth: &ExtAuth{Cluster: "auth", Path: "/check", RequestHeaders: []string{"AUTHORIZATION", "X-Forwarded-Uri", "cookie"}}})
	var got []string
	run(t, f, ctx, &fakeCaller{false, func(_ string, req *fasthttp.Request, _ time.Duration, _ int) (*fasthttp.Response, error) {
		got = append(got, string(req.Header.Method())+" "+string(req.Header.RequestURI()))
		for k, v := range req.Header.All() {
			got = append(got, string(k)+": "+string(v))
		}
		return response(200, ""), nil
	}})
	if diff := cmp.Diff([]string{"GET /check", "Host: api.test", "Cookie: a=1", "Authorization: Bearer x", "X-Forwarded-For: 192.0.2.1",
		"X-Request-Id: 7", "X-Forwarded-Method: DELETE", "X-Forwarded-Uri: /orders/7?x=1"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestExtAuthHeaders(t *testing.T) {
	cfg := ExtAuth{Cluster: "auth", ToUpstream: []string{"x-user", "X-Roles"}, ToClient: []string{"X-Session", "set-cookie"}, SubjectHeader: "X-User", Fail: FailOpen}
	f := New(Config{ExtAuth: &cfg})
	for _, c := range []struct {
		name     string
		resp     *fasthttp.Response
		user     string
		roles    string
		session  string
		identity string
	}{
		{"2xx", response(200, "", "X-User: ann", "X-Roles: a", "X-Roles: b", "X-Session: s", "Set-Cookie: s=1"), "ann|", "a|b|", "s|", "ann"},
		{"2xx without them", response(204, ""), "", "", "theirs|", ""},
		{"failed, open", nil, "", "", "theirs|", ""},
	} {
		ctx := parsed(t, "Host: a", "X-USER: root", "x-user: root", "X-Roles: admin", "X-Session: theirs")
		got := run(t, f, ctx, &fakeCaller{true, func(string, *fasthttp.Request, time.Duration, int) (*fasthttp.Response, error) {
			if c.resp == nil {
				return nil, ErrCallTimeout
			}
			return c.resp, nil
		}})
		if got != Continue {
			t.Errorf("%s: %v", c.name, got)
		}
		f.Response(ctx)
		user, _ := values(ctx, "X-User")
		roles, _ := values(ctx, "X-Roles")
		_, session := values(ctx, "X-Session")
		id := ""
		if i := IdentityOf(ctx); i != nil && i.By == "ext_auth" {
			id = i.Subject
		}
		if diff := cmp.Diff([]string{c.user, c.roles, c.session, c.identity}, []string{user, roles, session, id}); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if cookie := string(ctx.Response.Header.PeekCookie("s")); (cookie == "s=1") != (c.identity != "") {
			t.Errorf("%s: cookie %q", c.name, cookie)
		}
	}
}

func TestExtAuthAllocatesNothing(t *testing.T) {
	f := New(Config{ExtAuth: &ExtAuth{Cluster: "auth", ToUpstream: []string{"X-User"}}})
	ctx := parsed(t, "Host: a", "Authorization: Bearer x", "X-Forwarded-For: 192.0.2.1")
	resp := response(200, "", "X-User: ann")
	SetResume(ctx, func(Result) {})
	SetCaller(ctx, callerFunc(func(done func(*fasthttp.Response, error)) { done(resp, nil) }))
	if n := testing.AllocsPerRun(100, func() { f.Request(ctx) }); n != 0 && !poolsLeak() {
		t.Errorf("%v allocations", n)
	}
}

type callerFunc func(done func(*fasthttp.Response, error))

func (f callerFunc) Call(_ *fasthttp.RequestCtx, _ string, _ *fasthttp.Request, _ time.Duration, _ int, done func(*fasthttp.Response, error)) {
	f(done)
}

func TestExtAuthIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  ExtAuth
		want string
	}{
		{ExtAuth{Cluster: "a"}, ""},
		{ExtAuth{}, "ext_auth.cluster: is missing"},
		{ExtAuth{Cluster: "a", Path: "x"}, `ext_auth.path: "x": `},
		{ExtAuth{Cluster: "a", Path: "/a/../b"}, `ext_auth.path: "/a/../b" is not in the form`},
		{ExtAuth{Cluster: "a", Timeout: -1}, "ext_auth.timeout: must not be negative"},
		{ExtAuth{Cluster: "a", Fail: "half"}, `ext_auth.fail: "half" is not one of closed, open`},
		{ExtAuth{Cluster: "a", RequestHeaders: []string{"Connection"}}, "ext_auth.request_headers[0]: connection is the gateway's"},
		{ExtAuth{Cluster: "a", ToUpstream: []string{"X", "Host"}}, "ext_auth.headers_to_upstream[1]: host is the request's"},
		{ExtAuth{Cluster: "a", ToUpstream: []string{"X", "x"}}, "ext_auth.headers_to_upstream[1]: x is there twice"},
		{ExtAuth{Cluster: "a", ToClient: []string{"content-length"}}, "ext_auth.headers_to_client[0]: content-length is"},
		{ExtAuth{Cluster: "a", SubjectHeader: "a b"}, `ext_auth.subject_header: "a b" is not`},
	} {
		if all := strings.Join(reports(Config{ExtAuth: &c.cfg}), "\n"); !strings.HasPrefix(all, c.want) || c.want == "" && all != "" {
			t.Errorf("%+v: %q, not %q", c.cfg, all, c.want)
		}
	}
}
