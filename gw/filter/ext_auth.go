package filter

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/engine"
	"sluice/gw/h1"
)

// ExtAuth asks a cluster whether a request may pass, by a GET that has the request's method in X-Forwarded-Method and what it asks for in
// X-Forwarded-Uri. A 2xx passes. A 3xx or 4xx is sent to the client as it is: status, body, and the headers that explain it. Anything
// else, or nothing within the timeout, is a service that has failed, and Fail says what becomes of the request.
type ExtAuth struct {
	Cluster string `yaml:"cluster,required"`
	// Path is what is asked for; not given: /.
	Path string `yaml:"path"`
	// Timeout bounds the question; 0: 1 s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBody bounds the body of the answer, in bytes or with a unit; 0: 64KiB.
	MaxBody engine.Size `yaml:"max_body"`
	// RequestHeaders are copied into the question, beside those that say where the request comes from; not given:
	// authorization, cookie.
	RequestHeaders []string `yaml:"request_headers"`
	// ToUpstream are headers of a 2xx that the request gets. A client's own are removed, whatever becomes of the question.
	ToUpstream []string `yaml:"headers_to_upstream"`
	// ToClient are headers of the answer that the response gets, and the client's refusal: beside content-type, location,
	// retry-after, set-cookie and www-authenticate, which that has in any case.
	ToClient []string `yaml:"headers_to_client"`
	// SubjectHeader is the header of a 2xx that names who it is, for limits, logs and expressions.
	SubjectHeader string `yaml:"subject_header"`
	// Fail is what a service that has failed means: closed (503) or open; not given: closed.
	Fail FailMode `yaml:"fail"`
}

// FailMode is what becomes of a request when nobody can say whether it may pass.
type FailMode string

// The modes.
const (
	FailClosed FailMode = "closed"
	FailOpen   FailMode = "open"
)

// Choices are the values that a file may have.
func (FailMode) Choices() []string { return []string{string(FailClosed), string(FailOpen)} }

// explaining are the headers of a refusal that a client needs to make sense of it.
var explaining = []string{"content-type", "content-encoding", "content-language", "location", "retry-after", "set-cookie", "www-authenticate"}

func (f *ExtAuth) validate(report func(path, message string)) {
	if f.Cluster == "" {
		report("cluster", "is missing: who is asked")
	}
	checkPath(f.Path, report)
	if f.Timeout < 0 {
		report("timeout", "must not be negative")
	}
	checkNames("request_headers", f.RequestHeaders, false, report)
	checkNames("headers_to_upstream", f.ToUpstream, false, report)
	checkNames("headers_to_client", f.ToClient, true, report)
	if f.SubjectHeader != "" && !h1.ValidName(f.SubjectHeader) {
		report("subject_header", fmt.Sprintf("%q is not a header name", f.SubjectHeader))
	}
	if f.Fail != "" && !slices.Contains(f.Fail.Choices(), string(f.Fail)) {
		report("fail", fmt.Sprintf("%q is not one of %s", f.Fail, strings.Join(f.Fail.Choices(), ", ")))
	}
}

// checkPath reports a path, under path, that is not in the form that paths are forwarded in.
func checkPath(path string, report func(path, message string)) {
	if path == "" {
		return
	}
	if c, err := h1.CanonicalPath(path); err != nil {
		report("path", fmt.Sprintf("%q: %v", path, err))
	} else if c != path {
		report("path", fmt.Sprintf("%q is not in the form that paths are forwarded in: %q", path, c))
	}
}

// extAuth is an ExtAuth, ready for use.
type extAuth struct {
	ExtAuth
	uri []byte
}

var (
	extAuthDenied   = Refusal{"ext_auth", "denied"}
	extAuthFailures = failuresOf("ext_auth")
)

func newExtAuth(cfg ExtAuth) *extAuth {
	if cfg.Path == "" {
		cfg.Path = "/"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Second
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 64 << 10
	}
	cfg.RequestHeaders = whoAsks(cfg.RequestHeaders)
	cfg.ToUpstream, cfg.ToClient = lowered(cfg.ToUpstream), lowered(cfg.ToClient)
	return &extAuth{ExtAuth: cfg, uri: []byte(cfg.Path)}
}

// question is one request's. Who brings left to 0 goes on: the answer, or Request, when the answer was there before it returned.
type question struct {
	f      *extAuth
	ctx    *fasthttp.RequestCtx
	resume func(Result)
	req    fasthttp.Request
	left   atomic.Int32
	result Result
	done   func(*fasthttp.Response, error) // q.answered, made once
}

