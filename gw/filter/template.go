package filter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter/jsonedit"
)

// filled is a Template, ready for use. Immutable.
type filled struct {
	places               []place
	escape               Escape
	contentType          string
	statuses             []int
	readsBody, readsJSON bool
}

// place is a literal, and behind it what a name stands for.
type place struct {
	literal string
	from    valueSource
	name    string        // of a header, a parameter, a capture
	path    jsonedit.Path // in the body, in the claims
	quoted  bool          // within the quotes of a JSON string
}

// valueSource is where a value comes from.
type valueSource int

const (
	fromNothing valueSource = iota // behind the last literal
	fromMethod
	fromPath
	fromQuery
	fromHost
	fromClient
	fromID
	fromHeader
	fromParameter
	fromCapture
	fromSubject
	fromBy
	fromClaims
	fromBody
	fromBodyPath
	fromStatus
	fromResponseHeader
)

// sources are the names of places; with a dot at the end, what a name begins with.
var sources = []struct {
	name string
	valueSource
	response bool // of responses' templates only
}{
	{"request.method", fromMethod, false},
	{"request.path", fromPath, false},
	{"request.query", fromQuery, false},
	{"request.host", fromHost, false},
	{"request.client", fromClient, false},
	{"request.id", fromID, false},
	{"request.header.", fromHeader, false},
	{"request.query.", fromParameter, false},
	{"capture.", fromCapture, false},
	{"identity.subject", fromSubject, false},
	{"identity.by", fromBy, false},
	{"identity.claims.", fromClaims, false},
	{"body", fromBody, false},
	{"body.", fromBodyPath, false},
	{"status", fromStatus, true},
	{"response.header.", fromResponseHeader, true},
}

func newFilled(t *Template, response bool) (*filled, error) {
	f := &filled{escape: t.Escape, contentType: t.ContentType, statuses: t.Statuses}
	if f.contentType == "" {
		f.contentType = "application/json"
	}
	if f.escape == "" {
		f.escape = escapeOf(f.contentType)
	}
	quoted := false
	for rest := t.Body; rest != ""; {
		literal, after, found := strings.Cut(rest, "{{")
		quoted = quotes(literal, quoted)
		p := place{literal: literal, quoted: quoted}
		rest = after
		if found {
			name, after, found := strings.Cut(rest, "}}")
			if !found {
				return nil, errors.New("a {{ without a }}")
			}
			if err := p.parse(strings.TrimSpace(name), response); err != nil {
				return nil, err
			}
			rest = after
		}
		f.readsBody = f.readsBody || p.from == fromBody || p.from == fromBodyPath
		f.readsJSON = f.readsJSON || p.from == fromBodyPath
		f.places = append(f.places, p)
	}
	return f, nil
}

// escapeOf is how values are put into bodies of a type.
func escapeOf(contentType string) Escape {
	name, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	switch name = strings.TrimSpace(name); {
	case isJSON([]byte(name)):
		return EscapeJSON
	case name == "text/html", strings.HasSuffix(name, "xml"):
		return EscapeXML
	case name == "application/x-www-form-urlencoded":
		return EscapeForm
	}
	return EscapeNone
}

// quotes says whether a JSON string is open behind s, if it was before it.
func quotes(s string, open bool) bool {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			open = !open
		case s[i] == '\\' && open:
			i++
		}
	}
	return open
}

func (p *place) parse(name string, response bool) (err error) {
	for _, s := range sources {
		switch {
		case s.response && !response:
			continue
		case name == s.name:
		case strings.HasSuffix(s.name, ".") && strings.HasPrefix(name, s.name) && len(name) > len(s.name):
			p.name = name[len(s.name):]
		default:
			continue
		}
		if strings.HasSuffix(s.name, ".") && p.name == "" {
			continue
		}
		if p.from = s.valueSource; p.from == fromBodyPath || p.from == fromClaims {
			p.path, err = jsonedit.ParsePath(p.name)
		}
		return err
	}
	var names []string
	for _, s := range sources {
		if !s.response || response {
			names = append(names, s.name)
		}
	}
	return fmt.Errorf("%q is nothing that can be put in: %s", name, strings.Join(names, ", "))
}

// append appends the body; false: it is larger than limit. body is what it takes the place of: JSON if a place reads it.
func (f *filled) append(dst []byte, ctx *fasthttp.RequestCtx, body []byte, limit int) ([]byte, bool) {
	at := len(dst)
	for i := range f.places {
		p := &f.places[i]
		dst = append(dst, p.literal...)
		if p.from != fromNothing {
			dst = f.fill(dst, ctx, body, p)
		}
		if len(dst)-at > limit {
			return nil, false
		}
	}
	return dst, true
}

