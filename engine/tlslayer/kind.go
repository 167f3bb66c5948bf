package tlslayer

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
)

var (
	// ErrPlainHTTP says that the client speaks HTTP without TLS.
	ErrPlainHTTP = errors.New("plain HTTP on a TLS port")
	// ErrNotTLS says that what came first is no ClientHello.
	ErrNotTLS = errors.New("not a TLS handshake")
	// ErrShed says that too many handshakes are under way or wait, or that the loop is short of memory.
	ErrShed = errors.New("too many handshakes")
	// ErrTimeout says that the handshake took too long.
	ErrTimeout = errors.New("handshake timed out")
	// ErrNoCertificate is for a tls.Config's callbacks that have no certificate for a name. A GetCertificate that returns
	// nothing at all has the client told so (unrecognized_name), and counts the same.
	ErrNoCertificate = errors.New("no certificate for the name")
)

// Kind is why a handshake failed.
type Kind uint8

// The kinds of failure.
const (
	Other Kind = iota
	Timeout
	PlainHTTP
	NotTLS
	NoCertificate  // the server has none for the name that the client asks for
	BadCertificate // the peer's was not accepted, or it has shown none and must
	Version        // there is no version that both speak
	Protocol       // there is none that both speak of those offered by ALPN
	Refused        // the peer has sent an alert: it does not accept our certificate, say
	Shed
	Reset // the peer has ended the connection
	kinds
)

var kindNames = [kinds]string{"other", "timeout", "plain_http", "not_tls", "no_certificate", "bad_certificate", "version", "protocol", "refused", "shed", "reset"}

// String is the kind as a metric's label.
func (k Kind) String() string { return kindNames[k] }

// Kinds are all of them.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Error is why a handshake failed.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return "tls handshake: " + e.Err.Error() }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Classify is the kind of err, which is an Error or anything that crypto/tls returns. The latter does not type all of its
// errors: for an Error it is known better, by the alerts on the wire.
func Classify(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return Refused
	}
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	_, noRecord := errors.AsType[tls.RecordHeaderError](err)
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(ErrTimeout):
		return Timeout
	case is(ErrPlainHTTP):
		return PlainHTTP
	case is(ErrNotTLS) || noRecord:
		return NotTLS
	case is(ErrNoCertificate):
		return NoCertificate
	case unverified:
		return BadCertificate
	case is(ErrShed):
		return Shed
	case is(io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE):
		return Reset
	}
	return Other
}

// Alerts (RFC 8446, section 6; RFC 6066, section 3) that tell more than crypto/tls does.
const (
	alertBadCertificate   = 42
	alertUnknownCA        = 48
	alertProtocolVersion  = 70
	alertUnrecognizedName = 112
	alertNoProtocol       = 120 // RFC 7301, section 3.2
)

// alertKind is what an alert in plain text says, of the side that has sent it; Other: nothing.
func alertKind(alert uint8) Kind {
	switch {
	case alert == alertProtocolVersion:
		return Version
	case alert == alertUnrecognizedName:
		return NoCertificate
	case alert == alertNoProtocol:
		return Protocol
	case alert >= alertBadCertificate && alert <= alertUnknownCA && alert != 47: // illegal_parameter
		return BadCertificate
	}
	return Other
}
