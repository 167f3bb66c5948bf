package h1

import (
	"bytes"
	"strings"
)

// Kind is what the gateway has to know about a field by its name.
type Kind uint8

// Kinds of fields.
const (
	Other Kind = iota
	Host
	ContentLength
	Date
	Cookie
	Guarded // may not be named in Connection: Authorization, Via
	Expect
	RequestID
	HopByHop // concerns this connection only (RFC 9110, section 7.6.1)
	Connection
	TransferEncoding
	Upgrade
	TE
	Trailer
	Forwarding     // what proxies say about the client, but for those that follow: never believed
	ForwardedFor   // X-Forwarded-For
	ForwardedProto // X-Forwarded-Proto
	ForwardedHost  // X-Forwarded-Host
	Forwarded      // RFC 7239
	Timeout        // X-Request-Timeout: how long the client waits
	GRPCTimeout    // grpc-timeout: the same
	Content        // describes the body: no trailer, and not to be named in Connection
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
	switch len(name) {
	case 2:
		if EqualFold(name, "te") {
			return TE
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
	case 12:
		switch {
		case EqualFold(name, "x-request-id"):
			return RequestID
		case EqualFold(name, "grpc-timeout"):
			return GRPCTimeout
		case EqualFold(name, "content-type"):
			return Content
		}
	case 13:
		if EqualFold(name, "authorization") {
			return Guarded
		}
	case 14:
		if EqualFold(name, "content-length") {
			return ContentLength
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
		case EqualFold(name, "content-encoding"):
			return Content
		}
	case 17:
		switch {
		case EqualFold(name, "transfer-encoding"):
			return TransferEncoding
		case EqualFold(name, "x-forwarded-proto"):
			return ForwardedProto
		case EqualFold(name, "x-request-timeout"):
			return Timeout
		}
	case 18:
		if EqualFold(name, "proxy-authenticate") {
			return HopByHop
		}
	case 19:
		if EqualFold(name, "proxy-authorization") {
			return HopByHop
		}
	}
	if len(name) >= 12 && EqualFold(name[:12], "x-forwarded-") {
		return Forwarding
	}
	for _, b := range name {
		if b == '_' {
			return Underscore
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
		f.Kind = KindOf(b[start:f.NameEnd])
	}
	return f, nil
}

// eachOption calls f for every element of a comma-separated list of tokens; false if one is none.
func eachOption(v []byte, f func(token []byte)) bool {
	for len(v) > 0 {
		var item []byte
		if i := bytes.IndexByte(v, ','); i >= 0 {
			item, v = v[:i], v[i+1:]
		} else {
			item, v = v, nil
		}
		for len(item) > 0 && (item[0] == ' ' || item[0] == '\t') {
			item = item[1:]
		}
		for len(item) > 0 && (item[len(item)-1] == ' ' || item[len(item)-1] == '\t') {
			item = item[:len(item)-1]
		}
		if len(item) == 0 {
			continue // empty elements are to be ignored (RFC 9110, section 5.6.1.2)
		}
		if !all(item, tchar) {
			return false
		}
		f(item)
	}
	return true
}

// parseLength reads a Content-Length: digits only, below 2^63.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, b := range v {
		d := int64(b) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
