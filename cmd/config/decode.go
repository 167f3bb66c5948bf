package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Bounds on what aliases can make of a small file.
const (
	maxNodes = 1_000_000
	maxDepth = 64
)

// Opener is a struct that takes more keys than its fields name: Open is asked for each that is not among them, and returns a
// pointer to what its value is decoded into, or nil if it does not know it either.
type Opener interface {
	Open(key string, more any) any
}

// Lister is an encoding.TextUnmarshaler that may be a list as well: List returns a pointer to what that is decoded into.
type Lister interface {
	List() any
}

type decoder struct {
	doc     *Document
	more    any // for Openers
	anchors map[string]ast.Node
	left    int
	depth   int
}

func (d *decoder) fail(n ast.Node, format string, args ...any) {
	d.doc.errs = append(d.doc.errs, d.doc.error(d.doc.start(n), fmt.Sprintf(format, args...)))
}

func (d *decoder) root(body ast.Node, into any) {
	v := reflect.ValueOf(into).Elem()
	if body == nil {
		d.missing(position{1, 1}, v.Type(), nil)
		return
	}
	d.value(body, v, "")
}

// resolve follows tags, anchors and aliases.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for range maxDepth {
		switch t := n.(type) {
		case *ast.AnchorNode:
			d.anchors[t.Name.String()] = t.Value
			n = t.Value
		case *ast.AliasNode:
			to, ok := d.anchors[t.Value.String()]
			if !ok {
				d.fail(n, "no anchor named %q before this", t.Value.String())
				return nil
			}
			n = to
		case *ast.TagNode:
			n = t.Value
		default:
			return n
		}
	}
	d.fail(n, "aliases lead nowhere")
	return nil
}

