package gw

import (
	"encoding/hex"
	"strconv"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
	"sluice/gw/h1"
)

// reply answers in place of an upstream. The filters that have seen the request see the answer, too: a page of another origin can
// only read of a failure what CORS lets it.
func (x *exchange) reply(status int, message string) {
	if x.ran > 0 {
		x.replyFiltered(status, message)
		return
	}
	x.closing = !x.keepAlive()
	x.answer(status, appendReply(x.w.out[:0], x.w.loop.Date(), status, message, x.id, x.closing, x.http10, x.toHEAD))
}

// replyFiltered is reply, after the response phase of the filters, but for those that are for an upstream's bodies.
func (x *exchange) replyFiltered(status int, message string) {
	x.closeTransforms()
	r := &x.ctx.Response
	r.Reset()
	r.Header.SetNoDefaultContentType(true)
	r.Header.SetContentType("application/json")
	r.SetStatusCode(status)
	if status == 503 {
		r.Header.Set("Retry-After", "1")
	}
	r.SetBodyRaw(appendMessage(nil, status, message, x.id))
	for i := x.ran - 1; i >= 0; i-- {
		f := x.target.filters[i]
		if _, ok := f.(filter.ResponseBody); !ok {
			f.Response(x.ctx)
		}
	}
	x.answerFiltered(0)
}

// answer sends a whole response of our own, which closes by x.closing, and ends the exchange when it is out.
func (x *exchange) answer(status int, response []byte) {
	x.headed = false
	x.leave()
	x.w.out = response
	x.headed, x.response, x.framing = true, h1.NoBody(), asIs
	x.count(status)
	if len(x.toClient) > 0 { // interim responses that the client has not read
		x.toClient = x.w.loop.AppendBuffer(x.toClient, response)
		x.wrote = true
		x.download()
		return
	}
	if x.pass(response) && len(x.toClient) == 0 {
		x.finish()
	}
}

// appendReply appends a whole response of our own: a short JSON body with the request's id.
func appendReply(dst, date []byte, status int, message string, id []byte, closing, http10, toHEAD bool) []byte {
	dst = appendStatus(dst, status)
	dst = append(dst, "Date: "...)
	dst = append(dst, date...)
	dst = append(dst, "\r\nContent-Type: application/json\r\n"...)
	dst = appendConnection(dst, closing, http10)
	if status == 405 {
		dst = append(dst, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	if status == 503 {
		dst = append(dst, "Retry-After: 1\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	const frame = len(`{"status":503,"error":"","request_id":""}` + "\n")
	dst = strconv.AppendInt(dst, int64(frame+len(message)+len(id)), 10)
	dst = append(dst, "\r\n\r\n"...)
	if toHEAD {
		return dst
	}
	return appendMessage(dst, status, message, id)
}

// appendMessage appends the body.
func appendMessage(dst []byte, status int, message string, id []byte) []byte {
	dst = append(dst, "{\"status\":"...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `,"error":"`...)
	dst = append(dst, message...) // ours: nothing to escape
	dst = append(dst, `","request_id":"`...)
	dst = append(dst, id...)
	return append(dst, "\"}\n"...)
}

func appendStatus(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, fasthttp.StatusMessage(status)...)
	return append(dst, "\r\n"...)
}

// newID appends a fresh request id: 128 random bits in hex.
func (w *worker) newID(dst []byte) []byte {
	var b [16]byte
	for i, u := 0, w.rand.Uint64(); i < 8; i, u = i+1, u>>8 {
		b[i] = byte(u)
	}
	for i, u := 8, w.rand.Uint64(); i < 16; i, u = i+1, u>>8 {
		b[i] = byte(u)
	}
	return hex.AppendEncode(dst, b[:])
}
