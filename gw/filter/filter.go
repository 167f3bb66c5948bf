// Package filter holds the steps of the gateway's pipeline, a file each. A filter sees fasthttp's RequestCtx, and
// never blocks its loop.
package filter

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
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
	// Who may.
	JWT       *JWT       `yaml:"jwt"`
	APIKey    *APIKey    `yaml:"api_key"`
	Basic     *Basic     `yaml:"basic"`
	HMAC      *HMAC      `yaml:"hmac"`
	IP        *IP        `yaml:"ip"`
	ExtAuth   *ExtAuth   `yaml:"ext_auth"`
	Authorize *Authorize `yaml:"authorize"`

	// How much.
	RateLimit   *RateLimit   `yaml:"rate_limit"`
	Quota       *Quota       `yaml:"quota"`
	Concurrency *Concurrency `yaml:"concurrency"`
	BodyLimit   *BodyLimit   `yaml:"body_limit"`

	// What becomes of it.
	Headers      *Headers      `yaml:"headers"`
	Rewrite      *Rewrite      `yaml:"rewrite"`
	RequestID    *RequestID    `yaml:"request_id"`
	Query        *Query        `yaml:"query"`
	JSONBody     *JSONBody     `yaml:"json_body"`
	BodyTemplate *BodyTemplate `yaml:"body_template"`
	Compress     *Compress     `yaml:"compress"`
	Decompress   *Decompress   `yaml:"decompress"`

	// What browsers go by.
	CORS            *CORS            `yaml:"cors"`
	SecurityHeaders *SecurityHeaders `yaml:"security_headers"`

	// What is answered in an upstream's place.
	Respond     *Respond     `yaml:"respond"`
	Redirect    *Redirect    `yaml:"redirect"`
	Maintenance *Maintenance `yaml:"maintenance"`
	Aggregate   *Aggregate   `yaml:"aggregate"`

	own []given
}

// key is one that an entry may have.
type key struct {
	name     string
	given    bool
	validate func(report func(path, message string))
	make     func() Filter
}

func (c *Config) keys() []key {
	all := []key{
		{"jwt", c.JWT != nil, c.JWT.validate, func() Filter { return newJWT(*c.JWT) }},
		{"api_key", c.APIKey != nil, c.APIKey.validate, func() Filter { return newAPIKey(*c.APIKey) }},
		{"basic", c.Basic != nil, c.Basic.validate, func() Filter { return newBasic(*c.Basic) }},
		{"hmac", c.HMAC != nil, c.HMAC.validate, func() Filter { return newHMAC(*c.HMAC) }},
		{"ip", c.IP != nil, c.IP.validate, func() Filter { return newIP(*c.IP) }},
		{"ext_auth", c.ExtAuth != nil, c.ExtAuth.validate, func() Filter { return newExtAuth(*c.ExtAuth) }},
		{"authorize", c.Authorize != nil, c.Authorize.validate, func() Filter { return newAuthorize(*c.Authorize) }},
		{"rate_limit", c.RateLimit != nil, c.RateLimit.validate, func() Filter { return newRateLimit(*c.RateLimit) }},
		{"quota", c.Quota != nil, c.Quota.validate, func() Filter { return newQuota(*c.Quota) }},
		{"concurrency", c.Concurrency != nil, c.Concurrency.validate, func() Filter { return newConcurrency(*c.Concurrency) }},
		{"body_limit", c.BodyLimit != nil, c.BodyLimit.validate, func() Filter { return c.BodyLimit }},
		{"headers", c.Headers != nil, c.Headers.validate, func() Filter { return newHeaders(*c.Headers) }},
		{"rewrite", c.Rewrite != nil, c.Rewrite.validate, func() Filter { return newRewrite(*c.Rewrite) }},
		{"request_id", c.RequestID != nil, c.RequestID.validate, func() Filter { return newRequestID(*c.RequestID) }},
		{"query", c.Query != nil, c.Query.validate, func() Filter { return newQuery(*c.Query) }},
		{"json_body", c.JSONBody != nil, c.JSONBody.validate, func() Filter { return newJSONBody(*c.JSONBody) }},
		{"body_template", c.BodyTemplate != nil, c.BodyTemplate.validate, func() Filter { return newBodyTemplate(*c.BodyTemplate) }},
		{"compress", c.Compress != nil, c.Compress.validate, func() Filter { return newCompress(*c.Compress) }},
		{"decompress", c.Decompress != nil, c.Decompress.validate, func() Filter { return newDecompress(*c.Decompress) }},
		{"cors", c.CORS != nil, c.CORS.validate, func() Filter { return newCORS(*c.CORS) }},
		{"security_headers", c.SecurityHeaders != nil, c.SecurityHeaders.validate, func() Filter { return newSecurityHeaders(*c.SecurityHeaders) }},
		{"respond", c.Respond != nil, c.Respond.validate, func() Filter { return c.Respond }},
		{"redirect", c.Redirect != nil, c.Redirect.validate, func() Filter { return newRedirect(*c.Redirect) }},
		{"maintenance", c.Maintenance != nil, c.Maintenance.validate, func() Filter { return newMaintenance(*c.Maintenance) }},
		{"aggregate", c.Aggregate != nil, c.Aggregate.validate, func() Filter { return newAggregate(*c.Aggregate) }},
	}
	for i := range c.own {
		g := &c.own[i]
		all = append(all, key{g.key, true, g.validate, func() Filter { return g.maker.filter(g.options) }})
	}
	return all
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
	case c.Aggregate != nil:
		c.Aggregate.validateMatch(names, under("aggregate", report))
	case c.Query != nil:
		c.Query.validateMatch(names, under("query", report))
	case c.BodyTemplate != nil:
		c.BodyTemplate.validateMatch(names, under("body_template", report))
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
func (c *Config) Answers() bool {
	return c.Respond != nil || c.Redirect != nil || c.Aggregate != nil || len(c.own) > 0 && c.own[0].maker.answers
}

// WantsMatched says that the filter wants to see a Matched.
func (c *Config) WantsMatched() bool {
	return c.Redirect != nil || c.Rewrite != nil || c.Aggregate != nil || c.Query != nil || c.BodyTemplate != nil
}

// ClusterNames are the clusters that the filter calls, each with its key's path.
func (c *Config) ClusterNames(each func(path, name string)) {
	if c.ExtAuth != nil {
		each("ext_auth.cluster", c.ExtAuth.Cluster)
	}
	if c.Aggregate != nil {
		for i := range c.Aggregate.Parts {
			each("aggregate.parts["+strconv.Itoa(i)+"].cluster", c.Aggregate.Parts[i].Cluster)
		}
	}
}

// New makes the filter of a valid configuration. One that is an io.Closer is to be closed when no configuration has it any
// more.
func New(c Config) Filter {
	for _, k := range c.keys() {
		if k.given {
			return k.make()
		}
	}
	panic("BUG: a filter without a key")
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
