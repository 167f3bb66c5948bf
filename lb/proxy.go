package lb

import (
	"errors"
	"log/slog"
	"time"

	"sluice/engine"
)

// ProxyConfig is the part of a tcp listener's configuration that is L4's own.
type ProxyConfig struct {
	Cluster string `yaml:"cluster"`
	// SessionTimeout ends a session on which no byte moved for so long; 0: 10 min, nginx stream's.
	SessionTimeout time.Duration `yaml:"session_timeout"`
}

// maxTries times the connect timeout bounds the search for an endpoint that answers.
const maxTries = 3

// Proxy is what a tcp listener does with its connections: pick, dial, retry while nothing was sent, relay.
type Proxy struct {
	cluster *Cluster
	idle    time.Duration
	log     *slog.Logger
	stats   *ProxyStats
}

// ProxyStats are a listener's totals by loop; they outlive a reload.
type ProxyStats struct{ Loops []ProxyCounters }

// ProxyCounters is one loop's share, written by it alone.
type ProxyCounters struct {
	_ [64]byte
	// Sessions were accepted; NoEndpoint of them were reset because none could be reached. Retries are dials beyond
	// the first of a session, Failed the sessions that ended by an error, IdleClosed those that timed out.
	Sessions, NoEndpoint, Retries, Failed, IdleClosed engine.Counter
	// FromClients and ToClients count the bytes of sessions that have ended.
	FromClients, ToClients engine.Counter
	_                      [64]byte
}

// NewProxy serves listeners with cluster.
func NewProxy(cfg ProxyConfig, cluster *Cluster, stats *ProxyStats, log *slog.Logger) *Proxy {
	p := &Proxy{cluster: cluster, idle: cfg.SessionTimeout, log: log, stats: stats}
	if p.idle == 0 {
		p.idle = 10 * time.Minute
	}
	return p
}

// session is one client connection and its way to an endpoint.
type session struct {
	engine.Relay
	proxy    *Proxy
	client   *engine.Conn
	upstream *engine.Conn
	ep       *Endpoint
	tried    []*Endpoint
	hash     uint64
	until    time.Duration // no dial is begun after this, on the loop's clock
}

// Accept implements engine.Acceptor.
func (p *Proxy) Accept(c *engine.Conn) {
	s := &session{proxy: p, client: c}
	c.SetHandler(s)
	switch p.cluster.cfg.Picker {
	case SourceHash:
		s.hash = HashAddr(c.Peer(), false)
	case Maglev:
		s.hash = HashAddr(c.Peer(), true)
	}
	s.count().Sessions.Inc()
	s.until = c.Loop().Now() + maxTries*p.cluster.cfg.ConnectTimeout
	s.connect()
}

func (s *session) count() *ProxyCounters { return &s.proxy.stats.Loops[s.client.Loop().ID()] }

// connect dials the next endpoint. The client's bytes stay in the kernel until one has answered, so that nothing
// stands against trying another.
func (s *session) connect() {
	l, cl := s.client.Loop(), s.proxy.cluster
	for len(s.tried) == 0 || l.Now() < s.until {
		ep := cl.Pick(l, s.hash, s.tried)
		if ep == nil {
			break
		}
		if len(s.tried) > 0 {
			s.count().Retries.Inc()
		}
		c, err := l.Dial(ep.Addrs(), cl.cfg.ConnectTimeout, s)
		if err == nil {
			s.ep, s.upstream = ep, c
			ep.Begin(l)
			return
		}
		ep.Local(l).ConnectErrors.Inc()
		s.tried = append(s.tried, ep)
	}
	s.count().NoEndpoint.Inc()
	s.client.Reset()
}

// Connected implements engine.Handler for the upstream connection.
func (s *session) Connected(up *engine.Conn, err error) {
	if err != nil {
		s.ep.End()
		s.ep.Local(s.client.Loop()).ConnectErrors.Inc()
		s.tried = append(s.tried, s.ep)
		s.connect()
		return
	}
	s.tried = nil
	s.Start(s.client, up, s.proxy.idle, s)
}

// Ready implements engine.Handler until the relay does: a client that resets is not worth an endpoint.
func (s *session) Ready(c *engine.Conn) {
	if c == s.client && c.Failure() != nil {
		s.upstream.Reset() // the endpoint may have accepted already, and a FIN would tell it of a whole session
		s.ep.End()
		s.count().Failed.Inc()
		c.Reset()
	}
}

// Timeout implements engine.Handler; nothing is timed here before the relay.
func (s *session) Timeout(*engine.Conn) {}

// Ended implements engine.RelayOwner.
func (s *session) Ended(r *engine.Relay, err error) {
	s.ep.End()
	from, to := r.Bytes()
	n, local := s.count(), s.ep.Local(s.client.Loop())
	n.FromClients.Add(from)
	n.ToClients.Add(to)
	local.Sent.Add(from)
	local.Received.Add(to)
	switch {
	case errors.Is(err, engine.ErrIdle):
		n.IdleClosed.Inc()
	case err != nil:
		n.Failed.Inc()
	}
}
