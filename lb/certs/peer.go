package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Peer is who is at the other end of a connection, as its verified certificate says. Immutable; it is made once for a connection.
type Peer struct {
	// Subject and Issuer are distinguished names (RFC 4514), in ASCII: what is none is written \C3\A9.
	Subject string
	Issuer  string
	// URIs are those of the subject's alternative names, SPIFFE ids before others.
	URIs        []string
	DNS         []string
	Emails      []string
	IPs         []string
	Serial      string            // hexadecimal, lower case
	Fingerprint [sha256.Size]byte // SHA-256 of the certificate in DER
	NotAfter    time.Time

	der []byte
}

// PeerOf is the peer of a connection whose handshake is done; nil: it has shown no certificate, or none was asked for, or nobody has
// verified it.
func PeerOf(state *tls.ConnectionState) *Peer {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return nil
	}
	c := state.PeerCertificates[0]
	p := &Peer{
		Subject:     distinguished(c.RawSubject),
		Issuer:      distinguished(c.RawIssuer),
		URIs:        uris(c),
		DNS:         c.DNSNames,
		Emails:      c.EmailAddresses,
		Serial:      c.SerialNumber.Text(16),
		Fingerprint: sha256.Sum256(c.Raw),
		NotAfter:    c.NotAfter,
		der:         c.Raw,
	}
	for _, ip := range c.IPAddresses {
		p.IPs = append(p.IPs, ip.String())
	}
	return p
}

// uris are the URIs of a certificate, SPIFFE ids first.
func uris(c *x509.Certificate) (all []string) {
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	slices.SortStableFunc(all, func(a, b string) int { return spiffe(a) - spiffe(b) })
	return all
}

func spiffe(uri string) int {
	if strings.HasPrefix(uri, "spiffe://") {
		return 0
	}
	return 1
}

// distinguished writes a name from its DER: pkix.Name would lose the order of what it does not know.
func distinguished(der []byte) string {
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &name); err != nil {
		return "" // the parser of the certificate has read it well
	}
	s := name.String()
	for i := range len(s) {
		if !printable(s[i]) {
			return escaped(s, `\%02X`)
		}
	}
	return s
}

func printable(c byte) bool { return c >= ' ' && c < 0x7f }

// escaped writes the bytes that are not printable, which a header may not have, by a format.
func escaped(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; printable(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, format, c)
		}
	}
	return b.String()
}

// AppendXFCC appends an element of X-Forwarded-Client-Cert, as Envoy writes it: By for each of by, which is Store.Local; Hash; Cert,
// the whole certificate, if it is asked for; Subject, in quotes and even if it is empty; URI, even if there is none; DNS. It does not
// allocate if dst has room and no Cert is asked for.
func (p *Peer) AppendXFCC(dst []byte, by []string, cert bool) []byte {
	for _, uri := range by {
		dst = appendValue(append(dst, "By="...), uri)
		dst = append(dst, ';')
	}
	dst = append(dst, "Hash="...)
	dst = hex.AppendEncode(dst, p.Fingerprint[:])
	if cert {
		dst = append(dst, `;Cert="`...)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.der})
		dst = append(dst, strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")...)
		dst = append(dst, '"')
	}
	// Quotes and backslashes are escaped in a distinguished name already.
	dst = append(dst, `;Subject="`...)
	dst = append(dst, p.Subject...)
	dst = append(dst, '"')
	for _, uri := range p.URIs {
		dst = appendValue(append(dst, ";URI="...), uri)
	}
	if len(p.URIs) == 0 {
		dst = append(dst, ";URI="...)
	}
	for _, name := range p.DNS {
		dst = appendValue(append(dst, ";DNS="...), name)
	}
	return dst
}

// appendValue quotes what would be read as more than one value, and escapes what a header may not have.
func appendValue(dst []byte, v string) []byte {
	quoted := strings.ContainsAny(v, ",;=\" ")
	if quoted {
		dst = append(dst, '"')
	}
	for i := range len(v) {
		switch c := v[i]; {
		case !printable(c):
			dst = append(dst, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	if quoted {
		dst = append(dst, '"')
	}
	return dst
}
