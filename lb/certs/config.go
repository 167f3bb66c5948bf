package certs

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"sluice/lb/certs/acme"
)

// Config is what a listener needs to speak TLS.
type Config struct {
	// Certificates, of which the client's server name chooses; the first is for clients whose name fits none, or that send none.
	Certificates []Certificate `yaml:"certificates"`
	// StrictSNI refuses those clients instead, by the alert unrecognized_name.
	StrictSNI bool `yaml:"strict_sni"`
	// MinVersion is the oldest version to speak; not given: 1.2.
	MinVersion Version `yaml:"min_version"`
	// Ciphers are those of TLS 1.2; not given: ECDHE with an AEAD. Those of TLS 1.3 are all good, and cannot be chosen.
	Ciphers []Cipher `yaml:"ciphers"`
	// Curves are the key exchanges; not given: all. Which of those that both sides have is used is not for us to say.
	Curves []Curve `yaml:"curves"`
	// ALPN are the protocols that a tls listener's endpoints speak, the favourite first (RFC 7301): a client that offers others alone
	// is refused; not given: none is agreed on. An https listener offers what it speaks itself.
	ALPN       []string    `yaml:"alpn"`
	ClientAuth *ClientAuth `yaml:"client_auth"`
	Tickets    Tickets     `yaml:"tickets"`
	OCSP       OCSP        `yaml:"ocsp"`
	// ACME gets certificates from a CA by itself (RFC 8555).
	ACME *acme.Config `yaml:"acme"`
}

// Certificate is a pair of PEM files.
type Certificate struct {
	// Cert has the certificate, then those that lead from it to a root.
	Cert string `yaml:"cert,required"`
	// Key has its private key; not given: Cert has that too.
	Key string `yaml:"key"`
}

// ClientAuth is about the certificates of clients.
type ClientAuth struct {
	// Mode is whether a client is asked for one, and refused without; not given: require.
	Mode ClientAuthMode `yaml:"mode"`
	// CA is a PEM file of the authorities, one of which must have signed what a client shows.
	CA string `yaml:"ca"`
	// CRL is a file, PEM or DER, of what those authorities have revoked (RFC 5280, section 5). A list that is over stays in force.
	CRL string `yaml:"crl"`
}

// ClientAuthMode is whether clients need certificates.
type ClientAuthMode string

// The modes. With ClientRequest who shows a certificate must show a good one.
const (
	ClientNone    ClientAuthMode = "none"
	ClientRequest ClientAuthMode = "request"
	ClientRequire ClientAuthMode = "require"
)

// Choices are the values that a file may have.
func (ClientAuthMode) Choices() []string {
	return []string{string(ClientNone), string(ClientRequest), string(ClientRequire)}
}

// Tickets is about the keys of session tickets (RFC 8446, section 4.6.1), by which clients resume what they had.
type Tickets struct {
	// Off has no sessions resumed.
	Off bool `yaml:"off"`
	// File has the keys, for nodes that are to resume each other's sessions: one key of 32, 48 or 80 bytes as it is (as nginx has
	// it), or a line of base64 for each (as HAProxy has it). The first encrypts, all decrypt. Tickets themselves are not those of
	// nginx or HAProxy: the nodes must all be Sluice.
	File string `yaml:"file"`
	// Rotate is how often a new key is made, where there is no file; 0: 12 h. Keep is how many old ones still decrypt; 0: 2.
	Rotate time.Duration `yaml:"rotate"`
	Keep   int           `yaml:"keep"`
}

// OCSP is about proofs that certificates are not revoked, which are sent along (RFC 6066, section 8).
type OCSP struct {
	// Mode is auto, asking the responder that a certificate names, or off; not given: auto.
	Mode OCSPMode `yaml:"mode"`
	// File is a response in DER that somebody else keeps fresh, for the certificate that it is about.
	File string `yaml:"file"`
}

// OCSPMode is where staples come from.
type OCSPMode string

// The modes.
const (
	OCSPAuto OCSPMode = "auto"
	OCSPOff  OCSPMode = "off"
)

// Choices are the values that a file may have.
func (OCSPMode) Choices() []string { return []string{string(OCSPAuto), string(OCSPOff)} }

// Version is a version of TLS.
type Version string

// Choices are the values that a file may have.
func (Version) Choices() []string { return []string{"1.2", "1.3"} }

