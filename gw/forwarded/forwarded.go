// Package forwarded finds out who a request is for when proxies stand before the gateway: by what those of them say that are
// trusted, counted from the right, as each adds to the end of what it was told (RFC 7239, section 8.1, says what the rest is
// worth).
//
// The walk begins with who made the connection. As long as the one at hand is trusted, the next to the left is who it had
// the request from; the first that is not trusted is the client, and what stands to the left of it are the client's own
// words, which nobody repeats. An element that is no address (unknown, an obfuscated name, a blunder) ends the
// walk at the one before. One header is believed, by configuration, and never both: a proxy that knows one of them passes
// on the other as its client wrote it.
package forwarded

import (
	"bytes"
	"net/netip"
	"strings"
	"unsafe"

	"sluice/gw/h1"
	"sluice/lb/access"
)

// Config says who is believed what.
type Config struct {
	// Proxies are prefixes (10.0.0.0/8, 2001:db8::/32, or an address alone) of proxies that are trusted; none: nobody is.
	Proxies []string `yaml:"trusted_proxies"`
	// Header is which header they name the client in; not given: x-forwarded-for.
	Header Header `yaml:"trusted_header"`
}

// Header is a header that names clients.
type Header string

// The headers. X-Forwarded-Proto and X-Forwarded-Host go with the first; Forwarded (RFC 7239) has all in one.
const (
	XForwardedFor Header = "x-forwarded-for"
	Forwarded     Header = "forwarded"
)

// Choices are the values that a file may have.
func (Header) Choices() []string { return []string{string(XForwardedFor), string(Forwarded)} }

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	access.Config{Allow: c.Proxies}.Validate(func(path, message string) {
		report("trusted_proxies"+strings.TrimPrefix(path, "allow"), message)
	})
	if c.Header != "" && len(c.Proxies) == 0 {
		report("trusted_header", "nobody is trusted: there are no trusted_proxies")
	}
}

// Trusted are the proxies that are believed. It is immutable, and safe for all loops.
type Trusted struct {
	proxies *access.List
	header  Header
}

// New is for a valid configuration; nil if nobody is trusted.
func New(c Config) *Trusted {
	if len(c.Proxies) == 0 {
		return nil
	}
	list, err := access.New(access.Config{Allow: c.Proxies})
	if err != nil {
		panic("BUG: trusted proxies that are not valid: " + err.Error())
	}
	t := &Trusted{proxies: list, header: c.Header}
	if t.header == "" {
		t.header = XForwardedFor
	}
	return t
}

// Header is the one that is believed.
func (t *Trusted) Header() Header { return t.header }

// maxHops bounds the elements that are believed: no request has come through so many proxies.
const maxHops = 64

// Result is who a request is for. It is meant to be used again.
type Result struct {
	// Client is who the request is for.
	Client netip.Addr
	// Chain is who it came through after the client, oldest first and the client included, as far as that is believed;
	// who made the connection is not in it.
	Chain []netip.Addr
	// Proto is http or https, as the client spoke; empty: nobody who is trusted has said. Host is what it asked for.
	Proto string
	Host  []byte
}

// Read finds out by the headers of q who the request is for that peer has sent; t may be nil. What r holds of q's bytes lives
// as long as they do. It allocates nothing once r has grown.
func (t *Trusted) Read(q *h1.Request, peer netip.Addr, r *Result) {
	*r = Result{Client: peer, Chain: r.Chain[:0]}
	if t == nil || !t.proxies.Admits(peer) {
		return
	}
	if t.header == Forwarded {
		t.readForwarded(q, r)
	} else {
		t.readXForwarded(q, r)
	}
	for i, j := 0, len(r.Chain)-1; i < j; i, j = i+1, j-1 {
		r.Chain[i], r.Chain[j] = r.Chain[j], r.Chain[i]
	}
}

// hop takes an element of the walk; false: it ends there.
func (t *Trusted) hop(r *Result, a netip.Addr) bool {
	r.Chain = append(r.Chain, a)
	r.Client = a
	return len(r.Chain) < maxHops && t.proxies.Admits(a)
}

