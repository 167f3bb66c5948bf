package filter

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// Credential is where a request carries one: bearer, header:NAME, cookie:NAME or query:NAME. What is in a query is in logs and
// histories too: prefer any other.
type Credential string

type carrier int

const (
	bearer carrier = iota // Authorization: Bearer (RFC 6750, section 2.1)
	inHeader
	inCookie
	inQuery
)

// credential is one place, ready for use.
type credential struct {
	carrier
	name string
}

func (c Credential) parse() (credential, error) {
	kind, name, _ := strings.Cut(string(c), ":")
	switch {
	case string(c) == "bearer":
		return credential{bearer, fasthttp.HeaderAuthorization}, nil
	case kind == "header" && h1.ValidName(name) && checkField(name, "", false) == nil:
		return credential{inHeader, name}, nil
	case kind == "cookie" && h1.ValidName(name):
		return credential{inCookie, name}, nil
	case kind == "query" && h1.ValidName(name):
		return credential{inQuery, name}, nil
	}
	return credential{}, fmt.Errorf("%q is not bearer, header:NAME, cookie:NAME or query:NAME", string(c))
}

// credentials are the places of one filter, in the order in which they are looked at.
type credentials []credential

func checkCredentials(from []Credential, report func(path, message string)) {
	for i, c := range from {
		if _, err := c.parse(); err != nil {
			report(fmt.Sprintf("from[%d]", i), err.Error())
		}
	}
}

func newCredentials(from []Credential, otherwise Credential) (all credentials) {
	if len(from) == 0 {
		from = []Credential{otherwise}
	}
	for _, c := range from {
		if p, err := c.parse(); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// find is the credential in the first place that has one, and none: the first that is there counts, be it wrong. twice: the place
// has several, and who comes after us might take another one than we do. The bytes are the request's.
func (all credentials) find(ctx *fasthttp.RequestCtx) (value []byte, twice bool) {
	h := &ctx.Request.Header
	for _, c := range all {
		switch c.carrier {
		case bearer, inHeader:
			values := h.PeekAll(c.name)
			if len(values) > 1 {
				return nil, true
			}
			if len(values) == 1 {
				value = values[0]
			}
			if c.carrier == bearer {
				value = afterScheme(value, "bearer")
			}
		case inCookie:
			value = h.Cookie(c.name)
		case inQuery:
			value, twice = queryValue(h.RequestURI(), c.name)
		}
		if len(value) > 0 || twice {
			return value, twice
		}
	}
	return nil, false
}

// remove takes them all out of the request, so that the upstream does not get what it could use as the client.
func (all credentials) remove(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	for _, c := range all {
		switch c.carrier {
		case bearer:
			if afterScheme(h.Peek(c.name), "bearer") != nil {
				h.Del(c.name)
			}
		case inHeader:
			h.Del(c.name)
		case inCookie:
			h.DelCookie(c.name)
		case inQuery:
			if uri, was := withoutQuery(h.RequestURI(), c.name); was {
				ctx.Request.SetRequestURIBytes(uri)
			}
		}
	}
}

// afterScheme is what follows an authentication scheme, given in lower case, in Authorization (RFC 9110, section 11.4); nil if the
// scheme is another.
func afterScheme(value []byte, scheme string) []byte {
	if len(value) <= len(scheme) || value[len(scheme)] != ' ' {
		return nil
	}
	for i := range len(scheme) {
		if value[i]|0x20 != scheme[i] {
			return nil
		}
	}
	return bytes.TrimLeft(value[len(scheme):], " ")
}

// queryValue is a parameter's value, decoded; twice says that it is there more than once. Names are compared as they are written:
// one that is written in escapes is not found.
func queryValue(uri []byte, name string) (value []byte, twice bool) {
	found := false
	eachParameter(uri, func(pair []byte) {
		if !isNamed(pair, name) {
			return
		}
		twice = found
		found = true
		value = pair[min(len(pair), len(name)+1):]
	})
	if bytes.ContainsAny(value, "%+") {
		value = fasthttp.AppendUnquotedArg(nil, value)
	}
	return value, twice
}

// withoutQuery is the URI without the parameters of a name, in bytes of its own, and whether there were any.
func withoutQuery(uri []byte, name string) ([]byte, bool) {
	at := bytes.IndexByte(uri, '?')
	if v, twice := queryValue(uri, name); at < 0 || v == nil && !twice {
		return uri, false
	}
	left := append(make([]byte, 0, len(uri)), uri[:at]...)
	sep := byte('?')
	eachParameter(uri, func(pair []byte) {
		if !isNamed(pair, name) {
			left = append(append(left, sep), pair...)
			sep = '&'
		}
	})
	return left, true
}

// eachParameter shows the name=value pairs of a query.
func eachParameter(uri []byte, show func(pair []byte)) {
	at := bytes.IndexByte(uri, '?')
	for query := uri[at+1:]; at >= 0 && len(query) > 0; {
		pair, rest, _ := bytes.Cut(query, []byte{'&'})
		show(pair)
		query = rest
	}
}

func isNamed(pair []byte, name string) bool {
	return len(pair) >= len(name) && string(pair[:len(name)]) == name && (len(pair) == len(name) || pair[len(name)] == '=')
}
