package tlslayer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"

	"sluice/engine"
)

// handshake is a connection's handler until it is secured. crypto/tls blocks in the middle of a handshake, so it runs on a
// goroutine, which has the bytes that the loop reads, by whole records, and leaves to the loop what it writes. The
// goroutine begins when the ClientHello is there.
type handshake struct {
	y      *layer
	crew   *Handshaker
	cfg    *tls.Config
	owner  Owner
	before engine.Handler
	next   *handshake // in a queue
	local  netip.AddrPort

	// The loop's.
	client  bool
	looked  bool // the first bytes are a ClientHello's
	entered bool // the goroutine is there, was, or will be
	over    bool // the owner knows

	// The goroutine's, and the loop's after it.
	state *tls.ConnectionState
	err   error

	wake   chan struct{} // the goroutine may go on
	cancel context.CancelFunc
	ctx    context.Context

	mu        sync.Mutex
	in        []byte // from the socket, a buffer of the loop's pool: handed on up to off, and by whole records up to whole
	off       int
	whole     int
	out       []byte // to the socket
	wrote     bool   // something has been in out
	ended     error  // why nothing follows what is in
	waiting   bool   // the goroutine does, for in
	stalled   bool   // the loop does, for room in it
	posted    bool   // flush is on its way
	sent, got uint8  // the last alert in plain text
}

func (h *handshake) totals() *Totals {
	if h.client {
		return &h.crew.count.Client
	}
	return &h.crew.count.Server
}

// Ready implements engine.Handler.
func (h *handshake) Ready(c *engine.Conn) {
	if h.over {
		return
	}
	if !h.client && !h.looked {
		if !h.look(c) {
			return
		}
		h.looked = true
	}
	h.feed()
	if !h.entered && (h.client || h.whole > 0) {
		h.start()
	} else if !h.entered && h.ended != nil {
		h.fail(h.ended)
	}
}

// look judges the first bytes where they are: somebody else may have use for them.
func (h *handshake) look(c *engine.Conn) bool {
	b := c.Loop().Scratch()[:sniffed]
	n, err := c.Peek(b)
	if err == engine.ErrAgain {
		return false
	}
	if err != nil {
		h.fail(err)
		return false
	}
	switch look(b[:n]) {
	case clientHello:
		return true
	case plainHTTP:
		h.fail(ErrPlainHTTP)
	case oddHandshake:
		h.y.send(c, protocolVersion)
		h.fail(ErrNotTLS)
	case garbage:
		h.fail(ErrNotTLS)
	case partial:
		if c.HungUp() {
			h.fail(io.ErrUnexpectedEOF)
		}
	}
	return false
}

// start has crypto/tls begin.
func (h *handshake) start() {
	if h.client {
		h.y.tls = tls.Client((*wire)(h.y), h.cfg)
	} else {
		h.y.tls = tls.Server((*wire)(h.y), h.cfg)
	}
	h.local = h.y.conn.LocalAddr()
	h.wake = make(chan struct{}, 1)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.entered = h.crew.enter(h); !h.entered {
		h.fail(ErrShed)
	}
}

// finish is what the loop does after the goroutine.
func (h *handshake) finish() {
	c := h.y.conn
	if h.over || c.Closed() {
		return
	}
	h.flush()
	if h.err != nil {
		h.fail(h.err)
		return
	}
	h.over = true
	n := h.totals()
	if h.state.Version == tls.VersionTLS13 {
		n.TLS13.Add(1)
	} else {
		n.TLS12.Add(1)
	}
	if h.state.DidResume {
		n.Resumed.Add(1)
	}
	y := h.y
	y.hs, y.in, y.inAt = nil, h.in, h.off
	c.SetTimeout(0)
	c.SetHandler(h.before)
	c.HoldRead(true) // data may have come with the last flight
	c.Loop().Again(c)
	h.owner.Secured(c, h.state, nil)
}

// fail ends the handshake, and the connection.
func (h *handshake) fail(err error) {
	c := h.y.conn
	kind := h.kind(err)
	h.totals().failed[kind].Add(1)
	c.SetTimeout(0)
	c.SetHandler(h.before)
	switch kind {
	case PlainHTTP:
		h.y.Released(c)
		c.SetLayer(nil)
	case Timeout, Shed, Reset:
		c.Reset()
	default:
		// What is unread would turn the close into a reset, and that could overtake the alert.
		_, _ = c.RawRead(c.Loop().Scratch())
		c.Close()
	}
	h.over = true
	h.owner.Secured(c, nil, &Error{Kind: kind, Err: err})
}

// kind is Classify with what is known beside the error.
func (h *handshake) kind(err error) Kind {
	k := Classify(err)
	if k != Other && k != Refused {
		return k
	}
	sent, got := alertKind(h.sent), alertKind(h.got)
	switch {
	case k == Refused && (got == Version || got == NoCertificate || got == Protocol):
		return got
	case k == Refused:
		return Refused
	case sent != Other:
		return sent
	case h.ended != nil && errors.Is(err, h.ended): // and not a peer's end that came after crypto/tls had its reason
		return Reset
	case h.client || !h.wrote || h.cfg.ClientAuth < tls.RequireAnyClientCert && h.cfg.GetConfigForClient == nil:
		return Other
	}
	// crypto/tls has no type for a client's certificate that is missing or does not fit its signature, and in TLS 1.3 the
	// alert is encrypted. Whatever else can be wrong by then is typed.
	if _, typed := errors.AsType[*net.OpError](err); typed {
		return Other
	}
	return BadCertificate
}

// abandon is called when the connection is closed before the end of the handshake, or by it.
func (h *handshake) abandon(c *engine.Conn) {
	h.mu.Lock()
	c.Loop().PutBuffer(h.in)
	h.in, h.off, h.whole = nil, 0, 0
	h.mu.Unlock()
	if !h.entered {
		h.crew.count.UnderWay.Add(-1)
		return
	}
	h.cancel()
	h.add(nil, nil, net.ErrClosed)
}

// Timeout implements engine.Handler.
func (h *handshake) Timeout(*engine.Conn) { h.fail(ErrTimeout) }

// Connected implements engine.Handler.
func (h *handshake) Connected(*engine.Conn, error) {
	panic("BUG: handshake on an unconnected connection")
}
