package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine"
	"sluice/engine/tlslayer"
	"sluice/gw"
	"sluice/lb"
)

// server is the running edge: an engine, and the snapshot that it serves.
type server struct {
	log     *slog.Logger
	engine  *engine.Engine
	workers *gw.Workers
	// handshakes are those of all listeners and clusters.
	handshakes *tlslayer.Handshaker
	admin      *admin
	// coolDown ends what keeps connections open ahead.
	coolDown func()

	changing sync.Mutex // one reload or stop at a time
	current  atomic.Pointer[snapshot]
	draining atomic.Bool
	reloads  struct{ ok, failed, lastOK atomic.Uint64 } // lastOK: Unix seconds; 0 after a failure has followed
	loaded   atomic.Int64                               // Unix seconds of the configuration in force
}

// snapshot is a configuration, built: immutable once it is current.
type snapshot struct {
	file      *File
	clusters  []*lb.Cluster // in the file's order
	byName    map[string]*lb.Cluster
	listeners []*listener
}

// listener is a listener in one snapshot.
type listener struct {
	cfg     Listener
	routes  []gw.Route
	uses    []*lb.Cluster   // in the order in which the configuration names them
	handler engine.Acceptor // tcp, http
	flows   *lb.UDPProxy    // udp
	guard   *guard          // nil: everyone is let in
	tls     *termination    // nil: it does not speak TLS
	socket  *engine.Listener
	packets *engine.PacketListener
	*listenerState
}

// listenerState is what a listener keeps over reloads, by its name.
type listenerState struct {
	preface *lb.PrefaceStats
	tcp     *lb.ProxyStats
	udp     *lb.UDPStats
	http    *gw.Stats
	gateway atomic.Pointer[gw.Gateway] // that new connections meet; nil once the listener is gone
}

// newServer opens the engine of a valid configuration, and runs nothing.
func newServer(f *File, log *slog.Logger) (*server, error) {
	e, err := engine.New(f.Engine, log)
	if err != nil {
		return nil, err
	}
	return &server{log: log, engine: e, workers: gw.NewWorkers(e.Loops()), handshakes: tlslayer.New(f.TLS)}, nil
}

