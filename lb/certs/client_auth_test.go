package certs

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

func TestClientCertificates(t *testing.T) {
	f, ca, stranger := newFolder(t), newCA(t, "root"), newCA(t, "stranger")
	client := func(by testCA, change func(*x509.Certificate)) *testCA {
		c := by.sign(t, newKey(t), change)
		return &c
	}
	same := func(*x509.Certificate) {}
	revoked := client(ca, same)
	list := ca.revoke(t, time.Now().Add(time.Hour), *revoked)
	old := ca.revoke(t, time.Now().Add(-time.Hour), *revoked)
	pairs := []Certificate{f.pair("server", ca.forNames(t, "a.test"))}
	caFile := f.write("ca.pem", ca.pem())
	for name, c := range map[string]struct {
		shown            *testCA
		require, request string // the alert; empty: let in
	}{
		"good":       {client(ca, same), "", ""},
		"none":       {nil, "certificate required", ""},
		"stranger's": {client(stranger, same), "certificate", "certificate"},
		"namesake's": {client(newCA(t, "root"), same), "certificate", "certificate"},
		"its own":    {client(testCA{}, same), "certificate", "certificate"},
		"over":       {client(ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired certificate", "expired certificate"},
		"early":      {client(ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "expired certificate", "expired certificate"},
		"a server's": {client(ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "certificate", "certificate"},
		"revoked":    {revoked, "bad certificate", "bad certificate"},
	} {
		for mode, alert := range map[ClientAuthMode]string{ClientRequire: c.require, "": c.require, ClientRequest: c.request} {
			for _, crl := range [][]byte{list, old} { // a list that is over is better than none
				s, _ := newStore(t, Config{Certificates: pairs, ClientAuth: &ClientAuth{Mode: mode, CA: caFile, CRL: f.write("list.crl", crl)}})
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					cfg := &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), MaxVersion: version}
					if c.shown != nil {
						own := c.shown.tls() // also where the server's list of CAs does not want it
						cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
					}
					m := meet(t, s.Config(), cfg)
					if want := alert; want != "" {
						if version == tls.VersionTLS12 {
							want = "" // it has fewer alerts to tell by
						}
						m.refused(t, want)
						continue
					}
					if m.ok(t); (PeerOf(&m.server) != nil) != (c.shown != nil) {
						t.Errorf("%s, %s: peer %v", name, mode, PeerOf(&m.server))
					}
				}
			}
		}
	}
}

func TestNoneAsksForNoCertificate(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))}, ClientAuth: &ClientAuth{Mode: ClientNone}})
	own, asked := ca.forNames(t, "c").tls(), false
	m := meet(t, s.Config(), &tls.Config{ServerName: "a.test", RootCAs: ca.pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { asked = true; return &own, nil }}).ok(t)
	if asked || PeerOf(&m.server) != nil {
		t.Error("a certificate was asked for")
	}
}

func TestRevokedIntermediate(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	middle := ca.sign(t, newKey(t), func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid = "middle", true, true
		c.KeyUsage = x509.KeyUsageCertSign
	})
	own := middle.forNames(t, "c").tls()
	own.Certificate = append(own.Certificate, middle.cert.Raw)
	client := &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), Certificates: []tls.Certificate{own}}
	crl := f.write("list.crl", ca.revoke(t, time.Now().Add(time.Hour)))
	s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))},
		ClientAuth: &ClientAuth{CA: f.write("ca.pem", ca.pem()), CRL: crl}})
	meet(t, s.Config(), client).ok(t)
	f.write("list.crl", ca.revoke(t, time.Now().Add(time.Hour), middle))
	s.Refresh()
	meet(t, s.Config(), client).refused(t, "bad certificate")
}

