package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// authority is who vouches for clients. Immutable.
type authority struct {
	mode    ClientAuthMode
	pool    *x509.CertPool
	revoked *revoked // nil: there is no list
}

func newAuthority(c ClientAuth) (*authority, error) {
	cas, err := readCertificates(c.CA)
	if err != nil {
		return nil, err
	}
	a := &authority{mode: c.Mode, pool: x509.NewCertPool()}
	for _, ca := range cas {
		a.pool.AddCert(ca)
	}
	if c.CRL != "" {
		if a.revoked, err = readRevoked(c.CRL, cas); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// require has a configuration ask for certificates of the authority.
func (a *authority) require(t *tls.Config) {
	t.ClientCAs = a.pool
	t.ClientAuth = tls.RequireAndVerifyClientCert
	if a.mode == ClientRequest {
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	t.VerifyConnection = a.verify
}

var errRevoked = errors.New("the client's certificate is revoked")

// verify is tls.Config.VerifyConnection. It runs for resumed sessions too, whose certificates were verified when other authorities
// and revocations may have been in force, or by another listener that has the same ticket keys. crypto/tls has then seen to it that
// one of the chains still leads to one of ours, but the others of that time are there as well.
func (a *authority) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	chains := state.VerifiedChains
	if state.DidResume {
		o := x509.VerifyOptions{Roots: a.pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		for _, c := range state.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		var err error
		if chains, err = state.PeerCertificates[0].Verify(o); err != nil {
			return fmt.Errorf("resumed session: %w", err)
		}
	}
	if a.revoked == nil {
		return nil
	}
	for _, chain := range chains {
		if !a.revoked.any(chain) {
			return nil
		}
	}
	return errRevoked
}

// revoked is what CAs have revoked. Immutable.
type revoked struct {
	from  string
	lists []*x509.RevocationList
	set   map[revocation]struct{}
}

// revocation is of a certificate. The issuer goes by its key: names of CAs are not unique, serial numbers only within one.
type revocation struct {
	issuer [sha256.Size]byte
	serial string
}

func revocationOf(issuer *x509.Certificate, serial string) revocation {
	return revocation{sha256.Sum256(issuer.RawSubjectPublicKeyInfo), serial}
}

var (
	oidDelta  = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidPoint  = asn1.ObjectIdentifier{2, 5, 29, 28} // which certificates the list speaks of; it can but be for fewer than it lists
	oidIssuer = asn1.ObjectIdentifier{2, 5, 29, 29} // of an entry of an indirect list
)

// readRevoked reads revocation lists, PEM or DER, each of which one of the cas must have signed.
func readRevoked(name string, cas []*x509.Certificate) (*revoked, error) {
	data, err := readFile(name)
	if err != nil {
		return nil, err
	}
	var ders [][]byte
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "X509 CRL" {
			ders = append(ders, b.Bytes)
		}
	}
	if len(ders) == 0 {
		ders = [][]byte{data}
	}
	r := &revoked{from: name, set: map[revocation]struct{}{}}
	for i, der := range ders {
		if err := r.add(der, cas); err != nil {
			return nil, fmt.Errorf("%s: list %d: %w", name, i+1, err)
		}
	}
	return r, nil
}

func (r *revoked) add(der []byte, cas []*x509.Certificate) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	for _, e := range list.Extensions {
		if e.Id.Equal(oidDelta) {
			return errors.New("is a delta, which says only what has changed")
		}
		if e.Critical && !e.Id.Equal(oidPoint) {
			return fmt.Errorf("has the critical extension %v, which is not understood", e.Id)
		}
	}
	var issuer *x509.Certificate
	for _, ca := range cas {
		if string(ca.RawSubject) == string(list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			issuer = ca
		}
	}
	if issuer == nil {
		return fmt.Errorf("no CA of ours has signed it (issuer %s)", list.Issuer)
	}
	for _, e := range list.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Id.Equal(oidIssuer) {
				return errors.New("is an indirect list, of certificates of other CAs")
			}
		}
		r.set[revocationOf(issuer, e.SerialNumber.String())] = struct{}{}
	}
	r.lists = append(r.lists, list)
	return nil
}

// any says that a certificate of the chain, but for its root, is revoked.
func (r *revoked) any(chain []*x509.Certificate) bool {
	for i, c := range chain[:len(chain)-1] {
		if _, yes := r.set[revocationOf(chain[i+1], c.SerialNumber.String())]; yes {
			return true
		}
	}
	return false
}

func (r *revoked) size() int {
	if r == nil {
		return 0
	}
	return len(r.set)
}

// warnings are about lists that should have been followed by others.
func (r *revoked) warnings(now time.Time) (all []string) {
	if r == nil {
		return nil
	}
	for _, l := range r.lists {
		if !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
			all = append(all, fmt.Sprintf("%s: the list of %s was to be followed by the next on %s, and stays in force", r.from, l.Issuer,
				l.NextUpdate.UTC().Format(time.RFC3339)))
		}
	}
	return all
}
