package h1

import (
	"bytes"
	"net/netip"
	"unsafe"
)

// Request is the head of a request. Its slices point into the bytes that were scanned: they live as long as those are
// left alone.
type Request struct {
	head
	// Method is the method's token.
	Method []byte
	// Path is the canonical path: matched and forwarded, so that no spelling of a path is taken for another. It is
	// "*" for OPTIONS *, and empty for CONNECT, whose target is the Authority.
	Path []byte
	// Query is what follows the path, with its "?"; empty if there is none.
	Query []byte
	// Authority is the host that is asked for, with its port, from the target or Host; empty only in HTTP/1.0.
	Authority []byte
	// Expect says that the client waits for 100 (Continue).
	Expect bool
	// TrailersOK says that the client takes trailers (TE: trailers; RFC 9110, section 10.1.4).
	TrailersOK bool
	// Upgrade is the protocols that the client asks to switch to, a list (RFC 9110, section 7.8); nil unless it is asked as
	// it must be: by a GET in HTTP/1.1, without a body, with one field that Connection names. It is not forwarded as a
	// field; who relays the switch writes it, of a protocol that the route allows, and waits with what follows the head
	// for the 101 (Switching Protocols): to an upstream that does not switch, it would be the next request.
	Upgrade []byte

	lim      *Limits // of the scan that goes on
	target   []byte
	fromURI  []byte // authority of an absolute target
	pathRoom []byte
}

// Scan reads a request's head from the front of b. It returns the head's length, or ErrPartial, with how far it came
// kept in r for the next call with a longer b, or the *Error for which the request is refused.
func (q *Request) Scan(b []byte, r *Resume, lim *Limits) (int, error) {
	q.lim = lim
	n, err := q.lines(b, r, lim, errHeadLarge, q.requestLine)
	if err != nil {
		return 0, err
	}
	if err := q.framing(); err != nil {
		return 0, err
	}
	if err := q.meaning(); err != nil {
		return 0, err
	}
	*r = Resume{}
	return n, nil
}

// requestLine is RFC 9112, section 3: exactly one space on either side of the target.
func (q *Request) requestLine(line []byte) *Error {
	i := 0
	for i < len(line) && class[line[i]]&tchar != 0 {
		i++
	}
	if i == 0 {
		return errMethod
	}
	if i == len(line) || line[i] != ' ' {
		return errRequestLine
	}
	q.Method = line[:i]
	rest := line[i+1:]
	j := 0
	for j < len(rest) && class[rest[j]]&uchar != 0 {
		j++
	}
	if j == 0 {
		return errRequestLine
	}
	if j == len(rest) {
		return errRequestLine // HTTP/0.9
	}
	if rest[j] != ' ' {
		return errTarget
	}
	q.target = rest[:j]
	v := rest[j+1:]
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' || !digit(v[5]) || !digit(v[7]) {
		return errVersion
	}
	if v[5] != '1' {
		return errVersionOther
	}
	q.Minor = min(int(v[7]-'0'), 1)
	switch string(q.Method) {
	case "TRACE":
		return errMethodRefused
	case "CONNECT":
		if !q.lim.Connect {
			return errMethodRefused
		}
		q.fromURI, q.Path, q.Query = q.target, nil, nil
		if !validTunnel(q.target) {
			return errTunnel
		}
		return nil
	}
	return q.splitTarget()
}

func digit(b byte) bool { return b >= '0' && b <= '9' }

// splitTarget tells the forms of RFC 9112, section 3.2, apart.
func (q *Request) splitTarget() *Error {
	t := q.target
	q.fromURI = nil
	q.Query = nil
	switch {
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*' && string(q.Method) == "OPTIONS":
		q.Path = t
		return nil
	default:
		i := bytes.Index(t, []byte("://"))
		if i < 0 || !EqualFold(t[:i], "http") && !EqualFold(t[:i], "https") {
			return errTargetForm
		}
		t = t[i+3:]
		end := bytes.IndexAny(t, "/?")
		if end < 0 {
			end = len(t)
		}
		if !validAuthority(t[:end]) {
			return errHostBad
		}
		q.fromURI, t = t[:end], t[end:]
	}
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		t, q.Query = t[:i], t[i:]
	}
	if len(t) == 0 {
		if t = slash; q.Query == nil && string(q.Method) == "OPTIONS" {
			q.Path = asterisk // RFC 9112, section 3.2.4
			return nil
		}
	}
	p, room, err := canonical(t, q.pathRoom[:0], q.lim.Slashes)
	q.Path, q.pathRoom = p, room
	return err
}

