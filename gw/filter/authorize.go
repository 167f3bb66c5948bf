package filter

import (
	"fmt"
	"regexp"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter/expr"
)

// Authorize lets a request pass for which an expression is true, and refuses others with 403. One that cannot be evaluated, for a
// claim that is missing, say, or because it costs too much, has not said yes: 403, with the reason error.
type Authorize struct {
	// Allow is an expression of CEL: see package expr for what it can name.
	Allow string `yaml:"allow,required"`
	// Reason is the label of refusals, of letters, digits and _; not given: denied.
	Reason string `yaml:"reason"`
	// CostLimit bounds an evaluation, in CEL's units; 0: 10,000, which is some milliseconds at worst.
	CostLimit uint64 `yaml:"cost_limit"`
}

// maxExprCost is where an evaluation would hold its loop for long.
const maxExprCost = 100_000 // some 20 ms: BenchmarkAuthorizeAtItsLimit

var label = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

func (f *Authorize) validate(report func(path, message string)) {
	if _, err := expr.Compile(f.Allow, expr.Bool, f.CostLimit); err != nil {
		report("allow", err.Error())
	}
	if f.Reason != "" && !label.MatchString(f.Reason) {
		report("reason", fmt.Sprintf("%q is not of letters, digits and _, at most 64", f.Reason))
	}
	if f.Reason == failed.Reason {
		report("reason", "error is what evaluations that fail are counted as")
	}
	if f.CostLimit > maxExprCost {
		report("cost_limit", fmt.Sprintf("%d: at most %d", f.CostLimit, maxExprCost))
	}
}

// authorize is an Authorize, ready for use.
type authorize struct {
	allow  *expr.Program
	denied Refusal
}

var failed = Refusal{"authorize", "error"}

func newAuthorize(cfg Authorize) *authorize {
	p, err := expr.Compile(cfg.Allow, expr.Bool, cfg.CostLimit)
	if err != nil {
		panic("BUG: an expression that is not valid: " + err.Error())
	}
	if cfg.Reason == "" {
		cfg.Reason = "denied"
	}
	return &authorize{allow: p, denied: Refusal{"authorize", cfg.Reason}}
}

// Request implements Filter.
func (f *authorize) Request(ctx *fasthttp.RequestCtx) Result {
	in := inputOf(ctx)
	switch yes, err := f.allow.Bool(&in); {
	case err != nil: // it may have something of the request in it, and is not told
		return Refuse(ctx, 403, "not allowed", &failed)
	case !yes:
		return Refuse(ctx, 403, "not allowed", &f.denied)
	}
	return Continue
}

// Response implements Filter.
func (f *authorize) Response(*fasthttp.RequestCtx) {}

// inputOf is what expressions see of a request.
func inputOf(ctx *fasthttp.RequestCtx) expr.Input {
	in := expr.Input{Request: &ctx.Request.Header, Source: sourceOf(ctx)}
	if id := IdentityOf(ctx); id != nil {
		in.Subject, in.By, in.Claims = id.Subject, id.By, id.Claims
	}
	return in
}
