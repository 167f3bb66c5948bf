package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// pair is a certificate with its key, as it was read. Immutable.
type pair struct {
	from   string // the certificate's file
	cert   tls.Certificate
	issuer *x509.Certificate // the next of the chain; nil: it has none
	print  [sha256.Size]byte // of the certificate alone
}

func (c Certificate) keyFile() string {
	if c.Key == "" {
		return c.Cert
	}
	return c.Key
}

// loadPair reads a certificate and its key. An error says which of the files is meant, and why.
func loadPair(c Certificate) (*pair, error) {
	certPEM, err := readFile(c.Cert)
	if err != nil {
		return nil, err
	}
	keyPEM := certPEM
	if c.Key != "" {
		if keyPEM, err = readFile(c.Key); err != nil {
			return nil, err
		}
	}
	// X509KeyPair does not tell which of the two it speaks of.
	chain, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Cert, err)
	}
	if err := holdsKey(keyPEM); err != nil {
		return nil, fmt.Errorf("%s: %w", c.keyFile(), err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %s", c.Cert, c.keyFile(), strings.TrimPrefix(err.Error(), "tls: "))
	}
	cert.Leaf = chain[0]
	p := &pair{from: c.Cert, cert: cert, print: sha256.Sum256(chain[0].Raw)}
	if len(chain) > 1 {
		if err := chain[0].CheckSignatureFrom(chain[1]); err != nil {
			return nil, fmt.Errorf("%s: the second certificate has not signed the first: %w", c.Cert, err)
		}
		p.issuer = chain[1]
	}
	return p, nil
}

func holdsKey(data []byte) error {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return errors.New("no private key in PEM")
		}
		switch {
		case b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "":
			return errors.New("the private key is encrypted: nobody is there to be asked for the passphrase")
		case strings.HasSuffix(b.Type, "PRIVATE KEY"):
			return nil
		}
	}
}

// parseCertificates are those of a PEM text, of which there must be one.
func parseCertificates(data []byte) (all []*x509.Certificate, err error) {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return all, nil
}

func readCertificates(name string) ([]*x509.Certificate, error) {
	data, err := readFile(name)
	if err != nil {
		return nil, err
	}
	all, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return all, nil
}

// names are those that the certificate is for, in lower case: of an old one without any that may be its common name.
func names(leaf *x509.Certificate) (all []string) {
	for _, n := range leaf.DNSNames {
		all = append(all, strings.ToLower(n))
	}
	if len(all) == 0 && len(leaf.IPAddresses) == 0 && leaf.Subject.CommonName != "" {
		all = append(all, strings.ToLower(leaf.Subject.CommonName))
	}
	return all
}

func (p *pair) warnings(now time.Time) []string { return outOfDate(p.from, p.cert.Leaf, now) }

// outOfDate says that a certificate of the file is over or not yet good.
func outOfDate(file string, c *x509.Certificate, now time.Time) []string {
	switch {
	case now.After(c.NotAfter):
		return []string{fmt.Sprintf("%s: %s expired on %s", file, c.Subject, c.NotAfter.UTC().Format(time.RFC3339))}
	case now.Before(c.NotBefore):
		return []string{fmt.Sprintf("%s: %s is not valid before %s", file, c.Subject, c.NotBefore.UTC().Format(time.RFC3339))}
	}
	return nil
}
