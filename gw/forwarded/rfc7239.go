package forwarded

import (
	"bytes"
	"net/netip"

	"sluice/gw/h1"
)

// element is one of Forwarded's, as far as it matters (RFC 7239, section 4).
type element struct {
	node  []byte // for=
	proto []byte
	host  []byte
	pairs int
}

// readForwarded goes through Forwarded from its end. A field that does not follow the grammar is not believed at all: who
// takes it apart in another way than its writer takes one thing for another.
func (t *Trusted) readForwarded(q *h1.Request, r *Result) {
	var last [maxHops]element // a ring
	n := 0
	for i := range q.Fields {
		if q.Fields[i].Kind != h1.Forwarded {
			continue
		}
		for s := q.Value(&q.Fields[i]); len(s) > 0; {
			e, rest, ok := nextElement(s)
			if !ok {
				return
			}
			s = rest
			if e.pairs > 0 { // a list may have empty elements
				last[n%maxHops] = e
				n++
			}
		}
	}
	for i := n - 1; i >= 0 && i >= n-maxHops; i-- {
		e := &last[i%maxHops]
		a, ok := node(e.node)
		if ok || i == n-1 { // what the last one says of protocol and host holds even if it hides the client
			r.Proto, r.Host = "", nil
			if h1.EqualFold(e.proto, "http") {
				r.Proto = "http"
			} else if h1.EqualFold(e.proto, "https") {
				r.Proto = "https"
			}
			if h1.ValidAuthority(e.host) {
				r.Host = e.host
			}
		}
		if !ok || !t.hop(r, a) {
			return
		}
	}
}

// nextElement takes the first element off s: pairs with ";" between them, up to a "," or the end. White space stands around
// commas, and nowhere else.
func nextElement(s []byte) (e element, rest []byte, ok bool) {
	s = bytes.TrimLeft(s, " \t")
	for {
		if len(s) == 0 || s[0] == ',' {
			break
		}
		i := 0
		for i < len(s) && h1.Token(s[i]) {
			i++
		}
		if i == 0 || i == len(s) || s[i] != '=' {
			return e, nil, false
		}
		name := s[:i]
		value, after, ok := pairValue(s[i+1:])
		if !ok {
			return e, nil, false
		}
		if !e.set(name, value) {
			return e, nil, false
		}
		s = after
		if len(s) == 0 || s[0] != ';' {
			s = bytes.TrimLeft(s, " \t")
			if len(s) > 0 && s[0] != ',' {
				return e, nil, false
			}
			break
		}
		s = s[1:]
	}
	if len(s) > 0 {
		s = s[1:] // the comma
	}
	return e, s, true
}

// set notes a pair; false: its name is there already (RFC 7239, section 4).
func (e *element) set(name, value []byte) bool {
	e.pairs++
	var at *[]byte
	switch {
	case h1.EqualFold(name, "for"):
		at = &e.node
	case h1.EqualFold(name, "proto"):
		at = &e.proto
	case h1.EqualFold(name, "host"):
		at = &e.host
	default:
		return true
	}
	if *at != nil {
		return false
	}
	*at = value
	return true
}

// pairValue takes a token or a quoted string off s. One with an escape in it is a value that nothing here equals: no address,
// protocol or host needs one.
func pairValue(s []byte) (value, rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '"' {
		i := 0
		for i < len(s) && h1.Token(s[i]) {
			i++
		}
		return s[:i], s[i:], i > 0
	}
	escaped := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if escaped {
				return []byte{}, s[i+1:], true
			}
			return s[1:i:i], s[i+1:], true
		case '\\':
			escaped = true
			i++
		}
	}
	return nil, nil, false
}

// AppendForwarded appends the value of a Forwarded that tells the next one: the chain, and peer with what it asked for and
// how.
func (r *Result) AppendForwarded(dst []byte, peer netip.Addr, proto string, host []byte) []byte {
	for _, a := range r.Chain {
		dst = appendNode(dst, a)
		dst = append(dst, ", "...)
	}
	dst = appendNode(dst, peer.Unmap().WithZone(""))
	dst = append(dst, ";proto="...)
	dst = append(dst, proto...)
	if len(host) > 0 {
		dst = append(dst, `;host="`...)
		dst = append(dst, host...)
		dst = append(dst, '"')
	}
	return dst
}

func appendNode(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		dst = append(dst, "for="...)
		return a.AppendTo(dst)
	}
	dst = append(dst, `for="[`...)
	dst = a.AppendTo(dst)
	return append(dst, `]"`...)
}