var questions sync.Pool

// Request implements Filter.
func (f *extAuth) Request(ctx *fasthttp.RequestCtx) Result {
	h := &ctx.Request.Header
	q, _ := questions.Get().(*question)
	if q == nil {
		q = &question{}
		q.done = q.answered
	}
	q.f, q.ctx, q.resume = f, ctx, Resume(ctx)
	q.left.Store(2)
	fill(&q.req, h, f.uri, f.RequestHeaders)
	for _, own := range [...]struct {
		name  string
		value []byte
	}{{"X-Forwarded-Method", h.Method()}, {"X-Forwarded-Uri", h.RequestURI()}} {
		q.req.Header.Del(own.name) // the client's, if the configuration has it copied
		q.req.Header.SetBytesV(own.name, own.value)
	}
	for _, name := range f.ToUpstream {
		h.Del(name)
	}
	callerOf(ctx).Call(ctx, f.Cluster, &q.req, f.Timeout, int(f.MaxBody), q.done)
	if q.left.Add(-1) > 0 {
		return Wait
	}
	return q.end()
}

// RequestNames implements Namer.
func (f *extAuth) RequestNames() []string { return f.ToUpstream }

// end gives q back.
func (q *question) end() Result {
	result := q.result
	q.f, q.ctx, q.resume = nil, nil, nil
	questions.Put(q)
	return result
}

func (q *question) answered(resp *fasthttp.Response, err error) {
	q.result = q.f.judge(q.ctx, resp, err)
	if q.left.Add(-1) == 0 {
		resume := q.resume
		resume(q.end())
	}
}

// judge makes of the service's answer what becomes of the request.
func (f *extAuth) judge(ctx *fasthttp.RequestCtx, resp *fasthttp.Response, err error) Result {
	reason := "status"
	switch {
	case err != nil:
		reason = reasonOf(err)
	case resp.StatusCode() >= 200 && resp.StatusCode() < 300:
		f.grant(ctx, &resp.Header)
		return Continue
	case resp.StatusCode() >= 300 && resp.StatusCode() < 500:
		return f.deny(ctx, resp)
	}
	if f.Fail == FailOpen {
		return Continue
	}
	return Refuse(ctx, 503, "authorization is not available", extAuthFailures[reason])
}

func (f *extAuth) deny(ctx *fasthttp.RequestCtx, resp *fasthttp.Response) Result {
	ctx.SetUserValue(refusalKey{}, &extAuthDenied)
	ctx.Response.Reset()
	ctx.Response.Header.SetNoDefaultContentType(true)
	ctx.Response.SetStatusCode(resp.StatusCode())
	for k, v := range resp.Header.All() {
		if named(k, explaining) || named(k, f.ToClient) {
			ctx.Response.Header.AddBytesKV(k, v)
		}
	}
	ctx.Response.SetBody(resp.Body())
	return Answer
}

// granted are the headers of a 2xx for the response.
type granted struct{ names, values []string }

// grantedKey is a filter's own: a route may have more than one.
type grantedKey struct{ f *extAuth }

func (f *extAuth) grant(ctx *fasthttp.RequestCtx, h *fasthttp.ResponseHeader) {
	var g *granted
	for k, v := range h.All() {
		if named(k, f.ToUpstream) {
			ctx.Request.Header.AddBytesKV(k, v)
		}
		if len(f.ToClient) > 0 && named(k, f.ToClient) {
			if g == nil {
				g = &granted{}
				ctx.SetUserValue(grantedKey{f}, g)
			}
			g.names, g.values = append(g.names, string(k)), append(g.values, string(v))
		}
	}
	if f.SubjectHeader != "" {
		if who := h.Peek(f.SubjectHeader); len(who) > 0 {
			SetIdentity(ctx, &Identity{Subject: string(who), By: "ext_auth"})
		}
	}
}

// Response implements Filter. The upstream's headers of these names are replaced, but for its cookies, which are others.
func (f *extAuth) Response(ctx *fasthttp.RequestCtx) {
	if len(f.ToClient) == 0 {
		return
	}
	g, ok := ctx.UserValue(grantedKey{f}).(*granted)
	if !ok {
		return
	}
	h := &ctx.Response.Header
	for _, name := range g.names {
		if !strings.EqualFold(name, "Set-Cookie") {
			h.Del(name)
		}
	}
	for i, name := range g.names {
		h.Add(name, g.values[i])
	}
}
