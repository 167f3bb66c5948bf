package h1

import "bytes"

// keptOut are the names, beside those of every Kind but Other, that no trailer may have: they say how a message is
// routed, authenticated, asked for, cached or answered, which is decided before its end (RFC 9110, section 6.5.1).
var keptOut = []string{"age", "authentication-control", "cache-control", "clear-site-data", "expires", "location", "max-forwards", "pragma",
	"range", "retry-after", "set-cookie", "strict-transport-security", "vary", "warning", "www-authenticate",
	"x-http-method-override"}

// mayTrail says whether a field of this name may come after the body.
func mayTrail(name []byte) bool {
	if KindOf(name) != Other || hasPrefixFold(name, "if-") || hasPrefixFold(name, "proxy-") || hasPrefixFold(name, "access-control-") {
		return false
	}
	for _, s := range keptOut {
		if EqualFold(name, s) {
			return false
		}
	}
	return true
}

func hasPrefixFold(name []byte, lower string) bool {
	return len(name) >= len(lower) && EqualFold(name[:len(lower)], lower)
}

// Trailers are the field lines after a chunked body which may be passed on, each with its CRLF, as they came; nil if
// there are none. They are the Body's own, whole when it is Done. What a trailer must not say (RFC 9110, section 6.5.1) is
// not among them; what the head's Connection nominated is taken out by DropNominated.
func (y *Body) Trailers() []byte {
	if len(y.trailers) == 0 {
		return nil
	}
	return y.trailers
}

// trailer takes what src has of a trailer line, up to its CR, and says how much that was. A line's name is judged when it
// is whole, so that the verdict does not depend on where src ends.
func (y *Body) trailer(src []byte) (int, *Error) {
	n := 0
	if !y.colon {
		for n < len(src) && class[src[n]]&tchar != 0 {
			n++
		}
		y.any = y.any || n > 0
	}
	// The name's end, and then the value.
	colon := !y.colon && y.any && n < len(src) && src[n] == ':'
	nameEnd := n
	if colon {
		n++
	}
	if y.colon || colon {
		for n < len(src) && class[src[n]]&vchar != 0 {
			n++
		}
	}
	end := n < len(src)
	if end && (src[n] != '\r' || !y.colon && !colon) {
		return 0, errTrailer
	}
	seen := n
	if end {
		seen++
	}
	if int64(y.aside)+int64(seen) > maxTrailers {
		return 0, errTrailer
	}
	y.aside += int32(seen)
	if y.trailers == nil {
		y.trailers = make([]byte, 0, 256) // most are a checksum or a status
	}
	if colon {
		y.colon = true
		y.trailers = append(y.trailers, src[:nameEnd]...)
		if y.drop = !mayTrail(y.trailers[y.line:]); y.drop {
			y.trailers = y.trailers[:y.line]
		} else {
			y.trailers = append(y.trailers, src[nameEnd:n]...)
		}
	} else if !y.drop {
		y.trailers = append(y.trailers, src[:n]...)
	}
	if end {
		y.state = trailerLF
		if !y.drop {
			y.trailers = append(y.trailers, "\r\n"...)
			y.line = int32(len(y.trailers))
		}
	}
	return seen, nil
}

// AppendNominated appends the names that Connection nominates, comma-separated, without the options that are no fields'
// names; nothing for most messages. Trailers of these names concern this connection only (RFC 9110, section 7.6.1).
func (h *head) AppendNominated(dst []byte) []byte {
	if h.options == 0 {
		return dst
	}
	for i := range h.Fields {
		if f := &h.Fields[i]; f.Kind == Connection {
			eachOption(h.Value(f), func(token []byte) {
				if !EqualFold(token, "close") && !EqualFold(token, "keep-alive") && !EqualFold(token, "te") && !EqualFold(token, "upgrade") {
					dst = append(append(dst, token...), ',')
				}
			})
		}
	}
	return dst
}

// DropNominated takes the trailers with the names that AppendNominated gave out of those that a Body gave, in place.
func DropNominated(trailers, nominated []byte) []byte {
	if len(nominated) == 0 {
		return trailers
	}
	out := trailers[:0]
	for len(trailers) > 0 {
		end := bytes.IndexByte(trailers, '\n') + 1
		line := trailers[:end]
		trailers = trailers[end:]
		name, drop := line[:bytes.IndexByte(line, ':')], false
		eachOption(nominated, func(token []byte) { drop = drop || equalFold(token, name) })
		if !drop {
			out = append(out, line...)
		}
	}
	return out
}

// AppendLastChunk appends what ends a chunked body: the last chunk, the trailers, which may be nil, and the empty line.
func AppendLastChunk(dst, trailers []byte) []byte {
	dst = append(dst, "0\r\n"...)
	dst = append(dst, trailers...)
	return append(dst, "\r\n"...)
}
