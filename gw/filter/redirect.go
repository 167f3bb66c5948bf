package filter

import (
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// Redirect sends the client elsewhere: to an absolute URL (RFC 9110, section 10.2.2), which is the one that it asked for but
// for what is given here. It asked for the host of X-Forwarded-Host by the scheme of X-Forwarded-Proto, both as the gateway writes
// them. A client can name any host, unless the route's match does not let it: before caches, give host.
type Redirect struct {
	Scheme Scheme `yaml:"scheme"`
	// Host is without a port.
	Host string `yaml:"host"`
	// Port is 1 to 65535; 0: the client's, or with another scheme than its own that one's default. A scheme's default is
	// left out.
	Port int `yaml:"port"`
	// Path is in the place of the whole path; {name} in it is what the route's match has captured.
	Path string `yaml:"path"`
	// PathPrefix is in the place of the prefix that the route has matched.
	PathPrefix string `yaml:"path_prefix"`
	// Status is 301, 302, 303, 307 or 308; 0: 302.
	Status int `yaml:"status"`
	// StripQuery leaves the query out.
	StripQuery bool `yaml:"strip_query"`
}

// Scheme is that of a URL.
type Scheme string

// The schemes.
const (
	HTTP  Scheme = "http"
	HTTPS Scheme = "https"
)

// Choices are the values that a file may have.
func (Scheme) Choices() []string { return []string{string(HTTP), string(HTTPS)} }

// defaultPort is the scheme's (RFC 9110, sections 4.2.1 and 4.2.2).
func (s Scheme) defaultPort() string {
	if s == HTTPS {
		return "443"
	}
	return "80"
}

func (f *Redirect) validate(report func(path, message string)) {
	switch f.Status {
	case 0, 301, 302, 303, 307, 308:
	default:
		report("status", fmt.Sprintf("status %d: 301, 302, 303, 307 or 308", f.Status))
	}
	if f.Host != "" {
		if host, port := splitHost([]byte(f.Host)); !h1.ValidAuthority([]byte(f.Host)) || len(host) != len(f.Host) || len(port) > 0 {
			report("host", fmt.Sprintf("%q is not a host without a port", f.Host))
		}
	}
	if f.Port < 0 || f.Port > 65535 {
		report("port", fmt.Sprintf("port %d: 1 to 65535", f.Port))
	}
	checkPaths(f.Path, f.PathPrefix, report)
	if f.Scheme == "" && f.Host == "" && f.Port == 0 && f.Path == "" && f.PathPrefix == "" {
		report("", "leads to where it comes from: give scheme, host, port, path or path_prefix")
	}
}

// redirect is a Redirect, ready for use.
type redirect struct {
	Redirect
	change
	port []byte // empty: none
}

func newRedirect(cfg Redirect) *redirect {
	f := &redirect{Redirect: cfg, change: newChange(cfg.Path, cfg.PathPrefix)}
	if f.Status == 0 {
		f.Status = 302
	}
	if f.Port > 0 {
		f.port = strconv.AppendInt(nil, int64(f.Port), 10)
	}
	return f
}

// Request implements Filter.
func (f *redirect) Request(ctx *fasthttp.RequestCtx) Result {
	m := matchedOf(ctx)
	location, ok := f.appendOrigin(m.room[:0], &ctx.Request.Header)
	if !ok {
		return Refuse(ctx, 400, "a redirect needs the request's host", &noHost)
	}
	path, query := pathOf(ctx)
	if string(path) == "*" { // of OPTIONS, for the host as a whole
		path = path[:0]
	}
	if location, ok = f.change.append(location, path, m); !ok {
		return Refuse(ctx, 400, "path cannot be rewritten", &badRedirect)
	}
	if !f.StripQuery {
		location = append(location, query...)
	}
	m.room = location
	ctx.Response.SetStatusCode(f.Status)
	ctx.Response.Header.SetBytesV("Location", location)
	return Answer
}

// Response implements Filter.
func (f *redirect) Response(*fasthttp.RequestCtx) {}

// appendOrigin appends scheme, host and port; false: nobody has named a host.
func (f *redirect) appendOrigin(dst []byte, h *fasthttp.RequestHeader) ([]byte, bool) {
	spoken := HTTP
	if string(h.Peek("X-Forwarded-Proto")) == string(HTTPS) {
		spoken = HTTPS
	}
	asked := h.Peek("X-Forwarded-Host")
	if !h1.ValidAuthority(asked) { // removed by an earlier filter
		asked = h.Host()
	}
	host, port := splitHost(asked)
	scheme := spoken
	if f.Scheme != "" {
		scheme = f.Scheme
	}
	if scheme != spoken {
		port = nil
	}
	dst = append(dst, scheme...)
	dst = append(dst, "://"...)
	if f.Host != "" {
		dst = append(dst, f.Host...)
	} else {
		if !h1.ValidAuthority(asked) {
			return dst, false
		}
		at := len(dst)
		dst = append(dst, host...)
		for i, c := range dst[at:] { // hosts have no case (RFC 3986, section 3.2.2)
			if c >= 'A' && c <= 'Z' {
				dst[at+i] = c | 0x20
			}
		}
	}
	if len(f.port) > 0 {
		port = f.port
	}
	if len(port) > 0 && string(port) != scheme.defaultPort() {
		dst = append(dst, ':')
		dst = append(dst, port...)
	}
	return dst, true
}

// splitHost splits a valid authority; the port is empty if there is none.
func splitHost(a []byte) (host, port []byte) {
	for i := len(a) - 1; i >= 0 && a[i] != ']'; i-- {
		if a[i] == ':' {
			return a[:i], a[i+1:]
		}
	}
	return a, nil
}

var noHost, badRedirect = Refusal{"redirect", "no host"}, Refusal{"redirect", "path"}