// start runs the edge of a valid configuration.
func start(f *File, log *slog.Logger) (*server, error) {
	s, err := newServer(f, log)
	if err != nil {
		return nil, err
	}
	s.engine.Start()
	err = s.pin(f.Engine.Affinity)
	if err == nil {
		err = s.apply(f)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// reload puts the configuration that read returns in force. If anything is wrong with it nothing changes.
func (s *server) reload(read func() (*File, error)) {
	f, err := read()
	if err == nil {
		err = s.apply(f)
	}
	if err != nil {
		s.reloads.failed.Add(1)
		s.reloads.lastOK.Store(0)
		s.log.Error("configuration not reloaded, the one before stays in force", "error", err)
		return
	}
	s.reloads.ok.Add(1)
	s.log.Info("configuration reloaded", "edge", f.summary())
}

// apply builds a snapshot of f and swaps it in.
func (s *server) apply(f *File) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	prev := s.current.Load()
	if prev == nil {
		prev = &snapshot{file: &File{}}
	} else if s.draining.Load() {
		return errors.New("the edge is draining")
	} else if !reflect.DeepEqual(f.Engine, prev.file.Engine) || f.TLS != prev.file.TLS {
		s.log.Warn("engine settings, and the bounds of tls, take effect at the next start", "running", prev.file.Engine)
	}
	next, err := s.build(f, prev)
	if err != nil {
		return err
	}
	var opened []*listener
	fail := func(err error) error {
		for _, ln := range opened {
			ln.close()
		}
		next.discard(prev)
		return err
	}
	for _, ln := range next.listeners {
		if old := prev.at(ln.cfg); old != nil {
			ln.socket, ln.packets = old.socket, old.packets
			continue
		}
		if err := ln.open(s.engine); err != nil {
			return fail(err)
		}
		opened = append(opened, ln)
	}
	adm := s.admin
	if f.Admin != prev.file.Admin && f.Admin.Address != "" {
		if adm, err = newAdmin(f.Admin.Address, s); err != nil {
			return fail(err)
		}
	}

	// Nothing fails any more.
	s.current.Store(next)
	for _, ln := range next.listeners {
		ln.gateway.Store(ln.serves())
		ln.set(s.log)
		ln.guard.watch(s.log)
	}
	for _, old := range prev.listeners {
		if now := next.named(old.cfg.Name); now == nil || now.serves() != old.serves() {
			old.closeGateway()
		}
		if next.at(old.cfg) == nil {
			old.close()
		}
		if next.named(old.cfg.Name) == nil {
			old.gateway.Store(nil)
		}
		if now := next.named(old.cfg.Name); now == nil || now.guard != old.guard {
			old.guard.stop()
		}
		if now := next.named(old.cfg.Name); now == nil || now.tls != old.tls {
			old.tls.close()
		}
	}
	// One cluster at a time checks an endpoint: the old one ends before the new one begins.
	for _, c := range prev.clusters {
		c.Stop(next.byName[c.Name()])
	}
	for _, c := range next.clusters {
		c.Start()
	}
	s.keepWarm(next)
	if f.Admin != prev.file.Admin {
		if s.admin != nil {
			s.admin.close()
		}
		s.admin = adm
		if f.Admin.Address == "" {
			s.admin = nil
		}
	}
	now := time.Now().Unix()
	s.loaded.Store(now)
	s.reloads.lastOK.Store(uint64(now))
	return nil
}

// keepWarm keeps connections open ahead to the clusters of p that want it, in the place of those of the snapshot before.
func (s *server) keepWarm(p *snapshot) {
	if s.coolDown != nil {
		s.coolDown()
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, c := range p.clusters {
		running.Go(func() { s.workers.KeepWarm(ctx, c) })
	}
	s.coolDown = func() { cancel(); running.Wait() }
}

// discard ends what a snapshot has begun that is not taken, and that it does not share with prev.
func (p *snapshot) discard(prev *snapshot) {
	for _, ln := range p.listeners {
		if old := prev.named(ln.cfg.Name); old == nil || old.serves() != ln.serves() {
			ln.closeGateway()
		}
		if old := prev.named(ln.cfg.Name); old == nil || old.tls != ln.tls {
			ln.tls.close()
		}
	}
	for _, c := range p.clusters {
		c.Stop(prev.byName[c.Name()])
	}
}

// build makes a snapshot of f that shares with prev what did not change.
func (s *server) build(f *File, prev *snapshot) (*snapshot, error) {
	loops := s.engine.Loops()
	next := &snapshot{file: f, byName: map[string]*lb.Cluster{}}
	abandon := func(err error) (*snapshot, error) {
		next.discard(prev)
		return nil, err
	}
	var err error
	for _, cfg := range f.Clusters {
		c, err := lb.NewCluster(cfg, loops, s.log, prev.byName[cfg.Name])
		if err != nil {
			return abandon(err)
		}
		c.SetHandshaker(s.handshakes)
		next.clusters = append(next.clusters, c)
		next.byName[cfg.Name] = c
	}
	cluster := func(name string) *lb.Cluster { return next.byName[name] }
	for _, cfg := range f.Listeners {
		ln := &listener{cfg: cfg}
		next.listeners = append(next.listeners, ln)
		if ln.tls, err = newTermination(cfg.TLS, prev.named(cfg.Name), s.log); err != nil {
			return abandon(fmt.Errorf("listener %s: tls: %w", cfg.Name, err))
		}
	}
	for _, ln := range next.listeners {
		cfg := ln.cfg
		old := prev.named(cfg.Name)
		if old != nil {
			ln.listenerState = old.listenerState
		} else {
			ln.listenerState = newListenerState(len(loops))
		}
		if cfg.Protocol.http() {
			ln.routes = slices.Concat(next.challenges(cfg.Protocol), f.Routes[cfg.HTTP.Routes])
			ln.cfg.HTTP.ClusterNames(func(_, name string) { ln.uses = append(ln.uses, cluster(name)) })
			for i := range ln.routes {
				ln.routes[i].ClusterNames(func(_, name string) { ln.uses = append(ln.uses, cluster(name)) })
			}
		} else {
			ln.uses = []*lb.Cluster{cluster(cfg.Session.Cluster)}
			for _, r := range cfg.Session.SNI {
				ln.uses = append(ln.uses, cluster(r.Cluster))
			}
		}
		if ln.guard, err = newGuard(cfg.Access, old); err != nil {
			return abandon(fmt.Errorf("listener %s: %w", cfg.Name, err))
		}
		if old != nil && ln.same(old) {
			ln.handler, ln.flows = old.handler, old.flows
		} else {
			ln.make(cluster, s)
		}
	}
	return next, nil
}

func newListenerState(loops int) *listenerState {
	return &listenerState{
		preface: &lb.PrefaceStats{Loops: make([]lb.PrefaceCounters, loops)},
		tcp:     &lb.ProxyStats{Loops: make([]lb.ProxyCounters, loops)},
		udp:     &lb.UDPStats{Loops: make([]lb.UDPCounters, loops)},
		http:    &gw.Stats{Loops: make([]gw.Counters, loops)},
	}
}

// make builds what serves the listener's connections.
func (ln *listener) make(cluster func(string) *lb.Cluster, s *server) {
	cfg := &ln.cfg
	send := cfg.Preface.SendProxyProtocol
	switch cfg.Protocol {
	case UDP:
		ln.flows = lb.NewUDPProxy(cfg.UDP, ln.uses[0], cfg.Session.SessionTimeout, ln.udp, s.log)
		ln.flows.Admit = ln.guard.admits()
		return
	case TCP, TLS:
		ln.handler = lb.NewProxy(cfg.Session, send, cluster, ln.tcp, s.log)
	case HTTP, HTTPS:
		state := ln.listenerState
		stale := func(g *gw.Gateway) bool { return state.gateway.Load() != g }
		http := cfg.HTTP
		http.Secure = cfg.Protocol == HTTPS
		ln.handler = gw.New(http, send, ln.routes, cluster, s.workers, ln.http, stale, s.log)
	}
	if cfg.Protocol.secure() {
		ln.handler = lb.NewTerminator(ln.tls.store, s.handshakes, cfg.alpn(), ln.handler)
	}
	ln.handler = lb.NewPreface(cfg.Preface, ln.handler, ln.preface)
}

// serves is the listener's gateway, if it has one.
func (ln *listener) serves() *gw.Gateway {
	h := ln.handler
	if p, ok := h.(*lb.Preface); ok {
		h = p.Next()
	}
	if t, ok := h.(*lb.Terminator); ok {
		h = t.Next()
	}
	g, _ := h.(*gw.Gateway)
	return g
}

// closeGateway ends what its filters do beside the loops.
func (ln *listener) closeGateway() {
	if g := ln.serves(); g != nil {
		g.Close()
	}
}

func (ln *listener) terms() engine.Terms {
	return engine.Terms{Limits: ln.cfg.Limits, Admit: ln.guard.admits(), Handler: ln.handler}
}

func (ln *listener) open(e *engine.Engine) (err error) {
	if ln.cfg.Protocol == UDP {
		ln.packets, err = e.ListenPackets(ln.cfg.Address, ln.flows)
	} else {
		ln.socket, err = e.ListenWith(ln.cfg.Address, ln.cfg.Socket, ln.terms())
	}
	return err
}

// set has new connections meet what is configured now.
func (ln *listener) set(log *slog.Logger) {
	if ln.packets != nil {
		ln.packets.Set(ln.flows)
		return
	}
	ln.socket.SetTerms(ln.terms())
	if err := ln.socket.SetOptions(ln.cfg.Socket); err != nil {
		log.Error("socket options not changed", "listener", ln.cfg.Name, "error", err)
	}
}

func (ln *listener) close() {
	if ln.packets != nil {
		ln.packets.Close()
	} else {
		ln.socket.Close()
	}
}

// same says that connections would see no difference between ln and old.
func (ln *listener) same(old *listener) bool {
	if ln.guard != old.guard || !reflect.DeepEqual(ln.cfg, old.cfg) || !reflect.DeepEqual(ln.routes, old.routes) {
		return false
	}
	for i := range ln.uses {
		if ln.uses[i] != old.uses[i] {
			return false
		}
	}
	return true
}

// at is the listener that has cfg's socket.
func (p *snapshot) at(cfg Listener) *listener {
	for _, ln := range p.listeners {
		if ln.cfg.Address == cfg.Address && (ln.cfg.Protocol == UDP) == (cfg.Protocol == UDP) {
			return ln
		}
	}
	return nil
}

func (p *snapshot) named(name string) *listener {
	for _, ln := range p.listeners {
		if ln.cfg.Name == name {
			return ln
		}
	}
	return nil
}

// defaultDrain is how long draining may take if the configuration does not say.
const defaultDrain = 30 * time.Second

// drain takes nothing new, finishes what is open until the drain timeout or the end of ctx, and stops.
func (s *server) drain(ctx context.Context) {
	s.changing.Lock()
	s.draining.Store(true)
	p := s.current.Load()
	for _, ln := range p.listeners {
		ln.close()
	}
	s.changing.Unlock()
	limit := p.file.DrainTimeout
	if limit == 0 {
		limit = defaultDrain
	}
	s.log.Info("draining", "open", s.engine.Open(), "timeout", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("drain timeout"))
	defer cancel()
	if err := s.engine.Drain(ctx); err != nil {
		s.log.Warn("drain cut short", "error", err)
	}
	s.stop()
}

// stop ends everything at once; open connections are reset.
func (s *server) stop() {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.draining.Store(true)
	if s.admin != nil {
		s.admin.close()
		s.admin = nil
	}
	if s.coolDown != nil {
		s.coolDown()
	}
	s.engine.Stop()
	if p := s.current.Load(); p != nil {
		for _, c := range p.clusters {
			c.Stop(nil)
		}
		for _, ln := range p.listeners {
			ln.guard.stop()
			ln.closeGateway()
			ln.tls.close()
		}
	}
}

// ready says why the edge should get no new traffic; nil if it should.
func (s *server) ready() error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	if s.current.Load() == nil {
		return errors.New("starting")
	}
	return nil
}

// summary says what a configuration describes, in a line.
func (f *File) summary() string {
	plural := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	routes, endpoints := 0, 0
	for _, list := range f.Routes {
		routes += len(list)
	}
	for i := range f.Clusters {
		endpoints += len(f.Clusters[i].Endpoints)
	}
	return fmt.Sprintf("%s, %s, %s of %s", plural(len(f.Listeners), "listener"), plural(routes, "route"),
		plural(len(f.Clusters), "cluster"), plural(endpoints, "endpoint"))
}
