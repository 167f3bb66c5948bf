package filter

import "github.com/valyala/fasthttp"

// Own are filters that this package does not have, by the keys under which routes name them: those of whoever builds a sluice of
// their own around cmd/cli. A key of this package wins over one of the same name.
type Own map[string]*Maker

// Maker makes the filters of one key: see Make. Immutable.
type Maker struct {
	options func() any
	filter  func(options any) Filter
	answers bool
}

// Make is the Maker of filters that new makes of a T: a struct whose fields have yaml tags, which the key's value is decoded into,
// strictly; one that is tagged required must be there. If *T has a method Validate(report func(path, message string)), it is
// called before, and says what is wrong by the path of the key. new is called for each configuration that is put in force; a
// filter that is an io.Closer is closed when none has it any more.
func Make[T any](new func(T) Filter) *Maker {
	return &Maker{
		options: func() any { var t T; return &t },
		filter:  func(options any) Filter { return new(*options.(*T)) },
	}
}

// MakeHandler is the Maker of filters that answer every request by h, and so need no cluster behind them: see Handler.
func MakeHandler(h fasthttp.RequestHandler, cfg HandlerConfig) *Maker {
	m := Make(func(struct{}) Filter { return Handler(h, cfg) })
	m.answers = true
	return m
}

// given is a key of Own in a configuration, and what its value was decoded into.
type given struct {
	key     string
	maker   *Maker
	options any
}

// Open implements cmd/config's Opener: own is an Own.
func (c *Config) Open(key string, own any) any {
	all, _ := own.(Own)
	m := all[key]
	if m == nil {
		return nil
	}
	g := given{key, m, m.options()}
	c.own = append(c.own, g)
	return g.options
}

// ByMaker is an entry of a route's filters that no file has, of a Maker whose options need not be given.
func ByMaker(key string, m *Maker) Config { return Config{own: []given{{key, m, m.options()}}} }

func (g *given) validate(report func(path, message string)) {
	if v, ok := g.options.(interface {
		Validate(report func(path, message string))
	}); ok {
		v.Validate(report)
	}
}