func (t *Trusted) readXForwarded(q *h1.Request, r *Result) {
	t.walk(q, r)
	n := max(len(r.Chain), 1)
	if v := fromRight(q, h1.ForwardedProto, n); h1.EqualFold(v, "http") {
		r.Proto = "http"
	} else if h1.EqualFold(v, "https") {
		r.Proto = "https"
	}
	if v := fromRight(q, h1.ForwardedHost, n); h1.ValidAuthority(v) {
		r.Host = v
	}
}

// walk goes through X-Forwarded-For from its last line's end.
func (t *Trusted) walk(q *h1.Request, r *Result) {
	for i := len(q.Fields) - 1; i >= 0; i-- {
		if q.Fields[i].Kind != h1.ForwardedFor {
			continue
		}
		for list := q.Value(&q.Fields[i]); list != nil; {
			var element []byte
			if k := bytes.LastIndexByte(list, ','); k >= 0 {
				list, element = list[:k], list[k+1:]
			} else {
				list, element = nil, list
			}
			if element = bytes.Trim(element, " \t"); len(element) == 0 {
				continue // a list may have empty elements (RFC 9110, section 5.6.1.2)
			}
			if a, ok := node(element); !ok || !t.hop(r, a) {
				return
			}
		}
	}
}

// fromRight is the n-th element from the right of a list, which the trusted proxy n hops away has added; the first one if
// there are fewer, as of proxies that replace what they are told.
func fromRight(q *h1.Request, k h1.Kind, n int) (element []byte) {
	for i := len(q.Fields) - 1; i >= 0; i-- {
		if q.Fields[i].Kind != k {
			continue
		}
		for list := q.Value(&q.Fields[i]); list != nil; {
			var e []byte
			if j := bytes.LastIndexByte(list, ','); j >= 0 {
				list, e = list[:j], list[j+1:]
			} else {
				list, e = nil, list
			}
			if e := bytes.Trim(e, " \t"); len(e) > 0 { // a list may have empty elements
				element = e
				if n--; n == 0 {
					return element
				}
			}
		}
	}
	return element
}

// node is an address with or without a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80. Zones are
// another host's affair, and not taken.
func node(b []byte) (netip.Addr, bool) {
	if len(b) == 0 || len(b) > 64 || bytes.IndexByte(b, '%') >= 0 {
		return netip.Addr{}, false
	}
	if b[0] == '[' {
		i := bytes.IndexByte(b, ']')
		if i < 0 || i+1 < len(b) && !port(b[i+1:]) {
			return netip.Addr{}, false
		}
		a, ok := parse(b[1:i])
		return a, ok && bytes.IndexByte(b[1:i], ':') >= 0
	}
	if i := bytes.IndexByte(b, ':'); i >= 0 && i == bytes.LastIndexByte(b, ':') {
		if !port(b[i:]) {
			return netip.Addr{}, false
		}
		b = b[:i]
	}
	return parse(b)
}

func parse(b []byte) (netip.Addr, bool) {
	if len(b) == 0 || b[0] == '_' || b[0]|0x20 > 'f' { // unknown and the like, for which no error is to be made
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(unsafe.String(&b[0], len(b))) // which keeps no more of it than an error would
	return a.Unmap(), err == nil
}

// port is ":" and a number, or a name that hides it (RFC 7239, section 6.3).
func port(b []byte) bool {
	if len(b) > 2 && b[0] == ':' && b[1] == '_' {
		for _, c := range b[2:] {
			if c|0x20 < 'a' || c|0x20 > 'z' {
				if (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
					return false
				}
			}
		}
		return true
	}
	if len(b) < 2 || len(b) > 6 || b[0] != ':' {
		return false
	}
	n := 0
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// AppendFor appends the value of an X-Forwarded-For that tells the next one: the chain, and peer.
func (r *Result) AppendFor(dst []byte, peer netip.Addr) []byte {
	for _, a := range r.Chain {
		dst = a.AppendTo(dst)
		dst = append(dst, ", "...)
	}
	return peer.Unmap().WithZone("").AppendTo(dst)
}
