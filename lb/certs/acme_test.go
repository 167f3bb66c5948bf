package certs

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/mholt/acmez/v3/acme"

	certacme "sluice/lb/certs/acme"
)

// A CA's question is answered whatever else the listener wants of its clients.
func TestChallengeIsAnsweredByListeners(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	for kind, name := range map[certacme.ChallengeType]string{certacme.HTTP01: "a.test", certacme.TLSALPN01: "a.test"} {
		data, err := json.Marshal(acme.Challenge{Type: string(kind), Token: "tok", KeyAuthorization: "tok.key",
			Identifier: acme.Identifier{Type: "dns", Value: name}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(f.dir, "store", "challenges", string(kind), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := newStore(t, Config{StrictSNI: true, MinVersion: "1.3",
		Certificates: []Certificate{f.pair("b", ca.forNames(t, "b.test"))},
		ClientAuth:   &ClientAuth{CA: f.write("ca.pem", ca.pem())},
		ACME:         &certacme.Config{Domains: []string{"a.test"}, Storage: filepath.Join(f.dir, "store"), Directory: "https://127.0.0.1:1/"}})
	if body, ok := s.ACMEChallenge("a.test", "/.well-known/acme-challenge/tok"); !ok || body != "tok.key" {
		t.Errorf("%q, %v", body, ok)
	}
	asks := func(name string) *tls.Config {
		return &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{certacme.Protocol}}
	}
	m := meet(t, s.Config("http/1.1"), asks("a.test")).ok(t)
	cert := m.client.PeerCertificates[0]
	proof := false
	for _, e := range cert.Extensions {
		proof = proof || e.Id.String() == "1.3.6.1.5.5.7.1.31" // RFC 8737, section 6.1
	}
	if m.server.NegotiatedProtocol != certacme.Protocol || cert.DNSNames[0] != "a.test" || !proof {
		t.Errorf("%q, %q, proof %v", m.server.NegotiatedProtocol, cert.DNSNames, proof)
	}
	meet(t, s.Config("http/1.1"), asks("b.test")).refused(t, "")
	// Who offers more is a client like others, and the domain has no certificate yet.
	more := asks("a.test")
	more.NextProtos = append(more.NextProtos, "http/1.1")
	more.Certificates = []tls.Certificate{ca.forNames(t, "c").tls()}
	meet(t, s.Config("http/1.1"), more).refused(t, "unrecognized name")
}
