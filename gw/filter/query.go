package filter

import (
	"fmt"
	"maps"
	"slices"

	"github.com/valyala/fasthttp"
)

// Query changes what the upstream is asked for behind the "?": all at once, what is set replaces every parameter of that name,
// and what is set or added stands at the end, in the order of the names. The others stay as they came, in their order. Parameters
// are what stands between "&" (WHATWG URL, section 5.1), and names are compared as what their escapes and "+" stand for.
//
// A query with which the request line would be longer than one may be is answered with 414.
type Query struct {
	// Set and Add are values by name; {name} in a value is what the route's match has captured.
	Set map[string]string `yaml:"set"`
	Add map[string]string `yaml:"add"`
	// Remove are names.
	Remove []string `yaml:"remove"`
	// Rename are new names by old ones. A parameter that has the new name already goes, if the old one is there.
	Rename map[string]string `yaml:"rename"`
}

// maxRenames is the bits of a word.
const maxRenames = 64

func (f *Query) validate(report func(path, message string)) {
	if len(f.Set)+len(f.Add)+len(f.Remove)+len(f.Rename) == 0 {
		report("", "changes nothing: give set, add, remove or rename")
	}
	for at, m := range map[string]map[string]string{"set": f.Set, "add": f.Add} {
		for name, value := range m {
			if name == "" {
				report(at, "a parameter's name is empty")
			}
			if _, err := parseValue(value); err != nil {
				report(at+"."+name, err.Error())
			}
		}
	}
	if slices.Contains(f.Remove, "") {
		report("remove", "a parameter's name is empty")
	}
	if len(f.Rename) > maxRenames {
		report("rename", fmt.Sprintf("at most %d", maxRenames))
	}
	by := map[string]string{}
	for _, from := range slices.Sorted(maps.Keys(f.Rename)) {
		to := f.Rename[from]
		_, set := f.Set[from]
		switch {
		case from == "" || to == "":
			report("rename", "a parameter's name is empty")
		case set || slices.Contains(f.Remove, from):
			report("rename."+from, "it is set or removed too")
		case from == to:
			report("rename."+from, "is its name already")
		case by[to] != "":
			report("rename."+from, fmt.Sprintf("%s becomes %s too", by[to], to))
		}
		by[to] = from
	}
}

// validateMatch reports the places for which the route captures nothing.
func (f *Query) validateMatch(names []string, report func(path, message string)) {
	for at, m := range map[string]map[string]string{"set": f.Set, "add": f.Add} {
		for name, value := range m {
			t, _ := parseValue(value)
			checkMatched(at+"."+name, t, false, false, names, report)
		}
	}
}

// parseValue reads a parameter's value with places.
func parseValue(s string) (t text, err error) {
	for s != "" {
		i := 0
		for i < len(s) && s[i] != '{' && s[i] != '}' {
			i++
		}
		var p piece
		switch {
		case i > 0:
			p.literal, s = string(fasthttp.AppendQuotedArg(nil, []byte(s[:i]))), s[i:]
		case s[0] == '}':
			return nil, fmt.Errorf("%q: a } without a {", s)
		default:
			if p.name, s, err = braced(s); err != nil {
				return nil, err
			}
		}
		t = append(t, p)
	}
	return t, nil
}

// query is a Query, ready for use.
type query struct {
	changes map[string]parameter
	renames bool
	adds    []added
}

// parameter is what becomes of those of one name.
type parameter struct {
	drop bool
	to   string // escaped; empty: not renamed
	bit  uint64 // of the renaming that begins here
	ends uint64 // of the one that ends here
}

type added struct {
	name  string // escaped, with the "="
	value text
}

