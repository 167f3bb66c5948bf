package filter

import "github.com/valyala/fasthttp"

// Matched is what a route has taken of a request's path, for the filters that want it (Config.WantsMatched), and their room. It
// belongs to one exchange, and is used again by the next.
type Matched struct {
	// Prefix is the match's path_prefix without a slash at its end.
	Prefix string

	captures []capture
	values   []byte
	room     []byte // for what filters put together; of no filter when it has returned
}

type capture struct {
	name       string
	start, end int // in values
}

// matchedKey is the user value of a RequestCtx that is its *Matched.
type matchedKey struct{}

// Attach empties m and shows it to the filters of ctx.
func (m *Matched) Attach(ctx *fasthttp.RequestCtx) {
	m.Prefix, m.captures, m.values = "", m.captures[:0], m.values[:0]
	ctx.SetUserValue(matchedKey{}, m)
}

// Add copies a variable of a template, or a named group of a regexp, and its value.
func (m *Matched) Add(name string, value []byte) {
	start := len(m.values)
	m.values = append(m.values, value...)
	m.captures = append(m.captures, capture{name, start, len(m.values)})
}

// value is empty if nothing of that name took part in the match.
func (m *Matched) value(name string) []byte {
	for _, c := range m.captures {
		if c.name == name {
			return m.values[c.start:c.end]
		}
	}
	return nil
}

// matchedOf is never nil: who has a route's filters see a request without what it matched has matched nothing.
func matchedOf(ctx *fasthttp.RequestCtx) *Matched {
	if m, ok := ctx.UserValue(matchedKey{}).(*Matched); ok {
		return m
	}
	return &Matched{}
}
