package filter

import (
	"crypto/subtle"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
	"sluice/lb/access"
)

// Maintenance answers 503 to all but those who may look behind it: by their address, or by a header that they know.
type Maintenance struct {
	// RetryAfter is when clients are to come again, in whole seconds, rounded up (RFC 9110, section 10.2.3); 0: it is not said.
	RetryAfter time.Duration `yaml:"retry_after"`
	// Body is the page; not given: the gateway's error in JSON.
	Body string `yaml:"body"`
	// ContentType is the page's; not given: text/html; charset=utf-8.
	ContentType string `yaml:"content_type"`
	// Allow are addresses and prefixes of clients that pass.
	Allow []string `yaml:"allow"`
	// Header and Value let a request pass that has them. The header is not forwarded.
	Header string `yaml:"header"`
	Value  string `yaml:"value"`
}

func (f *Maintenance) validate(report func(path, message string)) {
	if f.RetryAfter < 0 {
		report("retry_after", "must not be negative")
	}
	if f.ContentType != "" && !h1.ValidValue(f.ContentType) {
		report("content_type", "has a control character, or a space at an end")
	}
	if f.ContentType != "" && f.Body == "" {
		report("content_type", "is for a body, which is not given")
	}
	access.Config{Allow: f.Allow}.Validate(report)
	switch {
	case f.Header == "" && f.Value == "":
	case f.Header == "":
		report("value", "is of a header, which is not given")
	case f.Value == "":
		report("value", "is missing: a header alone would let anyone pass")
	default:
		if err := checkField(f.Header, f.Value, false); err != nil {
			report("header", fmt.Sprintf("%q with its value cannot be sent", f.Header)) // err names a field, and may name the value
		}
	}
}

// maintenance is a Maintenance, ready for use.
type maintenance struct {
	Maintenance
	allow *access.List // nil: nobody
	after string       // empty: not said
}

var inMaintenance = Refusal{"maintenance", "maintenance"}

func newMaintenance(cfg Maintenance) *maintenance {
	f := &maintenance{Maintenance: cfg}
	if f.ContentType == "" {
		f.ContentType = "text/html; charset=utf-8"
	}
	if cfg.RetryAfter > 0 {
		f.after = strconv.FormatInt(int64((cfg.RetryAfter+time.Second-1)/time.Second), 10)
	}
	if len(cfg.Allow) > 0 {
		l, err := access.New(access.Config{Allow: cfg.Allow})
		if err != nil {
			panic("BUG: addresses that are not valid: " + err.Error())
		}
		f.allow = l
	}
	return f
}

// Request implements Filter.
func (f *maintenance) Request(ctx *fasthttp.RequestCtx) Result {
	passes := f.allow != nil && f.allow.Admits(sourceOf(ctx))
	if f.Header != "" {
		h := &ctx.Request.Header
		// Two of them are joined by nobody: the first counts.
		if subtle.ConstantTimeCompare(h.Peek(f.Header), []byte(f.Value)) == 1 {
			passes = true
		}
		h.Del(f.Header)
	}
	if passes {
		return Continue
	}
	Refuse(ctx, 503, "down for maintenance", &inMaintenance)
	if f.Body != "" {
		ctx.Response.SetBodyString(f.Body)
		ctx.Response.Header.SetContentType(f.ContentType)
	}
	ctx.Response.Header.Set("Cache-Control", "no-store")
	if f.after != "" {
		ctx.Response.Header.Set("Retry-After", f.after)
	}
	return Answer
}

// Response implements Filter.
func (f *maintenance) Response(*fasthttp.RequestCtx) {}

// sourceOf is the client's address, IPv4 as such; not valid if it has none: it came by a Unix socket.
func sourceOf(ctx *fasthttp.RequestCtx) netip.Addr {
	if a, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		ip, _ := netip.AddrFromSlice(a.IP)
		return ip.Unmap()
	}
	return netip.Addr{}
}
