package filter

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// CORS lets pages of other origins read responses (Fetch standard, section 3.2). It answers preflights itself, and what an upstream
// says of CORS is replaced. It is no access control: a request of another origin is passed on, and its page cannot read the answer.
type CORS struct {
	// Origins are scheme://host[:port]; a host may begin with *. for any labels, a port may be *; or * alone, for all.
	Origins []string `yaml:"origins"`
	// OriginRegexps are matched against the whole origin.
	OriginRegexps []string `yaml:"origin_regexps"`
	// Methods are those allowed; empty: GET, HEAD, POST. * is all, without credentials.
	Methods []string `yaml:"methods"`
	// Headers are those of requests that are allowed, next to the safelisted ones. * is all but Authorization, without credentials.
	Headers []string `yaml:"headers"`
	// Expose are those of responses that the page may read, next to the safelisted ones. * is all, without credentials.
	Expose []string `yaml:"expose"`
	// Credentials lets cookies, client certificates and HTTP authentication take part. Not with any *.
	Credentials bool `yaml:"credentials"`
	// MaxAge is how long a browser may remember a preflight's answer, 1s to 24h; 0: 10m.
	MaxAge time.Duration `yaml:"max_age"`
	// PrivateNetwork lets pages of public networks ask (Private Network Access).
	PrivateNetwork bool `yaml:"private_network"`
}

func (f *CORS) validate(report func(path, message string)) {
	if len(f.Origins)+len(f.OriginRegexps) == 0 {
		report("", "allows nobody: give origins or origin_regexps")
	}
	for i, s := range f.Origins {
		at := fmt.Sprintf("origins[%d]", i)
		if err := checkOrigin(s); err != nil {
			report(at, err.Error())
		} else if s == "*" && f.Credentials {
			report(at, "* with credentials would let every page act as its reader: name the origins")
		} else if s == "*" && len(f.Origins)+len(f.OriginRegexps) > 1 {
			report(at, "* allows all: the others are without effect")
		}
	}
	for i, s := range f.OriginRegexps {
		if _, err := whole(s); err != nil {
			report(fmt.Sprintf("origin_regexps[%d]", i), err.Error())
		} else if re, _ := whole(s); f.Credentials && re.MatchString("null") {
			report(fmt.Sprintf("origin_regexps[%d]", i), "matches null, the origin of any page in a sandbox: not with credentials")
		}
	}
	for _, l := range []struct {
		at     string
		tokens []string
	}{{"methods", f.Methods}, {"headers", f.Headers}, {"expose", f.Expose}} {
		for i, s := range l.tokens {
			at := fmt.Sprintf("%s[%d]", l.at, i)
			switch {
			case s == "*" && f.Credentials:
				report(at, "* is no wildcard with credentials: name them")
			case !h1.ValidName(s):
				report(at, fmt.Sprintf("%q is not a token", s))
			case l.at == "methods" && s != strings.ToUpper(s):
				report(at, fmt.Sprintf("%q: methods have a case: %q", s, strings.ToUpper(s)))
			}
		}
	}
	if f.MaxAge != 0 && (f.MaxAge < time.Second || f.MaxAge > 24*time.Hour) {
		report("max_age", fmt.Sprintf("%v: 1s to 24h", f.MaxAge))
	}
}

// cors is a CORS, ready for use: the values of fields that are always the same.
type cors struct {
	origins                          *origins
	methods, headers, expose, maxAge string
	credentials, privateNetwork      bool
}

func newCORS(cfg CORS) *cors {
	f := &cors{
		origins: newOrigins(cfg.Origins, cfg.OriginRegexps),
		methods: strings.Join(cfg.Methods, ", "), headers: strings.Join(cfg.Headers, ", "), expose: strings.Join(cfg.Expose, ", "),
		credentials: cfg.Credentials, privateNetwork: cfg.PrivateNetwork,
	}
	if len(cfg.Methods) == 0 {
		f.methods = "GET, HEAD, POST"
	}
	age := cfg.MaxAge
	if age == 0 {
		age = 10 * time.Minute
	}
	f.maxAge = strconv.Itoa(int(age / time.Second))
	return f
}

