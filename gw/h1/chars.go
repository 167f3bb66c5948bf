package h1

// Character classes, by bit.
const (
	tchar    = 1 << iota // RFC 9110, section 5.6.2: token
	vchar                // allowed in a field value: HTAB, SP, visible and obs-text (RFC 9110, section 5.5)
	uchar                // allowed in a request target: visible ASCII but # and \ (and " < > ` { } | ^, which browsers send)
	hostchar             // a registered name or IPv4 address
	pathchar             // needs no look when a path is made canonical
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alnum := b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
		if alnum || contains("!#$%&'*+-.^_`|~", b) {
			t[c] |= tchar
		}
		if b == '\t' || b >= ' ' && b != 0x7f {
			t[c] |= vchar
		}
		if b > ' ' && b < 0x7f && b != '#' && b != '\\' {
			t[c] |= uchar
		}
		if alnum || contains("-._~", b) {
			t[c] |= hostchar
		}
		if t[c]&uchar != 0 && b != '/' && b != '%' && b != '.' && b != ';' {
			t[c] |= pathchar
		}
	}
	return t
}()

func contains(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}

// all says whether every byte of p is of the class.
func all(p []byte, of uint8) bool {
	for _, b := range p {
		if class[b]&of == 0 {
			return false
		}
	}
	return true
}

// unhex is the value of a hexadecimal digit, or -1.
func unhex(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return int(b|0x20-'a') + 10
	}
	return -1
}

// EqualFold compares with a string that is in lower case, over ASCII.
func EqualFold(p []byte, lower string) bool {
	if len(p) != len(lower) {
		return false
	}
	for i, b := range p {
		if b >= 'A' && b <= 'Z' {
			b |= 0x20
		}
		if b != lower[i] {
			return false
		}
	}
	return true
}

// equalFold compares two names, over ASCII.
func equalFold(p, q []byte) bool {
	if len(p) != len(q) {
		return false
	}
	for i, b := range p {
		c := q[i]
		if b >= 'A' && b <= 'Z' {
			b |= 0x20
		}
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if b != c {
			return false
		}
	}
	return true
}
