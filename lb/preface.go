package lb

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/engine"
	"sluice/lb/access"
	"sluice/lb/proxyproto"
)

// PrefaceConfig is the part of a stream listener's configuration that says who its peers may speak for, and
// whether endpoints are told.
type PrefaceConfig struct {
	// ProxyProtocol expects a PROXY header, v1 or v2, at the head of each connection.
	ProxyProtocol ProxyMode `yaml:"proxy_protocol"`
	// ProxyTrusted are the peers that may send one; not given: all.
	ProxyTrusted []string `yaml:"proxy_trusted"`
	// ProxyTimeout is how long the header may take; 0: 5 s.
	ProxyTimeout time.Duration `yaml:"proxy_timeout"`
	// SendProxyProtocol begins upstream connections with the client's address: the cluster's version, or this instead.
	SendProxyProtocol ProxyVersion `yaml:"send_proxy_protocol"`
}

// ProxyMode says whether a PROXY header must come.
type ProxyMode string

// The modes.
const (
	ProxyRequire  ProxyMode = "require"
	ProxyOptional ProxyMode = "optional"
)

// Choices are the values that a file may have.
func (ProxyMode) Choices() []string { return []string{string(ProxyRequire), string(ProxyOptional)} }

// Validate reports what is wrong with c, by the path of the key.
func (c *PrefaceConfig) Validate(report func(path, message string)) {
	access.Config{Allow: c.ProxyTrusted}.Validate(func(path, message string) {
		report("proxy_trusted"+strings.TrimPrefix(path, "allow"), message)
	})
	if c.ProxyTrusted != nil && len(c.ProxyTrusted) == 0 {
		report("proxy_trusted", "is empty: nobody could send a header")
	}
	if c.ProxyTimeout < 0 {
		report("proxy_timeout", "must not be negative")
	}
	if c.ProxyProtocol == "" && (c.ProxyTrusted != nil || c.ProxyTimeout != 0) {
		report("proxy_trusted", "proxy_trusted and proxy_timeout are for a listener with proxy_protocol")
	}
}

// Origin is what is known of a connection beyond its socket. It is attached to the connection, and immutable.
type Origin struct {
	// Header is what a PROXY header says; Local: nothing.
	Header proxyproto.Header
	// Secured is what a TLS handshake has told; nil: nothing.
	Secured *Secured
}

// ClientOf is whom a connection is for: the source of its PROXY header, or its peer.
func ClientOf(c *engine.Conn) netip.AddrPort {
	if o, ok := c.Attached().(*Origin); ok && !o.Header.Local {
		return o.Header.Source
	}
	return c.Peer()
}

// PrefaceStats are a listener's totals by loop; they outlive a reload.
type PrefaceStats struct{ Loops []PrefaceCounters }

// PrefaceCounters is one loop's share, written by it alone. Each counts connections that were reset: for a malformed
// header or none where one must be, for one from a peer that is not trusted, for one that did not come in time.
type PrefaceCounters struct {
	_                             [64]byte
	Malformed, Untrusted, Expired engine.Counter
	_                             [64]byte
}

// Preface reads the PROXY header of a listener's connections and passes them on to another Acceptor. A header is
// believed of trusted peers only; others must not send one, or whoever comes after us might believe it.
type Preface struct {
	cfg     PrefaceConfig
	trusted *access.List // nil: everyone is
	next    engine.Acceptor
	stats   *PrefaceStats
}

// NewPreface puts a Preface of a valid configuration before next, or returns next if there is nothing to read.
func NewPreface(cfg PrefaceConfig, next engine.Acceptor, stats *PrefaceStats) engine.Acceptor {
	if cfg.ProxyProtocol == "" {
		return next
	}
	p := &Preface{cfg: cfg, next: next, stats: stats}
	if p.cfg.ProxyTimeout == 0 {
		p.cfg.ProxyTimeout = 5 * time.Second
	}
	if len(cfg.ProxyTrusted) > 0 {
		p.trusted, _ = access.New(access.Config{Allow: cfg.ProxyTrusted}) // valid
	}
	return p
}

