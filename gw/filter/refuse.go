package filter

import (
	"strconv"

	"github.com/valyala/fasthttp"
)

// Refusal is why a filter answered in place of the upstream: its own name and a reason of a few words, which are a metric's
// labels. Nothing that a client has sent is in it.
type Refusal struct{ Filter, Reason string }

type refusalKey struct{}

// Refuse answers as the gateway does, in JSON: message is ours, with nothing in it to escape. why is what is counted and logged.
func Refuse(ctx *fasthttp.RequestCtx, status int, message string, why *Refusal) Result {
	id := ctx.Request.Header.Peek("X-Request-Id")
	if !plainID(id) { // a filter has written it
		id = nil
	}
	ctx.SetUserValue(refusalKey{}, why)
	ctx.Response.ResetBody()
	ctx.Response.SetStatusCode(status)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyString(`{"status":` + strconv.Itoa(status) + `,"error":"` + message + `","request_id":"` + string(id) + "\"}\n")
	return Answer
}

// RefusalOf is what the filter that answered was given to Refuse; nil if it did not refuse.
func RefusalOf(ctx *fasthttp.RequestCtx) *Refusal {
	r, _ := ctx.UserValue(refusalKey{}).(*Refusal)
	return r
}