// fill appends a place's value.
func (f *filled) fill(dst []byte, ctx *fasthttp.RequestCtx, body []byte, p *place) []byte {
	var room [64]byte
	switch h := &ctx.Request.Header; p.from {
	case fromMethod:
		return f.text(dst, h.Method(), p)
	case fromPath:
		path, _ := pathOf(ctx)
		return f.text(dst, path, p)
	case fromQuery:
		if _, q := pathOf(ctx); len(q) > 0 {
			return f.text(dst, q[1:], p)
		}
	case fromHost:
		return f.text(dst, h.Host(), p)
	case fromClient:
		if ip, ok := netipOf(ctx); ok {
			return f.text(dst, ip.AppendTo(room[:0]), p)
		}
	case fromID:
		return f.text(dst, h.Peek("X-Request-Id"), p)
	case fromHeader:
		if v := h.Peek(p.name); v != nil {
			return f.text(dst, v, p)
		}
	case fromResponseHeader:
		if v := ctx.Response.Header.Peek(p.name); v != nil {
			return f.text(dst, v, p)
		}
	case fromParameter:
		if v, ok := parameterOf(ctx, p.name); ok {
			return f.text(dst, unquote(room[:0], v), p)
		}
	case fromCapture:
		return f.text(dst, matchedOf(ctx).value(p.name), p)
	case fromSubject:
		if id := IdentityOf(ctx); id != nil {
			return f.text(dst, append(room[:0], id.Subject...), p)
		}
	case fromBy:
		if id := IdentityOf(ctx); id != nil {
			return f.text(dst, append(room[:0], id.By...), p)
		}
	case fromClaims:
		if id := IdentityOf(ctx); id != nil {
			return f.claim(dst, id.Claims, p)
		}
	case fromBody:
		if f.escape == EscapeJSON && !p.quoted && jsonedit.Check(body) == nil {
			return append(dst, body...)
		}
		return f.text(dst, body, p)
	case fromBodyPath:
		if len(body) > 0 {
			if v := jsonedit.Find(body, p.path); v != nil {
				return f.value(dst, v, p)
			}
		}
	case fromStatus:
		return f.value(dst, strconv.AppendInt(room[:0], int64(ctx.Response.StatusCode()), 10), p)
	}
	if f.escape == EscapeJSON && !p.quoted {
		dst = append(dst, "null"...)
	}
	return dst
}

// value appends a JSON value: as it is where one is wanted, else the text that it is.
func (f *filled) value(dst, v []byte, p *place) []byte {
	switch {
	case f.escape == EscapeJSON && !p.quoted:
		return append(dst, v...)
	case v[0] != '"':
		return f.text(dst, v, p)
	case f.escape == EscapeJSON:
		return append(dst, v[1:len(v)-1]...)
	}
	var room [256]byte
	return f.text(dst, jsonedit.AppendText(room[:0], v), p)
}

// claim appends what a path leads to in claims.
func (f *filled) claim(dst []byte, claims map[string]any, p *place) []byte {
	var v any = claims
	for _, s := range p.path {
		m, _ := v.(map[string]any)
		v = m[s.Name]
	}
	if s, ok := v.(string); ok {
		var room [256]byte
		return f.text(dst, append(room[:0], s...), p)
	}
	if v == nil {
		if f.escape == EscapeJSON && !p.quoted {
			dst = append(dst, "null"...)
		}
		return dst
	}
	b, err := appendJSON(nil, plainValue(v), defaultBody, 0)
	if err != nil {
		b = []byte("null")
	}
	return f.value(dst, b, p)
}

// text appends text.
func (f *filled) text(dst, s []byte, p *place) []byte {
	switch f.escape {
	case EscapeJSON:
		if p.quoted {
			return jsonedit.AppendEscaped(dst, s)
		}
		return jsonedit.AppendString(dst, s)
	case EscapeXML:
		return appendXML(dst, s)
	case EscapeForm:
		return fasthttp.AppendQuotedArg(dst, s)
	}
	return append(dst, s...)
}

// appendXML appends s as text of XML or HTML, or as an attribute's value. What XML does not allow (1.0, section 2.2) is U+FFFD.
func appendXML(dst, s []byte) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		s = s[size:]
		switch {
		case r == '<':
			dst = append(dst, "&lt;"...)
		case r == '>':
			dst = append(dst, "&gt;"...)
		case r == '&':
			dst = append(dst, "&amp;"...)
		case r == '"':
			dst = append(dst, "&#34;"...)
		case r == '\'':
			dst = append(dst, "&#39;"...)
		case r < 0x20 && !slices.Contains([]rune{'\t', '\n', '\r'}, r), r == 0xfffe, r == 0xffff:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// parameterOf is the first parameter of that name, escaped.
func parameterOf(ctx *fasthttp.RequestCtx, name string) (value []byte, ok bool) {
	_, q := pathOf(ctx)
	if len(q) > 0 {
		q = q[1:]
	}
	var room [128]byte
	for len(q) > 0 {
		var n []byte
		if n, value, q = cutParameter(q); string(unquote(room[:0], n)) == name {
			if len(value) > 0 {
				value = value[1:]
			}
			return value, true
		}
	}
	return nil, false
}
