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

// readForwarded goes through Forwarded from its end. An element that does not follow the grammar ends the walk, and what
// stands to the left of one is not looked at before the walk comes there: a client that leaves a quote open would
// otherwise have the elements of the proxies taken for a part of its own, and go as one of them.
func (t *Trusted) readForwarded(q *h1.Request, r *Result) {
	last := true
	for i := len(q.Fields) - 1; i >= 0; i-- {
		if q.Fields[i].Kind != h1.Forwarded {
			continue
		}
		for list := q.Value(&q.Fields[i]); list != nil; {
			var s []byte
			list, s = cutElement(list)
			var e element
			if !e.parse(bytes.Trim(s, " \t")) {
				return
			}
			if e.pairs == 0 {
				continue // a list may have empty elements
			}
			a, ok := e.addr()
			if ok || last { // what the last one says of protocol and host holds even if it hides the client
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
			last = false
			if !ok || !t.hop(r, a) {
				return
			}
		}
	}
}

// cutElement takes the last element off list, which is nil then if there is no other. Seen from the right, too, a quote
// opens what the next one closes that no backslash escapes; so an element of a proxy ends where it began, whatever its
// client had written before it.
func cutElement(list []byte) (rest, last []byte) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == ',' && !quoted:
			return list[:i], list[i+1:]
		case list[i] == '"':
			k := i
			for k > 0 && list[k-1] == '\\' {
				k--
			}
			quoted = !quoted || (i-k)%2 == 1
		}
	}
	return nil, list
}

// parse takes an element apart: pairs with ";" between them, and no white space.
func (e *element) parse(s []byte) bool {
	for len(s) > 0 {
		if s[0] == ';' { // which may stand alone
			s = s[1:]
			continue
		}
		i := 0
		for i < len(s) && h1.Token(s[i]) {
			i++
		}
		if i == 0 || i == len(s) || s[i] != '=' {
			return false
		}
		value, after, ok := pairValue(s[i+1:])
		if !ok || len(after) > 0 && after[0] != ';' || !e.set(s[:i], value) {
			return false
		}
		s = after
	}
	return true
}

// addr is who the element names: an address of IPv6 is in brackets here (RFC 7239, section 6).
func (e *element) addr() (netip.Addr, bool) {
	if bytes.Count(e.node, colon) > 1 && e.node[0] != '[' {
		return netip.Addr{}, false
	}
	return node(e.node)
}

var colon = []byte(":")

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

// pairValue takes a token or a quoted string off s. Escapes are left as they stand: no address, protocol or host needs one, or
// is taken with a backslash in it.
func pairValue(s []byte) (value, rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '"' {
		i := 0
		for i < len(s) && h1.Token(s[i]) {
			i++
		}
		return s[:i], s[i:], i > 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return s[1:i:i], s[i+1:], true
		case '\\':
			i++
		}
	}
	return nil, nil, false
}

// AppendForwarded appends the value of a Forwarded that tells the next one: the chain, and peer, who spoke proto and asked for
// host. What is believed of the client's protocol and host stands with the client.
func (r *Result) AppendForwarded(dst []byte, peer netip.Addr, proto string, host []byte) []byte {
	for i, a := range r.Chain {
		dst = appendNode(dst, a)
		if i == 0 {
			dst = appendAsked(dst, r.Proto, r.Host)
		}
		dst = append(dst, ", "...)
	}
	return appendAsked(appendNode(dst, peer.Unmap().WithZone("")), proto, host)
}

func appendAsked(dst []byte, proto string, host []byte) []byte {
	if proto != "" {
		dst = append(dst, ";proto="...)
		dst = append(dst, proto...)
	}
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
