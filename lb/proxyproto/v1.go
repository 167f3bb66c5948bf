package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
	"unsafe"
)

// transports are what may follow version 1's signature. UNKNOWN's line may go on with anything, after a space.
var transports = [...]struct {
	name string
	is4  bool
	is6  bool
}{
	{name: " TCP4 ", is4: true},
	{name: " TCP6 ", is6: true},
	{name: " UNKNOWN "},
	{name: " UNKNOWN\r"},
}

// scan1 reads a header of version 1 (section 2.1). Addresses are looked at only when the whole line is there.
func scan1(b []byte, h *Header) (int, error) {
	rest, may := b[len(signature1):], false
	for i := range transports {
		t := &transports[i]
		is, perhaps := match(rest, t.name)
		may = may || perhaps
		if !is {
			continue
		}
		n, err := line(b)
		if err != nil {
			return 0, err
		}
		read := Header{Version: 1, Local: true}
		if t.is4 || t.is6 {
			read.Local = false
			if err := read.fields(b[len(signature1)+len(t.name):n-len("\r\n")], t.is4); err != nil {
				return 0, err
			}
		}
		*h = read
		return n, nil
	}
	if may {
		return 0, ErrPartial
	}
	return 0, errTransport
}

// line is the length of the line that b begins with.
func line(b []byte) (int, error) {
	b = b[:min(len(b), maxV1)]
	for i := len(signature1); i < len(b); i++ {
		switch {
		case b[i] == '\n':
			return 0, errBareLF
		case b[i] == '\r' && i+1 < len(b):
			if b[i+1] != '\n' {
				return 0, errBareCR
			}
			return i + 2, nil
		}
	}
	if len(b) == maxV1 {
		return 0, errLong
	}
	return 0, ErrPartial
}

// fields reads "source dest source-port dest-port".
func (h *Header) fields(p []byte, is4 bool) error {
	source, p, _ := bytes.Cut(p, space)
	dest, p, _ := bytes.Cut(p, space)
	sourcePort, destPort, ok := bytes.Cut(p, space)
	if !ok || bytes.IndexByte(destPort, ' ') >= 0 {
		return errFields
	}
	from, ok1 := address(source, is4)
	to, ok2 := address(dest, is4)
	if !ok1 || !ok2 {
		return errAddress
	}
	fromPort, ok1 := port(sourcePort)
	toPort, ok2 := port(destPort)
	if !ok1 || !ok2 {
		return errPort
	}
	h.Source, h.Dest = netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort)
	return nil
}

var space = []byte(" ")

// address reads an address of the family, without a zone. IPv6 may end in dotted decimals, as inet_ntop has it.
func address(p []byte, is4 bool) (netip.Addr, bool) {
	if bytes.IndexByte(p, '%') >= 0 || bytes.IndexByte(p, ':') < 0 != is4 {
		return netip.Addr{}, false
	}
	// The string is used within the call alone: of what is kept, only a zone is text.
	a, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(p), len(p)))
	return a.Unmap(), err == nil
}

// port reads 0 to 65535, without leading zeros.
func port(p []byte) (uint16, bool) {
	if len(p) == 0 || len(p) > 5 || p[0] == '0' && len(p) > 1 {
		return 0, false
	}
	v := 0
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	return uint16(v), v <= 65535
}

// AppendV1 appends the header as version 1 has it: UNKNOWN if there are no addresses, or not of one family.
func (h *Header) AppendV1(dst []byte) []byte {
	source, dest, ok := h.addresses()
	if !ok || source.Is4() != dest.Is4() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	if source.Is4() {
		dst = append(dst, "PROXY TCP4 "...)
	} else {
		dst = append(dst, "PROXY TCP6 "...)
	}
	dst = append(source.AppendTo(dst), ' ')
	dst = append(dest.AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(h.Source.Port()), 10), ' ')
	dst = strconv.AppendUint(dst, uint64(h.Dest.Port()), 10)
	return append(dst, "\r\n"...)
}

// addresses are the header's as they are written; false if there are none to write.
func (h *Header) addresses() (source, dest netip.Addr, ok bool) {
	source, dest = h.Source.Addr().Unmap().WithZone(""), h.Dest.Addr().Unmap().WithZone("")
	return source, dest, !h.Local && source.IsValid() && dest.IsValid()
}
