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

// Continue goes on to the next filter; Answer sends ctx.Response to the client; Wait has the loop do other things until the
// filter knows: see Resume.
const (
	Continue Result = iota
	Answer
	Wait
)

// Filter is one step: Request on the way in, Response on the way out, in reverse order. One filter serves all loops at
// once.
type Filter interface {
	Request(ctx *fasthttp.RequestCtx) Result
	Response(ctx *fasthttp.RequestCtx)
}

// Config is one entry of a route's filters: exactly one key.
type Config struct {
	Respond  *Respond  `yaml:"respond"`
	Redirect *Redirect `yaml:"redirect"`
	Headers  *Headers  `yaml:"headers"`
	Rewrite  *Rewrite  `yaml:"rewrite"`
}

// key is one that an entry may have.
type key struct {
	name     string
	given    bool
	validate func(report func(path, message string))
}

func (c *Config) keys() [4]key {
	return [4]key{
		{"respond", c.Respond != nil, c.Respond.validate},
		{"redirect", c.Redirect != nil, c.Redirect.validate},
		{"headers", c.Headers != nil, c.Headers.validate},
		{"rewrite", c.Rewrite != nil, c.Rewrite.validate},
	}
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	n := 0
	var names []string
	for _, k := range c.keys() {
		names = append(names, k.name)
		if k.given {
			n++
			k.validate(under(k.name, report))
		}
	}
	if n != 1 {
		report("", "an entry of filters has exactly one of: "+strings.Join(names, ", "))
	}
}

// ValidateMatch reports what the filter wants of its route's match that is not there: prefix says that it has a path_prefix,
// names are what it captures.
func (c *Config) ValidateMatch(prefix bool, names []string, report func(path, message string)) {
	switch {
	case c.Redirect != nil:
		t, _ := parseText(c.Redirect.Path, nil)
		checkMatched("path", t, c.Redirect.PathPrefix != "", prefix, names, under("redirect", report))
	case c.Rewrite != nil:
		report = under("rewrite", report)
		t, _ := parseText(c.Rewrite.Path, nil)
		checkMatched("path", t, c.Rewrite.PathPrefix != "", prefix, names, report)
		if re, err := whole(c.Rewrite.Regexp); err == nil {
			t, _ = parseText(c.Rewrite.Substitution, re)
			checkMatched("substitution", t, false, prefix, names, report)
		}
	}
}

// under is report for what stands under a key.
func under(key string, report func(path, message string)) func(path, message string) {
	return func(path, message string) {
		if path != "" {
			path = "." + path
		}
		report(key+path, message)
	}
}

// Name is the filter's key.
func (c *Config) Name() string {
	for _, k := range c.keys() {
		if k.given {
			return k.name
		}
	}
	return ""
}

// Answers says that the filter answers every request.
func (c *Config) Answers() bool { return c.Respond != nil || c.Redirect != nil }

// WantsMatched says that the filter wants to see a Matched.
func (c *Config) WantsMatched() bool { return c.Redirect != nil || c.Rewrite != nil }

// New makes the filter of a valid configuration.
func New(c Config) Filter {
	switch {
	case c.Respond != nil:
		return c.Respond
	case c.Redirect != nil:
		return newRedirect(*c.Redirect)
	case c.Rewrite != nil:
		return newRewrite(*c.Rewrite)
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
