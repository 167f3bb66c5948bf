package filter

import (
	"fmt"
	"slices"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter/jsonedit"
	"sluice/gw/h1"
)

// BodyTemplate puts another body in the place of the one that comes.
type BodyTemplate struct {
	Request  *Template `yaml:"request"`
	Response *Template `yaml:"response"`
	// Limit bounds a body, in bytes, before and after; 0: 1 MiB. A larger one is answered 413, a response's 502.
	Limit int `yaml:"limit"`
}

// Template is a body with places, {{ name }}, of these names:
//
//	request.method, .path, .query, .host, .client, .id    the request; client is the address without the port
//	request.header.NAME, request.query.NAME               a field, a parameter; the first of several
//	capture.NAME                                          what the route's match has captured, escapes as they came
//	identity.subject, .by, .claims.PATH                   who the request comes from
//	body, body.PATH                                       the body in whose place this one is; a value in it, if it is JSON
//	status, response.header.NAME                          the response, in a response's template
//
// PATH is as in json_body. What is not there is empty, in JSON null outside of quotes. Nothing loops and nothing calls: what a
// template costs is what its places hold.
type Template struct {
	Body string `yaml:"body"`
	// ContentType is that of the body; empty: application/json.
	ContentType string `yaml:"content_type"`
	// Escape is how places are filled in; empty: by ContentType. With json, a place outside of quotes is a value, with quotes if
	// it is text, and one within quotes a part of the text.
	Escape Escape `yaml:"escape"`
	// Statuses are those of the responses that are meant; empty: all that have a body.
	Statuses []int `yaml:"statuses"`
}

// Escape keeps what comes from outside from being read as more than text.
type Escape string

// The ways: as JSON, as text of XML and HTML, as a form's value, not at all.
const (
	EscapeJSON Escape = "json"
	EscapeXML  Escape = "xml"
	EscapeForm Escape = "form"
	EscapeNone Escape = "none"
)

// Choices are the values that a file may have.
func (Escape) Choices() []string {
	return []string{string(EscapeJSON), string(EscapeXML), string(EscapeForm), string(EscapeNone)}
}

func (f *BodyTemplate) validate(report func(path, message string)) {
	if f.Request == nil && f.Response == nil {
		report("", "changes nothing: give request or response")
	}
	checkBodyLimit(f.Limit, report)
	if f.Request != nil {
		f.Request.validate(false, under("request", report))
	}
	if f.Response != nil {
		f.Response.validate(true, under("response", report))
	}
}

func (t *Template) validate(response bool, report func(path, message string)) {
	if t.ContentType != "" && !h1.ValidValue(t.ContentType) {
		report("content_type", "the value has a control character, or a space at an end")
	}
	if len(t.Statuses) > 0 && !response {
		report("statuses", "a request has none")
	}
	for _, s := range t.Statuses {
		if s < 200 || s > 599 {
			report("statuses", fmt.Sprintf("status %d: 200 to 599", s))
		}
	}
	filled, err := newFilled(t, response)
	if err != nil {
		report("body", err.Error())
		return
	}
	if filled.escape == EscapeJSON {
		if sample, _ := filled.append(nil, &fasthttp.RequestCtx{}, []byte("null"), maxBody); jsonedit.Check(sample) != nil {
			report("body", "is no JSON with null in the places outside of quotes; of another type it has a content_type or escape")
		}
	}
}

// validateMatch reports the places for which the route captures nothing.
func (f *BodyTemplate) validateMatch(names []string, report func(path, message string)) {
	for at, t := range map[string]*Template{"request": f.Request, "response": f.Response} {
		if t == nil {
			continue
		}
		filled, err := newFilled(t, at == "response")
		if err != nil {
			continue
		}
		for _, p := range filled.places {
			if p.from == fromCapture && !slices.Contains(names, p.name) {
				report(at+".body", fmt.Sprintf("the route's match captures no %q", p.name))
			}
		}
	}
}

// bodyTemplate is a BodyTemplate, ready for use.
type bodyTemplate struct {
	request, response *filled // nil: none
	limit             int
	pool              pool
}

