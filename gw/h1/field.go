package h1

import (
	"bytes"
	"math"
	"strings"
)

// Kind is what the gateway has to know about a field by its name.
type Kind uint8

// Kinds of fields.
const (
	Other Kind = iota
	Host
	ContentLength
	Content // Content-Type, Content-Encoding, Content-Range and the like: what the body is
	Date
	Cookie
	Guarded // Authorization, Via
	Expect
	RequestID
	Deadline     // X-Request-Timeout: the caller reads it, and writes what is left of it
	GRPCDeadline // grpc-timeout: the same, in gRPC's units
	HopByHop     // concerns this connection only (RFC 9110, section 7.6.1), by its name or because Connection names it
	Connection
	TransferEncoding
	TE
	Trailer        // says which trailers come: to be passed on only where they are
	Upgrade        // to be written anew by who relays a switch of protocols
	Forwarding     // what proxies say about the client and its target, but for what follows: a client's own claims
	ForwardedFor   // X-Forwarded-For, which is believed if a proxy is that says it, as the next three are
	ForwardedProto // X-Forwarded-Proto
	ForwardedHost  // X-Forwarded-Host
	Forwarded      // RFC 7239
	Underscore     // "_" in the name: servers that turn names into variables take X_Real_IP for X-Real-IP
)

// Field is one line of a head, as offsets into it: the line from Start to Next, the name from Start to NameEnd, the
// value without white space around it from Value to ValueEnd.
type Field struct {
	Start, NameEnd, Value, ValueEnd, Next uint32
	Kind                                  Kind
}

// KindOf classifies a name, in any case.
func KindOf(name []byte) Kind {
	k := known(name)
	if k == Other && bytes.IndexByte(name, '_') >= 0 {
		return Underscore
	}
	return k
}

// known is KindOf for a name without "_".
func known(name []byte) Kind {
	switch len(name) {
	case 2:
		if EqualFold(name, "te") {
			return TE
		}
	case 3:
		if EqualFold(name, "via") {
			return Guarded
		}
	case 4:
		switch {
		case EqualFold(name, "host"):
			return Host
		case EqualFold(name, "date"):
			return Date
		}
	case 5:
		if EqualFold(name, "proxy") { // not a field at all, but a variable to CGI (httpoxy, CVE-2016-5385)
			return HopByHop
		}
	case 6:
		switch {
		case EqualFold(name, "cookie"):
			return Cookie
		case EqualFold(name, "expect"):
			return Expect
		}
	case 7:
		switch {
		case EqualFold(name, "upgrade"):
			return Upgrade
		case EqualFold(name, "trailer"):
			return Trailer
		}
	case 9:
		switch {
		case EqualFold(name, "forwarded"):
			return Forwarded
		case EqualFold(name, "x-real-ip"):
			return Forwarding
		}
	case 10:
		switch {
		case EqualFold(name, "connection"):
			return Connection
		case EqualFold(name, "keep-alive"):
			return HopByHop
		}
	case 11:
		if EqualFold(name, "x-client-ip") {
			return Forwarding
		}
	case 12:
		switch {
		case EqualFold(name, "x-request-id"):
			return RequestID
		case EqualFold(name, "grpc-timeout"):
			return GRPCDeadline
		}
	case 13:
		switch {
		case EqualFold(name, "authorization"):
			return Guarded
		case EqualFold(name, "x-rewrite-url"):
			return Forwarding
		}
	case 14:
		switch {
		case EqualFold(name, "content-length"):
			return ContentLength
		case EqualFold(name, "true-client-ip"):
			return Forwarding
		case EqualFold(name, "http2-settings"): // RFC 7540, section 3.2.1
			return HopByHop
		}
	case 15:
		if EqualFold(name, "x-forwarded-for") {
			return ForwardedFor
		}
	case 16:
		switch {
		case EqualFold(name, "proxy-connection"):
			return HopByHop
		case EqualFold(name, "x-forwarded-host"):
			return ForwardedHost
		}
	case 17:
		switch {
		case EqualFold(name, "transfer-encoding"):
			return TransferEncoding
		case EqualFold(name, "x-forwarded-proto"):
			return ForwardedProto
		case EqualFold(name, "x-request-timeout"):
			return Deadline
		}
	case 18:
		if EqualFold(name, "proxy-authenticate") {
			return HopByHop
		}
	case 19:
		switch {
		case EqualFold(name, "proxy-authorization"):
			return HopByHop
		case EqualFold(name, "x-cluster-client-ip"):
			return Forwarding
		}
	}
	return family(name)
}

