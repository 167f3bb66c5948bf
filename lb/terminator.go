package lb

import (
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"strings"

	"sluice/engine"
	"sluice/engine/tlslayer"
	"sluice/lb/certs"
	"sluice/lb/certs/acme"
)

// Terminator does the TLS handshakes of a listener's connections, and passes on those that are done.
type Terminator struct {
	handshakes *tlslayer.Handshaker
	cfg        *tls.Config
	store      *certs.Store
	next       engine.Acceptor
}

// NewTerminator serves a listener by the certificates of store, offering these protocols (ALPN), before next.
func NewTerminator(store *certs.Store, handshakes *tlslayer.Handshaker, alpn []string, next engine.Acceptor) *Terminator {
	return &Terminator{handshakes: handshakes, cfg: store.Config(alpn...), store: store, next: next}
}

// Next is who takes over the connections.
func (t *Terminator) Next() engine.Acceptor { return t.next }

// Secured is what a client whose TLS ends here has said in its handshake, and who it is. Immutable.
type Secured struct {
	ServerName string // that it asked for, in lower case; empty: none
	ALPN       string // what was agreed on; empty: nothing
	// Peer is who it is by its certificate, and XFCC what an upstream is told of that (X-Forwarded-Client-Cert); nil: it has shown
	// none.
	Peer *certs.Peer
	XFCC []byte
}

// SecuredOf is what is known of a connection by its handshake; nil: TLS did not end here, or there is nothing to know.
func SecuredOf(c *engine.Conn) *Secured {
	if o, ok := c.Attached().(*Origin); ok {
		return o.Secured
	}
	return nil
}

// Accept implements engine.Acceptor.
func (t *Terminator) Accept(c *engine.Conn) {
	c.SetHandler(plainHTTP{})
	if t.handshakes.Server(c, t.cfg, t) != nil {
		c.Reset() // and it is counted
	}
}

// Secured implements tlslayer.Owner.
func (t *Terminator) Secured(c *engine.Conn, state *tls.ConnectionState, err error) {
	switch {
	case errors.Is(err, tlslayer.ErrPlainHTTP):
		answerPlainHTTP(c)
		return
	case err != nil:
		return
	case state.NegotiatedProtocol == acme.Protocol:
		c.Close() // it has seen what it wanted
		return
	}
	if s := t.secured(state); s != nil {
		o := &Origin{Secured: s}
		if before, ok := c.Attached().(*Origin); ok {
			o.Header = before.Header
		} else {
			o.Header.Local = true // it says nothing
		}
		c.Attach(o)
	}
	t.next.Accept(c)
}

// secured is what is kept of a handshake: for the gateway's clients without a certificate nothing, as there are thousands.
func (t *Terminator) secured(state *tls.ConnectionState) *Secured {
	peer := certs.PeerOf(state)
	if _, l4 := t.next.(*Proxy); peer == nil && !l4 {
		return nil
	}
	// The name is what the client has written into its hello, and outlives it.
	s := &Secured{ServerName: strings.ToLower(state.ServerName), ALPN: state.NegotiatedProtocol, Peer: peer}
	if peer != nil {
		s.XFCC = slices.Clip(peer.AppendXFCC(nil, t.store.Local(state.ServerName), false))
	}
	return s
}

// plainHTTP serves a client that has spoken HTTP to a port of TLS, until it has read the answer.
type plainHTTP struct{}

const plainAnswer = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 43\r\nConnection: close\r\n\r\n" +
	"Plain HTTP was sent to a port that is TLS.\n"

func answerPlainHTTP(c *engine.Conn) {
	c.SetHandler(plainHTTP{})
	_, _ = c.Write([]byte(plainAnswer))
	_ = c.CloseWrite()
	c.SetTimeout(lingerTime)
	plainHTTP{}.Ready(c)
}

// Ready implements engine.Handler: what the client says still is thrown away, as closing over it would be a reset, which can
// overtake the answer.
func (plainHTTP) Ready(c *engine.Conn) {
	for range 16 { // others are to have their turn
		_, err := c.Read(c.Loop().Scratch())
		switch {
		case err == engine.ErrAgain:
			return
		case err == io.EOF:
			c.Close()
			return
		case err != nil:
			c.Reset()
			return
		}
	}
	c.Loop().Again(c)
}

// Timeout implements engine.Handler.
func (plainHTTP) Timeout(c *engine.Conn) { c.Close() }

// Connected implements engine.Handler; accepted connections are.
func (plainHTTP) Connected(*engine.Conn, error) {}
