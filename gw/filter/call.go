package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// Caller sends a request of a filter's own to a cluster, and hands back what it answers. Safe for concurrent use by one exchange.
type Caller interface {
	// Call sends req, which is the Caller's until it calls done: once, from any goroutine, also before Call returns. The answer is
	// nil with an error, and not to be used after done has returned. A body of more than limit bytes is ErrCallTooLarge; no
	// whole answer within timeout is ErrCallTimeout; other errors are of a cluster that cannot be reached. The URI of req is a
	// path and query, and has its Host. ctx is the exchange's, which waits, and is not touched.
	Call(ctx *fasthttp.RequestCtx, cluster string, req *fasthttp.Request, timeout time.Duration, limit int, done func(*fasthttp.Response, error))
}

// What a Caller's errors may be, or wrap.
var (
	ErrCallTimeout  = errors.New("no answer in time")
	ErrCallTooLarge = errors.New("the answer is too large")
)

type callerKey struct{}

// SetCaller is for who runs filters.
func SetCaller(ctx *fasthttp.RequestCtx, c Caller) { ctx.SetUserValue(callerKey{}, c) }

func callerOf(ctx *fasthttp.RequestCtx) Caller {
	c, _ := ctx.UserValue(callerKey{}).(Caller)
	return c
}

// reasonOf is the label of a call that failed.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, ErrCallTimeout):
		return "timeout"
	case errors.Is(err, ErrCallTooLarge):
		return "too large"
	}
	return "unreachable"
}

// failures are a filter's refusals by reason, made once.
type failures map[string]*Refusal

func failuresOf(filter string) failures {
	f := failures{}
	for _, reason := range []string{"timeout", "too large", "unreachable", "status", "not JSON"} {
		f[reason] = &Refusal{filter, reason}
	}
	return f
}

// passedOn are the headers that go with each request of a filter's own: as the gateway has written them.
var passedOn = []string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id"}

// fill makes req a GET of uri, with the request's host, what says who asks, and the headers of these names.
func fill(req *fasthttp.Request, of *fasthttp.RequestHeader, uri []byte, names []string) {
	req.Reset()
	req.Header.SetMethod(fasthttp.MethodGet)
	req.Header.SetRequestURIBytes(uri)
	for k, v := range of.All() {
		if named(k, passedOn) || named(k, names) {
			req.Header.AddBytesKV(k, v)
		}
	}
	req.Header.SetHostBytes(of.Host())
}

// named says that a header is one of names, which are in lower case.
func named(name []byte, names []string) bool {
	for _, n := range names {
		if h1.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// whoAsks are the request headers that a filter's own request has, if nothing else is said: those that say who asks.
func whoAsks(names []string) []string {
	if names == nil {
		return []string{"authorization", "cookie"}
	}
	return lowered(names)
}

func lowered(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}

// checkNames reports what cannot be copied of the headers under a key.
func checkNames(key string, names []string, response bool, report func(path, message string)) {
	for i, n := range names {
		at := fmt.Sprintf("%s[%d]", key, i)
		switch err := checkField(n, "", response); {
		case err != nil:
			report(at, err.Error())
		case h1.KindOf([]byte(n)) == h1.Host:
			report(at, "host is the request's")
		case slices.ContainsFunc(names[:i], func(before string) bool { return strings.EqualFold(before, n) }):
			report(at, fmt.Sprintf("%s is there twice", n))
		}
	}
}
