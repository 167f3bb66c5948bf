package filter

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"github.com/valyala/fasthttp"
)

// HandlerConfig says how a Handler runs.
type HandlerConfig struct {
	// Workers are how many calls run at once, each on a goroutine; the exchange waits. 0: calls run on the loop, which serves
	// nobody else meanwhile: for what does not block.
	Workers int
	// Queue is how many calls may wait for a worker; beyond it requests are answered 503. 0: 1024.
	Queue int
	// MaxBody bounds a request's body, which the handler sees whole, in bytes; a larger one is answered 413. 0: 1 MiB.
	MaxBody int
}

// Handler is a filter that answers by h: what h makes of ctx.Response goes to the client, unless h calls Next. A response with a
// body stream is read whole, up to 64 MiB, where h ran. Hijack and TimeoutError have no meaning here. A panic of h is a 500, and
// is logged.
func Handler(h fasthttp.RequestHandler, cfg HandlerConfig) Filter {
	f := &handler{handle: h, maxBody: cfg.MaxBody}
	if f.maxBody == 0 {
		f.maxBody = defaultBody
	}
	if cfg.Workers > 0 {
		if cfg.Queue == 0 {
			cfg.Queue = 1024
		}
		f.crew = &crew{running: make(chan struct{}, cfg.Workers), most: int64(cfg.Workers + cfg.Queue)}
	}
	return f
}

// Next has a request go on to the next filter, in place of being answered by the handler that calls it.
func Next(ctx *fasthttp.RequestCtx) { ctx.SetUserValue(nextKey{}, true) }

type nextKey struct{}

// maxStream bounds a body stream that a handler gives, in bytes.
const maxStream = 64 << 20

type handler struct {
	handle  fasthttp.RequestHandler
	crew    *crew // nil: on the loop
	maxBody int
}

var (
	handlerBusy   = Refusal{"handler", "busy"}
	handlerFailed = Refusal{"handler", "failed"}
)

// RequestBody implements RequestBody.
func (f *handler) RequestBody(*fasthttp.RequestCtx) int { return f.maxBody }

// Request implements Filter.
func (f *handler) Request(ctx *fasthttp.RequestCtx) Result {
	resume := Resume(ctx)
	if f.crew == nil || resume == nil {
		return f.call(ctx)
	}
	if !f.crew.do(func() { resume(f.call(ctx)) }) {
		return Refuse(ctx, 503, "too many requests wait for a handler", &handlerBusy)
	}
	return Wait
}

// Response implements Filter.
func (f *handler) Response(*fasthttp.RequestCtx) {}

func (f *handler) call(ctx *fasthttp.RequestCtx) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("handler panicked", "panic", p, "stack", string(debug.Stack()))
			r = f.fail(ctx)
		}
	}()
	ctx.RemoveUserValue(nextKey{})
	f.handle(ctx)
	if next, _ := ctx.UserValue(nextKey{}).(bool); next {
		return Continue
	}
	if r := &ctx.Response; len(r.Header.ContentType()) == 0 {
		r.Header.SetContentType("text/plain; charset=utf-8") // as fasthttp's server has it
	}
	if ctx.Response.IsBodyStream() {
		b, err := io.ReadAll(io.LimitReader(ctx.Response.BodyStream(), maxStream+1))
		if err == nil && len(b) > maxStream {
			err = fmt.Errorf("more than %d bytes", maxStream)
		}
		if err != nil {
			slog.Error("body stream of a handler", "error", err)
			return f.fail(ctx)
		}
		_ = ctx.Response.CloseBodyStream()
		ctx.Response.SetBodyRaw(b)
	}
	return Answer
}

func (f *handler) fail(ctx *fasthttp.RequestCtx) Result {
	ctx.Response.Reset()
	return Refuse(ctx, 500, "handler failed", &handlerFailed)
}
