package acme

import (
	"context"
	"crypto/tls"
	"testing"

	"github.com/mholt/acmez/v3/acme"
)

func TestOnlyWhatIsUnderWayIsAnswered(t *testing.T) {
	cfg := Config{Domains: []string{"a.test", "b.test"}, Storage: t.TempDir()}
	own := &Manager{cfg: cfg, challenges: newChallenges(storageOf(cfg))}
	other := &Manager{cfg: cfg, challenges: newChallenges(storageOf(cfg))}
	challenge := acme.Challenge{Type: string(HTTP01), Token: "tok", KeyAuthorization: "tok.key",
		Identifier: acme.Identifier{Type: "dns", Value: "a.test"}}
	s := solver{own.challenges}
	if err := s.Present(context.Background(), challenge); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*Manager{"own": own, "other": other} {
		for _, c := range []struct {
			host, path string
			want       bool
		}{
			{"a.test", wellKnown + "tok", true},
			{"A.test:80", wellKnown + "tok", true},
			{"a.test", wellKnown + "to", false},
			{"a.test", wellKnown, false},
			{"a.test", "/tok", false},
			{"b.test", wellKnown + "tok", false},
			{"stranger.test", wellKnown + "tok", false},
			{"../http-01/a.test", wellKnown + "tok", false},
			{"", wellKnown + "tok", false},
		} {
			body, ok := m.Challenge(c.host, c.path)
			if ok != c.want || ok && body != "tok.key" {
				t.Errorf("%s: %s%s: %q, %v", name, c.host, c.path, body, ok)
			}
		}
		if m.ChallengeCertificate("a.test") != nil {
			t.Error("a challenge of one kind is answered as another")
		}
	}
	if err := s.CleanUp(context.Background(), challenge); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Manager{own, other} {
		if _, ok := m.Challenge("a.test", wellKnown+"tok"); ok {
			t.Error("what is over is answered")
		}
	}
}

func TestChallengeIsOneProtocol(t *testing.T) {
	for _, c := range []struct {
		offered []string
		want    bool
	}{{[]string{Protocol}, true}, {[]string{"h2", Protocol}, false}, {[]string{"h2"}, false}, {nil, false}} {
		if got := IsChallenge(&tls.ClientHelloInfo{SupportedProtos: c.offered}); got != c.want {
			t.Errorf("%q: %v", c.offered, got)
		}
	}
}
