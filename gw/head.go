package gw

import (
	"bytes"
	"strconv"
	"time"

	"sluice/gw/h1"
)

// Heads as they are forwarded: the fields as they came, without what concerns the other connection only, and with what
// a proxy says of itself.

// via is RFC 9110, section 7.6.3: the version received, and a pseudonym.
var via = [2]string{"Via: 1.0 sluice\r\n", "Via: 1.1 sluice\r\n"}

// ours are the request's fields that the gateway writes itself.
const ours = h1.RequestDrop | 1<<h1.Host | 1<<h1.ContentLength | 1<<h1.RequestID | 1<<h1.Deadline | 1<<h1.GRPCDeadline

// appendRequest appends the head for the upstream, of the request in the worker, but for what appendRequestEnd ends it with.
func (x *exchange) appendRequest(dst []byte) []byte {
	q := &x.w.req
	dst = append(dst, q.Method...)
	dst = append(dst, ' ')
	dst = append(dst, q.Path...)
	dst = append(dst, q.Query...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, q.Authority...)
	dst = append(dst, "\r\n"...)
	drop := ours
	if x.chunked {
		drop &^= 1 << h1.Trailer // what it announces is passed on
	}
	dst = q.AppendFields(dst, drop)
	dst = x.appendIdentity(dst)
	dst = h1.AppendField(dst, "X-Request-Id", x.id)
	return append(dst, via[q.Minor]...)
}

// appendRequestEnd ends the head: with what no filter changes.
func (x *exchange) appendRequestEnd(dst []byte) []byte {
	q := &x.w.req
	switch {
	case len(x.offer) > 0:
		dst = append(dst, "Connection: upgrade\r\nUpgrade: "...)
		dst = append(dst, x.offer...)
		dst = append(dst, "\r\n"...)
	case x.trailers:
		dst = append(dst, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	dst = x.appendTimeout(dst)
	return appendFraming(dst, q.Length, q.Chunked)
}

// appendFraming ends a head: with how the body is framed, length -1 for no Content-Length, and the empty line.
func appendFraming(dst []byte, length int64, chunked bool) []byte {
	if chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	} else if length >= 0 {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, length, 10)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// maxID bounds the request ids that are taken over.
const maxID = 128

// requestID appends the request's id: the client's, if it is one that can go into logs and headers as it is, or a new
// one.
func (w *worker) requestID(dst []byte) []byte {
	var id []byte
	for i := range w.req.Fields {
		if f := &w.req.Fields[i]; f.Kind == h1.RequestID {
			if id != nil {
				return w.newID(dst) // two: whose is it?
			}
			id = w.req.Value(f)
		}
	}
	if len(id) == 0 || len(id) > maxID {
		return w.newID(dst)
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' && c != '.' && c != ':' &&
			c != '/' && c != '+' && c != '=' {
			return w.newID(dst)
		}
	}
	return append(dst, id...)
}

// appendResponse appends the head for the client, of the final response in the worker, and begins its body.
func (x *exchange) appendResponse(dst []byte) []byte {
	p := &x.w.resp
	if !p.KeepAlive() {
		x.up.unsound = true
	}
	drop := h1.ResponseDrop
	length := p.Length
	x.framing = asIs
	x.closing = !x.keepAlive()
	switch {
	case p.Bodiless(x.toHEAD):
		x.response = h1.NoBody()
		if p.Status == 204 { // which has no length either (RFC 9110, section 8.6)
			drop |= 1 << h1.ContentLength
			length = -1
		}
	case !p.Chunked && length >= 0:
		x.response = h1.LengthBody(length)
	default:
		if x.response = h1.CloseBody(); p.Chunked {
			x.response = h1.ChunkedBody()
			x.hopDown = p.AppendNominated(x.hopDown[:0])
		}
		if x.http10 {
			x.closing = true
		} else {
			x.framing = inChunks
			if p.Chunked {
				drop &^= 1 << h1.Trailer // what it announces is passed on
			}
		}
		if x.by.whole > 0 && x.by.unbounded && eventStream(p.Get("content-type")) {
			x.by.whole = 0
			x.arm()
		}
	}
	at := len(dst)
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(p.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, p.Reason...)
	dst = append(dst, "\r\n"...)
	dst = p.AppendFields(dst, drop)
	if !p.Dated() {
		dst = h1.AppendField(dst, "Date", x.w.loop.Date())
	}
	if s := x.cl.Sticky(); s != nil && x.ep != x.kept {
		dst = s.AppendSetCookie(dst, x.ep, time.Now())
	}
	if len(x.target.filters) > 0 {
		if dst = x.filterResponse(dst, at, length); x.responseWhole > 0 {
			return dst
		}
	}
	x.count(p.Status)
	dst = appendConnection(dst, x.closing, x.http10)
	return appendFraming(dst, -1, x.framing == inChunks)
}

// appendConnection appends what the client has to be told: HTTP/1.0 that the connection lives on, HTTP/1.1 that it does
// not (RFC 9112, section 9.3).
func appendConnection(dst []byte, closing, http10 bool) []byte {
	switch {
	case closing:
		return append(dst, "Connection: close\r\n"...)
	case http10:
		return append(dst, "Connection: keep-alive\r\n"...)
	}
	return dst
}

// eventStream says that the response goes on for as long as there are events (HTML, section 9.2).
func eventStream(contentType []byte) bool {
	name, _, _ := bytes.Cut(contentType, []byte(";"))
	return h1.EqualFold(bytes.TrimSpace(name), "text/event-stream")
}

// appendSwitch appends the 101 response in the worker, which the client has asked for.
func (x *exchange) appendSwitch(dst []byte) []byte {
	p := &x.w.resp
	dst = append(dst, "HTTP/1.1 101 "...)
	dst = append(dst, p.Reason...)
	dst = append(dst, "\r\nConnection: upgrade\r\nUpgrade: "...)
	dst = append(dst, x.offer...)
	dst = append(dst, "\r\n"...)
	dst = p.AppendFields(dst, h1.ResponseDrop|1<<h1.ContentLength)
	return append(dst, "\r\n"...)
}

// established answers CONNECT (RFC 9110, section 9.3.6).
const established = "HTTP/1.1 200 Connection established\r\nVia: 1.1 sluice\r\n\r\n"

// appendInterim appends a 1xx response.
func appendInterim(dst []byte, p *h1.Response) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(p.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, p.Reason...)
	dst = append(dst, "\r\n"...)
	dst = p.AppendFields(dst, h1.ResponseDrop|1<<h1.ContentLength)
	return append(dst, "\r\n"...)
}
