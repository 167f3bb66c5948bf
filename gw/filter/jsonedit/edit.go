package jsonedit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
)

// ErrNotObject: an edit that sets members needs an object to begin with.
var ErrNotObject = errors.New("not an object")

// Edit is a list of changes, all made at once: no path of one may lead through what another changes. Immutable once it is built.
//
// Of members with the same name, of which different readers take different ones, only the last is left where a change leads by
// them, or none. Names are compared as what they stand for, whichever characters are escaped.
type Edit struct{ root node }

// node is what is to be done with one value, or with what is in it.
type node struct {
	names map[string]*node
	every *node // of every member or element; names is empty then

	remove bool
	rename string // empty: not; else its new name
	from   *node  // what is renamed to this one's name
	set    []byte // nil: not

	made []byte   // what is put where there is nothing: set, or an object with what is set in it; nil: nothing
	adds []string // the names with made, in order
}

// Remove removes what the path leads to.
func (e *Edit) Remove(p Path) error {
	n, err := e.root.grow(p)
	if err == nil {
		n.remove = true
	}
	return err
}

// Rename gives a member another name in its object; a member that has that name already goes, if the one to rename is there.
func (e *Edit) Rename(p Path, name string) error {
	if p[len(p)-1].Every || name == "" {
		return errors.New("one name becomes another")
	}
	n, err := e.root.grow(p)
	if err != nil {
		return err
	}
	to := slices.Clone(p)
	to[len(p)-1].Name = name
	n.rename = name
	t, err := e.root.grow(to)
	if err == nil {
		t.from = n
	}
	return err
}

// Set puts a JSON value where the path leads, whatever is there, and makes the objects on the way: in the place of what is no
// object, too. Indices and * stand for what is there only: they make nothing. The outermost value is never replaced.
func (e *Edit) Set(p Path, value []byte) error {
	if err := Check(value); err != nil {
		return err
	}
	n, err := e.root.grow(p)
	if err != nil {
		return err
	}
	n.set = value
	e.root.make()
	return nil
}

// used: something is done with n, so that nothing else can be.
func (n *node) used() bool { return n.remove || n.rename != "" || n.from != nil || n.set != nil }

// grow is the node that p leads to, new.
func (n *node) grow(p Path) (*node, error) {
	for i, s := range p {
		var next *node
		switch {
		case s.Every && len(n.names) > 0 || !s.Every && n.every != nil:
			return nil, errors.New("* and a name lead into the same value")
		case s.Every:
			if n.every == nil {
				n.every = &node{}
			}
			next = n.every
		default:
			if n.names == nil {
				n.names = map[string]*node{}
			}
			if n.names[s.Name] == nil {
				n.names[s.Name] = &node{}
			}
			next = n.names[s.Name]
		}
		if next.used() || i == len(p)-1 && (next.names != nil || next.every != nil) {
			return nil, fmt.Errorf("%s is changed twice", strconv.Quote(s.Name))
		}
		n = next
	}
	return n, nil
}

// make computes made and adds.
func (n *node) make() {
	n.adds, n.made = nil, n.set
	if n.every != nil {
		n.every.make()
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		c := n.names[name]
		if c.make(); c.made != nil && !index(name) {
			n.adds = append(n.adds, name)
		}
	}
	if n.set == nil && len(n.adds) > 0 {
		n.made = append(n.appendAdds([]byte{'{'}, nil, true), '}')
	}
}

// appendAdds appends the members that are missing: not in seen.
func (n *node) appendAdds(dst []byte, seen []*node, first bool) []byte {
	for _, name := range n.adds {
		if c := n.names[name]; !slices.Contains(seen, c) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(AppendString(dst, name), ':')
			dst = append(dst, c.made...)
		}
	}
	return dst
}

// editor is the room of one Apply.
type editor struct {
	doc     []byte
	members []found
	seen    []*node
	name    []byte
}

// found is a member of an object: offsets into the document, and what is to be done with it, nil if nothing.
type found struct {
	name, nameEnd, value, end int
	n                         *node
}

var editors = sync.Pool{New: func() any { return &editor{name: make([]byte, 0, 256)} }}

// maxKept bounds the room, in members, that is kept for the next.
const maxKept = 4096