func newBodyTemplate(cfg BodyTemplate) Filter {
	f := &bodyTemplate{limit: bodyLimit(cfg.Limit)}
	for _, d := range []struct {
		t        *Template
		response bool
		into     **filled
	}{{cfg.Request, false, &f.request}, {cfg.Response, true, &f.response}} {
		if d.t == nil {
			continue
		}
		t, err := newFilled(d.t, d.response)
		if err != nil {
			panic("BUG: a template that is not valid: " + err.Error())
		}
		*d.into = t
	}
	switch {
	case f.response == nil:
		return templateRequests{f}
	case f.request == nil:
		return templateResponses{f}
	}
	return templateBoth{f}
}

// The types by which only bodies are held up that are needed.
type (
	templateRequests  struct{ *bodyTemplate }
	templateResponses struct{ *bodyTemplate }
	templateBoth      struct{ *bodyTemplate }
)

// RequestBody implements RequestBody.
func (f templateRequests) RequestBody(*fasthttp.RequestCtx) int { return f.limit }

// ResponseBody implements ResponseBody.
func (f templateResponses) ResponseBody(ctx *fasthttp.RequestCtx) int {
	if !f.concerns(ctx) {
		return 0
	}
	return f.limit
}

// ResponseWait implements ResponseWaiter.
func (f templateResponses) ResponseWait(ctx *fasthttp.RequestCtx) Result {
	return f.changeResponse(ctx, true)
}

// RequestBody implements RequestBody.
func (f templateBoth) RequestBody(*fasthttp.RequestCtx) int { return f.limit }

// ResponseBody implements ResponseBody.
func (f templateBoth) ResponseBody(ctx *fasthttp.RequestCtx) int {
	return templateResponses(f).ResponseBody(ctx)
}

// ResponseWait implements ResponseWaiter.
func (f templateBoth) ResponseWait(ctx *fasthttp.RequestCtx) Result {
	return f.changeResponse(ctx, true)
}

// Request implements Filter. Up to 32 KiB, and without claims that are no text, it allocates nothing.
func (f *bodyTemplate) Request(ctx *fasthttp.RequestCtx) Result {
	if f.response != nil {
		askPlain(ctx)
	}
	if f.request == nil {
		return Continue
	}
	if f.request.readsBody && coded(ctx.Request.Header.Peek("Content-Encoding")) {
		return codedTemplate.answer(ctx, false)
	}
	return changeBody(ctx, false, ctx.Request.Body(), f, &f.pool, true)
}

// Response implements Filter.
func (f *bodyTemplate) Response(ctx *fasthttp.RequestCtx) { f.changeResponse(ctx, false) }

func (f *bodyTemplate) changeResponse(ctx *fasthttp.RequestCtx, wait bool) Result {
	if f.response != nil && headed(ctx) && (ctx.Response.StatusCode() == 304 || f.meant(ctx)) {
		unsize(ctx, true)
	}
	if f.response == nil || !f.concerns(ctx) {
		return Continue
	}
	return changeBody(ctx, true, ctx.Response.Body(), f, &f.pool, wait)
}

func (f *bodyTemplate) concerns(ctx *fasthttp.RequestCtx) bool { return bodied(ctx) && f.meant(ctx) }

// meant says that responses of that status are changed.
func (f *bodyTemplate) meant(ctx *fasthttp.RequestCtx) bool {
	s := f.response.statuses
	return len(s) == 0 || slices.Contains(s, ctx.Response.StatusCode())
}

// change implements changer.
func (f *bodyTemplate) change(ctx *fasthttp.RequestCtx, response bool, dst, body []byte) ([]byte, *failure) {
	t := f.request
	if response {
		t = f.response
	}
	if t.readsJSON && jsonedit.Check(body) != nil {
		if !response {
			return nil, &notJSONTemplate
		}
		body = nil // an error page, say, has no members
	}
	dst, ok := t.append(dst, ctx, body, f.limit)
	if !ok {
		return nil, &largeTemplate
	}
	if response {
		ctx.Response.Header.Del("Content-Encoding")
		ctx.Response.Header.SetContentType(t.contentType)
	} else {
		ctx.Request.Header.Del("Content-Encoding")
		ctx.Request.Header.SetContentType(t.contentType)
	}
	return dst, nil
}

var (
	notJSONTemplate = failure{400, 502, "body is not valid JSON", Refusal{"body_template", "invalid"}}
	codedTemplate   = failure{415, 502, "body has a content encoding", Refusal{"body_template", "encoded"}}
	largeTemplate   = failure{413, 502, "body becomes too large", Refusal{"body_template", "too large"}}
)