var slash, asterisk = []byte("/"), []byte("*")

// meaning checks what only the whole head can tell.
func (q *Request) meaning() *Error {
	q.Authority, q.Expect, q.TrailersOK, q.Upgrade = nil, false, false, nil
	hosts, upgrades := 0, 0
	for i := range q.Fields {
		f := &q.Fields[i]
		switch f.Kind {
		case Host:
			if hosts++; hosts > 1 {
				return errHostTwice
			}
			q.Authority = q.Value(f)
			if !validAuthority(q.Authority) {
				return errHostBad
			}
		case Expect:
			if !EqualFold(q.Value(f), "100-continue") {
				return errExpect
			}
			// Only HTTP/1.1 clients know what to do with a 100 (RFC 9110, section 10.1.1).
			if q.Minor == 0 {
				f.Kind = HopByHop
			} else {
				q.Expect = true
			}
		case TE:
			q.TrailersOK = q.TrailersOK || takesTrailers(q.Value(f))
		case Upgrade:
			upgrades++
			q.Upgrade = q.Value(f)
		}
	}
	if hosts == 0 && q.Minor > 0 {
		return errHostMissing
	}
	if q.fromURI != nil {
		// The target wins over Host (RFC 9112, section 3.2.2).
		q.Authority = q.fromURI
	}
	if q.Chunked && q.Minor == 0 {
		return errTE10
	}
	if len(q.Path) == 0 && (q.Chunked || q.Length >= 0) {
		return errTunnelBody
	}
	if upgrades != 1 || !q.connUpgrade || q.Minor == 0 || q.Chunked || q.Length > 0 || string(q.Method) != "GET" || !validProtocols(q.Upgrade) {
		q.Upgrade = nil
	}
	return nil
}

// Hostname is the authority's host without its port, in whatever case it came.
func (q *Request) Hostname() []byte {
	a := q.Authority
	if i := bytes.LastIndexByte(a, ':'); i >= 0 && bytes.IndexByte(a[i:], ']') < 0 {
		return a[:i]
	}
	return a
}

// ValidAuthority says whether a is a host with or without a port, and not empty.
func ValidAuthority(a []byte) bool { return len(a) > 0 && validAuthority(a) }

// validAuthority is uri-host [":" port], with nothing percent-encoded and no user information (RFC 9110, section 4.2.4).
func validAuthority(a []byte) bool {
	host := a
	if len(a) > 0 && a[0] == '[' {
		i := bytes.IndexByte(a, ']')
		if i < 0 || !validIPv6(a[1:i]) {
			return false
		}
		a = a[i+1:]
	} else {
		i := bytes.IndexByte(a, ':')
		if i < 0 {
			i = len(a)
		}
		host, a = a[:i], a[i:]
		if len(host) == 0 || !all(host, hostchar) {
			return false
		}
	}
	if len(a) == 0 {
		return true
	}
	port, ok := parsePort(a)
	return ok && port <= 65535
}

// parsePort reads a colon and up to five digits.
func parsePort(a []byte) (port int, ok bool) {
	if len(a) == 0 || a[0] != ':' || len(a) > 6 {
		return 0, false
	}
	for _, b := range a[1:] {
		if !digit(b) {
			return 0, false
		}
		port = port*10 + int(b-'0')
	}
	return port, true
}

// validTunnel is the target of CONNECT: an authority with a port that can be dialled (RFC 9110, section 9.3.6).
func validTunnel(a []byte) bool {
	i := bytes.LastIndexByte(a, ':')
	if i < 0 || !validAuthority(a) {
		return false
	}
	port, ok := parsePort(a[i:]) // not within brackets: an address without a port ends in one
	return ok && port > 0
}

// validIPv6 is an IPv6 address as in a URI, without a zone (RFC 3986, section 3.2.2).
func validIPv6(a []byte) bool {
	if len(a) < 2 || len(a) > 45 || bytes.IndexByte(a, '%') >= 0 {
		return false
	}
	ip, err := netip.ParseAddr(unsafe.String(&a[0], len(a))) // which keeps no more of it than an error would
	return err == nil && ip.Is6()
}