// asker is who asks, kept from the request to the response: filters in between may take Origin out of what the upstream sees.
type asker struct {
	origin  []byte
	allowed bool
}

var askers = sync.Pool{New: func() any { return &asker{} }}

// Close gives it back; fasthttp calls it when the context's values are reset.
func (a *asker) Close() error {
	a.origin, a.allowed = a.origin[:0], false
	askers.Put(a)
	return nil
}

// Request implements Filter.
func (f *cors) Request(ctx *fasthttp.RequestCtx) Result {
	h := &ctx.Request.Header
	origin := h.Peek("Origin")
	if len(origin) == 0 {
		return Continue
	}
	allowed := f.origins.allow(origin)
	if string(h.Method()) == fasthttp.MethodOptions && len(h.Peek("Access-Control-Request-Method")) > 0 {
		return f.preflight(ctx, origin, allowed)
	}
	if f.origins.any {
		return Continue // the response is the same for all
	}
	a := askers.Get().(*asker)
	a.origin, a.allowed = append(a.origin[:0], origin...), allowed
	ctx.SetUserValue(f, a)
	return Continue
}

// preflight answers whether a request may be made (Fetch standard, section 4.8). Methods and headers are for the browser to compare:
// it says what is missing.
func (f *cors) preflight(ctx *fasthttp.RequestCtx, origin []byte, allowed bool) Result {
	h := &ctx.Response.Header
	// Some caches do keep answers to OPTIONS.
	addVary(h, "Origin")
	addVary(h, "Access-Control-Request-Method")
	addVary(h, "Access-Control-Request-Headers")
	if !allowed {
		return Refuse(ctx, 403, "origin is not allowed", &badOrigin)
	}
	f.setOrigin(h, origin)
	h.Set("Access-Control-Allow-Methods", f.methods)
	if f.headers != "" {
		h.Set("Access-Control-Allow-Headers", f.headers)
	}
	h.Set("Access-Control-Max-Age", f.maxAge)
	if f.privateNetwork && string(ctx.Request.Header.Peek("Access-Control-Request-Private-Network")) == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	ctx.Response.SetStatusCode(204)
	return Answer
}

// Response implements Filter.
func (f *cors) Response(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	clearCORS(h)
	if f.origins.any {
		// To those without an Origin as well: what a cache keeps is for everybody.
		f.setOrigin(h, nil)
	} else {
		addVary(h, "Origin")
		a, _ := ctx.UserValue(f).(*asker)
		if a == nil || !a.allowed {
			return
		}
		f.setOrigin(h, a.origin)
	}
	if f.expose != "" {
		h.Set("Access-Control-Expose-Headers", f.expose)
	}
}

// clearCORS takes away what the upstream says, which few do: the seven names are gone through only if there is anything.
func clearCORS(h *fasthttp.ResponseHeader) {
	for k := range h.All() {
		if len(k) > len("Access-Control-") && string(k[:len("Access-Control-")]) == "Access-Control-" { // fasthttp's spelling
			for _, name := range ofCORS {
				h.Del(name)
			}
			return
		}
	}
}

func (f *cors) setOrigin(h *fasthttp.ResponseHeader, origin []byte) {
	if f.origins.any {
		origin = anyOrigin
	}
	h.SetCanonical(allowOrigin, origin)
	if f.credentials {
		h.SetCanonical(allowCredentials, yes)
	}
}

var (
	allowOrigin      = []byte("Access-Control-Allow-Origin")
	allowCredentials = []byte("Access-Control-Allow-Credentials")
	anyOrigin        = []byte("*")
	yes              = []byte("true")
)

// ofCORS are the fields of responses that are the filter's to set.
var ofCORS = [...]string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
	"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Max-Age", "Access-Control-Allow-Private-Network"}

var badOrigin = Refusal{"cors", "origin"}
