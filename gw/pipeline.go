package gw

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
	"sluice/gw/h1"
)

// The filters of a route see heads as fasthttp's types. fasthttp parses what the gateway wrote itself, after the strict
// scanner; and what filters make of it is written by the gateway again.

// parser is what a worker reads heads with.
type parser struct {
	src    bytes.Reader
	buf    *bufio.Reader
	cookie []byte // the request's cookies before the filters
	raw    []byte // the head before the filters
}

// parserRoom holds any head within the limits, and what the gateway adds to it.
const parserRoom = 128 << 10

func (r *parser) reset(head []byte) *bufio.Reader {
	r.src.Reset(head)
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(&r.src, parserRoom)
	}
	r.buf.Reset(&r.src)
	return r.buf
}

// readHead has fasthttp parse the head in the worker's out, for the filters.
func (x *exchange) readHead() error {
	w := x.w
	if x.ctx == nil {
		x.ctx = &fasthttp.RequestCtx{}
		x.ctx.Init2(nil, nil, false)
	}
	ctx := x.ctx
	ctx.Request.Reset()
	ctx.Response.Reset()
	ctx.ResetUserValues()
	if x.target.wantsMatched {
		x.showMatched(ctx)
	}
	if a := x.client; a.IsValid() {
		x.ip = a.Addr().As16()
		x.remote = net.TCPAddr{IP: x.ip[:], Port: int(a.Port())}
		ctx.SetRemoteAddr(&x.remote)
	} else {
		ctx.SetRemoteAddr(nil) // of a UNIX socket
	}
	w.out = append(w.out, "\r\n"...)
	if err := ctx.Request.Header.Read(w.parser.reset(w.out)); err != nil {
		return err
	}
	ctx.Response.Header.SetNoDefaultContentType(true)
	w.parser.cookie = append(w.parser.cookie[:0], ctx.Request.Header.Peek("Cookie")...)
	return nil
}

// filtering is what an exchange has of its route's filters.
type filtering struct {
	ran           int                 // filters that have seen the request
	resumeFilters func(filter.Result) // goes on after a wait, from any goroutine; kept over lives
	remote        net.TCPAddr         // the client, as the filters see it
	ip            [16]byte
	transforms    []filter.Transform // that the response's body goes through, in this order
	room          [2][]byte          // what they make of it
	requestWhole  int                // the request's body is collected, of so many bytes at most; 0: it is not
	responseWhole int                // the response's
	wholeBy       int                // the filter that sets the limit
}

// startFilters has the filters see the request, whose head is in the worker's out. data is what is at hand of its body.
func (x *exchange) startFilters(data []byte) {
	if err := x.readHead(); err != nil {
		x.refuse(400, "request head cannot be parsed")
		return
	}
	if x.resumeFilters == nil {
		x.resumeFilters = func(r filter.Result) { x.w.loop.Post(func() { x.resumed(r) }) }
	}
	filter.SetResume(x.ctx, x.resumeFilters)
	x.showCertificate()
	if x.target.calls {
		filter.SetCaller(x.ctx, &x.d.gw.callers[x.w.loop.ID()])
	}
	if x.requestWhole, x.wholeBy = x.target.requestBody(x.ctx); x.requestWhole > 0 && (!x.body.Done() || len(data) > 0) {
		x.collect(data)
		return
	}
	x.filter(0, data)
}

// filter has the filters from the i-th on see the request, and then it goes on its way.
func (x *exchange) filter(i int, data []byte) {
	for ; i < len(x.target.filters); i++ {
		x.ran = i + 1
		switch x.target.filters[i].Request(x.ctx) {
		case filter.Answer:
			x.filterAnswer(i)
			return
		case filter.Wait:
			x.standBy(i+1, data)
			return
		}
		if i == x.target.idBy {
			x.id = append(x.id[:0], x.ctx.Request.Header.Peek("X-Request-Id")...)
		}
	}
	x.countShadowed()
	w := x.w
	if x.requestWhole > 0 {
		if body := x.ctx.Request.Body(); len(body) > 0 || w.req.Chunked || w.req.Length >= 0 {
			// It is whole, and the filters may have made another one of it.
			w.req.Chunked, w.req.Length, x.chunked = false, int64(len(body)), false
			x.received, data = 0, body
		}
	}
	w.out, w.parser.raw = x.appendFiltered(w.parser.raw[:0]), w.out
	x.dispatch(data)
}

