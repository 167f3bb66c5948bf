package config

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 16 << 20

// Document is a decoded file that remembers where every value stands, by its path: "listeners[0].cluster".
type Document struct {
	file  string
	lines []string
	at    map[string]position
	errs  Errors
}

type position struct{ line, column int }

// Decode decodes src strictly into the struct that into points to. file names it in the errors, which are all there
// are, by position. It never panics on bad input. more is what every Opener is given.
func Decode(file string, src []byte, into, more any) (d *Document, errs Errors) {
	src = []byte(strings.TrimPrefix(string(src), "\ufeff"))
	d = &Document{file: file, lines: strings.Split(string(src), "\n"), at: map[string]position{"": {1, 1}}}
	defer func() {
		// The parser has been seen to panic on malformed input: that is an error of the file, not of the process.
		if r := recover(); r != nil {
			errs = Errors{d.error(position{1, 1}, fmt.Sprintf("not understood as YAML: %v", r))}
		}
	}()
	if len(src) > maxFile {
		return d, Errors{d.error(position{1, 1}, fmt.Sprintf("larger than %d MiB", maxFile>>20))}
	}
	if !utf8.Valid(src) {
		for i, l := range d.lines {
			if !utf8.ValidString(l) {
				return d, Errors{d.error(position{i + 1, 1}, "not UTF-8")}
			}
		}
	}
	f, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return d, Errors{d.syntax(err)}
	}
	var body ast.Node
	for _, doc := range f.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if body != nil {
			return d, Errors{d.error(d.start(doc.Body), "a second document: one file holds one configuration")}
		}
		body = doc.Body
	}
	dec := &decoder{doc: d, more: more, anchors: map[string]ast.Node{}, left: maxNodes}
	dec.root(body, into)
	d.errs.Sort()
	return d, d.errs
}

// syntax makes the parser's error one of ours.
func (d *Document) syntax(err error) Error {
	at, msg := position{1, 1}, err.Error()
	if e, ok := err.(interface {
		GetMessage() string
		GetToken() *token.Token
	}); ok {
		msg = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			at = position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
		}
	}
	return d.error(at, msg)
}

func (d *Document) error(at position, msg string) Error {
	e := Error{File: d.file, Line: at.line, Column: at.column, Message: msg}
	if at.line >= 1 && at.line <= len(d.lines) {
		e.Source = strings.TrimRight(d.lines[at.line-1], "\r")
	}
	return e
}

// Errorf is an error at the value with that path, or at the nearest of its parents that the file has.
func (d *Document) Errorf(path, format string, args ...any) Error {
	line, column := d.Position(path)
	return d.error(position{line, column}, fmt.Sprintf(format, args...))
}

// Position is where the value with that path begins, or the nearest of its parents that the file has.
func (d *Document) Position(path string) (line, column int) {
	for {
		if p, ok := d.at[path]; ok {
			return p.line, p.column
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 1, 1
		}
		path = path[:i]
	}
}

// start is the position of a value's first character.
func (d *Document) start(n ast.Node) position {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return d.start(n.Values[0])
		}
	case *ast.MappingValueNode:
		return d.start(n.Key)
	case *ast.SequenceNode:
		if n.Start != nil {
			return position{n.Start.Position.Line, n.Start.Position.Column}
		}
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{1, 1}
}
