package filter

import (
	"github.com/valyala/fasthttp"

	"sluice/engine"
)

// BodyLimit refuses requests whose body is larger than Max, with 413 (RFC 9110, section 15.5.14). One that says its length is
// refused before anything of it is forwarded; who runs filters ends one that is sent in chunks where it passes the limit: see
// BodyBound.
type BodyLimit struct {
	// Max is in bytes, or with a unit: 1MiB. 0: no request may have a body.
	Max *engine.Size `yaml:"max,required"`
}

// BodyBound is implemented by filters that bound a request's body, whatever of it is held at once. MaxBody, in bytes, is asked of
// each filter of a route, and the smallest counts for it.
type BodyBound interface{ MaxBody() int64 }

var bodyTooLarge = Refusal{"body_limit", "too large"}

func (f *BodyLimit) validate(report func(path, message string)) {
	if f.Max == nil {
		report("max", "is missing: the most bytes that a request's body may have")
	}
}

// MaxBody implements BodyBound.
func (f *BodyLimit) MaxBody() int64 { return int64(*f.Max) }

// Request implements Filter.
func (f *BodyLimit) Request(ctx *fasthttp.RequestCtx) Result {
	if int64(ctx.Request.Header.ContentLength()) > int64(*f.Max) { // negative: in chunks, or none
		return Refuse(ctx, 413, "request body is too large", &bodyTooLarge)
	}
	return Continue
}

// Response implements Filter.
func (f *BodyLimit) Response(*fasthttp.RequestCtx) {}
