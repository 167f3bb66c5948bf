package route

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"sluice/gw/h1"
)

// kind is what a condition is about.
type kind uint8

const (
	header kind = iota
	query
	cookie
)

func (k kind) String() string { return [...]string{"header", "query parameter", "cookie"}[k] }

// condition is a Condition, ready for use.
type condition struct {
	kind   kind
	name   string // a header's in lower case
	value  string
	equals bool           // to value
	regexp *regexp.Regexp // or like this; with neither, any value will do
	absent bool           // there must be none
}

func newCondition(k kind, c Condition, compile func(pattern, flags string) (*regexp.Regexp, error)) (out condition, err error) {
	out = condition{kind: k, name: c.Name, absent: c.Present != nil && !*c.Present}
	if k == header {
		out.name = strings.ToLower(c.Name)
	}
	if c.Value != nil {
		out.equals, out.value = true, *c.Value
	}
	if c.Regexp != nil {
		out.regexp, err = compile(*c.Regexp, "")
	}
	return out, err
}

// accepts says whether one occurrence with such a value is enough.
func (c *condition) accepts(value []byte) bool {
	switch {
	case c.equals:
		return string(value) == c.value
	case c.regexp != nil:
		return c.regexp.Match(value)
	}
	return true
}

func (c *condition) holds(l *lookup) bool {
	found := false
	c.each(l, func(value []byte) bool {
		found = c.accepts(value)
		return !found
	})
	return found != c.absent
}

// each yields the values of what has the condition's name, until it is told false. A value is for the call only.
func (c *condition) each(l *lookup, yield func(value []byte) bool) {
	switch c.kind {
	case header:
		for i := range l.q.Fields {
			if f := &l.q.Fields[i]; h1.EqualFold(l.q.Name(f), c.name) && !yield(l.q.Value(f)) {
				return
			}
		}
	case query:
		left := bytes.TrimPrefix(l.q.Query, questionMark)
		for len(left) > 0 {
			var pair []byte
			pair, left = cut(left, '&')
			name, value := cut(pair, '=')
			if string(l.decoded(name)) == c.name && !yield(l.decoded(value)) {
				return
			}
		}
	case cookie:
		for i := range l.q.Fields {
			if f := &l.q.Fields[i]; f.Kind == h1.Cookie && !c.eachCookie(l.q.Value(f), yield) {
				return
			}
		}
	}
}

var questionMark = []byte("?")

// eachCookie yields from one line of Cookie; false: yield said so.
func (c *condition) eachCookie(line []byte, yield func(value []byte) bool) bool {
	for len(line) > 0 {
		var pair []byte
		pair, line = cut(line, ';')
		eq := bytes.IndexByte(pair, '=')
		if eq >= 0 && string(trim(pair[:eq])) == c.name && !yield(trim(pair[eq+1:])) {
			return false
		}
	}
	return true
}

// cut is what is before the first sep, and what after it.
func cut(b []byte, sep byte) (before, after []byte) {
	if i := bytes.IndexByte(b, sep); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// decoded is raw itself if there is nothing to decode, else in l's room until the next call.
func (l *lookup) decoded(raw []byte) []byte {
	if !slices.Contains(raw, '%') && !slices.Contains(raw, '+') {
		return raw
	}
	out := l.c.room[:0]
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		switch {
		case b == '+':
			b = ' '
		case b == '%' && i+2 < len(raw) && unhex[raw[i+1]] >= 0 && unhex[raw[i+2]] >= 0:
			b = byte(unhex[raw[i+1]])<<4 | byte(unhex[raw[i+2]])
			i += 2
		}
		out = append(out, b)
	}
	l.c.room = out
	return out
}

// unhex is the value of a hexadecimal digit, or -1.
var unhex = func() (t [256]int8) {
	for i := range t {
		t[i] = int8(strings.IndexByte("0123456789abcdef", byte(i)))
		if t[i] < 0 {
			t[i] = int8(strings.IndexByte("0123456789ABCDEF", byte(i)))
		}
	}
	return t
}()
