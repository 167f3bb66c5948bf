// Package sni reads which host a TLS client asks for, from a ClientHello that is left where it is, and finds where that
// host's connections go.
//
// Whoever terminates the connection reads the same hello again. If the two read different names, a client could reach
// what it should not; so a hello that could be read in two ways is refused. Scan is for a loop that peeks: it is called
// with everything that has come, each time from the start. Its verdict does not depend on how the network, or the
// client's choice of records, cuts the bytes.
package sni

import (
	"errors"
	"iter"
	"slices"
)

const (
	recordHead = 5       // type, version, length (RFC 8446, section 5.1)
	maxRecord  = 1 << 14 // the longest plaintext

	// maxHello bounds a ClientHello. Browsers send 500 bytes to 2 KiB, with post-quantum key shares; a session ticket
	// with a client certificate in it makes it a few more.
	maxHello = 16 << 10
	// MaxSize bounds how far into a connection a hello may reach, in bytes: the longest, and the heads of 16 records.
	// With MaxSize bytes before it, Scan is never undecided.
	MaxSize = maxHello + 16*recordHead
)

// The numbers of the protocol.
const (
	recordHandshake = 22
	clientHello     = 1
	major           = 3 // of every version from SSL 3.0 to TLS 1.3
	extServerName   = 0 // RFC 6066, section 3
	extALPN         = 16
	typeHostName    = 0
)

// Hello is what a ClientHello says. One serves a loop: what it holds is its own, and good until it is scanned into again.
type Hello struct {
	// ServerName is the host that is asked for, in lower case, without a dot at its end; empty if none is.
	ServerName []byte
	// ALPN is the list of protocols that are offered, as it came: each is one byte of length and so many more (RFC 7301,
	// section 3.1). Empty if none are.
	ALPN []byte

	message []byte // the handshake message, which the others are part of
}

// Protocols are those that are offered, the client's favourite first.
func (h *Hello) Protocols() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for p := h.ALPN; len(p) > 0; {
			n := 1 + int(p[0])
			if !yield(p[1:n:n]) {
				return
			}
			p = p[n:]
		}
	}
}

// ErrPartial says that the hello is not whole yet: a state, not a failure.
var ErrPartial = errors.New("partial ClientHello")

// ErrNotTLS says that the connection does not begin with a TLS handshake, whatever comes.
var ErrNotTLS = errors.New("not TLS")

// Error is why a hello was refused.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

// The verdicts. Their names say which rule was broken.
var (
	errRecord      = &Error{"malformed TLS record"}
	errInterleaved = &Error{"another record within the ClientHello"}
	errNotHello    = &Error{"handshake does not begin with a ClientHello"}
	errLarge       = &Error{"ClientHello too large, or in too many records"}
	errTrailing    = &Error{"handshake goes on behind the ClientHello"}
	errLengths     = &Error{"lengths in the ClientHello do not add up"}
	errVersion     = &Error{"unknown version in the ClientHello"}
	errSession     = &Error{"session id too long"}
	errSuites      = &Error{"malformed list of cipher suites"}
	errCompression = &Error{"no compression methods"}
	errTwice       = &Error{"extension given twice"}
	errNames       = &Error{"server_name is not one host name"}
	errName        = &Error{"malformed host name"}
	errAddress     = &Error{"host name is an IP address"}
	errProtocols   = &Error{"malformed list of protocols"}
)

// Scan reads the ClientHello that b begins with into h. The error is nil if it is whole and good, and ErrPartial,
// ErrNotTLS or an *Error otherwise, said as soon as that is certain. It allocates nothing once h has held a hello of
// the size.
func Scan(b []byte, h *Hello) error {
	h.ServerName, h.ALPN, h.message = nil, nil, h.message[:0]
	promised := 0 // bytes of handshake in the records so far
	for at := 0; at+recordHead < MaxSize; {
		body, n, err := record(b[at:], at == 0)
		if err != nil {
			return err
		}
		promised += n
		if at += recordHead + n; at > MaxSize {
			return errLarge
		}
		h.message = append(h.message, body...)
		if whole, err := h.whole(promised); err != nil {
			return err
		} else if whole {
			if err := h.parse(h.message[handshakeHead:]); err != nil {
				h.ServerName, h.ALPN = nil, nil // nobody shall route by half a hello
				return err
			}
			return nil
		}
		if at > len(b) {
			return ErrPartial
		}
	}
	return errLarge
}

