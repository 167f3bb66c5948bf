package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"unicode/utf8"
)

// The 13th and 14th bytes of version 2 (section 2.2).
const (
	commandLocal = 0x20
	commandProxy = 0x21

	unspec       = 0x00
	tcp4         = 0x11
	udp4         = 0x12
	tcp6         = 0x21
	udp6         = 0x22
	unixStream   = 0x31
	unixDatagram = 0x32
)

// scan2 reads a header of version 2 (section 2.2).
func scan2(b []byte, h *Header) (int, error) {
	if len(b) <= len(signature2) {
		return 0, ErrPartial
	}
	command := b[12]
	switch {
	case command>>4 != 2:
		return 0, errVersion
	case command != commandLocal && command != commandProxy:
		return 0, errCommand
	case len(b) < 14:
		return 0, ErrPartial
	}
	family := b[13]
	addresses, err := block(family)
	if err != nil {
		return 0, err
	}
	if family&0xf == 2 && command == commandProxy {
		return 0, errDatagram
	}
	if len(b) < headV2 {
		return 0, ErrPartial
	}
	n := headV2 + int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case n > MaxSize:
		return 0, errLarge
	case n < headV2+addresses && command == commandProxy:
		return 0, errShort
	case len(b) < n:
		return 0, ErrPartial
	}
	read := Header{Version: 2, Local: true}
	if command == commandProxy {
		read.block(family, b[headV2:])
	}
	// A LOCAL header's family is to be ignored: one that is shorter than its addresses is none the worse.
	if err := read.tlvs(b[:n], headV2+addresses); err != nil {
		return 0, err
	}
	*h = read
	return n, nil
}

// block is the length of a family's addresses and ports. Only these combinations are defined.
func block(family byte) (int, error) {
	switch family {
	case unspec:
		return 0, nil
	case tcp4, udp4:
		return 2*4 + 2*2, nil
	case tcp6, udp6:
		return 2*16 + 2*2, nil
	case unixStream, unixDatagram:
		return 2 * 108, nil
	}
	return 0, errFamily
}

// block reads the addresses, which p begins with.
func (h *Header) block(family byte, p []byte) {
	var source, dest netip.Addr
	switch family {
	case tcp4:
		source, dest, p = netip.AddrFrom4([4]byte(p)), netip.AddrFrom4([4]byte(p[4:])), p[8:]
	case tcp6:
		source, dest, p = netip.AddrFrom16([16]byte(p)), netip.AddrFrom16([16]byte(p[16:])), p[32:]
	default:
		return
	}
	h.Local = false
	h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(p))
	h.Dest = netip.AddrPortFrom(dest.Unmap(), binary.BigEndian.Uint16(p[2:]))
}

// tlv takes the TLV apart that begins at a byte of p, and says where the next one does; false if it does not end.
func tlv(p []byte, at int) (kind byte, value []byte, next int, ok bool) {
	if len(p)-at < 3 {
		return 0, nil, 0, false
	}
	from := at + 3
	next = from + int(binary.BigEndian.Uint16(p[at+1:]))
	if next > len(p) {
		return 0, nil, 0, false
	}
	return p[at], p[from:next:next], next, true
}

// tlvs reads what follows the addresses, from a byte of the header to its end. TLVs that are not known are skipped.
func (h *Header) tlvs(header []byte, at int) error {
	var seen [8]bool // of the types that may be given once
	for at < len(header) {
		kind, v, next, ok := tlv(header, at)
		if !ok {
			return errTLV
		}
		switch kind {
		case typeALPN, typeSNI, typeChecksum, typeUniqueID:
			if seen[kind] {
				return errTwice
			}
			seen[kind] = true
		}
		switch kind {
		case typeALPN:
			if len(v) > maxALPN {
				return errALPN
			}
			h.ALPN = v
		case typeSNI:
			if !text(v) {
				return errSNI
			}
			h.SNI = v
		case typeUniqueID:
			if len(v) > maxUniqueID {
				return errUniqueID
			}
			h.UniqueID = v
		case typeChecksum:
			if len(v) != 4 {
				return errTLV
			}
			if binary.BigEndian.Uint32(v) != sum(header, next-4) {
				return errSum
			}
			h.Checksum = true
		case typeSSL:
			// client, a byte; verify, four; TLVs to the end (section 2.2.6)
			for in := 5; in != len(v); {
				if _, _, in, ok = tlv(v, in); !ok {
					return errTLV
				}
			}
		}
		at = next
	}
	return nil
}

// text says that v may be a host name: bounded, UTF-8, and nothing that would break a log's line into more fields.
func text(v []byte) bool {
	for _, c := range v {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return len(v) <= maxSNI && utf8.Valid(v)
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeros      [4]byte
)

// sum is the CRC32C of a header with zeros for the four bytes of the checksum itself (section 2.2.3).
func sum(header []byte, at int) uint32 {
	c := crc32.Update(0, castagnoli, header[:at])
	c = crc32.Update(c, castagnoli, zeros[:])
	return crc32.Update(c, castagnoli, header[at+4:])
}

// AppendV2 appends the header as version 2 has it: LOCAL if there are no addresses, both in IPv6 if one is. What Scan
// would refuse is left out: better no name than a broken connection.
func (h *Header) AppendV2(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, signature2...)
	source, dest, ok := h.addresses()
	switch {
	case !ok:
		dst = append(dst, commandLocal, unspec, 0, 0)
	case source.Is4() && dest.Is4():
		s, d := source.As4(), dest.As4()
		dst = append(dst, commandProxy, tcp4, 0, 0)
		dst = append(append(dst, s[:]...), d[:]...)
	default:
		s, d := source.As16(), dest.As16()
		dst = append(dst, commandProxy, tcp6, 0, 0)
		dst = append(append(dst, s[:]...), d[:]...)
	}
	if ok {
		dst = binary.BigEndian.AppendUint16(dst, h.Source.Port())
		dst = binary.BigEndian.AppendUint16(dst, h.Dest.Port())
	}
	if len(h.ALPN) <= maxALPN {
		dst = appendTLV(dst, typeALPN, h.ALPN)
	}
	if text(h.SNI) {
		dst = appendTLV(dst, typeSNI, h.SNI)
	}
	if len(h.UniqueID) <= maxUniqueID {
		dst = appendTLV(dst, typeUniqueID, h.UniqueID)
	}
	if h.Checksum {
		dst = appendTLV(dst, typeChecksum, zeros[:])
	}
	header := dst[start:]
	binary.BigEndian.PutUint16(header[14:], uint16(len(header)-headV2))
	if at := len(header) - 4; h.Checksum {
		binary.BigEndian.PutUint32(header[at:], sum(header, at))
	}
	return dst
}

func appendTLV(dst []byte, kind byte, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
	return append(dst, v...)
}
