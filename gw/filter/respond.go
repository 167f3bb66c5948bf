package filter

import (
	"fmt"

	"github.com/valyala/fasthttp"
)

// Respond answers at once.
type Respond struct {
	// Status is 200 to 599; 0: 200.
	Status  int               `yaml:"status"`
	Body    string            `yaml:"body"`
	Headers map[string]string `yaml:"headers"`
}

func (f *Respond) validate(report func(path, message string)) {
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		report("status", fmt.Sprintf("status %d: 200 to 599", f.Status))
	}
	if f.Body != "" && (f.Status == 204 || f.Status == 304) {
		report("body", fmt.Sprintf("a response with status %d has no body", f.Status))
	}
	for k, v := range f.Headers {
		if err := checkField(k, v, true); err != nil {
			report("headers."+k, err.Error())
		}
	}
	if twice := twoSpellings(f.Headers); twice != "" {
		report("headers."+twice, fmt.Sprintf("%s is there twice, in two spellings", twice))
	}
}

// Request implements Filter.
func (f *Respond) Request(ctx *fasthttp.RequestCtx) Result {
	if f.Status != 0 {
		ctx.Response.SetStatusCode(f.Status)
	}
	ctx.Response.SetBodyString(f.Body)
	if f.Body != "" {
		ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
	}
	for k, v := range f.Headers {
		ctx.Response.Header.Set(k, v)
	}
	return Answer
}

// Response implements Filter.
func (f *Respond) Response(*fasthttp.RequestCtx) {}
