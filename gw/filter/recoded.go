package filter

import (
	"sync"

	"github.com/valyala/fasthttp"
)

// ofOtherBytes are fields that are wrong once a content's bytes have changed: digests (RFC 9530; RFC 3230), and the offer of ranges of
// the bytes that were (RFC 9110, section 14.3).
var ofOtherBytes = [...]string{"Accept-Ranges", "Content-MD5", "Content-Digest", "Repr-Digest", "Digest"}

// recoded makes the fields of a response right for a content that is coded anew: of unknown length, and the same in meaning only, so
// that a strong ETag becomes a weak one (RFC 9110, section 8.8.1).
func recoded(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	for _, name := range ofOtherBytes {
		h.Del(name)
	}
	h.SetContentLength(-1)
	weaken(h)
}

// weaken makes a strong ETag weak.
func weaken(h *fasthttp.ResponseHeader) {
	if tag := h.Peek("ETag"); len(tag) > 0 && tag[0] == '"' {
		room := tags.Get().(*[]byte)
		*room = append(append((*room)[:0], "W/"...), tag...)
		h.SetBytesV("ETag", *room)
		tags.Put(room)
	}
}

var tags = sync.Pool{New: func() any { return new([]byte) }}

// noTransform says that a message's Cache-Control forbids to change its content (RFC 9111, sections 5.2.1.6 and 5.2.2.6).
func noTransform(cacheControl [][]byte) bool {
	for _, v := range cacheControl {
		for len(v) > 0 {
			var member []byte
			if member, v = nextMember(v); equalFold(member, "no-transform") {
				return true
			}
		}
	}
	return false
}
