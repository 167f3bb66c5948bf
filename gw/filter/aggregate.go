package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"sluice/engine"
)

// Aggregate answers a GET with a JSON object that several clusters have each a part of, asked at once:
//
//	{"user":{"name":"Ann"},"orders":[7,8]}
//
// It answers when the last part is there, or has failed: by a status other than 2xx, by what is not JSON, by its size or its timeout.
type Aggregate struct {
	Parts []Part `yaml:"parts,required"`
	// Timeout bounds each part that has none of its own; 0: 1 s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBody bounds each part, in bytes or with a unit; 0: 1MiB.
	MaxBody engine.Size `yaml:"max_body"`
	// RequestHeaders are copied into each request, beside those that say where it comes from; not given: authorization, cookie.
	RequestHeaders []string `yaml:"request_headers"`
	// Query passes the request's query on to each part.
	Query bool `yaml:"query"`
}

// Part is one key of the answer.
type Part struct {
	Key     string `yaml:"key,required"`
	Cluster string `yaml:"cluster,required"`
	// Path is what is asked for; {name} in it is what the route's match has captured.
	Path string `yaml:"path,required"`
	// Timeout bounds this part; 0: the filter's.
	Timeout time.Duration `yaml:"timeout"`
	// OnFailure says what becomes of the answer without this part; not given: fail.
	OnFailure Failure `yaml:"on_failure"`
}

// Failure is what becomes of an answer when a part of it is missing.
type Failure string

// The policies.
const (
	FailAll  Failure = "fail" // 504 if it was slow, 503 if nobody could be reached, else 502
	FailOmit Failure = "omit" // the key is left out
	FailNull Failure = "null" // the key is null
)

// Choices are the values that a file may have.
func (Failure) Choices() []string {
	return []string{string(FailAll), string(FailOmit), string(FailNull)}
}

// maxParts keeps one request from being a flood of others.
const maxParts = 32

func (f *Aggregate) validate(report func(path, message string)) {
	if len(f.Parts) == 0 || len(f.Parts) > maxParts {
		report("parts", fmt.Sprintf("%d parts: 1 to %d", len(f.Parts), maxParts))
	}
	for i := range f.Parts {
		p := &f.Parts[i]
		report := under(fmt.Sprintf("parts[%d]", i), report)
		if p.Key == "" {
			report("key", "is missing: what the part is called in the answer")
		}
		if slices.ContainsFunc(f.Parts[:i], func(before Part) bool { return before.Key == p.Key }) {
			report("key", fmt.Sprintf("%q is there twice", p.Key))
		}
		if p.Cluster == "" {
			report("cluster", "is missing: who is asked")
		}
		if p.Path == "" {
			report("path", "is missing: what is asked for")
		} else if _, err := parseText(p.Path, nil); err != nil {
			report("path", err.Error())
		}
		if p.Timeout < 0 {
			report("timeout", "must not be negative")
		}
		if p.OnFailure != "" && !slices.Contains(p.OnFailure.Choices(), string(p.OnFailure)) {
			report("on_failure", fmt.Sprintf("%q is not one of %s", p.OnFailure, strings.Join(p.OnFailure.Choices(), ", ")))
		}
	}
	if f.Timeout < 0 {
		report("timeout", "must not be negative")
	}
	checkNames("request_headers", f.RequestHeaders, false, report)
}

// validateMatch reports what the paths want of their route's match that it does not capture.
func (f *Aggregate) validateMatch(names []string, report func(path, message string)) {
	for i := range f.Parts {
		t, _ := parseText(f.Parts[i].Path, nil)
		checkMatched(fmt.Sprintf("parts[%d].path", i), t, false, false, names, report)
	}
}

// aggregate is an Aggregate, ready for use.
type aggregate struct {
	Aggregate
	paths    []change
	keys     [][]byte  // "key": in JSON
	gathered sync.Pool // of *gathering
}

var (
	aggregateMethod   = Refusal{"aggregate", "method"}
	aggregatePath     = Refusal{"aggregate", "path"}
	aggregateFailures = failuresOf("aggregate")
)

func newAggregate(cfg Aggregate) *aggregate {
	f := &aggregate{Aggregate: cfg}
	if f.Timeout == 0 {
		f.Timeout = time.Second
	}
	if f.MaxBody == 0 {
		f.MaxBody = 1 << 20
	}
	f.RequestHeaders = whoAsks(f.RequestHeaders)
	f.Parts = slices.Clone(cfg.Parts)
	for i := range f.Parts {
		p := &f.Parts[i]
		if p.Timeout == 0 {
			p.Timeout = f.Timeout
		}
		key, _ := json.Marshal(p.Key) // a string is always JSON
		f.keys = append(f.keys, append(key, ':'))
		f.paths = append(f.paths, newChange(p.Path, ""))
	}
	return f
}

// gathering is one request's parts. Who brings left to 0 goes on: the last answer, or Request, when all were there before it
// returned.
type gathering struct {
	f      *aggregate
	ctx    *fasthttp.RequestCtx
	resume func(Result)
	parts  []piecemeal
	left   atomic.Int32
}

