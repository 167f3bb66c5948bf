package filter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/itchyny/gojq"
	"github.com/valyala/fasthttp"

	"sluice/gw/filter/jsonedit"
)

// program is a jq program, compiled. Immutable.
type program struct {
	source string
	code   *gojq.Code
}

// newProgram compiles source. Without loaders it has no environment, no modules and no further inputs.
func newProgram(source string) (*program, error) {
	q, err := gojq.Parse(source)
	if err != nil {
		return nil, err
	}
	code, err := gojq.Compile(q, gojq.WithVariables([]string{"$request", "$response"}))
	if err != nil {
		return nil, err
	}
	return &program{source, code}, nil
}

// What becomes of a program that gives no body.
var (
	errProgram  = errors.New("the program failed")
	errTooLarge = errors.New("too large")
)

// run is the one value that the program makes of doc, of at most limit bytes, or the error of Check, of ctx, or one of the above.
// What a program says is in none of them: it may have taken it from the body.
func (p *program) run(ctx context.Context, doc []byte, limit int, request, response any) (out []byte, err error) {
	defer func() {
		if recover() != nil { // a fault in the interpreter, which a body has found
			out, err = nil, errProgram
		}
	}()
	if err := jsonedit.Check(doc); err != nil {
		return nil, err
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber() // digits that nobody computes with stay
	if err := d.Decode(&v); err != nil {
		return nil, jsonedit.ErrSyntax
	}
	values := p.code.RunWithContext(ctx, v, request, response)
	v, ok := values.Next()
	if _, failed := v.(error); !ok || failed {
		return nil, cause(ctx)
	}
	if _, more := values.Next(); more {
		return nil, cause(ctx)
	}
	return appendJSON(nil, v, limit, 0)
}

// cause is why a program has given nothing: its time is over, or its own fault.
func cause(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return errProgram
}

// appendJSON appends a value of gojq's, to at most limit bytes: what is small in memory, as an array that holds another one
// twice, which holds a third twice, can be large when it is written. NaN is null, as jq has it.
func appendJSON(dst []byte, v any, limit, depth int) ([]byte, error) {
	if depth > jsonedit.MaxDepth {
		return nil, jsonedit.ErrDepth
	}
	var err error
	switch v := v.(type) {
	case nil:
		dst = append(dst, "null"...)
	case bool:
		dst = strconv.AppendBool(dst, v)
	case int:
		dst = strconv.AppendInt(dst, int64(v), 10)
	case *big.Int:
		dst = v.Append(dst, 10)
	case json.Number:
		dst = append(dst, v...)
	case float64:
		if math.IsNaN(v) {
			return append(dst, "null"...), nil
		}
		v = min(max(v, -math.MaxFloat64), math.MaxFloat64)
		format := byte('f')
		if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e17) {
			format = 'e'
		}
		dst = strconv.AppendFloat(dst, v, format, -1, 64)
	case string:
		if len(v) > limit {
			return nil, errTooLarge
		}
		dst = jsonedit.AppendString(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendJSON(dst, e, limit, depth+1); err != nil {
				return nil, err
			}
		}
		dst = append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(jsonedit.AppendString(dst, k), ':')
			if dst, err = appendJSON(dst, v[k], limit, depth+1); err != nil {
				return nil, err
			}
		}
		dst = append(dst, '}')
	default:
		return nil, errProgram
	}
	if len(dst) > limit {
		return nil, errTooLarge
	}
	return dst, nil
}

// run has the pool run a program on a body. When its time is over, the client is answered, whatever the program is at: it stops
// at its next step, and until then it has a processor of the pool, and nothing of ctx.
func (f *jsonBody) run(ctx *fasthttp.RequestCtx, response bool, body []byte, wait bool) Result {
	p := f.request
	if response {
		p = f.response
	}
	var request, answer any
	if p.program.wants("$request") {
		request = requestValue(ctx)
	}
	if response && p.program.wants("$response") {
		answer = map[string]any{"status": ctx.Response.StatusCode(), "headers": headersValue(ctx.Response.Header.All())}
	}
	until, stop := context.WithTimeout(context.Background(), f.timeout)
	resume := Resume(ctx)
	if !wait || resume == nil {
		defer stop()
		out, err := p.program.run(until, body, f.limit, request, answer)
		return f.finish(ctx, response, body, out, err)
	}
	body = bytes.Clone(body)
	var done atomic.Bool // who sets it has ctx
	unwatch := context.AfterFunc(until, func() {
		if done.CompareAndSwap(false, true) {
			resume(f.finish(ctx, response, body, nil, context.DeadlineExceeded))
		}
	})
	if f.pool.do(func() {
		if until.Err() != nil {
			return
		}
		out, err := p.program.run(until, body, f.limit, request, answer)
		if unwatch(); done.CompareAndSwap(false, true) {
			stop()
			resume(f.finish(ctx, response, body, out, err))
		}
	}) || !done.CompareAndSwap(false, true) {
		return Wait
	}
	unwatch()
	stop()
	return busy.answer(ctx, response)
}

func (f *jsonBody) finish(ctx *fasthttp.RequestCtx, response bool, body, out []byte, err error) Result {
	var fail *failure
	switch err {
	case nil:
	case errProgram:
		fail = &failedJQ
	case errTooLarge:
		fail = &largeJSON
	case context.DeadlineExceeded:
		fail = &slowJQ
	default:
		if response && f.pass && jsonedit.Check(body) != nil {
			return Continue
		}
		fail = failureOf(err)
	}
	return changed(ctx, response, out, fail, false)
}

// requestValue is what a program sees of a request: a copy.
func requestValue(ctx *fasthttp.RequestCtx) any {
	path, q := pathOf(ctx)
	v := map[string]any{
		"method": string(ctx.Method()), "path": string(path), "query": strings.TrimPrefix(string(q), "?"),
		"host": string(ctx.Request.Header.Host()), "client": clientOf(ctx), "headers": headersValue(ctx.Request.Header.All()), "identity": nil,
	}
	if id := IdentityOf(ctx); id != nil {
		v["identity"] = map[string]any{"subject": id.Subject, "by": id.By, "claims": plainValue(id.Claims)}
	}
	return v
}

// clientOf is the client's address, without a port; empty if it is not known.
func clientOf(ctx *fasthttp.RequestCtx) string {
	if ip, ok := netipOf(ctx); ok {
		return ip.String()
	}
	return ""
}

// netipOf is the client's address; false: not known.
func netipOf(ctx *fasthttp.RequestCtx) (netip.Addr, bool) {
	ip, ok := netip.AddrFromSlice(ctx.RemoteIP())
	return ip.Unmap(), ok && !ip.Unmap().IsUnspecified()
}

// headersValue has lower case names; fields of one name are one, as RFC 9110, section 5.3 has it.
func headersValue(all func(yield func(k, v []byte) bool)) map[string]any {
	m := map[string]any{}
	for k, v := range all {
		name := strings.ToLower(string(k))
		if before, ok := m[name].(string); ok {
			m[name] = before + ", " + string(v)
		} else {
			m[name] = string(v)
		}
	}
	return m
}

// plainValue is a copy of v, of the types that gojq knows; nil if there is no JSON for it.
func plainValue(v any) (plain any) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&plain) != nil {
		return nil
	}
	return plain
}
