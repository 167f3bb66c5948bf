package h1

import "strconv"

// How a body is framed.
const (
	noBody = iota
	byLength
	byChunks
	byClose
)

// states of the chunk reader
const (
	chunkSize = iota
	chunkExt
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerStart
	trailerLine
	trailerLF
	endLF
)

// Bounds on what a chunked body may carry beside its data.
const (
	maxChunkLine = 4 << 10
	maxTrailers  = 8 << 10
)

// Body tells a message's body from what follows it, across any number of calls. The zero value has no body.
type Body struct {
	left  int64 // of the body or of the chunk
	aside int32 // bytes of this chunk line, or of the trailers
	kind  uint8
	state uint8
	any   bool // the chunk line has digits; the trailer line has bytes
	colon bool // the trailer line has a name
	drop  bool // the trailer line is not passed on
	done  bool

	line     int32  // where the trailer line begins in trailers
	trailers []byte // what is passed on; allocated when trailers come
}

// NoBody, LengthBody, ChunkedBody and CloseBody begin a body; the last ends with its connection.
func NoBody() Body { return Body{done: true} }

// LengthBody is a body of n bytes.
func LengthBody(n int64) Body { return Body{kind: byLength, left: n, done: n == 0} }

// ChunkedBody is a body in the chunked coding (RFC 9112, section 7.1).
func ChunkedBody() Body { return Body{kind: byChunks} }

// CloseBody is a body that ends when its sender closes.
func CloseBody() Body { return Body{kind: byClose} }

// Done says that the body is complete.
func (y *Body) Done() bool { return y.done }

// Left is what a body of known length still lacks; -1 if it is not known.
func (y *Body) Left() int64 {
	if y.kind == byLength || y.kind == noBody {
		return y.left
	}
	return -1
}

// Skip accounts for n bytes, at most Left, of a body by length that were passed on unseen.
func (y *Body) Skip(n int64) {
	if n > y.left || y.kind != byLength {
		panic("BUG: more is skipped than the body has")
	}
	y.left -= n
	y.done = y.left == 0
}

// Chunked says that the body is framed in chunks.
func (y *Body) Chunked() bool { return y.kind == byChunks }

// UntilClose says that the body ends with its connection.
func (y *Body) UntilClose() bool { return y.kind == byClose }

// EOF tells the body that its connection has ended: true if that completes it.
func (y *Body) EOF() bool {
	if y.kind == byClose {
		y.done = true
	}
	return y.done
}

// Next takes body bytes off the front of src: data is the content, decoded in place, rest what follows the body and is
// empty unless it is done. An error is a *Error.
func (y *Body) Next(src []byte) (data, rest []byte, err error) {
	switch {
	case y.done:
		return nil, src, nil
	case y.kind == byClose:
		return src, nil, nil
	case y.kind == byLength:
		if int64(len(src)) < y.left {
			y.left -= int64(len(src))
			return src, nil, nil
		}
		n := y.left
		y.left, y.done = 0, true
		return src[:n], src[n:], nil
	}
	return y.chunks(src)
}

// chunks decodes in place: the content moves down over the framing.
func (y *Body) chunks(src []byte) (data, rest []byte, err error) {
	out := 0
	for i := 0; i < len(src); {
		b := src[i]
		switch y.state {
		case chunkSize:
			if d := unhex(b); d >= 0 {
				if y.left >= 1<<55 {
					return nil, nil, errChunkLarge
				}
				y.left, y.any = y.left<<4|int64(d), true
				if y.aside++; y.aside > 64 { // leading zeros without end
					return nil, nil, errChunkLarge
				}
				break
			}
			switch {
			case !y.any:
				return nil, nil, errChunk
			case b == '\r':
				y.state = chunkSizeLF
			case b == ';':
				y.state = chunkExt
			default:
				return nil, nil, errChunk
			}
		case chunkExt:
			// Extensions are dropped, as any recipient may (RFC 9112, section 7.1.1).
			if y.aside++; y.aside > maxChunkLine {
				return nil, nil, errChunkLarge
			}
			if b == '\r' {
				y.state = chunkSizeLF
			} else if class[b]&vchar == 0 {
				return nil, nil, errChunk
			}
		case chunkSizeLF:
			if b != '\n' {
				return nil, nil, errChunk
			}
			y.any, y.aside = false, 0
			if y.state = chunkData; y.left == 0 {
				y.state = trailerStart
			}
		case chunkData:
			n := int(min(y.left, int64(len(src)-i)))
			if out != i {
				copy(src[out:], src[i:i+n])
			}
			out += n
			i += n
			if y.left -= int64(n); y.left == 0 {
				y.state = chunkDataCR
			}
			continue
		case chunkDataCR:
			if b != '\r' {
				return nil, nil, errChunk
			}
			y.state = chunkDataLF
		case chunkDataLF:
			if b != '\n' {
				return nil, nil, errChunk
			}
			y.state = chunkSize
		case trailerStart:
			if b == '\r' {
				y.state = endLF
				break
			}
			y.colon, y.any, y.drop = false, false, false
			y.state = trailerLine
			continue
		case trailerLine:
			n, err := y.trailer(src[i:])
			if err != nil {
				return nil, nil, err
			}
			i += n
			continue
		case trailerLF:
			if b != '\n' {
				return nil, nil, errTrailer
			}
			y.state = trailerStart
		case endLF:
			if b != '\n' {
				return nil, nil, errTrailer
			}
			y.done = true
			return src[:out], src[i+1:], nil
		}
		i++
	}
	return src[:out], nil, nil
}

// AppendChunk appends data as one chunk; nothing for empty data, which would end the body.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = strconv.AppendInt(dst, int64(len(data)), 16)
	dst = append(dst, "\r\n"...)
	dst = append(dst, data...)
	return append(dst, "\r\n"...)
}
