package gw

import (
	"io"
	"slices"

	"sluice/engine"
	"sluice/gw/h1"
	"sluice/lb"
	"sluice/lb/proxyproto"
)

// MirrorConfig has a part of a route's requests sent to another cluster too, whose answers nobody gets.
type MirrorConfig struct {
	Cluster string `yaml:"cluster,required"`
	// Percent of the requests, 0 to 100; not given: all. A request that cannot be kept whole (see RetryConfig) is not
	// mirrored.
	Percent *float64 `yaml:"percent"`
}

// mirror is a copy of a request on its way to another cluster. Its failures are counted and otherwise nobody's. Owned by the
// loop.
type mirror struct {
	w       *worker
	cl      *lb.Cluster
	ep      *lb.Endpoint
	up      *upstream
	count   *Counters
	request []byte // pooled
	sent    int
	toHEAD  bool

	partial []byte // pooled: a head that is not whole
	resume  h1.Resume
	body    h1.Body
	headed  bool
}

// mirrored sends a copy of the request, which is whole, to the route's mirror. One that would change the protocol has no copy:
// what comes after it could not be passed on.
func (x *exchange) mirrored() {
	t, l := x.target, x.w.loop
	if t.mirror == nil || !x.whole || len(x.offer) > 0 || t.mirrorPart < 1 && x.w.chance() >= t.mirrorPart {
		return
	}
	n := x.d.gw.counters(l)
	n.Mirrored.Inc()
	ep, err := t.mirror.Take(l, x.w.rand.Uint64(), nil)
	if err != nil {
		n.MirrorFailed.Inc()
		return
	}
	m := &mirror{w: x.w, cl: t.mirror, ep: ep, count: n, toHEAD: x.toHEAD}
	header := m.introduction(x)
	told := header != nil
	var introduce func(*engine.Conn) bool
	if told && m.cl.Secure() {
		first := slices.Clone(header)
		introduce = func(up *engine.Conn) bool { n, err := up.Write(first); return err == nil && n == len(first) }
		header = nil
	}
	if m.up, err = dialUpstream(l, ep, m.cl, lb.ClientOf(x.d.conn), !told, introduce); err != nil {
		ep.End(l)
		n.MirrorFailed.Inc()
		return
	}
	m.up.unsound = m.up.unsound || told // it is for this client alone
	m.request = l.AppendBuffer(nil, header)
	if x.sent == 0 && x.by.toldAt > 0 {
		x.tell()
	}
	m.request = l.AppendBuffer(m.request, x.request)
	m.up.conn.SetHandler(m)
	if !m.up.conn.Dialling() {
		m.Ready(m.up.conn)
	}
}

// introduction is the PROXY header that the copy begins with, if its cluster wants to know who the client is: made ahead, as the
// client may be gone when there is a connection.
func (m *mirror) introduction(x *exchange) []byte {
	v := x.d.gw.introduces(m.cl)
	if v == "" {
		return nil
	}
	c := x.d.conn
	h := proxyproto.Header{Source: c.Peer(), Dest: c.LocalAddr()}
	if o, ok := c.Attached().(*lb.Origin); ok && !o.Header.Local {
		h = o.Header
	}
	h.Local = !h.Source.IsValid()
	if v == lb.ProxyV1 {
		x.w.out = h.AppendV1(x.w.out[:0])
	} else {
		x.w.out = h.AppendV2(x.w.out[:0])
	}
	return x.w.out
}

// Connected implements engine.Handler.
func (m *mirror) Connected(c *engine.Conn, err error) {
	m.up.dialled(err)
	if err != nil {
		m.cl.ConnectFailed(m.w.loop, m.ep)
		m.end(false)
		return
	}
	m.Ready(c)
}

// Timeout implements engine.Handler.
func (m *mirror) Timeout(*engine.Conn) {
	m.cl.Failed(m.w.loop, m.ep)
	m.end(false)
}

// Ready implements engine.Handler.
func (m *mirror) Ready(c *engine.Conn) {
	if m.sent < len(m.request) {
		n, err := c.Write(m.request[m.sent:])
		m.sent += n
		m.ep.Local(m.w.loop).Sent.Add(uint64(n))
		c.SetTimeout(m.cl.Config().ResponseTimeout)
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			m.end(false)
			return
		}
	}
	for budget := turnBytes; ; {
		if budget <= 0 {
			m.w.loop.Again(c)
			return
		}
		n, err := c.Read(m.w.loop.Scratch())
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			m.end(err == io.EOF && m.headed && m.body.EOF())
			return
		}
		budget -= n
		m.ep.Local(m.w.loop).Received.Add(uint64(n))
		if done, sound := m.take(m.w.loop.Scratch()[:n]); done {
			m.end(sound)
			return
		}
	}
}

// take reads a piece of the answer: to know where it ends. sound: it has ended as it should.
func (m *mirror) take(b []byte) (done, sound bool) {
	l, p := m.w.loop, &m.w.resp
	if m.partial != nil {
		m.partial = l.AppendBuffer(m.partial, b)
		b = m.partial
	}
	for !m.headed {
		p.Offered = nil // which may be another request's
		size, err := p.Scan(b, &m.resume)
		if err == h1.ErrPartial {
			if held := m.partial; len(b) != len(held) {
				m.partial = l.AppendBuffer(nil, b)
				l.PutBuffer(held)
			}
			return false, false
		}
		if err != nil {
			return true, false
		}
		b = b[size:]
		if p.Status < 200 {
			continue
		}
		m.headed = true
		m.cl.Served(m.ep, p.Status)
		m.up.unsound = m.up.unsound || !p.KeepAlive()
		switch {
		case p.Bodiless(m.toHEAD):
			m.body = h1.NoBody()
		case p.Chunked:
			m.body = h1.ChunkedBody()
		case p.Length >= 0:
			m.body = h1.LengthBody(p.Length)
		default:
			m.body = h1.CloseBody()
		}
	}
	_, rest, err := m.body.Next(b)
	l.PutBuffer(m.partial)
	m.partial = nil
	m.up.unsound = m.up.unsound || len(rest) > 0
	return err != nil || m.body.Done(), err == nil
}

// end parts with the endpoint; sound says that all went well.
func (m *mirror) end(sound bool) {
	m.w.loop.PutBuffer(m.request)
	m.w.loop.PutBuffer(m.partial)
	m.request, m.partial = nil, nil
	m.ep.End(m.w.loop)
	m.up.conn.SetHandler(m.up)
	if !sound {
		m.count.MirrorFailed.Inc()
	}
	if sound && m.body.Done() && !m.up.unsound && !m.body.UntilClose() {
		m.up.park(m.cl.Config())
	} else {
		m.up.HangUp()
	}
}
