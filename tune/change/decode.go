package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxPlan bounds a plan, in bytes.
const maxPlan = 1 << 20

// Error is one thing that is wrong with a file.
type Error struct {
	File         string
	Line, Column int // from 1
	Message      string
	Source       string // the line
}

func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors are all that is wrong with a file.
type Errors []Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

type document struct {
	file  string
	lines []string
	at    map[string]*token.Position // of values and keys, by path
	errs  Errors
}

func (d *document) fail(at *token.Position, format string, args ...any) {
	d.errs = append(d.errs, d.error(at, fmt.Sprintf(format, args...)))
}

func (d *document) error(at *token.Position, message string) Error {
	e := Error{File: d.file, Line: 1, Column: 1, Message: message}
	if at != nil {
		// The parser counts a lone carriage return as a line of its own.
		e.Line, e.Column = min(max(at.Line, 1), len(d.lines)), max(at.Column, 1)
	}
	e.Source = strings.TrimRight(d.lines[e.Line-1], "\r")
	return e
}

// errorf is an error at the value with that path, or at the nearest of its parents that the file has.
func (d *document) errorf(path, format string, args ...any) Error {
	for d.at[path] == nil && path != "" {
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.error(d.at[path], fmt.Sprintf(format, args...))
}

// ParsePlan reads a plan strictly: unknown keys, missing ones and senseless settings are Errors, all at once. file names it in them.
func ParsePlan(file string, src []byte) (p *Plan, err error) {
	d := &document{file: file, lines: strings.Split(string(src), "\n"), at: map[string]*token.Position{}}
	defer func() {
		// The parser has been seen to panic on malformed input: that is an error of the file, not of the process.
		if r := recover(); r != nil {
			p, err = nil, Errors{d.error(nil, fmt.Sprintf("not understood as YAML: %v", r))}
		}
	}()
	if len(src) > maxPlan || !utf8.Valid(src) {
		return nil, Errors{d.error(nil, fmt.Sprintf("no plan: larger than %d KiB, or not UTF-8", maxPlan>>10))}
	}
	f, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax interface {
			GetMessage() string
			GetToken() *token.Token
		}
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return nil, Errors{d.error(syntax.GetToken().Position, syntax.GetMessage())}
		}
		return nil, Errors{d.error(nil, err.Error())}
	}
	p = &Plan{doc: d}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, Errors{d.error(nil, "one document is needed, with the keys host and settings")}
	}
	d.plan(f.Docs[0].Body, p)
	if len(d.errs) == 0 {
		p.validate(func(path, message string) { d.errs = append(d.errs, d.errorf(path, "%s", message)) })
	}
	if len(d.errs) > 0 {
		return nil, d.errs
	}
	return p, nil
}

func (d *document) plan(n ast.Node, p *Plan) {
	d.mapping(n, "", map[string]func(ast.Node, string){
		"host": func(n ast.Node, at string) {
			d.mapping(n, at, map[string]func(ast.Node, string){
				"machine_id": d.text(&p.Host.MachineID), "hostname": d.text(&p.Host.Hostname), "kernel": d.text(&p.Host.Kernel),
				"nics": func(n ast.Node, at string) {
					d.sequence(n, at, func(n ast.Node, at string) {
						p.Host.NICs = append(p.Host.NICs, "")
						d.text(&p.Host.NICs[len(p.Host.NICs)-1])(n, at)
					})
				},
			})
		},
		"settings": func(n ast.Node, at string) {
			d.sequence(n, at, func(n ast.Node, at string) {
				var s Setting
				d.mapping(n, at, map[string]func(ast.Node, string){"kind": d.text((*string)(&s.Kind)), "key": d.text(&s.Key),
					"from": d.text(&s.From), "to": d.text(&s.Value), "why": d.text(&s.Why)}, "from", "why")
				p.Settings = append(p.Settings, s)
			})
		},
	})
}

// mapping hands each value to its key's function. All keys must be there but the optional ones.
func (d *document) mapping(n ast.Node, path string, keys map[string]func(ast.Node, string), optional ...string) {
	d.at[path] = position(n)
	var values []*ast.MappingValueNode
	switch t := n.(type) {
	case *ast.MappingNode:
		values = t.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{t}
	default:
		d.fail(position(n), "expected a mapping")
		return
	}
	var names []string
	for name := range keys {
		names = append(names, name)
	}
	slices.Sort(names)
	has := map[string]bool{}
	for _, v := range values {
		key := v.Key.GetToken().Value
		read := keys[key]
		switch {
		case read == nil:
			if near := nearest(key, names); near != "" {
				d.fail(position(v.Key), "unknown key %q; did you mean %q?", key, near)
			} else {
				d.fail(position(v.Key), "unknown key %q; known here: %s", key, strings.Join(names, ", "))
			}
		case has[key]:
			d.fail(position(v.Key), "key %q is there twice", key)
		default:
			at := key
			if path != "" {
				at = path + "." + key
			}
			d.at[at] = position(v.Value)
			read(v.Value, at)
		}
		has[key] = true
	}
	for _, name := range names {
		if !has[name] && !slices.Contains(optional, name) {
			d.fail(d.at[path], "key %q is missing", name)
		}
	}
}

func (d *document) sequence(n ast.Node, path string, item func(ast.Node, string)) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(position(n), "expected a list")
		return
	}
	for i, v := range seq.Values {
		item(v, path+"["+strconv.Itoa(i)+"]")
	}
}

// text reads a single value as it is written: 4096 and "4096" are the same.
func (d *document) text(into *string) func(ast.Node, string) {
	return func(n ast.Node, _ string) {
		switch t := n.(type) {
		case *ast.StringNode:
			*into = t.Value
		case *ast.LiteralNode:
			*into = strings.TrimSpace(t.Value.Value)
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
			*into = n.GetToken().Value
		case *ast.NullNode:
			d.fail(position(n), "a value is missing")
		default:
			d.fail(position(n), "expected a single value")
		}
	}
}

func position(n ast.Node) *token.Position {
	switch t := n.(type) {
	case *ast.MappingNode:
		if !t.IsFlowStyle && len(t.Values) > 0 {
			return position(t.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(t.Key)
	}
	if t := n.GetToken(); t != nil {
		return t.Position
	}
	return nil
}

// ReadSettings reads a JSON list of settings: [{"kind": …, "key": …, "value": …, "why": …}].
func ReadSettings(r io.Reader) ([]Setting, error) {
	var list []Setting
	d := json.NewDecoder(io.LimitReader(r, maxPlan))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	if d.More() {
		return nil, errors.New("read settings: something follows the list")
	}
	return list, nil
}

func unknown(what, name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("no %s named %q; did you mean %q?", what, name, near)
	}
	return fmt.Sprintf("no %s named %q; there are %s", what, name, strings.Join(known, ", "))
}

// nearest is the known word that is most like s, if one is like it at all.
func nearest(s string, known []string) string {
	best, at := "", max(len(s)/3, 1)+1
	for _, k := range known {
		if d := distance(s, k, at); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance counts insertions, deletions and replacements (Levenshtein); at least bound if the lengths alone say so.
func distance(a, b string, bound int) int {
	if diff := max(len(a)-len(b), len(b)-len(a)); diff >= bound {
		return diff
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
