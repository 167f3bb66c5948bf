package proxyproto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// meaning is a header in words.
func meaning(h *Header) string {
	var w strings.Builder
	fmt.Fprintf(&w, "v%d", h.Version)
	if h.Local {
		w.WriteString(" local")
	}
	if h.Source.IsValid() || h.Dest.IsValid() {
		fmt.Fprintf(&w, " %s > %s", h.Source, h.Dest)
	}
	for _, v := range []struct {
		name  string
		value []byte
	}{{"sni", h.SNI}, {"alpn", h.ALPN}, {"id", h.UniqueID}} {
		if len(v.value) > 0 {
			fmt.Fprintf(&w, " %s=%s", v.name, v.value)
		}
	}
	if h.Checksum {
		w.WriteString(" sum")
	}
	return w.String()
}

// verdict is all that a caller can see of a scan.
func verdict(b []byte) string {
	untouched := Header{Version: 9}
	h := untouched
	n, err := Scan(b, &h)
	switch {
	case err != nil && (n != 0 || meaning(&h) != meaning(&untouched)):
		return fmt.Sprintf("%v, and yet %d bytes, %s", err, n, meaning(&h))
	case err != nil:
		return err.Error()
	}
	return fmt.Sprint(n, " ", meaning(&h))
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

// v2 is a header of version 2 by hand: its length is what follows.
func v2(command, family byte, parts ...[]byte) []byte {
	rest := cat(parts...)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...)
}

func value(kind byte, v string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(v))), v...)
}

// The addresses of hand-made headers, and how they read.
var (
	ip4 = []byte{192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb}
	ip6 = []byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x07\x01\xbb")
	paths = append(append([]byte("/run/a.sock"), make([]byte, 97)...), append([]byte("/run/b.sock"), make([]byte, 97)...)...)
)

const (
	reads4 = "192.0.2.1:56324 > 198.51.100.2:443"
	reads6 = "[2001:db8::1]:7 > [2001:db8::2]:443"
)

// summed has the checksum that its last four bytes are for, computed a bit at a time (RFC 4960, appendix B).
func summed(b []byte) []byte {
	b = bytes.Clone(b)
	field := b[len(b)-4:]
	clear(field)
	binary.BigEndian.PutUint32(field, crc32c(b))
	return b
}

func crc32c(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0x82f63b78*(c&1)
		}
	}
	return ^c
}
