package expr

import (
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// Input is what an expression is evaluated over. Nothing of it is kept or changed.
type Input struct {
	Request *fasthttp.RequestHeader
	// Source is the client's address; not valid: it has none.
	Source netip.Addr
	// Subject and By are empty, and Claims nil, if nobody has found out who it is.
	Subject, By string
	Claims      map[string]any
}

// The names of an expression's variables.
const (
	method   = "request.method"
	path     = "request.path"
	host     = "request.host"
	headers  = "request.headers"
	query    = "request.query"
	subject  = "identity.subject"
	by       = "identity.by"
	claims   = "identity.claims"
	sourceIP = "source.ip"
)

// uses are the variables that a program names and that cost more than to look at.
type uses struct{ query bool }

func usesOf(a *ast.AST) (u uses) {
	for _, r := range a.ReferenceMap() {
		u.query = u.query || r.Name == query
	}
	return u
}

// binding gives an expression its variables, each when it is asked for. It is one evaluation's.
type binding struct {
	in      *Input
	headers headerMap
	query   queryMap
	room    []byte
}

var bindings = sync.Pool{New: func() any { return new(binding) }}

var _ cel.Activation = (*binding)(nil)

func (b *binding) reset(in *Input, u uses) {
	b.in, b.headers.h = in, in.Request
	if !u.query {
		return
	}
	uri := in.Request.RequestURI()
	for i, c := range uri {
		if c == '?' {
			b.query.values, b.query.err = url.ParseQuery(string(uri[i+1:]))
			return
		}
	}
}

// Parent implements cel.Activation.
func (b *binding) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (b *binding) ResolveName(name string) (any, bool) {
	in := b.in
	switch name {
	case method:
		return types.String(in.Request.Method()), true
	case path:
		p := in.Request.RequestURI()
		for i, c := range p {
			if c == '?' {
				p = p[:i]
				break
			}
		}
		if cap(b.room) < len(p) {
			b.room = make([]byte, len(p))
		}
		return types.String(h1.MatchPath(p, b.room)), true
	case host:
		h := string(in.Request.Host())
		if i := strings.LastIndexByte(h, ':'); i > strings.LastIndexByte(h, ']') {
			h = h[:i]
		}
		return types.String(strings.ToLower(h)), true
	case headers:
		return &b.headers, true
	case query:
		if b.query.err != nil {
			return types.NewErr("the query cannot be read"), true
		}
		return &b.query, true
	case subject:
		return types.String(in.Subject), true
	case by:
		return types.String(in.By), true
	case claims:
		if in.Claims == nil {
			return noClaims, true
		}
		return in.Claims, true
	case sourceIP:
		if !in.Source.IsValid() {
			return types.String(""), true
		}
		return types.String(in.Source.String()), true
	}
	return nil, false
}

var noClaims = map[string]any{}

// headerMap is a request's headers, looked up where they are.
type headerMap struct{ h *fasthttp.RequestHeader }

// Find implements traits.Mapper.
func (m *headerMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	if strings.EqualFold(string(name), "cookie") { // which fasthttp keeps apart
		v := m.h.Peek("Cookie")
		return types.String(v), len(v) > 0
	}
	switch all := m.h.PeekAll(string(name)); len(all) {
	case 0:
		return nil, false
	case 1:
		return types.String(all[0]), true
	default:
		var s strings.Builder
		for i, v := range all {
			if i > 0 {
				s.WriteString(", ")
			}
			s.Write(v)
		}
		return types.String(s.String()), true
	}
}

// whole is the headers as a map of CEL's, names in lower case.
func (m *headerMap) whole() ref.Val {
	all := map[string]string{}
	for k := range m.h.All() {
		name := strings.ToLower(string(k))
		if v, ok := m.Find(types.String(name)); ok {
			all[name] = string(v.(types.String))
		}
	}
	return types.NewStringStringMap(types.DefaultTypeAdapter, all)
}

// queryMap is a request's query, decoded.
type queryMap struct {
	values url.Values
	err    error
}

var errTwice = types.NewErr("a name is there twice in the query")

// Find implements traits.Mapper.
func (m *queryMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	switch v := m.values[string(name)]; len(v) {
	case 0:
		return nil, false
	case 1:
		return types.String(v[0]), true
	}
	return errTwice, false
}

func (m *queryMap) whole() ref.Val {
	all := make(map[string]string, len(m.values))
	for k, v := range m.values {
		if len(v) > 1 {
			return errTwice
		}
		all[k] = v[0]
	}
	return types.NewStringStringMap(types.DefaultTypeAdapter, all)
}

// The rest of traits.Mapper, by the whole where that is what is asked for.

func get(m traits.Mapper, key ref.Val) ref.Val {
	v, ok := m.Find(key)
	if !ok && v == nil {
		return types.NewErr("no such key")
	}
	return v
}

// Get implements traits.Indexer.
func (m *headerMap) Get(key ref.Val) ref.Val { return get(m, key) }

// Get implements traits.Indexer.
func (m *queryMap) Get(key ref.Val) ref.Val { return get(m, key) }

// Contains implements traits.Container.
func (m *headerMap) Contains(key ref.Val) ref.Val {
	_, ok := m.Find(key)
	return types.Bool(ok)
}

// Contains implements traits.Container.
func (m *queryMap) Contains(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	return types.Bool(ok || v != nil) // twice is there, too
}

// Size implements traits.Sizer.
func (m *headerMap) Size() ref.Val { return m.whole().(traits.Sizer).Size() }

// Size implements traits.Sizer.
func (m *queryMap) Size() ref.Val { return types.Int(len(m.values)) }

// Iterator implements traits.Iterable: over the names.
func (m *headerMap) Iterator() traits.Iterator { return m.whole().(traits.Iterable).Iterator() }

// Iterator implements traits.Iterable: over the names.
func (m *queryMap) Iterator() traits.Iterator {
	names := make(map[string]string, len(m.values))
	for k := range m.values {
		names[k] = ""
	}
	return types.NewStringStringMap(types.DefaultTypeAdapter, names).Iterator()
}

// Equal implements ref.Val.
func (m *headerMap) Equal(other ref.Val) ref.Val { return m.whole().Equal(other) }

// Equal implements ref.Val.
func (m *queryMap) Equal(other ref.Val) ref.Val {
	w := m.whole()
	if types.IsError(w) {
		return w
	}
	return w.Equal(other)
}

// ConvertToNative implements ref.Val.
func (m *headerMap) ConvertToNative(t reflect.Type) (any, error) { return m.whole().ConvertToNative(t) }

// ConvertToNative implements ref.Val.
func (m *queryMap) ConvertToNative(t reflect.Type) (any, error) { return m.whole().ConvertToNative(t) }

// ConvertToType implements ref.Val.
func (m *headerMap) ConvertToType(t ref.Type) ref.Val { return m.whole().ConvertToType(t) }

// ConvertToType implements ref.Val.
func (m *queryMap) ConvertToType(t ref.Type) ref.Val { return m.whole().ConvertToType(t) }

// Type implements ref.Val.
func (m *headerMap) Type() ref.Type { return types.MapType }

// Type implements ref.Val.
func (m *queryMap) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m *headerMap) Value() any { return m.whole().Value() }

// Value implements ref.Val.
func (m *queryMap) Value() any { return m.whole().Value() }
