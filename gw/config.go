package gw

import (
	"fmt"
	"strconv"
	"time"

	"sluice/gw/filter"
	"sluice/gw/route"
)

// Config is the part of an http listener's configuration that is the gateway's own.
type Config struct {
	// Routes names the list of routes.
	Routes string `yaml:"routes"`
	// HeaderTimeout bounds the time from a request's first byte to the end of its head; 0: 10 s. It is absolute: a
	// client that sends a byte now and then does not put it off.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// RequestTimeout bounds the time from a request's first byte to the end of its body; 0: 60 s.
	RequestTimeout time.Duration `yaml:"request_timeout"`
	// IdleTimeout closes a connection that has no request for so long; 0: 60 s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxBody bounds a request's body in bytes; 0: no bound.
	MaxBody int64 `yaml:"max_body"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	for _, d := range []struct {
		key string
		bad bool
	}{{"header_timeout", c.HeaderTimeout < 0}, {"request_timeout", c.RequestTimeout < 0},
		{"idle_timeout", c.IdleTimeout < 0}, {"max_body", c.MaxBody < 0}} {
		if d.bad {
			report(d.key, "must not be negative")
		}
	}
}

func (c Config) withDefaults() Config {
	if c.HeaderTimeout == 0 {
		c.HeaderTimeout = 10 * time.Second
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = time.Minute
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	return c
}

// Route is match → filters → cluster.
type Route struct {
	Match   route.Match     `yaml:"match"`
	Filters []filter.Config `yaml:"filters"`
	Cluster string          `yaml:"cluster"`
}

// Validate reports what is wrong with r, by the path of the key.
func (r *Route) Validate(report func(path, message string)) {
	r.Match.Validate(func(p, m string) { report("match."+p, m) })
	answers := false
	for i := range r.Filters {
		at := "filters[" + strconv.Itoa(i) + "]"
		r.Filters[i].Validate(func(p, m string) {
			if p != "" {
				p = "." + p
			}
			report(at+p, m)
		})
		if answers {
			report(at, "is never reached: the filter before it answers")
		}
		answers = answers || r.Filters[i].Respond != nil
	}
	if !answers && r.Cluster == "" {
		report("match", "the route needs a cluster, or a filter that answers")
	}
}

// ValidateRoutes reports, by index, routes that no request can reach.
func ValidateRoutes(routes []Route, report func(i int, message string)) {
	t := route.New[int]()
	for i, r := range routes {
		if !t.Add(r.Match, i) {
			report(i, fmt.Sprintf("a second route for %s", r.Match))
		}
	}
}
