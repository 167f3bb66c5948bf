package h1

import "unicode/utf8"

// Slashes is what repeated slashes in a path are taken for.
type Slashes string

// The choices. Routes match the path with its slashes made one in each.
const (
	Merge  Slashes = "merge"  // one slash; what is forwarded has one. The default
	Keep   Slashes = "keep"   // themselves, for upstreams that tell them apart; those at the start are made one
	Refuse Slashes = "refuse" // an error: 400
)

// Choices are the values that a file may have.
func (Slashes) Choices() []string { return []string{string(Merge), string(Keep), string(Refuse)} }

// canonical brings a path into the one form that is matched and forwarded (RFC 3986, section 6.2.2): unreserved
// characters decoded, other escapes kept with upper-case digits, dot segments removed, repeated slashes as s says. What
// others may read in two ways is refused: encoded slashes, backslashes and control characters, malformed or
// overlong UTF-8, dot segments that carry parameters, and paths that lead above the root. p begins with "/". The
// result is p itself when there is nothing to do, else it is built in room, which is returned for reuse.
func canonical(p, room []byte, s Slashes) (path, grown []byte, err *Error) {
	if plain(p, s) {
		return p, room, nil
	}
	// Percent-decoding first: dots may be encoded.
	out := room[:0]
	escaped := false // bytes of 0x80 and above came, all encoded
	for i := 0; i < len(p); i++ {
		b := p[i]
		if b != '%' {
			out = append(out, b)
			continue
		}
		if i+2 >= len(p) {
			return nil, out, errPercent
		}
		hi, lo := unhex(p[i+1]), unhex(p[i+2])
		if hi < 0 || lo < 0 {
			return nil, out, errPercent
		}
		c := byte(hi<<4 | lo)
		i += 2
		switch {
		case c < ' ' || c == 0x7f || c == '/' || c == '\\':
			return nil, out, errPathByte
		case class[c]&hostchar != 0: // the unreserved characters (RFC 3986, section 2.3)
			out = append(out, c)
		default:
			escaped = escaped || c >= 0x80
			out = append(out, '%', upperHex[hi], upperHex[lo])
		}
	}
	if escaped && !validUTF8(out) {
		return nil, out, errPathByte
	}
	n, err := removeDots(out, s)
	return out[:n], out, err
}

const upperHex = "0123456789ABCDEF"

// plain says that p is canonical as it is.
func plain(p []byte, s Slashes) bool {
	for i := 0; i < len(p); i++ {
		b := p[i]
		if class[b]&pathchar != 0 {
			continue
		}
		if b == '%' || b == ';' {
			return false
		}
		// A dot is one of a name unless it opens a segment, and so is a slash unless it follows another.
		if i > 0 && p[i-1] == '/' && (b != '/' || i == 1 || s != Keep) {
			return false
		}
	}
	return true
}

// removeDots removes dot segments in place (RFC 3986, section 5.2.4), and empty segments unless they are kept, and returns
// the new length. A kept one is a segment, which ".." removes. At the path's start none is kept: what begins with two
// slashes is a reference to a host, to those who read a target as one (RFC 3986, section 4.2).
func removeDots(p []byte, s Slashes) (int, *Error) {
	n := 0
	for i := 0; i < len(p); {
		// p[i] is a slash; the segment follows.
		j := i + 1
		for j < len(p) && p[j] != '/' {
			j++
		}
		seg := p[i+1 : j]
		last := j == len(p)
		name := seg
		for k, b := range seg {
			if b == ';' || b == '%' && len(seg) > k+2 && seg[k+1] == '3' && seg[k+2] == 'B' {
				name = seg[:k]
				break
			}
		}
		dots := len(name) > 0 && len(name) <= 2 && name[0] == '.' && name[len(name)-1] == '.'
		switch {
		case dots && len(name) < len(seg):
			return 0, errPathDots // "..;x" is ".." to servers that cut parameters off, some of them after decoding
		case dots && len(name) == 2:
			if n == 0 {
				return 0, errPathRoot
			}
			for n--; n > 0 && p[n] != '/'; n-- {
			}
			if last {
				p[n] = '/'
				n++
			}
		case len(seg) == 0 && !last && s == Refuse:
			return 0, errPathSlashes
		case dots || len(seg) == 0:
			if last || n > 0 && !dots && s == Keep {
				p[n] = '/'
				n++
			}
		default:
			p[n] = '/'
			n++
			n += copy(p[n:], seg)
		}
		i = j
	}
	if n == 0 {
		p[0] = '/'
		n = 1
	}
	return n, nil
}

// validUTF8 checks that the escapes of p that stand for bytes from 0x80 on form UTF-8.
func validUTF8(p []byte) bool {
	var seq [utf8.UTFMax]byte
	n := 0
	for i := 0; i <= len(p); i++ {
		c := byte(0)
		if i+2 < len(p) && p[i] == '%' {
			c = byte(unhex(p[i+1])<<4 | unhex(p[i+2]))
			i += 2
		}
		if c < 0x80 {
			if n > 0 {
				return false
			}
			continue
		}
		if n > 0 && utf8.RuneStart(c) {
			return false
		}
		seq[n] = c
		n++
		if utf8.FullRune(seq[:n]) {
			if !utf8.Valid(seq[:n]) {
				return false
			}
			n = 0
		} else if n == utf8.UTFMax {
			return false
		}
	}
	return true
}

// MatchPath is path as routes match it: without the parameters (";v=1") of its segments, which servers cut off before
// they look a path up, and with one slash where Keep has left several, which servers make one. It is path itself if there
// are none, else it is built in room.
func MatchPath(path, room []byte) []byte {
	cut := -1
	for i, b := range path {
		if b == ';' || b == '/' && i > 0 && path[i-1] == '/' {
			cut = i
			break
		}
	}
	if cut < 0 {
		return path
	}
	out := room[:0]
	skip := false
	for _, b := range path {
		switch b {
		case ';':
			skip = true
		case '/':
			skip = false
			if n := len(out); n > 0 && out[n-1] == '/' {
				continue // nothing is left of the segment: "/;x/admin" is "/admin" to those servers
			}
		}
		if !skip {
			out = append(out, b)
		}
	}
	return out
}

// CanonicalPath is the form in which a path is matched; the error says why no request can have it.
func CanonicalPath(path string) (string, error) {
	if path == "" || path[0] != '/' {
		return "", errTargetForm
	}
	if !all([]byte(path), uchar) || contains(path, '?') {
		return "", errTarget
	}
	p, _, err := canonical([]byte(path), nil, Merge)
	if err != nil {
		return "", err
	}
	return string(p), nil
}
