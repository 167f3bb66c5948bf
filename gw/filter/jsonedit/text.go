package jsonedit

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

func unhex(c byte) rune {
	switch {
	case digit(c):
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}

// AppendText appends what the string s, in its quotes, stands for. Half of a character is U+FFFD, as most decoders have it.
func AppendText(dst, s []byte) []byte {
	s = s[1 : len(s)-1]
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(s)
			s = s[4:]
			if utf16.IsSurrogate(r) {
				if low := s; len(low) >= 6 && low[0] == '\\' && low[1] == 'u' {
					if whole := utf16.DecodeRune(r, hex4(low[2:])); whole != utf8.RuneError {
						dst, s = utf8.AppendRune(dst, whole), s[6:]
						continue
					}
				}
				r = utf8.RuneError
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
}

func hex4(s []byte) (r rune) {
	for _, c := range s[:4] {
		r = r<<4 | unhex(c)
	}
	return r
}

// AppendString appends s as a JSON string.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	return append(AppendEscaped(dst, s), '"')
}

// AppendEscaped appends s as it stands between the quotes of a JSON string: what is not UTF-8 in it is U+FFFD, and what could
// end a script or a line of JavaScript is escaped too.
func AppendEscaped[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c == '\n':
				dst = append(dst, '\\', 'n')
			case c == '\r':
				dst = append(dst, '\\', 'r')
			case c == '\t':
				dst = append(dst, '\\', 't')
			case c < 0x20 || c == 0x7f || c == '<':
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				dst = append(dst, c)
			}
			continue
		}
		var room [utf8.UTFMax]byte
		n := copy(room[:], s[i:])
		r, size := utf8.DecodeRune(room[:n])
		i += size
		if r == '\u2028' || r == '\u2029' {
			dst = append(dst, '\\', 'u', '2', '0', '2', hex[r&15])
			continue
		}
		dst = utf8.AppendRune(dst, r) // RuneError for what is none
	}
	return dst
}
