// Package filter holds the steps of the gateway's pipeline, a file each. A filter sees fasthttp's RequestCtx, and
// never blocks its loop.
package filter

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// Result is a filter's answer to a request.
type Result int

// Continue goes on to the next filter; Answer sends ctx.Response to the client.
const (
	Continue Result = iota
	Answer
)

// Filter is one step: Request on the way in, Response on the way out, in reverse order. One filter serves all loops at
// once.
type Filter interface {
	Request(ctx *fasthttp.RequestCtx) Result
	Response(ctx *fasthttp.RequestCtx)
}

// Config is one entry of a route's filters: exactly one key.
type Config struct {
	Respond *Respond `yaml:"respond"`
	Headers *Headers `yaml:"headers"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	n := 0
	if c.Respond != nil {
		n++
		c.Respond.validate(func(p, m string) { report("respond."+p, m) })
	}
	if c.Headers != nil {
		n++
		c.Headers.validate(func(p, m string) { report("headers."+p, m) })
	}
	if n != 1 {
		report("", "an entry of filters has exactly one of: respond, headers")
	}
}

// Name is the filter's key.
func (c *Config) Name() string {
	if c.Respond != nil {
		return "respond"
	}
	return "headers"
}

// Answers says that the filter answers every request.
func (c *Config) Answers() bool { return c.Respond != nil }

// New makes the filter of a valid configuration.
func New(c Config) Filter {
	if c.Respond != nil {
		return c.Respond
	}
	return c.Headers
}

// checkField says what is wrong with a header that a configuration names, of a response or of a request.
func checkField(name, value string, response bool) error {
	if !h1.ValidName(name) {
		return fmt.Errorf("%q is not a header name", name)
	}
	if !h1.ValidValue(value) {
		return fmt.Errorf("the value of %s has a control character, or a space at an end", name)
	}
	switch h1.KindOf([]byte(name)) {
	case h1.Date:
		if !response {
			return nil
		}
		fallthrough // fasthttp's response ignores one that is set
	case h1.ContentLength, h1.Connection, h1.TransferEncoding, h1.HopByHop, h1.Upgrade, h1.TE, h1.Trailer, h1.Expect:
		return fmt.Errorf("%s is the gateway's own to set", strings.ToLower(name))
	}
	return nil
}

// twoSpellings is a header that is there twice but for its case; empty if none is. Which one would win is chance.
func twoSpellings(headers map[string]string) string {
	seen := map[string]bool{}
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		low := strings.ToLower(k)
		if seen[low] {
			return k
		}
		seen[low] = true
	}
	return ""
}