func (v Version) number() uint16 {
	if v == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// Cipher is a suite of TLS 1.2, by its name in the registry of IANA.
type Cipher string

// suites have a key exchange that is ephemeral and an AEAD: the others that crypto/tls knows are there for old peers, with CBC's
// padding oracles or without forward secrecy.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// Choices are the values that a file may have.
func (Cipher) Choices() (names []string) {
	for _, id := range suites {
		names = append(names, tls.CipherSuiteName(id))
	}
	return names
}

// Curve is a key exchange, by its name in the registry of IANA.
type Curve string

// curves are given in whole, not left to crypto/tls, for GODEBUG could turn the first off, which keeps what is recorded today from
// who has a quantum computer later.
var curves = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

var curveNames = []string{"X25519MLKEM768", "x25519", "secp256r1", "secp384r1", "secp521r1"}

// Choices are the values that a file may have.
func (Curve) Choices() []string { return curveNames }

// chosen are the values whose names are given, and all if none is.
func chosen[N ~string, V any](given []N, names []string, values []V) []V {
	if len(given) == 0 {
		return values
	}
	var some []V
	for i, n := range names {
		if slices.Contains(given, N(n)) {
			some = append(some, values[i])
		}
	}
	return some
}

// choice reports a value that is none of those that it may be; empty is the default.
func choice[N interface {
	~string
	Choices() []string
}](path string, v N, report func(path, message string)) {
	if v != "" && !slices.Contains(v.Choices(), string(v)) {
		report(path, fmt.Sprintf("%q is none of %q", string(v), v.Choices()))
	}
}

func validateALPN(protocols []string, report func(path, message string)) {
	for i, p := range protocols {
		at := "alpn[" + strconv.Itoa(i) + "]"
		switch {
		case len(p) == 0 || len(p) > 255:
			report(at, "1 to 255 bytes")
		case p == acme.Protocol:
			report(at, p+" is for the challenges of acme alone")
		}
	}
}

// Validate reports what is wrong with c, by the path of the key. It reads the files.
func (c *Config) Validate(report func(path, message string)) {
	if len(c.Certificates) == 0 && c.ACME == nil {
		report("", "no certificate: give certificates or acme")
	}
	for i, p := range c.Certificates {
		if _, err := loadPair(p); err != nil {
			report("certificates["+strconv.Itoa(i)+"]", err.Error())
		}
	}
	choice("min_version", c.MinVersion, report)
	for i, n := range c.Ciphers {
		choice("ciphers["+strconv.Itoa(i)+"]", n, report)
	}
	if len(c.Ciphers) > 0 && c.MinVersion == "1.3" {
		report("ciphers", "are those of TLS 1.2, which min_version does not let in")
	}
	for i, n := range c.Curves {
		choice("curves["+strconv.Itoa(i)+"]", n, report)
	}
	validateALPN(c.ALPN, report)
	if c.ClientAuth != nil {
		c.ClientAuth.validate(func(path, message string) { report("client_auth."+path, message) })
	}
	c.Tickets.validate(func(path, message string) { report("tickets."+path, message) })
	choice("ocsp.mode", c.OCSP.Mode, report)
	if c.OCSP.File != "" {
		if c.OCSP.Mode == OCSPOff {
			report("ocsp.file", "is not read while mode is off")
		} else if _, err := readFile(c.OCSP.File); err != nil {
			report("ocsp.file", err.Error())
		}
	}
	if c.ACME != nil {
		c.ACME.Validate(func(path, message string) { report("acme."+path, message) })
	}
}

func (c *ClientAuth) validate(report func(path, message string)) {
	choice("mode", c.Mode, report)
	if c.Mode == ClientNone {
		if c.CA != "" || c.CRL != "" {
			report("mode", "none asks for no certificate: ca and crl are not read")
		}
		return
	}
	if c.CA == "" {
		report("ca", "is missing: a certificate that nobody has vouched for says nothing")
		return
	}
	cas, err := readCertificates(c.CA)
	if err != nil {
		report("ca", err.Error())
		return
	}
	if c.CRL != "" {
		if _, err := readRevoked(c.CRL, cas); err != nil {
			report("crl", err.Error())
		}
	}
}

func (t *Tickets) validate(report func(path, message string)) {
	if t.Off && *t != (Tickets{Off: true}) {
		report("off", "leaves no use for the other keys")
	}
	if t.File != "" {
		if t.Rotate != 0 || t.Keep != 0 {
			report("file", "its keys are rotated by who writes it: rotate and keep are for keys of our own")
		}
		if _, err := readTicketKeys(t.File); err != nil {
			report("file", err.Error())
		}
	}
	if t.Rotate != 0 && (t.Rotate < time.Minute || t.Rotate > maxTicketAge) {
		report("rotate", fmt.Sprintf("1m to %v, the age at which no ticket is taken any more", maxTicketAge))
	}
	if t.Keep < 0 || t.Keep > 100 {
		report("keep", "0 to 100")
	}
}

// Warn reports, by the path of the key, what need not keep a process from starting but should be known: certificates that are over or
// not yet good, keys that others can read. It reads the files, and passes over those that Validate reports.
func (c *Config) Warn(report func(path, message string)) {
	now := time.Now()
	for i, p := range c.Certificates {
		p.warn("certificates["+strconv.Itoa(i)+"]", now, report)
	}
	exposed("tickets.file", c.Tickets.File, report)
	if a := c.ClientAuth; a != nil && a.Mode != ClientNone && a.CA != "" {
		a.warn(now, report)
	}
}

func (c Certificate) warn(path string, now time.Time, report func(path, message string)) {
	pair, err := loadPair(c)
	if err != nil {
		return
	}
	for _, w := range pair.warnings(now) {
		report(path, w)
	}
	exposed(path, c.keyFile(), report)
}

func (c *ClientAuth) warn(now time.Time, report func(path, message string)) {
	cas, err := readCertificates(c.CA)
	if err != nil {
		return
	}
	for _, ca := range cas {
		for _, w := range outOfDate(c.CA, ca, now) {
			report("client_auth.ca", w)
		}
	}
	if c.CRL == "" {
		return
	}
	if r, err := readRevoked(c.CRL, cas); err == nil {
		for _, w := range r.warnings(now) {
			report("client_auth.crl", w)
		}
	}
}

// exposed warns of a file of secrets that everybody on the host may read.
func exposed(path, name string, report func(path, message string)) {
	if name == "" {
		return
	}
	if st, err := os.Stat(name); err == nil && st.Mode().Perm()&0o004 != 0 {
		report(path, fmt.Sprintf("%s can be read by everybody (mode %#o)", name, st.Mode().Perm()))
	}
}
