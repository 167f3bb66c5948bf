package filter

import "github.com/valyala/fasthttp"

// badPath is what the client of a path that cannot be put together is told.
const badPath = "path cannot be rewritten"

// refuse answers 400 as the gateway does: with a message of ours, in which there is nothing to escape.
func refuse(ctx *fasthttp.RequestCtx, message string) Result {
	id := ctx.Request.Header.Peek("X-Request-Id")
	ctx.Response.SetStatusCode(fasthttp.StatusBadRequest)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyString(`{"status":400,"error":"` + message + `","request_id":"` + string(id) + "\"}\n")
	return Answer
}
