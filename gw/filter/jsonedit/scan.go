// Package jsonedit changes JSON texts by paths, without decoding them: what is not changed stays as it came, byte for byte, so
// that numbers keep their digits and objects their order.
package jsonedit

import (
	"errors"
	"unicode/utf8"
)

// MaxDepth bounds how deep arrays and objects may be in each other: deeper than any API's, and shallow enough to recur on.
const MaxDepth = 128

// What Check finds.
var (
	ErrSyntax = errors.New("not JSON")
	ErrUTF8   = errors.New("not UTF-8")
	ErrDepth  = errors.New("nested too deep")
)

// Check says whether doc is one JSON text (RFC 8259), strictly: UTF-8 without a byte order mark, no NaN, nothing behind it. Of an
// object's names that are there twice, and of escapes that are half of a character, it says nothing. It allocates nothing.
func Check(doc []byte) error {
	if !utf8.Valid(doc) {
		return ErrUTF8
	}
	end, err := skip(doc, space(doc, 0), 0)
	if err == nil && space(doc, end) != len(doc) {
		err = ErrSyntax
	}
	return err
}

// space is the index of the first byte from i on that is no white space.
func space(doc []byte, i int) int {
	for i < len(doc) && (doc[i] == ' ' || doc[i] == '\n' || doc[i] == '\r' || doc[i] == '\t') {
		i++
	}
	return i
}

// at is the byte at i, or 0, which stands nowhere in JSON.
func at(doc []byte, i int) byte {
	if i < len(doc) {
		return doc[i]
	}
	return 0
}

// skip is the index behind the value that begins at i, in depth others.
func skip(doc []byte, i, depth int) (int, error) {
	switch c := at(doc, i); {
	case c == '"':
		return skipString(doc, i)
	case c == '{' || c == '[':
		return skipNested(doc, i, depth+1)
	case c == '-' || digit(c):
		return skipNumber(doc, i)
	case c == 't':
		return skipWord(doc, i, "true")
	case c == 'f':
		return skipWord(doc, i, "false")
	case c == 'n':
		return skipWord(doc, i, "null")
	}
	return i, ErrSyntax
}

func skipNested(doc []byte, i, depth int) (int, error) {
	if depth > MaxDepth {
		return i, ErrDepth
	}
	object, end := doc[i] == '{', doc[i]+2 // "{}" and "[]" are two apart
	if i = space(doc, i+1); at(doc, i) == end {
		return i + 1, nil
	}
	for {
		var err error
		if object {
			if at(doc, i) != '"' {
				return i, ErrSyntax
			}
			if i, err = skipString(doc, i); err != nil {
				return i, err
			}
			if i = space(doc, i); at(doc, i) != ':' {
				return i, ErrSyntax
			}
			i = space(doc, i+1)
		}
		if i, err = skip(doc, i, depth); err != nil {
			return i, err
		}
		switch i = space(doc, i); at(doc, i) {
		case ',':
			i = space(doc, i+1)
		case end:
			return i + 1, nil
		default:
			return i, ErrSyntax
		}
	}
}

func skipString(doc []byte, i int) (int, error) {
	for i++; ; i++ {
		for i < len(doc) && class[doc[i]] < control {
			i++
		}
		switch at(doc, i) {
		case '"':
			return i + 1, nil
		case '\\':
			i++
			switch at(doc, i) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; unhex(at(doc, i)) < 0 {
						return i, ErrSyntax
					}
				}
			default:
				return i, ErrSyntax
			}
		default:
			return i, ErrSyntax
		}
	}
}

func skipNumber(doc []byte, i int) (int, error) {
	if doc[i] == '-' {
		i++
	}
	switch {
	case at(doc, i) == '0':
		i++
	case digit(at(doc, i)):
		i = digits(doc, i)
	default:
		return i, ErrSyntax
	}
	if at(doc, i) == '.' {
		if i++; !digit(at(doc, i)) {
			return i, ErrSyntax
		}
		i = digits(doc, i)
	}
	if at(doc, i)|0x20 == 'e' {
		if i++; at(doc, i) == '+' || at(doc, i) == '-' {
			i++
		}
		if !digit(at(doc, i)) {
			return i, ErrSyntax
		}
		i = digits(doc, i)
	}
	return i, nil
}

func digits(doc []byte, i int) int {
	for digit(at(doc, i)) {
		i++
	}
	return i
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func skipWord(doc []byte, i int, word string) (int, error) {
	if len(doc)-i < len(word) || string(doc[i:i+len(word)]) != word {
		return i, ErrSyntax
	}
	return i + len(word), nil
}

// skipValid is the index behind the value that begins at i, of a text that has passed Check.
func skipValid(doc []byte, i int) int {
	switch doc[i] {
	case '"':
		return closing(doc, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch doc[i] {
			case '"':
				i = closing(doc, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(doc) && class[doc[i]] == word {
		i++
	}
	return i
}

// closing is the index behind the string that begins at i, of a text that has passed Check.
func closing(doc []byte, i int) int {
	for i++; ; i++ {
		for class[doc[i]] != quoting {
			i++
		}
		if doc[i] == '"' {
			return i + 1
		}
		i++
	}
}

// The classes of bytes: quoting are those that matter in a string, word those that numbers and literals are of.
const (
	other = iota
	word
	control
	quoting
)

var class = func() (t [256]byte) {
	for c := range 0x20 {
		t[c] = control
	}
	for _, c := range "+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = word
	}
	t['"'], t['\\'] = quoting, quoting
	return t
}()