// value decodes n into v, whose path is path.
func (d *decoder) value(n ast.Node, v reflect.Value, path string) {
	d.doc.at[path] = d.doc.start(n)
	if d.left--; d.left < 0 || d.depth >= maxDepth {
		if d.left != -1<<30 {
			d.left = -1 << 30 // said once
			d.fail(n, "too many values, or nested too deep: aliases that multiply?")
		}
		return
	}
	d.depth++
	defer func() { d.depth-- }()
	at := n
	if n = d.resolve(n); n == nil {
		return
	}
	_, null := n.(*ast.NullNode)
	if l, ok := v.Addr().Interface().(Lister); ok {
		if _, is := n.(*ast.SequenceNode); is {
			v = reflect.ValueOf(l.List()).Elem()
		}
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok && v.Kind() != reflect.Pointer {
		if s, ok := d.scalar(n, at); ok {
			if err := u.UnmarshalText([]byte(s)); err != nil {
				d.fail(at, "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		// It matters whether such a value is there: nothing behind its key would pass for either.
		if null {
			d.fail(at, "a value is missing")
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		if m, ok := d.mapping(n, at, null); ok {
			d.fields(m, at, v, path)
		}
	case reflect.Map:
		m, ok := d.mapping(n, at, null)
		if !ok {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for _, e := range m {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(e.value, item, join(path, e.key))
			v.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), item)
		}
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			if !null {
				d.fail(at, "expected a list, found %s", what(n))
			}
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
		for i, e := range seq.Values {
			d.value(e, v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	default:
		if null {
			d.fail(at, "a value is missing")
			return
		}
		d.scalarInto(n, at, v)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

type entry struct {
	key   string
	node  ast.Node // the key's
	value ast.Node
}

// mapping lists a mapping's entries, merge keys resolved; its own win over merged ones.
func (d *decoder) mapping(n, at ast.Node, null bool) ([]entry, bool) {
	var values []*ast.MappingValueNode
	switch t := n.(type) {
	case *ast.MappingNode:
		values = t.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{t}
	default:
		if !null {
			d.fail(at, "expected a mapping, found %s", what(n))
		}
		return nil, false
	}
	var own, merged []entry
	seen := map[string]position{}
	for _, mv := range values {
		if _, ok := mv.Key.(*ast.MergeKeyNode); ok {
			d.depth++
			if from := d.resolve(mv.Value); from != nil && d.depth < maxDepth {
				list := []ast.Node{from}
				if s, ok := from.(*ast.SequenceNode); ok {
					list = s.Values
				}
				for _, one := range list {
					if one = d.resolve(one); one != nil {
						es, _ := d.mapping(one, mv.Value, false)
						merged = append(merged, es...)
					}
				}
			}
			d.depth--
			continue
		}
		key := mv.Key.GetToken().Value
		pos := d.doc.start(mv.Key)
		if first, dup := seen[key]; dup {
			d.fail(mv.Key, "key %q is there twice, first at line %d", key, first.line)
			continue
		}
		seen[key] = pos
		own = append(own, entry{key, mv.Key, mv.Value})
	}
	for _, e := range merged {
		if _, has := seen[e.key]; !has {
			seen[e.key] = d.doc.start(e.node)
			own = append(own, e)
		}
	}
	return own, true
}

type field struct {
	value    reflect.Value
	required bool
}

// known collects a struct's keys.
func known(v reflect.Value, into map[string]field) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag := f.Tag.Get("yaml")
		if !f.IsExported() || tag == "-" || tag == "" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if options == "inline" {
			known(v.Field(i), into)
			continue
		}
		into[name] = field{v.Field(i), options == "required"}
	}
}

func (d *decoder) fields(m []entry, at ast.Node, v reflect.Value, path string) {
	keys := map[string]field{}
	known(v, keys)
	has := map[string]bool{}
	for _, e := range m {
		f, ok := keys[e.key]
		if o, opens := v.Addr().Interface().(Opener); !ok && opens {
			if into := o.Open(e.key, d.more); into != nil {
				d.value(e.value, reflect.ValueOf(into).Elem(), join(path, e.key))
				continue
			}
		}
		if !ok {
			names := slices.Sorted(maps.Keys(keys))
			if near := Nearest(e.key, names); near != "" {
				d.fail(e.node, "unknown key %q; did you mean %q?", e.key, near)
			} else {
				d.fail(e.node, "unknown key %q; known here: %s", e.key, strings.Join(names, ", "))
			}
			continue
		}
		has[e.key] = true
		d.value(e.value, f.value, join(path, e.key))
	}
	d.missing(d.doc.start(at), v.Type(), has)
}

func (d *decoder) missing(at position, t reflect.Type, has map[string]bool) {
	keys := map[string]field{}
	known(reflect.New(t).Elem(), keys)
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if keys[name].required && !has[name] {
			d.doc.errs = append(d.doc.errs, d.doc.error(at, fmt.Sprintf("key %q is missing", name)))
		}
	}
}

// scalar is the text of a scalar, with the environment put in.
func (d *decoder) scalar(n, at ast.Node) (string, bool) {
	var s string
	switch t := n.(type) {
	case *ast.StringNode:
		s = t.Value
	case *ast.LiteralNode:
		s = t.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		s = n.GetToken().Value
	default:
		d.fail(at, "expected a single value, found %s", what(n))
		return "", false
	}
	out, err := expand(s)
	if err != nil {
		d.fail(at, "%v", err)
		return "", false
	}
	return out, true
}

func (d *decoder) scalarInto(n, at ast.Node, v reflect.Value) {
	s, ok := d.scalar(n, at)
	if !ok {
		return
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		t, err := time.ParseDuration(s)
		if err != nil {
			d.fail(at, "%q is not a duration: a number with a unit, as in 500ms, 10s or 1m30s", s)
		}
		v.SetInt(int64(t))
		return
	}
	switch v.Kind() {
	case reflect.String:
		switch n.(type) {
		case *ast.StringNode, *ast.LiteralNode:
		default:
			d.fail(at, "expected text, found %s: put it in quotes", what(n))
			return
		}
		v.SetString(s)
		if c, ok := v.Interface().(interface{ Choices() []string }); ok && !slices.Contains(c.Choices(), s) {
			if near := Nearest(s, c.Choices()); near != "" {
				d.fail(at, "%q is not one of %s; did you mean %q?", s, strings.Join(c.Choices(), ", "), near)
			} else {
				d.fail(at, "%q is not one of %s", s, strings.Join(c.Choices(), ", "))
			}
		}
	case reflect.Bool:
		if s != "true" && s != "false" {
			d.fail(at, "expected true or false, found %q", s)
		}
		v.SetBool(s == "true")
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int16, reflect.Int8:
		i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, v.Type().Bits())
		if err != nil {
			d.fail(at, "expected a whole number, found %q", s)
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			d.fail(at, "expected a number, found %q", s)
		}
		v.SetFloat(f)
	default:
		panic("BUG: a configuration of type " + v.Type().String())
	}
}

func what(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	}
	return "text"
}