// Next is who takes over the connections.
func (p *Preface) Next() engine.Acceptor { return p.next }

// trusts says whether a peer may speak for others. One on a UNIX socket may: the file's mode has let it in.
func (p *Preface) trusts(peer netip.AddrPort) bool {
	return p.trusted == nil || !peer.IsValid() || p.trusted.Admits(peer.Addr())
}

// Accept implements engine.Acceptor.
func (p *Preface) Accept(c *engine.Conn) {
	n := &p.stats.Loops[c.Loop().ID()]
	trusted := p.trusts(c.Peer())
	if p.cfg.ProxyProtocol == ProxyRequire && !trusted {
		n.Untrusted.Inc()
		c.Reset()
		return
	}
	c.SetTimeout(p.cfg.ProxyTimeout)
	c.SetHandler(&preface{p, n, trusted})
}

// preface serves a connection until its header is whole. The bytes are peeked at: what follows the header stays in the
// kernel for those who come after.
type preface struct {
	*Preface
	count   *PrefaceCounters
	trusted bool
}

// Ready implements engine.Handler.
func (p *preface) Ready(c *engine.Conn) {
	b := c.Loop().Scratch()
	n, err := c.Peek(b[:proxyproto.MaxSize])
	if err == engine.ErrAgain {
		return
	}
	if c.Failure() != nil || err != nil && err != io.EOF {
		c.Reset() // the client has
		return
	}
	b = b[:n]
	var h proxyproto.Header
	n, err = proxyproto.Scan(b, &h)
	if err == proxyproto.ErrPartial && c.HungUp() && !proxyproto.Begins(b) {
		err = proxyproto.ErrNone // and nothing that could make it one will come
	}
	switch {
	case errors.Is(err, proxyproto.ErrPartial) && !c.HungUp():
	case errors.Is(err, proxyproto.ErrNone) && p.cfg.ProxyProtocol == ProxyOptional:
		p.pass(c)
	case err == nil && !p.trusted:
		p.count.Untrusted.Inc()
		c.Reset()
	case err == nil:
		// Parts of it are in what was peeked at.
		h.SNI, h.ALPN, h.UniqueID = slices.Clone(h.SNI), slices.Clone(h.ALPN), slices.Clone(h.UniqueID)
		c.Attach(&Origin{Header: h})
		p.follow(c, n)
	default:
		p.count.Malformed.Inc()
		c.Reset()
	}
}

// follow looks behind the header, of n bytes: if another one is there, whoever is behind us might take it for ours.
func (p *preface) follow(c *engine.Conn, n int) {
	b := c.Loop().Scratch()
	err := c.Discard(n)
	if err == nil {
		n, err = c.Peek(b[:proxyproto.MaxSize])
	}
	switch {
	case err == nil && proxyproto.Begins(b[:n]):
		p.count.Malformed.Inc()
		c.Reset()
	case err == nil || err == engine.ErrAgain || err == io.EOF:
		p.pass(c)
	default:
		c.Reset() // the client has, and would not be heard of it again
	}
}

func (p *preface) pass(c *engine.Conn) {
	c.SetTimeout(0)
	p.next.Accept(c)
	if !c.Closed() && c.Readable() {
		c.Handler().Ready(c) // there will be no event for what has come already
	}
}

// Timeout implements engine.Handler. Where a header need not come, a client that waits to be spoken to has none.
func (p *preface) Timeout(c *engine.Conn) {
	c.LookAgain()
	if p.Ready(c); c.Closed() || c.Handler() != engine.Handler(p) {
		return // it came in the last moment
	}
	n, err := c.Peek(c.Loop().Scratch()[:1])
	if p.cfg.ProxyProtocol == ProxyOptional && n == 0 && err == engine.ErrAgain {
		p.pass(c)
		return
	}
	p.count.Expired.Inc()
	c.Reset()
}

// Connected implements engine.Handler; accepted connections are.
func (p *preface) Connected(*engine.Conn, error) {}