func newQuery(cfg Query) *query {
	f := &query{changes: map[string]parameter{}, renames: len(cfg.Rename) > 0}
	for i, from := range slices.Sorted(maps.Keys(cfg.Rename)) {
		to := cfg.Rename[from]
		p, t := f.changes[from], f.changes[to]
		p.to, p.bit, t.ends = string(fasthttp.AppendQuotedArg(nil, []byte(to))), 1<<i, 1<<i
		if _, set := cfg.Set[to]; set || slices.Contains(cfg.Remove, to) {
			p.drop = true
		}
		f.changes[from], f.changes[to] = p, t
	}
	for _, name := range slices.Concat(cfg.Remove, slices.Collect(maps.Keys(cfg.Set))) {
		p := f.changes[name]
		p.drop = true
		f.changes[name] = p
	}
	for _, m := range []map[string]string{cfg.Set, cfg.Add} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			t, err := parseValue(m[name])
			if err != nil {
				panic("BUG: a value that is not valid: " + err.Error())
			}
			f.adds = append(f.adds, added{string(fasthttp.AppendQuotedArg(nil, []byte(name))) + "=", t})
		}
	}
	return f
}

// Request implements Filter. A name of more than 128 bytes with an escape in it allocates; nothing else does.
func (f *query) Request(ctx *fasthttp.RequestCtx) Result {
	path, q := pathOf(ctx)
	if string(path) == "*" { // of OPTIONS, which has no query
		return Continue
	}
	if len(q) > 0 {
		q = q[1:]
	}
	m := matchedOf(ctx)
	uri := append(m.room[:0], path...)
	uri = f.append(append(uri, '?'), q, m)
	if len(uri) == len(path)+1 {
		uri = uri[:len(path)]
	}
	if m.room = uri; len(uri) > maxPath {
		return Refuse(ctx, 414, "query is too long", &longQuery)
	}
	ctx.Request.SetRequestURIBytes(uri)
	return Continue
}

// append appends what becomes of the query q, which is not in dst's room.
func (f *query) append(dst, q []byte, m *Matched) []byte {
	var room [128]byte
	there := uint64(0)
	if f.renames {
		for rest := q; len(rest) > 0; {
			var name []byte
			name, _, rest = cutParameter(rest)
			there |= f.changes[string(unquote(room[:0], name))].bit
		}
	}
	first := len(dst)
	for len(q) > 0 {
		var name, value []byte
		if name, value, q = cutParameter(q); len(name)+len(value) == 0 {
			continue
		}
		p := f.changes[string(unquote(room[:0], name))]
		if p.drop || p.to == "" && p.ends&there != 0 {
			continue
		}
		if len(dst) > first {
			dst = append(dst, '&')
		}
		if p.to != "" {
			dst = append(dst, p.to...)
		} else {
			dst = append(dst, name...)
		}
		dst = append(dst, value...)
	}
	for i := range f.adds {
		if len(dst) > first {
			dst = append(dst, '&')
		}
		dst = append(dst, f.adds[i].name...)
		for _, p := range f.adds[i].value {
			if p.name == "" {
				dst = append(dst, p.literal...)
			} else {
				dst = appendCaptured(dst, m.value(p.name))
			}
		}
	}
	return dst
}

// Response implements Filter.
func (f *query) Response(*fasthttp.RequestCtx) {}

// cutParameter takes the first parameter off q: its value is with the "=".
func cutParameter(q []byte) (name, value, rest []byte) {
	end := len(q)
	for i, c := range q {
		if c == '&' {
			end, rest = i, q[i+1:]
			break
		}
	}
	for i, c := range q[:end] {
		if c == '=' {
			return q[:i], q[i:end], rest
		}
	}
	return q[:end], nil, rest
}

// unquote is what a name stands for; room is used if it is not the name itself. What is no escape stands for itself.
func unquote(room, name []byte) []byte {
	plain := true
	for _, c := range name {
		plain = plain && c != '%' && c != '+'
	}
	if plain {
		return name
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(name):
			if hi, lo := unhex(name[i+1]), unhex(name[i+2]); hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		}
		room = append(room, c)
	}
	return room
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// appendCaptured appends a piece of a canonical path as a parameter's value: its escapes stay, and what a query would read as
// more than a value is escaped.
func appendCaptured(dst, s []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range s {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '%':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

var longQuery = Refusal{"query", "too long"}
