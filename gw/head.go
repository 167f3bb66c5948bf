package gw

import (
	"strconv"

	"sluice/gw/h1"
	"sluice/lb"
)

// Heads as they are forwarded: the fields as they came, without what concerns the other connection only, and with what
// a proxy says of itself.

// via is RFC 9110, section 7.6.3: the version received, and a pseudonym.
var via = [2]string{"Via: 1.0 sluice\r\n", "Via: 1.1 sluice\r\n"}

// ours are the request's fields that the gateway writes itself.
const ours = h1.RequestDrop | 1<<h1.Host | 1<<h1.ContentLength | 1<<h1.RequestID

// appendRequest appends the head for the upstream, of the request in the worker.
func (x *exchange) appendRequest(dst []byte) []byte {
	q := &x.w.req
	dst = append(dst, q.Method...)
	dst = append(dst, ' ')
	dst = append(dst, q.Path...)
	dst = append(dst, q.Query...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, q.Authority...)
	dst = append(dst, "\r\n"...)
	dst = q.AppendFields(dst, ours)
	if a := lb.ClientOf(x.d.conn).Addr(); a.IsValid() {
		dst = append(dst, "X-Forwarded-For: "...)
		dst = a.Unmap().WithZone("").AppendTo(dst)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "X-Forwarded-Proto: http\r\n"...)
	if len(q.Authority) > 0 {
		dst = h1.AppendField(dst, "X-Forwarded-Host", q.Authority)
	}
	dst = h1.AppendField(dst, "X-Request-Id", x.id)
	dst = append(dst, via[q.Minor]...)
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
	x.count(p.Status)
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
		}
		if x.http10 {
			x.closing = true
		} else {
			x.framing = inChunks
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
	if len(x.target.filters) > 0 {
		dst = x.filterResponse(dst, at, length)
	}
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
