package filter

import (
	"sync"

	"github.com/valyala/fasthttp"
)

// coding is a content coding (RFC 9110, section 8.4.1; RFC 7932; RFC 8878).
type coding uint8

const (
	identity coding = iota
	gzipCoding
	brotliCoding
	zstdCoding
	deflateCoding
	codings // how many there are
)

var codingNames = [codings]string{"identity", "gzip", "br", "zstd", "deflate"}

func (c coding) String() string { return codingNames[c] }

// codingOf reads a coding's name; ok is false if there is none of that name.
func codingOf(name []byte) (c coding, ok bool) {
	for c, s := range codingNames {
		if equalFold(name, s) {
			return coding(c), true
		}
	}
	return gzipCoding, equalFold(name, "x-gzip") // (RFC 9110, section 8.4.1.3)
}

// accepted is how much a client wants each coding, in thousandths: 0, not at all; -1, it does not say.
type accepted [codings]int16

// acceptedOf reads Accept-Encoding (RFC 9110, section 12.5.3). A member that cannot be read says nothing. Of a coding that is named
// twice, the first counts.
func acceptedOf(h *fasthttp.RequestHeader) (a accepted) {
	for i := range a {
		a[i] = -1
	}
	others := int16(-1)
	for _, list := range h.PeekAll("Accept-Encoding") {
		for len(list) > 0 {
			var member []byte
			member, list = nextMember(list)
			name, q, ok := weighted(member)
			if !ok {
				continue
			}
			if string(name) == "*" {
				if others < 0 {
					others = q
				}
			} else if c, known := codingOf(name); known && a[c] < 0 {
				a[c] = q
			}
		}
	}
	for i := range a {
		if a[i] < 0 { // identity too
			a[i] = others
		}
	}
	return a
}

// clientAccepts is what the client accepts, kept where a filter has the upstream told something else.
type clientAccepts struct{ accepted }

type clientAcceptsKey struct{}

var clientsAccept = sync.Pool{New: func() any { return &clientAccepts{} }}

// Close gives it back; fasthttp calls it when the context's values are reset.
func (c *clientAccepts) Close() error {
	clientsAccept.Put(c)
	return nil
}

// acceptedBy is what the client accepts, whatever the filters before have made of it for the upstream.
func acceptedBy(ctx *fasthttp.RequestCtx) accepted {
	if c, ok := ctx.UserValue(clientAcceptsKey{}).(*clientAccepts); ok {
		return c.accepted
	}
	return acceptedOf(&ctx.Request.Header)
}

// best is the coding of order that the client wants most, the first of equals; identity if it wants none, or wants the content as
// it is more.
func (a *accepted) best(order []coding) coding {
	best := identity
	q := max(a[identity], 0)
	for _, c := range order {
		if a[c] > q || best == identity && a[c] == q && q > 0 {
			best, q = c, a[c]
		}
	}
	return best
}

// weighted splits name;q=0.5 (RFC 9110, section 12.4.2); the weight is in thousandths.
func weighted(member []byte) (name []byte, q int16, ok bool) {
	name, q = member, 1000
	for i, c := range member {
		if c == ';' {
			name = trim(member[:i])
			p := trim(member[i+1:])
			if len(p) < 3 || lower(p[0]) != 'q' || p[1] != '=' {
				return nil, 0, false
			}
			if q, ok = weight(p[2:]); !ok {
				return nil, 0, false
			}
			break
		}
	}
	return name, q, len(name) > 0
}

// weight reads a qvalue: 0 or 1, and up to three digits.
func weight(b []byte) (q int16, ok bool) {
	if len(b) > 5 || b[0] != '0' && b[0] != '1' || len(b) > 1 && b[1] != '.' {
		return 0, false
	}
	q = int16(b[0]-'0') * 1000
	for i, unit := 2, int16(100); i < len(b); i, unit = i+1, unit/10 {
		if b[i] < '0' || b[i] > '9' {
			return 0, false
		}
		q += int16(b[i]-'0') * unit
	}
	return q, q <= 1000
}
