package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
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

// agreed says whether a handshake came to what is to be measured.
func agreed(cs *tls.ConnectionState) error {
	if cs.Version == tlsVersion && cs.CipherSuite == tlsSuite && cs.CurveID == tlsCurve {
		return nil
	}
	say := func(version, suite uint16, curve tls.CurveID) string {
		return fmt.Sprintf("%s, %s and %v", tls.VersionName(version), tls.CipherSuiteName(suite), curve)
	}
	return fmt.Errorf("%w: it negotiates %s, not %s", errTarget, say(cs.Version, cs.CipherSuite, cs.CurveID), say(tlsVersion, tlsSuite, tlsCurve))
}

// errResumed is of connections that were resumed where the full handshake is what is measured.
var errResumed = fmt.Errorf("%w: a full handshake was asked for, and a session was resumed", errTarget)

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
			return err
		}
		if err := agreed(cs); err != nil {
			return err
		}
		if sc.Resume && i == 1 && !cs.DidResume {
			return fmt.Errorf("%w: it does not resume the session of its own ticket", errTarget)
		}
		if !sc.Resume && cs.DidResume {
			return errResumed
		}
	}
	return nil
}

// ask sends one request on a connection of its own, whose answer the tickets come with.
func (t *Trust) ask(ctx context.Context, sc *Scenario, address string, config *tls.Config) (*tls.ConnectionState, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: config}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTarget, err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	small := *sc
	small.Answer = smallAnswer
	if _, err := c.Write(small.request(address)); err != nil {
		return nil, fmt.Errorf("%w: %w", errTarget, err)
	}
	a := &answers{reader: reader{tally: newTally()}, buf: make([]byte, answersBuffer)}
	err = a.read(c, 1, func(int) {})
	if err == nil && len(a.tally.errors) > 0 {
		err = errors.New(errorList(a.tally.errors))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTarget, err)
	}
	cs := c.(*tls.Conn).ConnectionState()
	return &cs, nil
}

// bulkConn reads what has come of a TLS connection in one system call, where crypto/tls makes two for each record.
type bulkConn struct {
	net.Conn
	buf        []byte
	start, end int
}

func (b *bulkConn) Read(p []byte) (int, error) {
	if b.start == b.end {
		n, err := b.Conn.Read(b.buf)
		if n == 0 {
			return 0, err
		}
		b.start, b.end = 0, n
	}
	n := copy(p, b.buf[b.start:b.end])
	b.start += n
	return n, nil
}

// secure does the handshake of a connection that is dialled.
func secure(c net.Conn, config *tls.Config, buf []byte) (*tls.Conn, error) {
	t := tls.Client(&bulkConn{Conn: c, buf: buf}, config)
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// ticketsUnlike says what targets do otherwise in full handshakes.
var ticketsUnlike = map[string]string{
	"sluice": "sends one session ticket with each handshake; the peers' OpenSSL sends two",
}
