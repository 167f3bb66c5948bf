package bench

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"
)

// Trust is what the generator believes of targets that speak TLS. Immutable.
type Trust struct {
	Roots *x509.CertPool
	// Name is what their certificate has to be for, and the name that clients send (RFC 6066, section 3).
	Name string
}

// certificateName is what the certificate of a rig is for.
const certificateName = "bench.test"

// newCertificate makes what all targets of a rig show: a certificate and its key as PEM, one after the other. ECDSA on P-256
// is what most of today's certificates are, and it is its own root, so that the generator has one signature to verify and
// not two.
func newCertificate() ([]byte, *Trust, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: certificateName}, DNSNames: []string{certificateName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(7 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	var out bytes.Buffer
	for _, b := range []pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: private}} {
		if err := pem.Encode(&out, &b); err != nil {
			return nil, nil, err
		}
	}
	trust := &Trust{Roots: x509.NewCertPool(), Name: certificateName}
	trust.Roots.AppendCertsFromPEM(out.Bytes())
	return out.Bytes(), trust, nil
}

// ReadTrust believes the authorities of a PEM file, for a name.
func ReadTrust(file, name string) (*Trust, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t := &Trust{Roots: x509.NewCertPool(), Name: name}
	if !t.Roots.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return t, nil
}
