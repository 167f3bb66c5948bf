package acme

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"path"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// Protocol is what a CA that asks for tls-alpn-01 speaks (RFC 8737, section 6.2). A server that speaks it closes the connection when
// the handshake is done.
const Protocol = "acme-tls/1"

// wellKnown is where a CA asks for http-01 (RFC 8555, section 8.3).
const wellKnown = "/.well-known/acme-challenge/"

// IsChallenge says that a hello is a CA's (RFC 8737, section 3): it offers that one protocol.
func IsChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == Protocol
}

// challenges are those under way: of this process in memory, of all nodes that share it in the storage.
type challenges struct {
	storage certmagic.Storage

	mu    sync.Mutex
	known map[string]acme.Challenge // by their key in the storage
}

func newChallenges(storage certmagic.Storage) *challenges {
	return &challenges{storage: storage, known: map[string]acme.Challenge{}}
}

func keyOf(kind ChallengeType, name string) string {
	return path.Join("challenges", string(kind), name)
}

// find is the challenge for a name, which must be one of our domains: it becomes part of a path.
func (s *challenges) find(kind ChallengeType, name string) (c acme.Challenge, ok bool) {
	key := keyOf(kind, name)
	s.mu.Lock()
	c, ok = s.known[key]
	s.mu.Unlock()
	if ok {
		return c, true
	}
	data, err := s.storage.Load(context.Background(), key)
	if err != nil || json.Unmarshal(data, &c) != nil {
		return acme.Challenge{}, false
	}
	return c, true
}

// solver is an acmez.Solver: all that it takes is to know the challenge when the CA asks.
type solver struct{ *challenges }

func (s solver) Present(ctx context.Context, c acme.Challenge) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	key := keyOf(ChallengeType(c.Type), c.Identifier.Value)
	s.mu.Lock()
	s.known[key] = c
	s.mu.Unlock()
	return s.storage.Store(ctx, key, data)
}

func (s solver) CleanUp(ctx context.Context, c acme.Challenge) error {
	key := keyOf(ChallengeType(c.Type), c.Identifier.Value)
	s.mu.Lock()
	delete(s.known, key)
	s.mu.Unlock()
	return s.storage.Delete(context.WithoutCancel(ctx), key)
}

// Challenge answers a CA's request by plain HTTP for a path that begins with /.well-known/acme-challenge/; false: it is about nothing
// that is under way. Of a challenge of another node it reads a file.
func (m *Manager) Challenge(host, path string) (body string, ok bool) {
	token, ok := strings.CutPrefix(path, wellKnown)
	if !ok || token == "" {
		return "", false
	}
	// A host may have a port (RFC 9110, section 7.2); no domain of ours is an IPv6 address.
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	if !m.Manages(host) {
		return "", false
	}
	c, ok := m.challenges.find(HTTP01, host)
	if !ok || c.Token != token {
		return "", false
	}
	return c.KeyAuthorization, true
}

// ChallengeCertificate answers a CA's hello; nil: it is about nothing that is under way.
func (m *Manager) ChallengeCertificate(name string) *tls.Certificate {
	name = strings.ToLower(name)
	if !m.Manages(name) {
		return nil
	}
	c, ok := m.challenges.find(TLSALPN01, name)
	if !ok {
		return nil
	}
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return nil
	}
	return cert
}
