package filter

import "github.com/valyala/fasthttp"

// Shadower is implemented by filters that may be told to refuse nothing, and only to say what they would have refused: see
// Shadowed. Shadows says that this one is.
type Shadower interface{ Shadows() bool }

type shadowKey struct{}

// Shadowed is what a filter in shadow mode would have refused a request for; nil if none would.
func Shadowed(ctx *fasthttp.RequestCtx) *Refusal {
	r, _ := ctx.UserValue(shadowKey{}).(*Refusal)
	return r
}

// Shadows implements Shadower.
func (f *rateLimit) Shadows() bool { return f.shadow }

// Shadows implements Shadower.
func (f *concurrency) Shadows() bool { return f.shadow }

// Shadows implements Shadower.
func (f *quota) Shadows() bool { return f.shadow }
