package filter

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// ResponseWaiter is implemented by filters whose response phase may take long: ResponseWait is called in the place of Response.
// It answers Continue, or Wait: then Resume, taken before it returned, is called once, with Continue. Where Response is called
// all the same, it does the work then and there.
type ResponseWaiter interface {
	ResponseWait(ctx *fasthttp.RequestCtx) Result
}

const (
	// defaultBody bounds a body, in bytes, as nginx's client_max_body_size does.
	defaultBody = 1 << 20
	// maxBody bounds what a configuration may say: a body is held in memory, and more than once while it is changed.
	maxBody = 1 << 30
	// inlineBody is what is changed on the loop, in bytes: some 0.2 ms (BenchmarkApply). More is left to a goroutine.
	inlineBody = 32 << 10
)

func checkBodyLimit(limit int, report func(path, message string)) {
	if limit < 0 || limit > maxBody {
		report("limit", fmt.Sprintf("%d bytes: 1 to %d", limit, maxBody))
	}
}

func bodyLimit(limit int) int {
	if limit == 0 {
		return defaultBody
	}
	return limit
}

// failure is why a body could not be changed: what the client is told, and with which status if the body was its own, or the
// upstream's.
type failure struct {
	request, response int
	message           string
	why               Refusal
}

// answer tells the client. Nothing of a response that could not be changed is left.
func (f *failure) answer(ctx *fasthttp.RequestCtx, response bool) Result {
	if !response {
		return Refuse(ctx, f.request, f.message, &f.why)
	}
	ctx.Response.Reset()
	Refuse(ctx, f.response, f.message, &f.why)
	return Continue
}

// setBody puts a changed body in the place of the one that came, and takes off the headers that say something of that one. The
// body is copied if copied says so.
func setBody(ctx *fasthttp.RequestCtx, response bool, body []byte, copied bool) {
	if !response {
		h := &ctx.Request.Header
		for _, name := range ofContent {
			h.Del(name)
		}
		if copied {
			ctx.Request.SetBody(body)
		} else {
			ctx.Request.SetBodyRaw(body)
		}
		return
	}
	dropValidators(&ctx.Response.Header)
	if copied {
		ctx.Response.SetBody(body)
	} else {
		ctx.Response.SetBodyRaw(body)
	}
}

// ofContent are the fields about a message's bytes (RFC 9530, and what it replaces); ofRepresentation those by which a client
// asks for it again, or for a part (RFC 9110, sections 8.8 and 14): another configuration would make something else of it.
var (
	ofContent        = [...]string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"}
	ofRepresentation = [...]string{"Etag", "Last-Modified", "Accept-Ranges", "Content-Range"}
)

// askPlain has the upstream answer with the whole, uncoded: what a filter can read. What the client accepts is kept: see
// acceptedBy.
func askPlain(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	if ctx.UserValue(clientAcceptsKey{}) == nil {
		c := clientsAccept.Get().(*clientAccepts)
		c.accepted = acceptedOf(h)
		ctx.SetUserValue(clientAcceptsKey{}, c)
	}
	h.Del("Range")
	h.Del("If-Range")
	h.Set("Accept-Encoding", "identity")
}

// unsizedKey marks a response without a body whose Content-Length is of another one than a GET's would be.
type unsizedKey struct{}

// Unsized says of a response to HEAD, or a 304, that a filter would have changed the body that it is about: no length is known.
func Unsized(ctx *fasthttp.RequestCtx) bool { return ctx.UserValue(unsizedKey{}) != nil }

// unsize says so. changed: the body would have been another one, of which nothing that was said of the first is right.
func unsize(ctx *fasthttp.RequestCtx, changed bool) {
	ctx.SetUserValue(unsizedKey{}, true)
	if changed {
		dropValidators(&ctx.Response.Header)
	}
}

func dropValidators(h *fasthttp.ResponseHeader) {
	for _, name := range ofContent {
		h.Del(name)
	}
	for _, name := range ofRepresentation {
		h.Del(name)
	}
}

// headed says whether a response has no body, but stands for one that would have been changed: it answers HEAD, or is a 304.
func headed(ctx *fasthttp.RequestCtx) bool {
	s := ctx.Response.StatusCode()
	return s == 304 || ctx.Request.Header.IsHead() && s >= 200 && s != 204 && s != 205
}

// coded says that a Content-Encoding has made something else of the body.
func coded(encoding []byte) bool { return len(encoding) > 0 && !h1.EqualFold(encoding, "identity") }

// bodied says whether a response has a body.
func bodied(ctx *fasthttp.RequestCtx) bool {
	s := ctx.Response.StatusCode()
	return !ctx.Request.Header.IsHead() && s >= 200 && s != 204 && s != 205 && s != 304
}

// changer is a filter that changes bodies. change appends what becomes of body: on the loop, or on a goroutine that ctx is left
// to. It may leave the body, by failing with asItCame.
type changer interface {
	change(ctx *fasthttp.RequestCtx, response bool, dst, body []byte) ([]byte, *failure)
}

// changeBody has c change a body on the loop, or if it is large in the pool; wait: without it nobody can wait.
func changeBody(ctx *fasthttp.RequestCtx, response bool, body []byte, c changer, p *pool, wait bool) Result {
	if resume := Resume(ctx); wait && resume != nil && len(body) > inlineBody {
		if !p.do(func() {
			out, fail := c.change(ctx, response, nil, body)
			resume(changed(ctx, response, out, fail, false))
		}) {
			return busy.answer(ctx, response)
		}
		return Wait
	}
	room := rooms.Get().(*[]byte)
	out, fail := c.change(ctx, response, (*room)[:0], body)
	r := changed(ctx, response, out, fail, true)
	if out != nil && cap(out) <= maxRoom {
		*room = out
	}
	rooms.Put(room)
	return r
}

// changed puts out, or why there is none, where the client or the upstream gets it from.
func changed(ctx *fasthttp.RequestCtx, response bool, out []byte, fail *failure, copied bool) Result {
	switch fail {
	case nil:
		setBody(ctx, response, out, copied)
	case &asItCame:
	default:
		return fail.answer(ctx, response)
	}
	return Continue
}

// maxRoom bounds the rooms that are kept, in bytes.
const maxRoom = 2 * inlineBody

var rooms = sync.Pool{New: func() any { return new([]byte) }}

// pool runs what a loop must not: on as many goroutines as there are processors, so that what takes long takes no more than its
// share, and no goroutine when there is nothing to do. Safe for all loops.
type pool struct {
	mu      sync.Mutex // held for some instructions
	running int
	queue   []func()
}

// maxQueue bounds what waits in a pool: behind more than that, nobody's deadline is met.
const maxQueue = 1024

// do runs f; false: too much waits already.
func (p *pool) do(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running < runtime.GOMAXPROCS(0) {
		p.running++
		go p.work(f)
		return true
	}
	if len(p.queue) >= maxQueue {
		return false
	}
	p.queue = append(p.queue, f)
	return true
}

func (p *pool) work(f func()) {
	for {
		f()
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.running, p.queue = p.running-1, nil
			p.mu.Unlock()
			return
		}
		f, p.queue[0] = p.queue[0], nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
	}
}

// asItCame is no failure: the body stays.
var asItCame failure

var busy = failure{503, 503, "too many bodies are being changed", Refusal{"body", "busy"}}
