package discovery

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// place is a position in a list's text, from 1.
type place struct{ line, column int }

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// start is where n begins, to a reader: a mapping at its first key.
func start(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return placeOf(n.Values[0].Key.GetToken())
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key.GetToken())
	}
	return placeOf(n.GetToken())
}

// mistake is one error of a list.
type mistake struct {
	at   place
	text string
}

// parseList reads a list of endpoints, strictly: all of it is good, or there is an error, which says where the first
// mistake is. name names the list in it. The set is not nil if the error is.
//
// A list is plain: mappings of scalars. YAML's anchors, aliases, tags and nesting have no use here, and are refused
// before they are built, for they are what makes a small file a large value.
func parseList(name string, src []byte) (set []Endpoint, err error) {
	defer func() {
		// A panic of the parser is an error of the file, not of the process.
		if r := recover(); r != nil {
			set, err = nil, fmt.Errorf("%s: not understood as YAML: %v", name, r)
		}
	}()
	l := list{}
	set = l.decode(bytes.TrimPrefix(src, []byte("\ufeff")))
	if len(l.mistakes) == 0 {
		return set, nil
	}
	slices.SortStableFunc(l.mistakes, func(a, b mistake) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
	first, more := l.mistakes[0], ""
	if n := len(l.mistakes) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return nil, fmt.Errorf("%s:%d:%d: %s%s", name, first.at.line, first.at.column, first.text, more)
}

// list is a list of endpoints that is being decoded.
type list struct {
	mistakes []mistake
	at       map[string]place // of "[3]" and "[3].address"
}

func (l *list) fail(at place, format string, args ...any) {
	l.mistakes = append(l.mistakes, mistake{at, fmt.Sprintf(format, args...)})
}

func (l *list) decode(src []byte) []Endpoint {
	if !utf8.Valid(src) {
		for i, line := range bytes.Split(src, []byte("\n")) {
			if !utf8.Valid(line) {
				l.fail(place{i + 1, 1}, "not UTF-8")
				return nil
			}
		}
	}
	tokens := lexer.Tokenize(string(src))
	if l.plain(tokens); len(l.mistakes) > 0 {
		return nil
	}
	f, err := parser.Parse(tokens, 0)
	if err != nil {
		l.syntax(err)
		return nil
	}
	var body ast.Node
	for _, doc := range f.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if body != nil {
			l.fail(start(doc.Body), "a second document: a file holds one list")
			return nil
		}
		body = doc.Body
	}
	// An empty file may be one that is still to be written: that there are no endpoints has to be said.
	if body == nil {
		l.fail(place{1, 1}, "no list: one without endpoints is written []")
		return nil
	}
	seq, ok := body.(*ast.SequenceNode)
	if !ok {
		l.fail(start(body), "expected a list of endpoints, found %s", what(body))
		return nil
	}
	set := make([]Endpoint, len(seq.Values))
	l.at = map[string]place{"": placeOf(seq.GetToken())}
	for i, n := range seq.Values {
		l.endpoint(n, &set[i], "["+strconv.Itoa(i)+"]")
	}
	if len(l.mistakes) == 0 {
		ValidateAll(set, func(path, message string) { l.fail(l.at[path], "%s", message) })
	}
	return set
}

// plain refuses what the parser need not see.
func (l *list) plain(tokens token.Tokens) {
	depth, value, entries := 0, 0, 0 // of brackets; the line of the last ": "; how many endpoints there are at least
	for i, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.MappingKeyType, token.DirectiveType:
			l.fail(placeOf(t), "%q: a list of endpoints has no anchors, aliases, tags, directives or complex keys", t.Value)
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > 2 {
				l.fail(placeOf(t), "nested too deep: an endpoint's values are single")
			}
			if t.Type == token.MappingStartType {
				entries++
			}
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			if i > 0 && tokens[i-1].Type == token.SequenceEntryType {
				l.fail(placeOf(t), "expected an endpoint's keys before this")
			}
			if i+1 < len(tokens) && tokens[i+1].Type != token.MappingStartType {
				entries++
			}
		case token.MappingValueType:
			if at := placeOf(t).line; depth == 0 && at == value {
				l.fail(placeOf(t), "a second value on this line")
			} else if depth == 0 {
				value = at
			}
		}
		if entries > MaxEndpoints {
			l.fail(placeOf(t), "more than %d endpoints", MaxEndpoints)
		}
		if len(l.mistakes) > 0 {
			return
		}
	}
}

// syntax makes the parser's error one of ours.
func (l *list) syntax(err error) {
	var e interface {
		error
		GetMessage() string
		GetToken() *token.Token
	}
	if errors.As(err, &e) {
		l.fail(placeOf(e.GetToken()), "%s", e.GetMessage())
		return
	}
	l.fail(place{1, 1}, "%v", err)
}

// endpoint decodes the mapping n into e, whose path is path.
func (l *list) endpoint(n ast.Node, e *Endpoint, path string) {
	var values []*ast.MappingValueNode
	at := start(n)
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		l.fail(at, "expected a mapping of an endpoint's keys, found %s", what(n))
		return
	}
	l.at[path] = at
	has, before := map[string]bool{}, len(l.mistakes)
	for _, v := range values {
		key := v.Key.GetToken().Value
		if has[key] {
			l.fail(placeOf(v.Key.GetToken()), "key %q is there twice", key)
			continue
		}
		has[key] = true
		l.at[path+"."+key] = start(v.Value)
		if !l.key(e, key, v.Value) {
			l.fail(placeOf(v.Key.GetToken()), "unknown key %q; known here: %s", key, strings.Join(keys, ", "))
		}
	}
	if e.Address == "" && len(l.mistakes) == before {
		l.fail(at, "key %q is missing", "address")
	}
}

// keys are Endpoint's. A test holds that they are all.
var keys = []string{"address", "backup", "maxconn", "priority", "state", "weight", "zone"}

// key decodes one value; it says whether there is such a key.
func (l *list) key(e *Endpoint, key string, n ast.Node) bool {
	switch key {
	case "address":
		e.Address = l.text(n)
	case "backup":
		b, ok := n.(*ast.BoolNode)
		if !ok {
			l.fail(start(n), "expected true or false, found %s", what(n))
			break
		}
		e.Backup = b.Value
	case "maxconn":
		e.MaxConn = l.number(n)
	case "priority":
		e.Priority = l.number(n)
	case "state":
		e.State = State(l.text(n))
	case "weight":
		if _, null := n.(*ast.NullNode); !null {
			w := l.number(n)
			e.Weight = &w
		}
	case "zone":
		e.Zone = l.text(n)
	default:
		return false
	}
	return true
}

func (l *list) text(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	}
	quotes := ": put it in quotes"
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode, *ast.NullNode:
		quotes = ""
	}
	l.fail(start(n), "expected text, found %s%s", what(n), quotes)
	return ""
}

func (l *list) number(n ast.Node) int {
	if _, ok := n.(*ast.IntegerNode); ok {
		i, err := strconv.ParseInt(strings.ReplaceAll(n.GetToken().Value, "_", ""), 0, 32)
		if err == nil {
			return int(i)
		}
	}
	if _, ok := n.(ast.ScalarNode); ok {
		l.fail(start(n), "expected a whole number, found %q", n.GetToken().Value)
	} else {
		l.fail(start(n), "expected a whole number, found %s", what(n))
	}
	return 0
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
