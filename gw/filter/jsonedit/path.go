package jsonedit

import (
	"errors"
	"fmt"
	"strings"
)

// Path leads to a value: names of objects' members, indices of arrays' elements, from the outermost on.
type Path []Segment

// Segment is one step: a name, which for an array is an index in decimal; or every one.
type Segment struct {
	Name  string
	Every bool
}

// maxPath bounds a path's steps: each is another look at what is inside.
const maxPath = 16

// ParsePath reads a.b.0.c: between dots are names or, for arrays, indices; * is every member or element. A backslash takes the
// next character as it is: a\.b is one name, and \* is a star.
func ParsePath(s string) (p Path, err error) {
	var b strings.Builder
	escaped := false
	end := func() error {
		if b.Len() == 0 {
			return fmt.Errorf("%q: a name is missing", s)
		}
		p = append(p, Segment{Name: b.String(), Every: b.String() == "*" && !escaped})
		b.Reset()
		escaped = false
		return nil
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '.':
			if err := end(); err != nil {
				return nil, err
			}
			continue
		case '\\':
			if i++; i == len(s) {
				return nil, fmt.Errorf("%q: nothing follows the backslash", s)
			}
			escaped = true
		}
		b.WriteByte(s[i])
	}
	if err := end(); err != nil {
		return nil, err
	}
	if len(p) > maxPath {
		return nil, errors.New("a path has at most 16 steps")
	}
	return p, nil
}

// index says that a name is one of an array's elements, too.
func index(name string) bool {
	for i := range len(name) {
		if !digit(name[i]) {
			return false
		}
	}
	return name == "0" || name[0] != '0'
}

// Find is the value in doc, which has passed Check, that p leads to: as it stands there, of members with the same name the
// last; nil if there is none. Every finds nothing. A name with an escape in doc costs an allocation if it is longer than 64 bytes.
func Find(doc []byte, p Path) []byte {
	i := space(doc, 0)
	for _, s := range p {
		switch at(doc, i) {
		case '{':
			i = member(doc, i, s)
		case '[':
			i = element(doc, i, s)
		default:
			return nil
		}
		if i < 0 {
			return nil
		}
	}
	return doc[i:skipValid(doc, i)]
}

// member is where the value of the object's last member of that name begins; -1: nowhere.
func member(doc []byte, i int, s Segment) int {
	found := -1
	var room [64]byte
	for i = space(doc, i+1); doc[i] != '}'; i = next(doc, i) {
		end := skipValid(doc, i)
		name := nameOf(room[:0], doc[i:end])
		i = space(doc, space(doc, end)+1)
		if string(name) == s.Name && !s.Every {
			found = i
		}
		i = skipValid(doc, i)
	}
	return found
}

func element(doc []byte, i int, s Segment) int {
	if s.Every || !index(s.Name) {
		return -1
	}
	n := 0
	for i = space(doc, i+1); doc[i] != ']'; n++ {
		if isIndex(n, s.Name) {
			return i
		}
		i = next(doc, skipValid(doc, i))
	}
	return -1
}

// isIndex compares without allocating.
func isIndex(n int, name string) bool {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] != byte('0'+n%10) {
			return false
		}
		n /= 10
	}
	return n == 0
}

// next is the index of what follows a member or an element that ends at i: the next one, or the bracket.
func next(doc []byte, i int) int {
	if i = space(doc, i); doc[i] == ',' {
		i = space(doc, i+1)
	}
	return i
}

// nameOf is what a member's name, in its quotes, stands for: room is used if there are escapes in it.
func nameOf(room, s []byte) []byte {
	for _, c := range s {
		if c == '\\' {
			return AppendText(room, s)
		}
	}
	return s[1 : len(s)-1]
}