// family is the kind of names that begin alike. X-Original-URL and X-Rewrite-URL are a proxy's to set too: servers that
// believe them route by them, past what the path was matched with.
func family(name []byte) Kind {
	if len(name) < len("content-") {
		return Other
	}
	switch name[0] | 0x20 {
	case 'c':
		if EqualFold(name[:8], "content-") {
			return Content
		}
	case 'x':
		if len(name) >= 12 && EqualFold(name[:12], "x-forwarded-") || len(name) >= 11 && EqualFold(name[:11], "x-original-") {
			return Forwarding
		}
	}
	return Other
}

// Token says whether a token may have b in it (RFC 9110, section 5.6.2).
func Token(b byte) bool { return class[b]&tchar != 0 }

// ValidName says whether a header may be called so (RFC 9110, section 5.1).
func ValidName(name string) bool { return name != "" && all([]byte(name), tchar) }

// ValidValue says whether a header may have this value (RFC 9110, section 5.5).
func ValidValue(value string) bool {
	return all([]byte(value), vchar) && strings.Trim(value, " \t") == value
}

// scanField checks the line b[start:end], which is followed by CRLF.
func scanField(b []byte, start, end int) (Field, *Error) {
	if b[start] == ' ' || b[start] == '\t' {
		return Field{}, errFieldFold
	}
	i := start
	under := false
	for i < end && class[b[i]]&tchar != 0 {
		under = under || b[i] == '_'
		i++
	}
	if i == start || i == end || b[i] != ':' {
		return Field{}, errFieldName
	}
	f := Field{Start: uint32(start), NameEnd: uint32(i), Next: uint32(end + 2)}
	i++
	for i < end && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	v := i
	for ; i < end; i++ {
		if class[b[i]]&vchar == 0 {
			if b[i] == '\r' {
				return Field{}, errBareCR
			}
			return Field{}, errFieldValue
		}
	}
	for i > v && (b[i-1] == ' ' || b[i-1] == '\t') {
		i--
	}
	f.Value, f.ValueEnd = uint32(v), uint32(i)
	if under {
		f.Kind = Underscore
	} else {
		f.Kind = known(b[start:f.NameEnd])
	}
	return f, nil
}

// eachOption calls f for every element of a comma-separated list of tokens; false if one is none.
func eachOption(v []byte, f func(token []byte)) bool {
	for item, rest := nextItem(v); item != nil; item, rest = nextItem(rest) {
		if !all(item, tchar) {
			return false
		}
		f(item)
	}
	return true
}

// nextItem is the first element of a comma-separated list, without the white space around it, and what follows it; nil
// if there is none. Empty elements are to be ignored (RFC 9110, section 5.6.1.2).
func nextItem(v []byte) (item, rest []byte) {
	for len(v) > 0 {
		item, rest, _ = bytes.Cut(v, comma)
		for len(item) > 0 && (item[0] == ' ' || item[0] == '\t') {
			item = item[1:]
		}
		for len(item) > 0 && (item[len(item)-1] == ' ' || item[len(item)-1] == '\t') {
			item = item[:len(item)-1]
		}
		if len(item) > 0 {
			return item, rest
		}
		v = rest
	}
	return nil, nil
}

var comma = []byte(",")

// parseLength reads a Content-Length: digits only, below 2^63.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, b := range v {
		if !digit(b) || n > math.MaxInt64/10 {
			return 0, false
		}
		if n = n*10 + int64(b-'0'); n < 0 {
			return 0, false
		}
	}
	return n, true
}
