package filter

import (
	"github.com/valyala/fasthttp"
)

// addVary says that a response depends on a field of the request (RFC 9110, section 12.5.5), once.
func addVary(h *fasthttp.ResponseHeader, name string) {
	for _, v := range h.PeekAll("Vary") {
		for len(v) > 0 {
			var member []byte
			if member, v = nextMember(v); string(member) == "*" || equalFold(member, name) {
				return
			}
		}
	}
	h.Add("Vary", name)
}

// nextMember splits the first member off a comma-separated list (RFC 9110, section 5.6.1), for lists of tokens; it may be empty.
func nextMember(list []byte) (member, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), nil
}

// trim removes optional whitespace.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares as names of ASCII are compared: without case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return c
}
