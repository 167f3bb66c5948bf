package filter

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter/jsonedit"
	"sluice/gw/h1"
)

// JSONBody changes JSON bodies of requests and of responses.
//
// A request's body is taken for JSON whatever its Content-Type says, so that no other name leads around the filter; one that is not
// JSON (RFC 8259: UTF-8, no NaN, nothing behind it), or nested deeper than 128, is answered with 400, one with a Content-Encoding
// with 415. One that is empty stays. Of responses those are meant that say that they are JSON, or do not say what they are; the
// upstream is asked for the whole and uncoded one, and validators and digests of what it sends are taken off.
type JSONBody struct {
	Request  *JSONChange `yaml:"request"`
	Response *JSONChange `yaml:"response"`
	// Limit bounds a body, in bytes, before and after; 0: 1 MiB. A larger one is answered 413, a response's 502.
	Limit int `yaml:"limit"`
	// Timeout bounds a jq program's run with the wait for a processor, up to 1 s; 0: 100 ms, some hundred times what usual ones
	// take. A request or response that it runs out for is answered 503.
	Timeout time.Duration `yaml:"timeout"`
	// OnInvalid is for responses that should be JSON and are not; empty: refuse.
	OnInvalid OnInvalid `yaml:"on_invalid"`
}

// JSONChange is either a jq program, or any of the others, which are made at once, with no path through what another one changes.
// Paths are as user.name or items.0.id: names and indices between dots, * for every one; a\.b is one name. What they do not name
// stays as it came, numbers to the last digit.
type JSONChange struct {
	// Set are JSON texts by path, put there whatever was there; objects on the way are made.
	Set    map[string]JSONText `yaml:"set"`
	Remove []string            `yaml:"remove"`
	// Rename are members' new names by path. A member that has the new name already goes, if the one to rename is there.
	Rename map[string]string `yaml:"rename"`
	// JQ makes one value of one: $request is an object of method, path, query, host, client, headers and identity, and
	// $response one of status and headers. It sees no environment and no files. More values than one, none, or an error is
	// answered with 400, for responses 502.
	JQ string `yaml:"jq"`
}

// JSONText is a JSON value, as text.
type JSONText string

// UnmarshalText takes numbers, true and false from a file, too, without quotes.
func (j *JSONText) UnmarshalText(b []byte) error {
	*j = JSONText(b)
	return nil
}

// OnInvalid is what to do with a response that is not what it says it is.
type OnInvalid string

// The choices: 502, or leave it as it is.
const (
	InvalidRefuse OnInvalid = "refuse"
	InvalidPass   OnInvalid = "pass"
)

// Choices are the values that a file may have.
func (OnInvalid) Choices() []string { return []string{string(InvalidRefuse), string(InvalidPass)} }

const (
	defaultTimeout = 100 * time.Millisecond
	// maxTimeout keeps what a program can build in it to what fits on a stack.
	maxTimeout = time.Second
)

func (f *JSONBody) validate(report func(path, message string)) {
	if f.Request == nil && f.Response == nil {
		report("", "changes nothing: give request or response")
	}
	checkBodyLimit(f.Limit, report)
	if f.Timeout < 0 || f.Timeout > maxTimeout {
		report("timeout", fmt.Sprintf("%v: up to %v", f.Timeout, maxTimeout))
	}
	if f.OnInvalid != "" && f.Response == nil {
		report("on_invalid", "is for responses: there is no response")
	}
	for at, c := range map[string]*JSONChange{"request": f.Request, "response": f.Response} {
		if c != nil {
			c.validate(under(at, report))
		}
	}
}

func (c *JSONChange) validate(report func(path, message string)) {
	edits := len(c.Set) + len(c.Remove) + len(c.Rename)
	switch {
	case c.JQ != "":
		if edits > 0 {
			report("jq", "set, remove or rename are given too: a program does that itself")
		}
		if _, err := newProgram(c.JQ); err != nil {
			report("jq", err.Error())
		}
	case edits == 0:
		report("", "changes nothing: give set, remove, rename or jq")
	}
	c.edit(report)
}

