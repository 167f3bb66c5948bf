package sni

// Alert says why a connection is ended (RFC 8446, section 6).
type Alert byte

// The alerts of one who only reads the hello.
const (
	DecodeError      Alert = 50
	UnrecognizedName Alert = 112 // RFC 6066, section 3
)

// Append appends the record of a fatal alert, which may stand where the ServerHello would. Its version is TLS 1.2's:
// what RFC 8446 (section 5.1) wants of everybody but a client's first record, and nobody who knows TLS 1.2 or 1.3 looks
// at, before a version is agreed on.
func (a Alert) Append(dst []byte) []byte {
	const recordAlert, fatal = 21, 2
	return append(dst, recordAlert, 3, 3, 0, 2, fatal, byte(a))
}
