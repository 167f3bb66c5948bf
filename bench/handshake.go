package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

// What all targets have to agree to, so that all do the same work. X25519, though Go and OpenSSL from 3.5 on prefer
// X25519MLKEM768, because older OpenSSL, and so the peers of most distributions, do not know that one.
const (
	tlsVersion = tls.VersionTLS13
	tlsSuite   = tls.TLS_AES_128_GCM_SHA256
	tlsCurve   = tls.X25519
)

// config is for the connections of one client, which knows the sessions that are in cache.
func (t *Trust) config(cache tls.ClientSessionCache) *tls.Config {
	return &tls.Config{RootCAs: t.Roots, ServerName: t.Name, MinVersion: tlsVersion, MaxVersion: tlsVersion,
		CurvePreferences: []tls.CurveID{tlsCurve}, ClientSessionCache: cache}
}

// forgetful is the memory of a client that takes tickets, as browsers do, and uses none: with no cache at all the client
// would tell servers that it wants none, and some would save themselves the work.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

// lastTicket is the memory of a client of one target: the newest ticket. It is for one goroutine.
type lastTicket struct{ session *tls.ClientSessionState }

func (l *lastTicket) Get(string) (*tls.ClientSessionState, bool)    { return l.session, l.session != nil }
func (l *lastTicket) Put(_ string, session *tls.ClientSessionState) { l.session = session }

// cache is the memory that clients have in a scenario.
func (s *Scenario) cache() tls.ClientSessionCache {
	if s.Resume {
		return &lastTicket{}
	}
	return forgetful{}
}

// agreed says whether a handshake came to what is to be measured. The share of those that resume is another matter.
func (s *Scenario) agreed(cs *tls.ConnectionState) error {
	say := func(version, suite uint16, curve tls.CurveID) string {
		return fmt.Sprintf("%s, %s and %v", tls.VersionName(version), tls.CipherSuiteName(suite), curve)
	}
	switch {
	case cs.Version != tlsVersion, cs.CipherSuite != tlsSuite, cs.CurveID != tlsCurve:
		return fmt.Errorf("%w: it negotiates %s, not %s", errTarget, say(cs.Version, cs.CipherSuite, cs.CurveID), say(tlsVersion, tlsSuite, tlsCurve))
	case cs.DidResume && !s.Resume:
		return fmt.Errorf("%w: it resumed a session where a full handshake is measured", errTarget)
	}
	return nil
}

// ticketsUnlike says what targets do otherwise in full handshakes.
var ticketsUnlike = map[string]string{
	"sluice": "sends one session ticket with each handshake; the peers' OpenSSL sends two",
}

// errNoTrust is of runs that know nothing by which a certificate could be verified.
var errNoTrust = errors.New("no authority is known by which certificates of targets could be verified")

// prove sees to it that a target's TLS is what is to be measured: what it agrees to, its certificate, and that sessions are
// resumed in the scenarios in which they are to be.
func (t *Trust) prove(ctx context.Context, sc *Scenario, address string) error {
	if t == nil {
		return errNoTrust
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	config := t.config(sc.cache())
	for i := range 2 {
		cs, err := t.ask(ctx, sc, address, config)
		if err != nil {
			return fmt.Errorf("a first request over TLS: %w", err)
		}
		if sc.Resume && i == 1 && !cs.DidResume {
			return errors.New("it does not resume the session of its own ticket")
		}
	}
	return nil
}

// ask sends one request on a connection of its own. The tickets come with its answer.
func (t *Trust) ask(ctx context.Context, sc *Scenario, address string, config *tls.Config) (*tls.ConnectionState, error) {
	d := tls.Dialer{Config: config}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	cs := c.(*tls.Conn).ConnectionState()
	if err := sc.agreed(&cs); err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	small := *sc
	small.Answer = smallAnswer
	if _, err := c.Write(small.request(address)); err != nil {
		return nil, err
	}
	a := &answers{reader: reader{tally: newTally()}, buf: make([]byte, answersBuffer)}
	if err := a.read(c, 1, func(int) {}); err != nil {
		return nil, err
	}
	if len(a.tally.errors) > 0 {
		return nil, errors.New(errorList(a.tally.errors))
	}
	return &cs, nil
}
