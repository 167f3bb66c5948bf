package gw

import (
	"bufio"
	"bytes"
	"net"
	"strconv"

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
	remote net.TCPAddr
	ip     [16]byte
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
		w.parser.ip = a.Addr().As16()
		w.parser.remote = net.TCPAddr{IP: w.parser.ip[:], Port: int(a.Port())}
		ctx.SetRemoteAddr(&w.parser.remote)
	}
	w.out = append(w.out, "\r\n"...)
	if err := ctx.Request.Header.Read(w.parser.reset(w.out)); err != nil {
		return err
	}
	ctx.Response.Header.SetNoDefaultContentType(true)
	w.parser.cookie = append(w.parser.cookie[:0], ctx.Request.Header.Peek("Cookie")...)
	return nil
}

// filterRequest has the filters see the request, whose head is in the worker's out, and puts there what they make of
// it. true: one of them has answered.
func (x *exchange) filterRequest() bool {
	w := x.w
	if err := x.readHead(); err != nil {
		x.refuse(400, "request head cannot be parsed")
		return true
	}
	for i, f := range x.target.filters {
		if f.Request(x.ctx) == filter.Answer {
			x.filterAnswer(i)
			return true
		}
	}
	w.out, w.parser.raw = x.appendFiltered(w.parser.raw[:0]), w.out
	return false
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
	for i := by - 1; i >= 0; i-- {
		x.target.filters[i].Response(ctx)
	}
	status := ctx.Response.StatusCode()
	body := ctx.Response.Body()
	x.closing = !x.keepAlive()
	dst := appendFilteredResponse(appendStatus(x.w.out[:0], status), &ctx.Response.Header)
	if len(ctx.Response.Header.Peek("Date")) == 0 {
		dst = h1.AppendField(dst, "Date", x.w.loop.Date())
	}
	dst = appendConnection(dst, x.closing, x.http10)
	length := int64(len(body))
	if status == 204 || status == 304 {
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
	for i := len(x.target.filters) - 1; i >= 0; i-- {
		x.target.filters[i].Response(ctx)
	}
	status := ctx.Response.StatusCode()
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
