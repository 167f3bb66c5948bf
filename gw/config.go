package gw

import (
	"strconv"
	"time"

	"sluice/gw/filter"
	"sluice/gw/forwarded"
	"sluice/gw/h1"
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
	// TunnelTimeout ends a WebSocket, or what else an upgrade or CONNECT has led to, in which nothing moves for so long;
	// 0: 1 h.
	TunnelTimeout time.Duration `yaml:"tunnel_timeout"`
	// MaxBody bounds a request's body in bytes; 0: no bound.
	MaxBody int64 `yaml:"max_body"`
	// Slashes says what becomes of empty segments in a path; not given: merge.
	Slashes h1.Slashes `yaml:"duplicate_slashes"`
	// Filters see every request before those of its route, and its response after them.
	Filters []filter.Config `yaml:"filters"`
	// Secure says that the listener's connections are TLS, which has ended before: their scheme is https.
	Secure bool `yaml:"-"`
	// Trusted are the proxies that are believed what they say of the client.
	Trusted forwarded.Config `yaml:",inline"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	for _, d := range []struct {
		key string
		bad bool
	}{{"header_timeout", c.HeaderTimeout < 0}, {"request_timeout", c.RequestTimeout < 0},
		{"idle_timeout", c.IdleTimeout < 0}, {"tunnel_timeout", c.TunnelTimeout < 0}, {"max_body", c.MaxBody < 0}} {
		if d.bad {
			report(d.key, "must not be negative")
		}
	}
	c.Trusted.Validate(report)
	validateFilters(c.Filters, false, nil, report)
}

// ClusterNames are the clusters that the filters call, each with its key's path.
func (c *Config) ClusterNames(each func(path, name string)) {
	for i := range c.Filters {
		c.Filters[i].ClusterNames(func(path, name string) { each("filters["+strconv.Itoa(i)+"]."+path, name) })
	}
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HeaderTimeout, 10*time.Second)
	def(&c.RequestTimeout, time.Minute)
	def(&c.IdleTimeout, time.Minute)
	def(&c.TunnelTimeout, time.Hour)
	return c
}
