package tlslayer

// verdict is what a connection's first bytes are.
type verdict uint8

const (
	partial verdict = iota // too few to say
	clientHello
	plainHTTP
	oddHandshake // a handshake that no version of ours understands: SSL 2, or of a version unheard of
	garbage
)

// sniffed is how many bytes are looked at: those of "OPTIONS ".
const sniffed = 8

const (
	recordHeader    = 5
	recordAlert     = 21
	recordHandshake = 22
	// maxRecord is the longest that any version allows (RFC 5246, section 6.2.3).
	maxRecord = recordHeader + 1<<14 + 2048
)

// look judges the first bytes of a client by the head of a record (RFC 8446, section 5.1) and of a handshake message.
func look(b []byte) verdict {
	if len(b) == 0 {
		return partial
	}
	switch {
	case b[0] == recordHandshake:
	case b[0] >= 'A' && b[0] <= 'Z':
		return method(b)
	case b[0] >= 0x80 && len(b) >= 3 && b[2] == 1:
		return oddHandshake // SSLv2 CLIENT-HELLO: 15 bits of length, type 1
	case b[0] >= 0x80 && len(b) < 3:
		return partial
	default:
		return garbage
	}
	switch {
	case len(b) > 1 && b[1] != 3:
		return oddHandshake
	case len(b) < 6:
		return partial
	}
	if n := int(b[3])<<8 | int(b[4]); n < 4 || n > 1<<14 || b[5] != 1 {
		return garbage
	}
	return clientHello
}

// method says whether b begins with an HTTP method in capitals and a space.
func method(b []byte) verdict {
	for i, ch := range b {
		switch {
		case ch == ' ' && i >= 3:
			return plainHTTP
		case ch < 'A' || ch > 'Z':
			return garbage
		}
	}
	if len(b) < sniffed {
		return partial
	}
	return plainHTTP // PROPFIND
}

// protocolVersion is the alert that nothing here can be understood.
var protocolVersion = []byte{recordAlert, 3, 1, 0, 2, 2, alertProtocolVersion}

// alertIn is the alert in plain text that a run of whole records has, 0 if there is none. An encrypted one is longer, and in
// TLS 1.3 not to be told from data.
func alertIn(b []byte) (alert uint8) {
	for len(b) >= recordHeader {
		n := recordHeader + int(b[3])<<8 + int(b[4])
		if n > len(b) {
			break
		}
		if b[0] == recordAlert && n == recordHeader+2 {
			alert = b[recordHeader+1]
		}
		b = b[n:]
	}
	return alert
}
