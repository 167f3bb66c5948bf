package h1

import "bytes"

// Lists of protocols, as Upgrade has them: name, or name "/" version (RFC 9110, section 7.8).

// ValidProtocol says whether connections may be upgraded to what is called so: one protocol.
func ValidProtocol(name string) bool {
	n := 0
	return eachProtocol([]byte(name), func(item []byte) { n += len(item) }) && n > 0 && n == len(name)
}

// Offers says whether a list of protocols has one, compared in any case: clients write both websocket and WebSocket (RFC
// 6455, section 4.2.1).
func Offers(list, protocol []byte) (has bool) {
	if len(protocol) == 0 {
		return false
	}
	eachProtocol(list, func(item []byte) { has = has || equalFold(item, protocol) })
	return has
}

// validProtocols says whether v is a list of one protocol or more.
func validProtocols(v []byte) bool {
	n := 0
	return eachProtocol(v, func([]byte) { n++ }) && n > 0
}

// eachProtocol calls f for every element of the list; false if one is malformed.
func eachProtocol(v []byte, f func(item []byte)) bool {
	for item, rest := nextItem(v); item != nil; item, rest = nextItem(rest) {
		name, version, versioned := bytes.Cut(item, slash)
		if len(name) == 0 || !all(name, tchar) || versioned && (len(version) == 0 || !all(version, tchar)) {
			return false
		}
		f(item)
	}
	return true
}

// takesTrailers says whether a TE lists trailers, which has no weight (RFC 9110, section 10.1.4).
func takesTrailers(v []byte) bool {
	for item, rest := nextItem(v); item != nil; item, rest = nextItem(rest) {
		if EqualFold(item, "trailers") {
			return true
		}
	}
	return false
}