// piecemeal is one part on its way: its own caller's, until it is counted down.
type piecemeal struct {
	g      *gathering
	req    fasthttp.Request
	body   []byte
	failed string // the reason; empty: body is JSON
	done   func(*fasthttp.Response, error)
}

// inline bounds, in bytes, what is looked at where it comes, which may be a loop: some 100 us of it. keptBody bounds a buffer that is
// kept for the next request.
const (
	inline   = 16 << 10
	keptBody = 64 << 10
)

func (f *aggregate) gathering() *gathering {
	g, _ := f.gathered.Get().(*gathering)
	if g == nil {
		g = &gathering{f: f, parts: make([]piecemeal, len(f.Parts))}
		for i := range g.parts {
			p := &g.parts[i]
			p.g, p.done = g, p.answered
		}
	}
	return g
}

// Request implements Filter.
func (f *aggregate) Request(ctx *fasthttp.RequestCtx) Result {
	h := &ctx.Request.Header
	if !h.IsGet() && !h.IsHead() {
		Refuse(ctx, 405, "only GET and HEAD are allowed", &aggregateMethod)
		ctx.Response.Header.Set("Allow", "GET, HEAD")
		return Answer
	}
	g := f.gathering()
	g.ctx, g.resume = ctx, Resume(ctx)
	m := matchedOf(ctx)
	path, query := pathOf(ctx)
	for i := range g.parts { // all of them, before one is asked
		uri, ok := f.paths[i].append(m.room[:0], path, m)
		if f.Query {
			uri = append(uri, query...)
		}
		m.room = uri
		if !ok {
			f.release(g)
			return Refuse(ctx, 400, "path cannot be rewritten", &aggregatePath)
		}
		fill(&g.parts[i].req, h, uri, f.RequestHeaders)
	}
	g.left.Store(int32(len(g.parts)) + 1)
	caller := callerOf(ctx)
	for i := range g.parts {
		caller.Call(ctx, f.Parts[i].Cluster, &g.parts[i].req, f.Parts[i].Timeout, int(f.MaxBody), g.parts[i].done)
	}
	if g.left.Add(-1) > 0 {
		return Wait
	}
	return g.end()
}

// Response implements Filter.
func (f *aggregate) Response(*fasthttp.RequestCtx) {}

func (p *piecemeal) answered(resp *fasthttp.Response, err error) {
	p.failed, p.body = "", p.body[:0]
	switch {
	case err != nil:
		p.failed = reasonOf(err)
	case resp.StatusCode() < 200 || resp.StatusCode() > 299:
		p.failed = "status"
	case len(resp.Body()) > int(p.g.f.MaxBody):
		p.failed = "too large"
	default:
		p.body = append(p.body, resp.Body()...)
		if len(p.body) > inline {
			go p.check()
			return
		}
		p.check()
		return
	}
	p.end()
}

// check has a part that is not JSON fail: it would spoil the others.
func (p *piecemeal) check() {
	if !json.Valid(p.body) || !utf8.Valid(p.body) { // the first bounds how deep it is nested
		p.failed = "not JSON"
	}
	p.end()
}

func (p *piecemeal) end() {
	if g := p.g; g.left.Add(-1) == 0 {
		resume := g.resume
		resume(g.end())
	}
}

// end puts the answer together, and gives g back.
func (g *gathering) end() Result {
	defer g.f.release(g)
	resp := &g.ctx.Response
	for i := range g.parts {
		if why := g.parts[i].failed; why != "" && g.f.Parts[i].policy() == FailAll {
			return Refuse(g.ctx, statusOf(why), "a part of the answer is missing", aggregateFailures[why])
		}
	}
	resp.ResetBody()
	resp.SetStatusCode(200)
	resp.Header.SetContentType("application/json")
	resp.AppendBodyString("{")
	first := true
	for i := range g.parts {
		body := bytes.TrimSpace(g.parts[i].body)
		if g.parts[i].failed != "" {
			if g.f.Parts[i].policy() == FailOmit {
				continue
			}
			body = null
		}
		if !first {
			resp.AppendBodyString(",")
		}
		first = false
		resp.AppendBody(g.f.keys[i])
		resp.AppendBody(body)
	}
	resp.AppendBodyString("}")
	return Answer
}

var null = []byte("null")

func (p *Part) policy() Failure {
	if p.OnFailure == "" {
		return FailAll
	}
	return p.OnFailure
}

// statusOf is the client's status for a part that failed.
func statusOf(why string) int {
	switch why {
	case "timeout":
		return 504
	case "unreachable":
		return 503
	}
	return 502
}

func (f *aggregate) release(g *gathering) {
	g.ctx, g.resume = nil, nil
	for i := range g.parts {
		if cap(g.parts[i].body) > keptBody {
			g.parts[i].body = nil
		}
	}
	f.gathered.Put(g)
}
