package lb

import (
	"errors"
	"log/slog"
	"strconv"
	"time"

	"sluice/engine"
	"sluice/lb/sni"
)

// ProxyConfig is the part of a tcp listener's configuration that is L4's own.
type ProxyConfig struct {
	// Cluster is where sessions go that no SNI entry takes.
	Cluster string `yaml:"cluster"`
	// SNI chooses a cluster by the name that the client's TLS hello asks for. TLS is not terminated.
	SNI []SNIRoute `yaml:"sni"`
	// HelloTimeout is how long the client's TLS hello may take, where it matters; 0: 5 s.
	HelloTimeout time.Duration `yaml:"hello_timeout"`
	// HalfClose is what becomes of a session when one side has said all; not given: relay.
	HalfClose HalfClose `yaml:"half_close"`
	// SessionTimeout ends a session on which no byte moved for so long; 0: 10 min, nginx stream's.
	SessionTimeout time.Duration `yaml:"session_timeout"`
}

// HalfClose says what a FIN of one side does to the other direction.
type HalfClose string

// The choices.
const (
	HalfCloseRelay HalfClose = "relay" // it goes on until its own FIN
	HalfCloseEnd   HalfClose = "end"   // the session ends, once what was said by then is passed on
)

// Choices are the values that a file may have.
func (HalfClose) Choices() []string { return []string{string(HalfCloseRelay), string(HalfCloseEnd)} }

