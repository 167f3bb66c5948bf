package filter

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// claimHeaders are the headers that tell the upstream who somebody is, each with its claim: sub is the identity's subject; a.b is
// the member b of the claim a, unless there is a claim of that name. What a client sends under their names never comes through.
type claimHeaders []claimHeader

type claimHeader struct{ header, claim string }

func checkClaimHeaders(m map[string]string, report func(path, message string)) {
	for k, claim := range m {
		if err := checkField(k, "", false); err != nil {
			report("claims_to_headers."+k, err.Error())
		}
		if claim == "" {
			report("claims_to_headers."+k, "names no claim")
		}
	}
	if twice := twoSpellings(m); twice != "" {
		report("claims_to_headers."+twice, twice+" is there twice, in two spellings")
	}
}

func newClaimHeaders(m map[string]string) (c claimHeaders) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		c = append(c, claimHeader{k, m[k]})
	}
	return c
}

// values are what an identity's headers hold, empty for a claim that it does not have; false: one cannot be written as a header
// and be read for what it is.
func (c claimHeaders) values(id *Identity) ([]string, bool) {
	values := make([]string, len(c))
	for i, h := range c {
		v, ok := claimText(id, h.claim)
		if !ok || !h1.ValidValue(v) {
			return nil, false
		}
		values[i] = v
	}
	return values, true
}

// RequestNames implements Namer.
func (c claimHeaders) RequestNames() []string {
	names := make([]string, len(c))
	for i := range c {
		names[i] = c[i].header
	}
	return names
}

// clear removes what the client has sent.
func (c claimHeaders) clear(ctx *fasthttp.RequestCtx) {
	for i := range c {
		ctx.Request.Header.Del(c[i].header)
	}
}

func (c claimHeaders) set(ctx *fasthttp.RequestCtx, values []string) {
	for i, v := range values {
		if v != "" {
			ctx.Request.Header.Set(c[i].header, v)
		}
	}
}

func claimText(id *Identity, name string) (string, bool) {
	if name == "sub" {
		return id.Subject, true
	}
	v := member(id.Claims, name)
	list, isList := v.([]any)
	if !isList {
		return scalarText(v)
	}
	parts := make([]string, len(list))
	for i, e := range list {
		// An element with a comma in it would read as two: a group more than was given.
		text, ok := scalarText(e)
		if !ok || strings.Contains(text, ",") {
			return "", false
		}
		parts[i] = text
	}
	return strings.Join(parts, ","), true
}

// member is what a name leads to; nil: nothing.
func member(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	first, rest, _ := strings.Cut(name, ".")
	if inner, ok := m[first].(map[string]any); ok {
		return member(inner, rest)
	}
	return nil
}

func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case map[string]any:
		b, err := json.Marshal(v)
		return string(b), err == nil
	}
	return "", false
}

// numbered has the numbers of decoded JSON as int64 where they are whole, else as float64, in place.
func numbered(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, e := range v {
			v[k] = numbered(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbered(e)
		}
	}
	return v
}