// edit builds the edit, and reports what is wrong with it.
func (c *JSONChange) edit(report func(path, message string)) *jsonedit.Edit {
	e := &jsonedit.Edit{}
	try := func(key, path string, do func(p jsonedit.Path) error) {
		p, err := jsonedit.ParsePath(path)
		if err == nil {
			err = do(p)
		}
		if err != nil {
			report(key, err.Error())
		}
	}
	for _, path := range c.Remove {
		try("remove", path, e.Remove)
	}
	for _, path := range slices.Sorted(maps.Keys(c.Rename)) {
		try("rename."+path, path, func(p jsonedit.Path) error { return e.Rename(p, c.Rename[path]) })
	}
	for _, path := range slices.Sorted(maps.Keys(c.Set)) {
		value := []byte(c.Set[path])
		if jsonedit.Check(value) != nil {
			report("set."+path, `is no JSON: text has quotes within quotes, '"as this"'`)
			continue
		}
		try("set."+path, path, func(p jsonedit.Path) error { return e.Set(p, value) })
	}
	return e
}

// jsonBody is a JSONBody, ready for use.
type jsonBody struct {
	request, response *jsonChange // nil: none
	limit             int
	timeout           time.Duration
	pass              bool
	pool              pool
}

type jsonChange struct {
	edit    *jsonedit.Edit
	program *program // nil: edit
}

func newJSONChange(c *JSONChange) *jsonChange {
	if c == nil {
		return nil
	}
	if c.JQ != "" {
		p, err := newProgram(c.JQ)
		if err != nil {
			panic("BUG: a program that is not valid: " + err.Error())
		}
		return &jsonChange{program: p}
	}
	return &jsonChange{edit: c.edit(func(path, message string) { panic("BUG: " + path + ": " + message) })}
}

func newJSONBody(cfg JSONBody) Filter {
	f := &jsonBody{
		request: newJSONChange(cfg.Request), response: newJSONChange(cfg.Response),
		limit: bodyLimit(cfg.Limit), timeout: cfg.Timeout, pass: cfg.OnInvalid == InvalidPass,
	}
	if f.timeout == 0 {
		f.timeout = defaultTimeout
	}
	switch {
	case f.response == nil:
		return jsonRequests{f}
	case f.request == nil:
		return jsonResponses{f}
	}
	return jsonBoth{f}
}

// What of a jsonBody needs bodies is a type of its own: those of the other direction are not held up for it.
type (
	jsonRequests  struct{ *jsonBody }
	jsonResponses struct{ *jsonBody }
	jsonBoth      struct{ *jsonBody }
)

// RequestBody implements RequestBody.
func (f jsonRequests) RequestBody(*fasthttp.RequestCtx) int { return f.limit }

// ResponseBody implements ResponseBody.
func (f jsonResponses) ResponseBody(ctx *fasthttp.RequestCtx) int {
	if !f.concerns(ctx) {
		return 0
	}
	return f.limit
}

// ResponseWait implements ResponseWaiter.
func (f jsonResponses) ResponseWait(ctx *fasthttp.RequestCtx) Result {
	return f.changeResponse(ctx, true)
}

// RequestBody implements RequestBody.
func (f jsonBoth) RequestBody(*fasthttp.RequestCtx) int { return f.limit }

// ResponseBody implements ResponseBody.
func (f jsonBoth) ResponseBody(ctx *fasthttp.RequestCtx) int {
	return jsonResponses(f).ResponseBody(ctx)
}

// ResponseWait implements ResponseWaiter.
func (f jsonBoth) ResponseWait(ctx *fasthttp.RequestCtx) Result { return f.changeResponse(ctx, true) }

