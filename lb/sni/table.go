package sni

import (
	"fmt"
	"strings"
)

// Table maps host names to values of type T. The zero value is empty. It is immutable once it is in use, and safe for
// all loops then.
type Table[T any] struct {
	exact   map[string]T
	below   map[string]T // *.shop.test as shop.test
	longest int          // key of below, bytes
}

// Add files a value under a host name, or under everything below one: *.shop.test is for a.shop.test and b.a.shop.test,
// not for shop.test.
func (t *Table[T]) Add(pattern string, v T) error {
	name := []byte(pattern)
	lower(name)
	name = trimDot(name)
	suffix, wild := strings.CutPrefix(string(name), "*.")
	if err := checkName([]byte(suffix)); err != nil && !(wild && err == errAddress) {
		return fmt.Errorf("%q is neither a host name nor *. and one: %w", pattern, err)
	}
	names := &t.exact
	if wild {
		names = &t.below
		t.longest = max(t.longest, len(suffix))
	}
	if _, twice := (*names)[suffix]; twice {
		return fmt.Errorf("%q is there twice", pattern)
	}
	if *names == nil {
		*names = map[string]T{}
	}
	(*names)[suffix] = v
	return nil
}

// Find is the value for a host name, in any case: under the name itself, or else under the longest that it is below.
// It allocates nothing.
func (t *Table[T]) Find(name []byte) (v T, ok bool) {
	if len(name) == 0 || len(name) > maxName+1 {
		return v, false
	}
	var room [maxName + 1]byte
	name = room[:copy(room[:], name)]
	lower(name)
	name = trimDot(name)
	if v, ok = t.exact[string(name)]; ok {
		return v, true
	}
	for i, c := range name {
		if c != '.' || i == 0 || len(name)-i-1 > t.longest {
			continue
		}
		if v, ok = t.below[string(name[i+1:])]; ok {
			return v, true
		}
	}
	return v, false
}
