package certs

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"sluice/lb/certs/acme"
)

// serverConfig is what a listener's handshakes begin with, and what they go on with as it is now.
type serverConfig struct {
	base *tls.Config
	auth atomic.Pointer[authConfig]
}

// authConfig is a serverConfig that asks clients for certificates of an authority. Immutable.
type authConfig struct {
	of  *authority
	tls *tls.Config
}

// Config is for the connections of a listener that speaks the protocols alpn, the favourite first; none: protocols are not
// negotiated. The same protocols have the same configuration. It must not be changed.
//
// A connection whose NegotiatedProtocol is acme.Protocol has done what it is for when its handshake is done, and is to be closed.
func (s *Store) Config(alpn ...string) *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.Join(alpn, "\x00")
	if c := s.configs[key]; c != nil {
		return c.base
	}
	c := &serverConfig{base: &tls.Config{
		MinVersion:             s.cfg.MinVersion.number(),
		CipherSuites:           chosen(s.cfg.Ciphers, Cipher("").Choices(), suites),
		CurvePreferences:       chosen(s.cfg.Curves, curveNames, curves),
		NextProtos:             slices.Clone(alpn),
		GetCertificate:         s.certificate,
		SessionTicketsDisabled: s.tickets == nil,
	}}
	// Configurations that have no keys of their own take those of the one that they were chosen by.
	if s.tickets != nil {
		s.tickets.serve(c.base)
	}
	nameless := &tls.Config{MinVersion: c.base.MinVersion, GetCertificate: s.certificate, SessionTicketsDisabled: true}
	challenge := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{acme.Protocol}, GetCertificate: s.certificate,
		SessionTicketsDisabled: true}
	c.base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch {
		case s.acme != nil && acme.IsChallenge(hello):
			return challenge, nil
		case s.cfg.StrictSNI && !s.knows(hello.ServerName):
			return nameless, nil // a resumed session would not ask for a certificate, and so not be refused
		}
		return s.withAuthority(c), nil
	}
	s.configs[key] = c
	return c.base
}

// withAuthority is c with the authorities that are in force; nil: with none, c's base is good.
func (s *Store) withAuthority(c *serverConfig) *tls.Config {
	auth := s.authority.Load()
	if auth == nil {
		return nil
	}
	made := c.auth.Load()
	if made != nil && made.of == auth {
		return made.tls
	}
	t := c.base.Clone()
	t.GetConfigForClient = nil
	auth.require(t)
	c.auth.Store(&authConfig{of: auth, tls: t}) // of two handshakes at once both make one, and one of them stays
	return t
}

func (s *Store) knows(name string) bool {
	return name != "" && (s.index.Load().find(name) != nil || s.acme != nil && s.acme.Manages(name))
}

var errNoChallenge = errors.New("no ACME challenge for this name")

// certificate is tls.Config.GetCertificate. No certificate and no error is the alert unrecognized_name.
func (s *Store) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.acme != nil && acme.IsChallenge(hello) {
		if c := s.acme.ChallengeCertificate(hello.ServerName); c != nil {
			return c, nil
		}
		return nil, errNoChallenge
	}
	x := s.index.Load()
	if some := x.find(hello.ServerName); some != nil {
		return suits(hello, some), nil
	}
	if s.acme != nil {
		if c := s.acme.Certificate(hello.ServerName, len(x.fallback) == 0 && !s.cfg.StrictSNI); c != nil {
			return c, nil
		}
	}
	if s.cfg.StrictSNI || len(x.fallback) == 0 {
		return nil, nil
	}
	if len(x.fallback) == 1 {
		return x.fallback[0], nil
	}
	any := *hello
	any.ServerName = "" // it fits none, and so says nothing for one of them
	return suits(&any, x.fallback), nil
}

// Local are the URIs, SPIFFE ids first, of the certificate that is shown to clients that ask for the name: what
// X-Forwarded-Client-Cert calls By.
func (s *Store) Local(serverName string) []string {
	x := s.index.Load()
	some := x.find(serverName)
	if some == nil {
		some = x.fallback
	}
	if len(some) == 0 {
		return nil
	}
	return uris(some[0].Leaf)
}