// SNIRoute sends names, or *.name for all below it, to a cluster.
type SNIRoute struct {
	Names   []string `yaml:"names,required"`
	Cluster string   `yaml:"cluster,required"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *ProxyConfig) Validate(report func(path, message string)) {
	var names sni.Table[string]
	for i, r := range c.SNI {
		for k, name := range r.Names {
			if err := names.Add(name, r.Cluster); err != nil {
				report("sni["+strconv.Itoa(i)+"].names["+strconv.Itoa(k)+"]", err.Error())
			}
		}
	}
	if c.HelloTimeout < 0 {
		report("hello_timeout", "must not be negative")
	}
	if c.SessionTimeout < 0 {
		report("session_timeout", "must not be negative")
	}
}

// maxTries times the connect timeout bounds the search for an endpoint that answers.
const maxTries = 3

// Proxy is what a tcp listener does with its connections: pick, dial, retry while nothing was sent, relay.
type Proxy struct {
	cfg       ProxyConfig
	sendProxy ProxyVersion
	cluster   *Cluster // of those whom names do not take; nil: nobody's
	names     sni.Table[*Cluster]
	hello     bool // the client's TLS hello has to be looked at
	loops     []proxyLoop
	log       *slog.Logger
	stats     *ProxyStats
}

// ProxyStats are a listener's totals by loop; they outlive a reload.
type ProxyStats struct{ Loops []ProxyCounters }

// ProxyCounters is one loop's share, written by it alone.
type ProxyCounters struct {
	_ [64]byte
	// Sessions were accepted; NoEndpoint of them were reset because none could be reached. Retries are dials beyond
	// the first of a session, Failed the sessions that ended by an error, IdleClosed those that timed out.
	Sessions, NoEndpoint, Retries, Failed, IdleClosed engine.Counter
	// Queued had to wait for an endpoint; QueueFull and QueueTimeout of those who would were reset.
	Queued, QueueFull, QueueTimeout engine.Counter
	// NoName asked for a name that nobody serves; BadHello sent something else than a TLS hello, or not in time.
	NoName, BadHello engine.Counter
	// FromClients and ToClients count the bytes of sessions that have ended.
	FromClients, ToClients engine.Counter
	_                      [64]byte
}

// NewProxy serves a listener of a valid configuration; cluster finds clusters by their names. sendProxy begins upstream
// connections with a PROXY header, whatever the cluster's configuration says.
func NewProxy(cfg ProxyConfig, sendProxy ProxyVersion, cluster func(name string) *Cluster, stats *ProxyStats, log *slog.Logger) *Proxy {
	p := &Proxy{cfg: cfg, sendProxy: sendProxy, log: log, stats: stats, loops: make([]proxyLoop, len(stats.Loops))}
	if p.cfg.SessionTimeout == 0 {
		p.cfg.SessionTimeout = 10 * time.Minute
	}
	if p.cfg.HelloTimeout == 0 {
		p.cfg.HelloTimeout = 5 * time.Second
	}
	if cfg.Cluster != "" {
		p.cluster = cluster(cfg.Cluster)
		p.hello = p.cluster.by.Kind == HashSNI
	}
	for _, r := range cfg.SNI {
		p.hello = true
		for _, name := range r.Names {
			_ = p.names.Add(name, cluster(r.Cluster)) // valid
		}
	}
	return p
}

// session is one client connection and its way to an endpoint.
type session struct {
	engine.Relay
	proxy    *Proxy
	cluster  *Cluster
	client   *engine.Conn
	upstream *engine.Conn
	ep       *Endpoint
	held     Held
	*way     // nil once it is relayed
	stage    stage
}

// way is what a session needs until it is relayed. It is pooled: sessions are idle for most of their lives, and there
// are thousands.
type way struct {
	tried []*Endpoint
	hash  uint64
	until time.Duration // no dial is begun after this, on the loop's clock
	began time.Duration // the dial, on the exact clock, if somebody wants to know
	wait  *Waiter       // once it has waited for an endpoint
	asks  *asked        // what its TLS hello says, if somebody wants to know
}

// proxyLoop is a proxy's state on one loop, which owns it.
type proxyLoop struct {
	hello sni.Hello
	ways  []*way
	_     [64]byte
}

// keepWays bounds a pool of ways.
const keepWays = 256

func (n *proxyLoop) way() *way {
	if k := len(n.ways); k > 0 {
		w := n.ways[k-1]
		n.ways = n.ways[:k-1]
		return w
	}
	return &way{}
}

// arrived gives back what the session needed on its way.
func (s *session) arrived() {
	w := s.way
	if w == nil {
		return
	}
	s.way = nil
	clear(w.tried)
	*w = way{tried: w.tried[:0]}
	if n := &s.proxy.loops[s.client.Loop().ID()]; len(n.ways) < keepWays {
		n.ways = append(n.ways, w)
	}
}

// end is arrived for a session that is over, its client being told by a reset.
func (s *session) end() {
	s.stage = ended
	s.arrived()
	s.client.Reset()
}

// stage is how far a session has come.
type stage uint8

const (
	greeting stage = iota // its TLS hello is read
	waiting               // for an endpoint that has room
	dialling
	open // connected, and nobody has said anything
	relaying
	declined // told so by an alert, and what it still says is thrown away
	ended
)

// Accept implements engine.Acceptor.
func (p *Proxy) Accept(c *engine.Conn) {
	s := &session{proxy: p, client: c, cluster: p.cluster, way: p.loops[c.Loop().ID()].way()}
	s.held.session = s
	c.SetHandler(s)
	s.count().Sessions.Inc()
	if t := SecuredOf(c); t != nil {
		s.named(t)
		return
	}
	if p.hello {
		c.SetTimeout(p.cfg.HelloTimeout)
		return
	}
	s.place(nil)
}

func (s *session) count() *ProxyCounters { return &s.proxy.stats.Loops[s.client.Loop().ID()] }

// place finds the session's place by its cluster's key, and connects.
func (s *session) place(name []byte) {
	s.hash = s.cluster.Hash(ClientOf(s.client), s.client.Peer(), name)
	s.search()
}

// search connects, with all the time that a search may take before it.
func (s *session) search() {
	s.until = s.client.Loop().Now() + maxTries*s.cluster.cfg.ConnectTimeout
	s.connect()
}

// connect dials the next endpoint. The client's bytes stay in the kernel until one has answered, so that nothing
// stands against trying another.
func (s *session) connect() {
	l, cl := s.client.Loop(), s.cluster
	for len(s.tried) == 0 || l.Now() < s.until {
		ep, err := cl.Take(l, s.hash, s.tried)
		if err == ErrFull {
			if !s.queue() {
				return
			}
			// Somebody may have left before the session stood in the queue for others to see.
			if ep, err = cl.Take(l, s.hash, s.tried); err != nil {
				return
			}
			cl.Leave(l, s.wait)
		}
		if err != nil {
			break
		}
		if s.stage == waiting {
			s.client.SetTimeout(0)
		}
		s.stage = dialling
		if len(s.tried) > 0 {
			s.count().Retries.Inc()
		}
		if cl.Timed() {
			s.began = l.Clock()
		}
		c, err := cl.Dial(l, ep, ClientOf(s.client), s.introduction(), s)
		if err == nil {
			s.ep, s.upstream = ep, c
			ep.Local(l).Attach(&s.held)
			return
		}
		ep.End(l)
		cl.ConnectFailed(l, ep)
		s.tried = append(s.tried, ep)
	}
	s.count().NoEndpoint.Inc()
	s.end()
}

// queue has the session wait for an endpoint that has room; false if it cannot, and was reset.
func (s *session) queue() bool {
	again := s.wait != nil
	if !again {
		s.wait = &Waiter{Retry: s.search}
	}
	if !s.cluster.Wait(s.client.Loop(), s.wait, again) {
		s.count().QueueFull.Inc()
		s.end()
		return false
	}
	if !again {
		s.count().Queued.Inc()
	}
	if s.stage != waiting {
		s.stage = waiting
		s.client.SetTimeout(s.cluster.cfg.Queue.Timeout)
	}
	return true
}

// Connected implements engine.Handler for the upstream connection.
func (s *session) Connected(up *engine.Conn, err error) {
	l := s.client.Loop()
	if err != nil {
		s.cluster.ConnectFailed(l, s.ep)
		s.another()
		return
	}
	took := time.Duration(0)
	if s.began > 0 {
		took = l.Clock() - s.began
	}
	s.cluster.Connected(l, s.ep, took)
	if !s.cluster.Secure() && !s.introduce(up) {
		s.cluster.Failed(l, s.ep)
		up.Reset()
		s.another()
		return
	}
	if s.client.Readable() || up.Readable() {
		s.relay()
		return
	}
	s.stage = open
	s.client.SetTimeout(s.proxy.cfg.SessionTimeout)
}

// another gives up the endpoint and tries the next one.
func (s *session) another() {
	s.leave()
	s.tried = append(s.tried, s.ep)
	s.connect()
}

// elsewhere is another for an endpoint that was connected, or would have been, and has heard nothing of the client.
func (s *session) elsewhere() {
	s.upstream.Reset()
	s.client.SetTimeout(0)
	s.leave()
	s.tried = append(s.tried, s.ep)
	s.search()
}

// leave counts the session out at its endpoint.
func (s *session) leave() {
	l := s.client.Loop()
	s.ep.Local(l).Detach(&s.held)
	s.ep.End(l)
}

// relay has the session be no more than its relay: most of its life it is idle, and one of thousands.
func (s *session) relay() {
	s.stage = relaying
	s.arrived()
	s.client.Attach(nil)
	if s.proxy.cfg.HalfClose == HalfCloseEnd {
		s.EndTogether()
	}
	s.Start(s.client, s.upstream, s.proxy.cfg.SessionTimeout, s)
}

// Ready implements engine.Handler until the relay does.
func (s *session) Ready(*engine.Conn) {
	if s.stage == declined {
		s.discard()
		return
	}
	if s.client.Failure() != nil {
		s.count().Failed.Inc()
		s.abandon()
		return
	}
	switch s.stage {
	case greeting:
		s.greet()
	case open:
		// An endpoint that has accepted and fails before anybody has said anything is as good as one that has not.
		switch {
		case s.upstream.Failure() != nil:
			s.cluster.Failed(s.client.Loop(), s.ep)
			s.elsewhere()
		case s.client.Readable() || s.upstream.Readable():
			s.relay()
		}
	}
}

// abandon ends a session that is not relayed yet. A client that resets is not worth an endpoint, which may have accepted
// already: a FIN would tell it of a whole session.
func (s *session) abandon() {
	switch s.stage {
	case waiting:
		s.cluster.Leave(s.client.Loop(), s.wait)
	case dialling, open:
		s.upstream.Reset()
		s.leave()
	}
	s.end()
}

// errAborted is why sessions end whose endpoint is taken from them.
var errAborted = errors.New("endpoint is out of use")

// abort takes the endpoint from the session, on its loop: from one that is relayed its life.
func (s *session) abort() {
	if s.stage == relaying {
		s.Abort(errAborted)
	} else {
		s.elsewhere()
	}
}

// Timeout implements engine.Handler until the relay does.
func (s *session) Timeout(*engine.Conn) {
	switch s.stage {
	case greeting:
		c := s.client
		c.LookAgain()
		if s.greet(); s.stage != greeting {
			return // it came in the last moment
		}
		if n, err := c.Peek(c.Loop().Scratch()[:1]); n == 0 && err == engine.ErrAgain && s.cluster != nil {
			c.SetTimeout(0)
			s.place(nil) // a client that waits to be spoken to asks for no name
			return
		}
		s.count().BadHello.Inc()
	case waiting:
		s.count().QueueTimeout.Inc()
	case declined:
		s.stage = ended
		s.arrived()
		s.client.Close()
		return
	case open: // as the relay ends one that has nothing to pass on
		s.count().IdleClosed.Inc()
		s.leave()
		s.stage = ended
		s.arrived()
		s.upstream.Close()
		s.client.Close()
		return
	}
	s.abandon()
}

// Ended implements engine.RelayOwner.
func (s *session) Ended(r *engine.Relay, err error) {
	s.stage = ended
	s.leave()
	from, to := r.Bytes()
	n, local := s.count(), s.ep.Local(s.client.Loop())
	local.Sent.Add(from)
	local.Received.Add(to)
	n.FromClients.Add(from)
	n.ToClients.Add(to)
	if to == 0 && s.upstream.Broken() && !s.client.Broken() {
		s.cluster.Failed(s.client.Loop(), s.ep)
	} else {
		s.cluster.Served(s.ep, 0)
	}
	switch {
	case errors.Is(err, engine.ErrIdle):
		n.IdleClosed.Inc()
	case err != nil:
		n.Failed.Inc()
	}
}