// Whom a ticket lets in was let in before; since then he may have been revoked, or his authority dismissed.
func TestResumedSessionsAreVerifiedAgain(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, change := range map[string]func(f folder, ca, client testCA){
			"revoked": func(f folder, ca, client testCA) {
				f.write("list.crl", ca.revoke(t, time.Now().Add(time.Hour), client))
			},
			"dismissed": func(f folder, ca, _ testCA) { f.write("ca.pem", newCA(t, "next").pem()) },
		} {
			f, ca := newFolder(t), newCA(t, "root")
			own := ca.forNames(t, "c")
			cfg := Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))},
				ClientAuth: &ClientAuth{CA: f.write("ca.pem", ca.pem()), CRL: f.write("list.crl", ca.revoke(t, time.Now().Add(time.Hour)))}}
			if name == "dismissed" {
				cfg.ClientAuth.CRL = ""
			}
			s, log := newStore(t, cfg)
			client := &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), Certificates: []tls.Certificate{own.tls()},
				ClientSessionCache: &oneSession{}, MaxVersion: version}
			meet(t, s.Config(), client).ok(t)
			if m := meet(t, s.Config(), client).ok(t); !m.server.DidResume || PeerOf(&m.server) == nil {
				t.Errorf("resumed %v, peer %v", m.server.DidResume, PeerOf(&m.server))
			}
			change(f, ca, own)
			s.Refresh()
			if !log.has("client authorities reloaded") {
				t.Fatal("not reloaded")
			}
			if m := meet(t, s.Config(), client); m.serverErr == nil {
				t.Errorf("%s, %s: let in, resumed %v", name, tls.VersionName(version), m.server.DidResume)
			}
		}
	}
}

// A session remembers all chains of its time. One that leads to an authority that is dismissed must not make up for another that is
// revoked.
func TestChainOfADismissedAuthorityCountsNoMore(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f, a, b, key := newFolder(t), newCA(t, "a"), newCA(t, "b"), newKey(t)
		middle := func(c *x509.Certificate) {
			c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid, c.KeyUsage = "middle", true, true, x509.KeyUsageCertSign
		}
		byA, byB := a.sign(t, key, middle), b.sign(t, key, middle)
		own := byA.forNames(t, "c").tls()
		own.Certificate = append(own.Certificate, byA.cert.Raw, byB.cert.Raw)
		s, _ := newStore(t, Config{Certificates: []Certificate{f.pair("server", a.forNames(t, "a.test"))},
			ClientAuth: &ClientAuth{CA: f.write("ca.pem", a.pem(), b.pem()), CRL: f.write("list.crl", b.revoke(t, time.Now().Add(time.Hour)))}})
		client := &tls.Config{ServerName: "a.test", RootCAs: a.pool(), Certificates: []tls.Certificate{own}, ClientSessionCache: &oneSession{},
			MaxVersion: version}
		if m := meet(t, s.Config(), client).ok(t); len(m.server.VerifiedChains) != 2 {
			t.Fatalf("%d chains", len(m.server.VerifiedChains))
		}
		f.write("ca.pem", b.pem())
		f.write("list.crl", b.revoke(t, time.Now().Add(time.Hour), byB))
		s.Refresh()
		if m := meet(t, s.Config(), client); m.serverErr == nil {
			t.Errorf("%s: let in, resumed %v", tls.VersionName(version), m.server.DidResume)
		}
	}
}

// Two listeners with the same ticket keys need not trust the same clients.
func TestTicketOfAnotherListenerIsNoPass(t *testing.T) {
	f, ca, other := newFolder(t), newCA(t, "root"), newCA(t, "other")
	server := []Certificate{f.pair("a", ca.forNames(t, "a.test"))}
	keys := Tickets{File: f.write("keys", make([]byte, 48))}
	ours, _ := newStore(t, Config{Certificates: server, Tickets: keys, ClientAuth: &ClientAuth{CA: f.write("ca.pem", ca.pem())}})
	for name, auth := range map[string]*ClientAuth{"no certificate": nil, "another CA": {CA: f.write("other.pem", other.pem())}} {
		theirs, _ := newStore(t, Config{Certificates: server, Tickets: keys, ClientAuth: auth})
		client := &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), Certificates: []tls.Certificate{other.forNames(t, "c").tls()},
			ClientSessionCache: &oneSession{}}
		meet(t, theirs.Config(), client).ok(t)
		if m := meet(t, ours.Config(), client); m.serverErr == nil {
			t.Errorf("%s: let in, resumed %v", name, m.server.DidResume)
		}
	}
}

func TestBrokenAuthoritiesChangeNothing(t *testing.T) {
	f, ca := newFolder(t), newCA(t, "root")
	s, log := newStore(t, Config{Certificates: []Certificate{f.pair("a", ca.forNames(t, "a.test"))},
		ClientAuth: &ClientAuth{CA: f.write("ca.pem", ca.pem())}})
	f.write("ca.pem", []byte("half a fi"))
	s.Refresh()
	if !log.has("client authorities not reloaded") {
		t.Error("it was not logged")
	}
	client := &tls.Config{ServerName: "a.test", RootCAs: ca.pool()}
	meet(t, s.Config(), client).refused(t, "certificate required")
	client.Certificates = []tls.Certificate{ca.forNames(t, "c").tls()}
	meet(t, s.Config(), client).ok(t)
}