// endFilters tells the filters that have seen the request that its exchange has ended.
func (x *exchange) endFilters() {
	x.closeTransforms()
	if x.ran == 0 {
		return
	}
	defer x.ctx.ResetUserValues() // those that are io.Closers are closed
	if !x.target.ends {
		return
	}
	for i := x.ran - 1; i >= 0; i-- {
		if f, ok := x.target.filters[i].(filter.Ender); ok {
			f.End(x.ctx)
		}
	}
}

func (x *exchange) closeTransforms() {
	for _, t := range x.transforms {
		t.Close()
	}
	clear(x.transforms)
	x.transforms = x.transforms[:0]
}

// appendFiltered appends the request's head as the filters left it.
func (x *exchange) appendFiltered(dst []byte) []byte {
	h := &x.ctx.Request.Header
	q := &x.w.req
	dst = append(dst, h.Method()...)
	dst = append(dst, ' ')
	dst = append(dst, h.RequestURI()...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	if len(h.Host()) == 0 {
		dst = append(dst, "Host: \r\n"...)
	}
	cookies := bytes.Equal(h.Peek("Cookie"), x.w.parser.cookie)
	for k, v := range h.All() {
		kind := h1.KindOf(k)
		if framed.Has(kind) || kind == h1.Cookie && cookies {
			continue
		}
		dst = appendFieldBytes(dst, k, v)
	}
	if cookies {
		dst = q.AppendFields(dst, ^h1.Drop(1<<h1.Cookie)) // as they came
	}
	return dst
}

// framed are the fields that decide where a message ends: no filter's to change.
const framed = h1.ResponseDrop | 1<<h1.ContentLength | 1<<h1.Deadline | 1<<h1.GRPCDeadline

func appendFieldBytes(dst, k, v []byte) []byte {
	dst = append(dst, k...)
	dst = append(dst, ": "...)
	dst = append(dst, v...)
	return append(dst, "\r\n"...)
}

// filterAnswer sends ctx.Response, after the response phase of the filters before the one that answered.
func (x *exchange) filterAnswer(by int) {
	ctx := x.ctx
	if r := filter.RefusalOf(ctx); r != nil {
		x.refused(&x.d.gw.stats.refused, r, ctx.Response.StatusCode(), "request refused")
	}
	x.countShadowed()
	for i := by - 1; i >= 0; i-- {
		x.target.filters[i].Response(ctx)
	}
	x.answerFiltered(by)
}

// countShadowed counts what a filter in shadow mode would have refused.
func (x *exchange) countShadowed() {
	if x.target.shadows {
		if r := filter.Shadowed(x.ctx); r != nil {
			x.refused(&x.d.gw.stats.shadowed, r, 0, "request would have been refused")
		}
	}
}

// refused counts a refusal, and logs it if the last such line is long enough ago. Nothing that the client has sent is in it but its
// request id.
func (x *exchange) refused(all *sync.Map, r *filter.Refusal, status int, message string) {
	if since, ok := refusalOf(all, r).log(x.began); ok {
		log, client, id := x.d.gw.log, x.client.Addr().String(), string(x.ctx.Request.Header.Peek("X-Request-Id"))
		route := x.target.name
		go log.Warn(message, "filter", r.Filter, "reason", r.Reason, "route", route, "client", client, "request_id", id,
			"status", status, "count", since)
	}
}

// answerFiltered sends ctx.Response, whole, after the transforms of the filters before the n-th.
func (x *exchange) answerFiltered(n int) {
	ctx := x.ctx
	status := ctx.Response.StatusCode()
	body := ctx.Response.Body()
	if len(body) > 0 && !x.toHEAD && status != 204 && status != 304 && x.transform(n) {
		var err error
		if body, err = x.transformed(body, true); err != nil {
			x.reply(502, "response body cannot be transformed")
			return
		}
	}
	x.closing = !x.keepAlive()
	dst := appendFilteredResponse(appendStatus(x.w.out[:0], status), &ctx.Response.Header)
	if len(ctx.Response.Header.Peek("Date")) == 0 {
		dst = h1.AppendField(dst, "Date", x.w.loop.Date())
	}
	dst = appendConnection(dst, x.closing, x.http10)
	length := int64(len(body))
	if status == 204 || status == 304 || x.toHEAD && filter.Unsized(ctx) {
		length, body = -1, nil
	}
	dst = appendFraming(dst, length, false)
	if !x.toHEAD {
		dst = append(dst, body...)
	}
	x.answer(status, dst)
}

// filterResponse has the filters see the response, whose status line and fields are dst[at:], and puts there what they
// make of it.
func (x *exchange) filterResponse(dst []byte, at int, length int64) []byte {
	r, ctx := &x.w.parser, x.ctx
	dst = append(dst, "\r\n"...)
	if err := ctx.Response.Header.Read(r.reset(dst[at:])); err != nil {
		// Nothing that the scanner lets pass is known to come here. Unfiltered is not an option: a filter may be
		// there to remove a secret.
		x.up.unsound, x.closing = true, true
		ctx.Response.Header.Reset()
		ctx.Response.SetStatusCode(502)
	}
	ctx.Response.Header.SetNoDefaultContentType(true)
	if !x.response.Done() {
		if x.responseWhole, x.wholeBy = x.target.responseBody(ctx); x.responseWhole > 0 {
			return dst[:at] // when the body is there
		}
	}
	for i := len(x.target.filters) - 1; i >= 0; i-- {
		x.target.filters[i].Response(ctx)
	}
	if !x.response.Done() && x.transform(len(x.target.filters)) {
		length = -1
		if x.http10 {
			x.closing = true
		} else {
			x.framing = inChunks
		}
	}
	status := ctx.Response.StatusCode()
	if (x.toHEAD || status == 304) && filter.Unsized(ctx) {
		length = -1
	}
	dst = append(dst[:at], "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	if p := &x.w.resp; status == p.Status {
		dst = append(dst, p.Reason...)
	} else {
		dst = append(dst, fasthttp.StatusMessage(status)...)
	}
	dst = append(dst, "\r\n"...)
	dst = appendFilteredResponse(dst, &ctx.Response.Header)
	if length >= 0 && x.framing == asIs {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, length, 10)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

func appendFilteredResponse(dst []byte, h *fasthttp.ResponseHeader) []byte {
	for k, v := range h.All() {
		if !framed.Has(h1.KindOf(k)) {
			dst = appendFieldBytes(dst, k, v)
		}
	}
	return dst
}

// transform asks the first n filters for what the response's body is to go through; false: nothing.
func (x *exchange) transform(n int) bool {
	for i := n - 1; i >= 0; i-- {
		if f, ok := x.target.filters[i].(filter.Streamer); ok {
			if t := f.Stream(x.ctx); t != nil {
				x.transforms = append(x.transforms, t)
			}
		}
	}
	return len(x.transforms) > 0
}

// transformed is what becomes of a piece of the response's body; last says that it is the last. It lives until the next one.
func (x *exchange) transformed(b []byte, last bool) ([]byte, error) {
	for i, t := range x.transforms {
		room, err := t.Append(x.room[i%2][:0], b, last)
		if err != nil {
			if r := filter.RefusalOfBody(err); r != nil {
				x.refused(&x.d.gw.stats.refused, r, 502, "response refused")
			}
			return nil, err
		}
		x.room[i%2], b = room, room
	}
	return b, nil
}

// collected: the response's body is whole.
func (x *exchange) collected() {
	x.leave()
	x.responseWhole = 0
	x.headed = false
	x.respond(len(x.target.filters) - 1)
}

// respond has the filters from the i-th down see the response, which is whole, and then it goes out.
func (x *exchange) respond(i int) {
	for ; i >= 0; i-- {
		f, ok := x.target.filters[i].(filter.ResponseWaiter)
		if !ok {
			x.target.filters[i].Response(x.ctx)
			continue
		}
		if f.ResponseWait(x.ctx) == filter.Wait {
			x.pause = pause{waits: true, back: true, next: i - 1}
			x.by.client = 0
			x.arm()
			return
		}
	}
	if r := filter.RefusalOf(x.ctx); r != nil {
		x.refused(&x.d.gw.stats.refused, r, x.ctx.Response.StatusCode(), "response refused") // it cannot be passed on
	}
	x.answerFiltered(len(x.target.filters))
}