// record is what there is of the body of the record that b begins with, and how long that is to be.
func record(b []byte, first bool) (body []byte, n int, err error) {
	other := ErrNotTLS
	if !first {
		other = errInterleaved
	}
	switch {
	case len(b) > 0 && b[0] != recordHandshake:
		return nil, 0, other
	case len(b) > 1 && b[1] != major: // its minor version is to be ignored
		if !first {
			other = errRecord
		}
		return nil, 0, other
	case len(b) < recordHead:
		return nil, 0, ErrPartial
	}
	n = int(b[3])<<8 | int(b[4])
	if n == 0 || n > maxRecord {
		return nil, 0, errRecord
	}
	return b[recordHead:min(len(b), recordHead+n)], n, nil
}

const handshakeHead = 4 // type, length (RFC 8446, section 4)

// whole says whether the message is there, when the records that have begun promise so many bytes.
func (h *Hello) whole(promised int) (bool, error) {
	m := h.message
	if len(m) > 0 && m[0] != clientHello {
		return false, errNotHello
	}
	if len(m) < handshakeHead {
		return false, nil
	}
	n := handshakeHead + (int(m[1])<<16 | int(m[2])<<8 | int(m[3]))
	switch {
	case n > maxHello:
		return false, errLarge
	case promised > n: // a hello ends where its record does, for keys may change there (RFC 8446, section 5.1)
		return false, errTrailing
	}
	return len(m) == n, nil
}

// parse reads a ClientHello (RFC 8446, section 4.1.2; extensions are not there in the oldest).
func (h *Hello) parse(b []byte) error {
	p := cursor{b, true}
	version, _ := p.take(2), p.take(32)
	session, suites, compression := p.list8(), p.list16(), p.list8()
	switch {
	case !p.ok:
		return errLengths
	case version[0] != major:
		return errVersion
	case len(session) > 32:
		return errSession
	case len(suites) == 0 || len(suites)%2 != 0:
		return errSuites
	case len(compression) == 0:
		return errCompression
	case len(p.b) == 0:
		return nil
	}
	extensions := cursor{p.list16(), true}
	if !p.whole() {
		return errLengths
	}
	var seen [1 << 16 / 64]uint64 // a bit a type: a list would be searched thousands of times by a bad hello
	for len(extensions.b) > 0 {
		kind, body := extensions.uint16(), cursor{extensions.list16(), true}
		if !extensions.ok {
			return errLengths
		}
		if seen[kind/64]&(1<<(kind%64)) != 0 {
			return errTwice
		}
		seen[kind/64] |= 1 << (kind % 64)
		var err error
		switch kind {
		case extServerName:
			err = h.serverName(body)
		case extALPN:
			err = h.protocols(body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// serverName reads the extension, a list that can have one entry (RFC 6066, section 3). The name becomes lower case
// where it stands, which is in h.
func (h *Hello) serverName(ext cursor) error {
	list := cursor{ext.list16(), true}
	kind, name := list.take(1), list.list16()
	if !ext.whole() || !list.whole() || kind[0] != typeHostName {
		return errNames
	}
	lower(name)
	name = trimDot(name)
	if err := checkName(name); err != nil {
		return err
	}
	h.ServerName = name
	return nil
}

// protocols reads the extension, a list of names that are not empty (RFC 7301, section 3.1).
func (h *Hello) protocols(ext cursor) error {
	list := cursor{ext.list16(), true}
	if !ext.whole() || len(list.b) == 0 {
		return errProtocols
	}
	all := slices.Clip(list.b)
	for len(list.b) > 0 {
		if name := list.list8(); len(name) == 0 {
			return errProtocols
		}
	}
	h.ALPN = all
	return nil
}

// cursor takes b apart from the front. What is not there it answers with nothing, and remembers in ok.
type cursor struct {
	b  []byte
	ok bool
}

// whole says that everything was there, and nothing else.
func (c *cursor) whole() bool { return c.ok && len(c.b) == 0 }

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.ok = nil, false
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) uint16() int {
	if p := c.take(2); c.ok {
		return int(p[0])<<8 | int(p[1])
	}
	return 0
}

// list8 takes a length of one byte, and as many bytes as it says.
func (c *cursor) list8() []byte {
	if p := c.take(1); c.ok {
		return c.take(int(p[0]))
	}
	return nil
}

// list16 is the same with a length of two bytes.
func (c *cursor) list16() []byte { return c.take(c.uint16()) }
