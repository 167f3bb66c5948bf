package filter

import "github.com/valyala/fasthttp"

// A filter that has to wait, for a subrequest or a slow hash, takes Resume(ctx), answers Wait, and calls it once when it knows
// more, from any goroutine: with Continue or Answer. Until then ctx is its own, and nobody else's; after that it is not.

type resumeKey struct{}

// Resume is what a filter that answers Wait calls in the end. It must be taken before Request returns.
func Resume(ctx *fasthttp.RequestCtx) func(Result) {
	f, _ := ctx.UserValue(resumeKey{}).(func(Result))
	return f
}

// SetResume is for who runs filters.
func SetResume(ctx *fasthttp.RequestCtx, f func(Result)) { ctx.SetUserValue(resumeKey{}, f) }

// RequestBody is implemented by filters that need the whole of a request's body: ctx.Request.Body() is it when Request is called,
// and what they make of it is sent on. A body of more than the bytes that it returns is answered 413; 0: this request's is not
// needed, and not there. It is called when the head is there, before any filter has seen it. Of several filters the least counts.
type RequestBody interface {
	RequestBody(ctx *fasthttp.RequestCtx) int
}

// ResponseBody is the same for responses: ctx.Response.Body() is the body when Response is called. One that is larger than the
// bytes that it returns is answered 502; 0: this response's is not needed. It is called when the head is there. Of several filters
// the least counts.
type ResponseBody interface {
	ResponseBody(ctx *fasthttp.RequestCtx) int
}

// Streamer is implemented by filters that change response bodies as they come: Stream is called after Response, and may return
// nil. The body's length is not known then: such a response is sent in chunks.
type Streamer interface {
	Stream(ctx *fasthttp.RequestCtx) Transform
}

// Transform changes one body, piece by piece. Owned by its exchange's loop.
type Transform interface {
	// Append appends what src becomes to dst; last says that nothing follows. An error ends the response where it is.
	Append(dst, src []byte, last bool) ([]byte, error)
	// Close gives back what it holds, also when the body has ended early.
	Close()
}

// Ender is implemented by filters that keep something for as long as an exchange lasts: End is called once for each Request that
// they have seen, on its loop, when the exchange has ended in whatever way.
type Ender interface {
	End(ctx *fasthttp.RequestCtx)
}