// Apply appends the changed doc to dst, or says what is wrong with doc: the errors of Check, or ErrNotObject. Any number may run
// at once. It allocates nothing if dst is large enough.
func (e *Edit) Apply(dst, doc []byte) ([]byte, error) {
	if err := Check(doc); err != nil {
		return dst, err
	}
	i := space(doc, 0)
	if e.root.made != nil && doc[i] != '{' {
		return dst, ErrNotObject
	}
	r := editors.Get().(*editor)
	r.doc = doc
	dst, _ = r.append(dst, i, &e.root)
	r.doc = nil
	if cap(r.members) <= maxKept {
		editors.Put(r)
	}
	return dst, nil
}

// append appends what becomes of the value at i, and says where it ends.
func (r *editor) append(dst []byte, i int, n *node) ([]byte, int) {
	end := i
	switch c := r.doc[i]; {
	case n.set != nil:
	case c == '{' && (n.names != nil || n.every != nil):
		return r.appendObject(dst, i, n)
	case c == '[' && n.made == nil && (n.names != nil || n.every != nil):
		return r.appendArray(dst, i, n)
	case n.made == nil:
		end = skipValid(r.doc, i)
		return append(dst, r.doc[i:end]...), end
	}
	return append(dst, n.made...), skipValid(r.doc, i)
}

func (r *editor) appendObject(dst []byte, i int, n *node) ([]byte, int) {
	first, before := len(r.members), len(r.seen)
	end := r.index(i, n)
	last := len(r.members)
	// From the last on, so that of two with a name that is of interest the last is seen first.
	for k := last - 1; k >= first; k-- {
		m := &r.members[k]
		switch {
		case m.n == nil || n.every != nil:
		case m.n.remove || slices.Contains(r.seen[before:], m.n):
			m.end = 0
		default:
			r.seen = append(r.seen, m.n)
		}
	}
	seen := len(r.seen)
	dst = append(dst, '{')
	none := true
	for k := first; k < last; k++ {
		m := r.members[k] // a copy: members may move
		switch {
		case m.end == 0, m.n != nil && (m.n.remove || m.n.from != nil && slices.Contains(r.seen[before:seen], m.n.from)):
			continue
		case !none:
			dst = append(dst, ',')
		}
		none = false
		if m.n != nil && m.n.rename != "" {
			dst = AppendString(dst, m.n.rename)
		} else {
			dst = append(dst, r.doc[m.name:m.nameEnd]...)
		}
		dst = append(dst, ':')
		if m.n == nil {
			dst = append(dst, r.doc[m.value:m.end]...)
		} else {
			dst, _ = r.append(dst, m.value, m.n)
		}
	}
	dst = n.appendAdds(dst, r.seen[before:seen], none)
	r.members, r.seen = r.members[:first], r.seen[:before]
	return append(dst, '}'), end
}

// index puts the members of the object at i at the end of r.members, and says where the object ends.
func (r *editor) index(i int, n *node) int {
	for i = space(r.doc, i+1); r.doc[i] != '}'; {
		m := found{name: i, nameEnd: skipValid(r.doc, i), n: n.every}
		if n.every == nil {
			name := nameOf(r.name[:0], r.doc[i:m.nameEnd])
			m.n = n.names[string(name)]
		}
		m.value = space(r.doc, space(r.doc, m.nameEnd)+1)
		m.end = skipValid(r.doc, m.value)
		r.members = append(r.members, m)
		i = next(r.doc, m.end)
	}
	return i + 1
}

func (r *editor) appendArray(dst []byte, i int, n *node) ([]byte, int) {
	dst = append(dst, '[')
	none := true
	var room [20]byte
	i = space(r.doc, i+1)
	for k := 0; r.doc[i] != ']'; k++ {
		c := n.every
		if c == nil {
			c = n.names[string(strconv.AppendInt(room[:0], int64(k), 10))]
		}
		if c != nil && c.remove {
			i = next(r.doc, skipValid(r.doc, i))
			continue
		}
		if !none {
			dst = append(dst, ',')
		}
		none = false
		if c != nil {
			dst, i = r.append(dst, i, c)
		} else {
			end := skipValid(r.doc, i)
			dst = append(dst, r.doc[i:end]...)
			i = end
		}
		i = next(r.doc, i)
	}
	return append(dst, ']'), i + 1
}
