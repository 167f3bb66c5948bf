// Package proxyproto reads and writes the header with which a proxy tells the next one whom it speaks for: the PROXY
// protocol, versions 1 and 2 (HAProxy's doc/proxy-protocol.txt, 2020/03/05).
//
// Who may say whose connection this is decides who is let in, so a header that could be read in two ways is refused.
// Scan is for a loop that peeks: it is called with everything that has come, each time from the start, and keeps
// nothing. Its verdict does not depend on how the network cuts the bytes.
package proxyproto

import (
	"errors"
	"net/netip"
)

const (
	// maxV1 is the longest line of version 1, with its CR LF (section 2.1).
	maxV1 = 107
	// headV2 is what comes before version 2's addresses: signature, version and command, family, length (section 2.2).
	headV2 = 16
	// MaxSize bounds a header, in bytes. Version 2 could say 64 KiB; a certificate in a TLV is the largest thing that
	// anybody sends, 1 to 2 KiB. With MaxSize bytes before it, Scan is never undecided.
	MaxSize = headV2 + 4096
)

const (
	signature1 = "PROXY"
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Header is what a header says.
type Header struct {
	Version int // 1 or 2, as it was read; not looked at by AppendV1 and AppendV2
	// Local says that there are no addresses to go by, and the connection's own are the client's: the sender speaks for
	// itself (LOCAL), or for somebody who has no IP address (UNKNOWN, UNSPEC, unix sockets).
	Local bool
	// Source is the client, Dest where it connected to. An IPv4 address mapped into IPv6 is read as the IPv4 address,
	// for lists of prefixes would not know it otherwise.
	Source, Dest netip.AddrPort

	// The rest is version 2's alone. Read, it is part of the bytes that were scanned; nil: it was not there.

	SNI      []byte // the host name that the client asked for, at most 255 bytes of UTF-8 without spaces and control characters
	ALPN     []byte // the protocol that it speaks, at most 255 bytes (RFC 7301, section 3.1)
	UniqueID []byte // names the connection, at most 128 bytes
	Checksum bool   // with a CRC32C, which was right
}

// The longest values (sections 2.2.1, 2.2.2 and 2.2.5; a host name is what RFC 1035 allows).
const (
	maxSNI      = 255
	maxALPN     = 255
	maxUniqueID = 128
)

// The types of TLVs (section 2.2) that are looked into.
const (
	typeALPN     = 0x01
	typeSNI      = 0x02
	typeChecksum = 0x03
	typeUniqueID = 0x05
	typeSSL      = 0x20
)

// ErrPartial says that more bytes must come before anything can be said: a state, not a failure.
var ErrPartial = errors.New("partial PROXY header")

// ErrNone says that the connection does not begin with a PROXY header, whatever comes.
var ErrNone = errors.New("no PROXY header")

// Error is why a header was refused.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

// The verdicts. Their names say which rule was broken.
var (
	errTransport = &Error{"v1: not TCP4, TCP6 or UNKNOWN"}
	errLong      = &Error{"v1: line too long"}
	errBareCR    = &Error{"v1: CR without LF"}
	errBareLF    = &Error{"v1: LF without CR"}
	errFields    = &Error{"v1: not two addresses and two ports with one space between"}
	errAddress   = &Error{"v1: malformed address, or one of another family"}
	errPort      = &Error{"v1: malformed port"}

	errVersion  = &Error{"v2: version is not 2"}
	errCommand  = &Error{"v2: command is not LOCAL or PROXY"}
	errFamily   = &Error{"v2: unknown address family or transport"}
	errDatagram = &Error{"v2: datagrams on a stream"}
	errLarge    = &Error{"v2: header too large"}
	errShort    = &Error{"v2: shorter than its addresses"}
	errTLV      = &Error{"v2: malformed TLV"}
	errTwice    = &Error{"v2: TLV given twice"}
	errSum      = &Error{"v2: wrong checksum"}
	errSNI      = &Error{"v2: authority is too long or not text"}
	errALPN     = &Error{"v2: ALPN too long"}
	errUniqueID = &Error{"v2: unique id too long"}
)

// Scan reads the header that b begins with into h, and returns its length. The error is ErrPartial, ErrNone, or an
// *Error if b begins like a header and is none, said as soon as that is certain; h is left alone then. What follows the
// header is the caller's: see Begins. It allocates nothing, but for a malformed address.
func Scan(b []byte, h *Header) (n int, err error) {
	is1, may1 := match(b, signature1)
	is2, may2 := match(b, signature2)
	switch {
	case is1:
		return scan1(b, h)
	case is2:
		return scan2(b, h)
	case may1 || may2:
		return 0, ErrPartial
	}
	return 0, ErrNone
}

// Begins says that b begins with the whole signature of a header. What follows a header should not: it would be a
// client's own, sent in the hope that somebody further on believes it.
func Begins(b []byte) bool {
	is1, _ := match(b, signature1)
	is2, _ := match(b, signature2)
	return is1 || is2
}

// match says whether b begins with s, and if not, whether it may when more has come.
func match(b []byte, s string) (is, may bool) {
	n := min(len(b), len(s))
	if string(b[:n]) != s[:n] {
		return false, false
	}
	return n == len(s), n < len(s)
}