// Request implements Filter. Without a program, and up to 32 KiB, it allocates nothing.
func (f *jsonBody) Request(ctx *fasthttp.RequestCtx) Result {
	if f.response != nil {
		askPlain(ctx)
	}
	if f.request == nil {
		return Continue
	}
	body := ctx.Request.Body()
	switch {
	case len(body) == 0:
		return Continue
	case coded(ctx.Request.Header.Peek("Content-Encoding")):
		return codedJSON.answer(ctx, false)
	case f.request.program != nil:
		return f.run(ctx, false, body, true)
	}
	return changeBody(ctx, false, body, f, &f.pool, true)
}

// Response implements Filter.
func (f *jsonBody) Response(ctx *fasthttp.RequestCtx) { f.changeResponse(ctx, false) }

func (f *jsonBody) changeResponse(ctx *fasthttp.RequestCtx, wait bool) Result {
	if f.response != nil && headed(ctx) && (ctx.Response.StatusCode() == 304 || isJSON(ctx.Response.Header.Peek("Content-Type"))) {
		unsize(ctx, true)
	}
	if f.response == nil || !f.concerns(ctx) {
		return Continue
	}
	body := ctx.Response.Body()
	switch {
	case len(body) == 0:
		return Continue
	case f.response.program != nil:
		return f.run(ctx, true, body, wait)
	}
	return changeBody(ctx, true, body, f, &f.pool, wait)
}

// concerns says whether a response has a body that should be JSON.
func (f *jsonBody) concerns(ctx *fasthttp.RequestCtx) bool {
	return bodied(ctx) && isJSON(ctx.Response.Header.Peek("Content-Type"))
}

// isJSON says whether a type is JSON (RFC 8259, section 11; RFC 6839, section 3.1), or is not known.
func isJSON(contentType []byte) bool {
	for i, c := range contentType {
		if c == ';' || c == ' ' || c == '\t' {
			contentType = contentType[:i]
			break
		}
	}
	n := len(contentType)
	return n == 0 || h1.EqualFold(contentType, "application/json") || h1.EqualFold(contentType, "text/json") ||
		n > 5 && h1.EqualFold(contentType[n-5:], "+json")
}

// change implements changer, with an edit.
func (f *jsonBody) change(_ *fasthttp.RequestCtx, response bool, dst, body []byte) ([]byte, *failure) {
	c := f.request
	if response {
		c = f.response
	}
	out, err := c.edit.Apply(dst, body)
	switch {
	case err != nil && response && f.pass && err != jsonedit.ErrNotObject:
		return nil, &asItCame
	case err != nil:
		return nil, failureOf(err)
	case len(out) > f.limit:
		return nil, &largeJSON
	}
	return out, nil
}

func failureOf(err error) *failure {
	switch err {
	case jsonedit.ErrDepth:
		return &deepJSON
	case jsonedit.ErrUTF8:
		return &notUTF8
	case jsonedit.ErrNotObject:
		return &notObject
	}
	return &notJSON
}

// wants says whether a program wants to see the request, or the response.
func (p *program) wants(name string) bool { return strings.Contains(p.source, name) }

var (
	notJSON   = failure{400, 502, "body is not valid JSON", Refusal{"json_body", "invalid"}}
	notUTF8   = failure{400, 502, "body is not UTF-8", Refusal{"json_body", "invalid"}}
	deepJSON  = failure{400, 502, "body is nested too deep", Refusal{"json_body", "too deep"}}
	notObject = failure{400, 502, "body is not a JSON object", Refusal{"json_body", "not an object"}}
	largeJSON = failure{413, 502, "body becomes too large", Refusal{"json_body", "too large"}}
	codedJSON = failure{415, 502, "body has a content encoding", Refusal{"json_body", "encoded"}}
	failedJQ  = failure{400, 502, "body cannot be transformed", Refusal{"json_body", "program failed"}}
	slowJQ    = failure{503, 503, "body takes too long to transform", Refusal{"json_body", "program timed out"}}
)
