package lb

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"sluice/engine"
	"sluice/lb/proxyproto"
	"sluice/lb/sni"
)

// asked is what a client's TLS hello says, kept for the PROXY header.
type asked struct{ name, alpn []byte }

// greet looks at the client's TLS hello, and leaves it where it is: the endpoint gets it untouched.
func (s *session) greet() {
	c := s.client
	b := c.Loop().Scratch()
	n, err := c.Peek(b[:sni.MaxSize])
	if err == engine.ErrAgain {
		return
	}
	h := &s.proxy.loops[c.Loop().ID()].hello
	if err == io.EOF {
		h.ServerName, h.ALPN, err = nil, nil, sni.ErrNotTLS // it said nothing
	} else if err == nil {
		err = sni.Scan(b[:n], h)
	}
	switch {
	case errors.Is(err, sni.ErrPartial) && !c.HungUp():
		return
	case errors.Is(err, sni.ErrNotTLS) && s.cluster != nil:
		// Whatever it is, it asks for no name.
	case errors.Is(err, sni.ErrNotTLS):
		s.count().BadHello.Inc()
		s.abandon() // an alert would mean nothing to it
		return
	case err != nil:
		s.count().BadHello.Inc()
		s.decline(sni.DecodeError)
		return
	}
	c.SetTimeout(0)
	if !s.choose(h.ServerName) {
		s.decline(sni.UnrecognizedName)
		return
	}
	if s.proxyVersion() == ProxyV2 {
		s.asks = &asked{name: slices.Clone(h.ServerName)}
		for p := range h.Protocols() {
			s.asks.alpn = slices.Clone(p)
			break
		}
	}
	s.place(h.ServerName)
}

// choose finds the cluster of a name; false: nobody's.
func (s *session) choose(name []byte) bool {
	if cl, ok := s.proxy.names.Find(name); ok {
		s.cluster = cl
	}
	if s.cluster == nil {
		s.count().NoName.Inc()
	}
	return s.cluster != nil
}

// named is greet for a client whose hello was for us.
func (s *session) named(t *Secured) {
	name := []byte(t.ServerName)
	if !s.choose(name) {
		s.end()
		return
	}
	if s.proxyVersion() == ProxyV2 {
		s.asks = &asked{name: name, alpn: []byte(t.ALPN)}
	}
	s.place(name)
}

// lingerTime is how long a client that was declined may go on sending.
const lingerTime = 2 * time.Second

// decline answers a TLS hello with an alert. What the client has said, and says still, is thrown away for a while:
// closing over unread bytes would be a reset, which can overtake the alert.
func (s *session) decline(alert sni.Alert) {
	c := s.client
	s.stage = declined
	_, _ = c.Write(alert.Append(c.Loop().Scratch()[:0]))
	_ = c.CloseWrite()
	c.SetTimeout(lingerTime)
	s.discard()
}

func (s *session) discard() {
	l := s.client.Loop()
	for range 16 {
		_, err := s.client.Read(l.Scratch())
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			s.stage = ended
			s.arrived()
			s.client.Close()
			return
		}
	}
	l.Again(s.client)
}

func (s *session) proxyVersion() ProxyVersion {
	if v := s.proxy.sendProxy; v != "" {
		return v
	}
	return s.cluster.cfg.SendProxyProtocol
}

// introduction is introduce, for a cluster that is to be told before it is spoken to in TLS; nil: it is not told.
func (s *session) introduction() func(*engine.Conn) bool {
	if !s.cluster.Secure() || s.proxyVersion() == "" {
		return nil
	}
	return s.introduce
}

// introduce tells the endpoint who the client is, if it wants to know. false: it cannot be told, and the connection is
// of no use.
func (s *session) introduce(up *engine.Conn) bool {
	v := s.proxyVersion()
	if v == "" {
		return true
	}
	var h proxyproto.Header
	if s.asks != nil {
		h.SNI, h.ALPN = s.asks.name, s.asks.alpn
	}
	return Introduce(up, s.client, v, h)
}

var errIntroduction = errors.New("PROXY header cannot be written")

// Introduce writes a PROXY header to an upstream connection that nothing has been written to, for the client connection;
// h holds what else is to be told. What the client's own PROXY header said is passed on.
func Introduce(up, client *engine.Conn, v ProxyVersion, h proxyproto.Header) bool {
	o, ok := client.Attached().(*Origin)
	if ok {
		own := h
		if h = o.Header; own.SNI != nil {
			h.SNI, h.ALPN = own.SNI, own.ALPN
		}
	}
	if !ok || h.Local {
		h.Source, h.Dest = client.Peer(), client.LocalAddr()
		h.Local = !h.Source.IsValid()
	}
	out := up.Loop().Scratch()[:0]
	if v == ProxyV1 {
		out = h.AppendV1(out)
	} else {
		if len(h.UniqueID) == 0 {
			var id [16]byte
			for i := range id {
				id[i] = byte(rand.Uint32())
			}
			h.UniqueID = id[:]
		}
		out = h.AppendV2(out)
	}
	n, err := up.Write(out)
	return n == len(out) && err == nil
}
