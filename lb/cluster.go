package lb

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine"
	"sluice/engine/tlslayer"
	"sluice/lb/certs"
	"sluice/lb/discovery"
	"sluice/lb/health"
	"sluice/lb/proxyproto"
)

// Cluster is a named set of endpoints and their policy. What picks need is in its table, which a change of the endpoints
// or of their health replaces; building one is the work of the cluster's keeper, a goroutine.
type Cluster struct {
	cfg       Config
	given     Config // as configured, to be compared at a reload
	log       *slog.Logger
	shared    *shared
	by        HashBy
	sticky    *Sticky             // nil: clients are not known again
	adapter   *adapter            // nil: any number may be in flight
	dial      *engine.DialOptions // nil: none
	retryPart float64             // of a request that may be sent again
	hedgePart float64             // of one that may be hedged
	table     atomic.Pointer[table]

	mu       *sync.Mutex // shared's; guards what follows
	members  []member    // all there are
	inherits *Cluster    // whose endpoints are taken over as they are at Start; nil: nobody's
	known    bool        // discovery has spoken, or need not
	started  bool
	evicted  []*Endpoint                      // their sessions end once there is a table without them
	grows    time.Time                        // when to build a table of weights that have grown; zero: they do not
	looked   time.Time                        // when latencies were compared last
	checks   map[*Endpoint]context.CancelFunc // those that run

	checker  *health.Checker
	secure   *upstreamTLS    // nil: the endpoints do not speak TLS
	ctx      context.Context // ends with Stop
	cancel   context.CancelFunc
	running  sync.WaitGroup
	stale    atomic.Bool   // the table is of yesterday
	due      chan struct{} // the keeper has something to do
	suspects chan *Endpoint
	rebuilt  atomic.Uint64
}

// NewCluster builds a cluster of a valid configuration. Of prev, the cluster of that name before a reload or nil, it
// is the same one if nothing changed; else it takes over the endpoints that stay.
func NewCluster(cfg Config, loops []*engine.Loop, log *slog.Logger, prev *Cluster) (*Cluster, error) {
	if prev != nil && reflect.DeepEqual(prev.given, cfg) {
		return prev, nil
	}
	c := &Cluster{cfg: cfg.withDefaults(), given: cfg, log: log.With("cluster", cfg.Name), checks: map[*Endpoint]context.CancelFunc{},
		due: make(chan struct{}, 1), suspects: make(chan *Endpoint, 64)}
	c.by, _ = c.cfg.HashKey.By()
	c.dial = c.cfg.DialConfig.Options()
	c.retryPart = float64(c.cfg.RetryBudget) / 100
	if h := c.cfg.Hedge; h != nil {
		c.hedgePart = float64(h.MaxPercent) / 100
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if c.cfg.Health != nil {
		var err error
		if c.checker, err = health.New(*c.cfg.Health); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
		}
	}
	switch {
	case cfg.TLS == nil:
	case prev != nil && reflect.DeepEqual(prev.cfg.TLS, cfg.TLS):
		c.secure = prev.secure
	default:
		client, err := certs.NewClient(*cfg.TLS, c.log)
		if err != nil {
			return nil, fmt.Errorf("cluster %s: tls: %w", cfg.Name, err)
		}
		c.secure = &upstreamTLS{client, tlslayer.New(tlslayer.Config{})}
	}
	if prev == nil {
		c.shared = newShared(loops)
	} else {
		c.shared = prev.shared
	}
	switch a := c.cfg.Adaptive; {
	case a == nil:
	case prev != nil && prev.adapter != nil && prev.adapter.cfg == *a:
		c.adapter = prev.adapter
	default:
		c.adapter = newAdapter(*a, len(loops))
	}
	if c.cfg.Sticky != nil {
		secret, err := c.cfg.Sticky.secret()
		if err != nil {
			return nil, fmt.Errorf("cluster %s: key of sticky: %w", cfg.Name, err)
		}
		if secret == nil {
			secret = c.shared.secret[:]
		}
		c.sticky = newSticky(c, secret)
	}
	c.mu = &c.shared.mu
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	list, since := cfg.Endpoints, time.Time{}
	c.known = cfg.Discovery == nil
	if prev != nil && prev.known {
		since = now
		if cfg.Discovery != nil && reflect.DeepEqual(prev.given.Discovery, cfg.Discovery) {
			c.inherits, c.known, list = prev, true, prev.configured() // what was discovered holds until there is news
		}
	}
	have := prev.byAddress()
	c.members = c.take(list, have, since)
	if _, err := c.rebuild(now); err != nil {
		for _, m := range c.members {
			if have[m.address] == nil {
				m.unfollow()
			}
		}
		c.cancel()
		if c.secure != nil && (prev == nil || prev.secure != c.secure) {
			c.secure.client.Close()
		}
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
	}
	if prev == nil {
		// Loops start apart from each other, so that together too they go round.
		for i := range c.shared.loops {
			t := c.table.Load()
			c.shared.loops[i].turn = uint32(i * max(len(t.schedule), len(t.members)) / len(loops))
		}
	}
	return c, nil
}

// take makes members of list, of the endpoints that are there where it can. since is when the others came up. The caller
// holds mu.
func (c *Cluster) take(list []EndpointConfig, have map[string]*Endpoint, since time.Time) []member {
	out := make([]member, len(list))
	for i, e := range list {
		m := member{Endpoint: have[e.Address], weight: 1, max: most(e.MaxConn, c.cfg.Limits.Requests), cfg: e}
		if e.Weight != nil {
			m.weight = *e.Weight
		}
		if m.Endpoint == nil {
			m.Endpoint = newEndpoint(e.Address, c.shared, c.log)
			m.since = since
		}
		out[i] = m
	}
	return out
}

// byAddress are the endpoints of c, which may be nil. The caller holds mu.
func (c *Cluster) byAddress() map[string]*Endpoint {
	if c == nil {
		return nil
	}
	out := make(map[string]*Endpoint, len(c.members))
	for i := range c.members {
		out[c.members[i].address] = c.members[i].Endpoint
	}
	return out
}

// configured is what c's endpoints are by configuration or discovery. The caller holds mu.
func (c *Cluster) configured() []EndpointConfig {
	list := make([]EndpointConfig, len(c.members))
	for i := range c.members {
		list[i] = c.members[i].cfg
	}
	return list
}

// Start puts the cluster in use: its health checks, its discovery. Not before does it touch what it shares with the
// cluster before it, whose own checks may have found something since NewCluster.
func (c *Cluster) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return
	}
	c.started, c.shared.current = true, c
	if p := c.inherits; p != nil {
		// Its discovery may have said something since.
		c.members, c.inherits = c.take(p.configured(), p.byAddress(), time.Time{}), nil
	}
	now := time.Now()
	for _, m := range c.members {
		c.admit(m, now)
	}
	c.renew(now)
	c.running.Go(c.keep)
	if d := c.cfg.Discovery; d != nil {
		c.running.Go(func() { d.Run(c.ctx, c.log, c.SetEndpoints) })
	}
}

// Stop ends what runs for the cluster, in favour of next, its successor or nil: endpoints that it does not take over
// take nothing new.
func (c *Cluster) Stop(next *Cluster) {
	if c == next {
		return
	}
	c.mu.Lock()
	c.cancel() // nothing is begun after this
	c.mu.Unlock()
	c.running.Wait()
	if c.secure != nil && (next == nil || next.secure != c.secure) {
		c.secure.client.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stay := next.byAddress()
	if next != nil {
		// Sessions that still look for an endpoint here find those of today.
		c.table.Store(next.table.Load())
		c.shared.wakeAll()
	}
	for _, m := range c.members {
		if stay[m.address] != m.Endpoint {
			c.retire(m.Endpoint)
		}
	}
}

// SetEndpoints exchanges the cluster's endpoints for those that were discovered. Those that stay keep all that is known
// of them. Safe for concurrent use.
func (c *Cluster) SetEndpoints(list []EndpointConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil || c.shared.current != c {
		return
	}
	now := time.Now()
	since := now
	if !c.known {
		c.known, since = true, time.Time{} // the first ones are no newcomers
	}
	was := c.members
	members := c.take(list, c.byAddress(), since)
	c.members = members
	stay := make(map[*Endpoint]bool, len(members))
	for _, m := range members {
		stay[m.Endpoint] = true
		c.admit(m, now)
	}
	gone := 0
	for _, m := range was {
		if !stay[m.Endpoint] {
			gone++
			c.retire(m.Endpoint)
		}
	}
	c.log.Info("endpoints discovered", "endpoints", len(members), "new", len(members)-(len(was)-gone), "gone", gone)
	c.renew(now)
	c.poke() // the keeper sees to it that weights grow
}

// admit has an endpoint be what its configuration says. The caller holds mu.
func (c *Cluster) admit(m member, now time.Time) {
	ep := m.Endpoint
	changed := c.touch
	ep.changed.Store(&changed)
	ep.follow(c.log)
	if c.cfg.Outlier == nil {
		ep.ejected.Store(false)
	}
	if ep.drain != nil && m.cfg.State != discovery.Drain {
		ep.drain.Stop()
		ep.drain = nil
	}
	switch m.cfg.State {
	case discovery.Drain:
		c.drainOf(ep)
	case discovery.Maint:
		ep.leaving.Store(true)
		ep.closeIdle()
		c.evicted = append(c.evicted, ep)
	default:
		if ep.leaving.Swap(false) {
			ep.since = now
		}
	}
	stop := c.checks[ep]
	switch {
	case c.checker == nil:
		ep.healthy.Store(true)
	case m.cfg.State == discovery.Maint && stop != nil:
		stop()
		delete(c.checks, ep)
	case m.cfg.State != discovery.Maint && stop == nil:
		ctx, cancel := context.WithCancel(c.ctx)
		c.checks[ep] = cancel
		target := health.Target{Address: ep.address, Preface: c.preface(), Needed: func() bool { return c.Eligible() == 0 }}
		if c.secure != nil {
			target.TLS = func() *tls.Config { return c.TLSConfig(ep) }
		}
		c.running.Go(func() {
			c.checker.Run(ctx, target, ep.Healthy(), func(up bool, why error) { c.checked(ep, up, why) })
		})
	}
}

// preface begins connections that are the cluster's own, if its endpoints want to know whose they are.
func (c *Cluster) preface() []byte {
	h := proxyproto.Header{Local: true}
	switch c.cfg.SendProxyProtocol {
	case ProxyV1:
		return h.AppendV1(nil)
	case ProxyV2:
		return h.AppendV2(nil)
	}
	return nil
}

// drainOf lets an endpoint's sessions finish, for a time.
func (c *Cluster) drainOf(ep *Endpoint) {
	ep.leaving.Store(true)
	ep.closeIdle()
	if ep.drain == nil {
		ep.drain = time.AfterFunc(c.cfg.DrainTimeout, ep.evict)
	}
}

// retire parts with an endpoint that no configuration names any more. The caller holds mu.
func (c *Cluster) retire(ep *Endpoint) {
	if stop := c.checks[ep]; stop != nil {
		stop()
		delete(c.checks, ep)
	}
	ep.unfollow()
	c.drainOf(ep)
}

// checked is told of a change by the checks.
func (c *Cluster) checked(ep *Endpoint, up bool, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checks[ep] == nil || c.shared.current != c {
		return // it was checked for the last time: others say what it is now
	}
	ep.healthy.Store(up)
	if up {
		ep.Up.Add(1)
		ep.since = time.Now()
		c.log.Info("endpoint is up", "endpoint", ep.address)
	} else {
		ep.Down.Add(1)
		c.log.Warn("endpoint is down", "endpoint", ep.address, "error", why)
		if c.cfg.ResetOnDown {
			c.evicted = append(c.evicted, ep)
		}
	}
	c.touch()
}

// touch has the keeper build a new table, soon: of many changes at once it makes one.
func (c *Cluster) touch() {
	c.stale.Store(true)
	c.poke()
}

// poke has the keeper look what is due.
func (c *Cluster) poke() {
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// keep is the keeper: it does what is due.
func (c *Cluster) keep() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		var suspect *Endpoint
		select {
		case <-c.ctx.Done():
			return
		case <-c.due:
		case <-t.C:
		case suspect = <-c.suspects:
		}
		began := time.Now()
		next := c.attend(suspect, began)
		t.Stop()
		if next > 0 {
			t.Reset(next)
		}
		// Large tables take milliseconds. Changes that keep coming in must not keep a CPU busy.
		if took := time.Since(began); took > 5*time.Millisecond {
			select {
			case <-c.ctx.Done():
			case <-time.After(3 * took):
			}
		}
	}
}

// attend is one turn of the keeper. It returns when the next one is due; 0: not before something happens.
func (c *Cluster) attend(suspect *Endpoint, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shared.current != c {
		return 0
	}
	next, changed := c.tend(suspect, now)
	if changed || c.stale.Load() || !c.grows.IsZero() && !now.Before(c.grows) {
		c.renew(now)
	}
	if c.grows.IsZero() {
		return next
	}
	if d := max(c.grows.Sub(now), time.Millisecond); next == 0 || d < next {
		return d
	}
	return next
}

// renew is rebuild for a table that could be built before, and does what has to wait for it. The caller holds mu.
func (c *Cluster) renew(now time.Time) {
	c.stale.Store(false)
	growing, err := c.rebuild(now)
	if err != nil {
		c.log.Error("cluster cannot be rebuilt", "error", err)
	}
	members := c.table.Load().members
	for i := range members {
		members[i].place.Store(uint32(i))
	}
	c.grows = time.Time{}
	if growing {
		c.grows = now.Add(max(c.cfg.SlowStart/20, 50*time.Millisecond))
	}
	for _, ep := range c.evicted {
		ep.evict()
	}
	c.evicted = nil
	c.shared.wakeAll()
}

// rebuild builds the table anew. It says whether that has weights in it that grow. The caller holds mu, or is the only
// one who knows c.
func (c *Cluster) rebuild(now time.Time) (growing bool, err error) {
	members := c.cfg.subset(c.cfg.eligible(c.members))
	growing = ramp(members, c.cfg.SlowStart, now)
	t, err := newTable(&c.cfg, members, c.table.Load())
	if err != nil {
		return false, err
	}
	if c.sticky != nil {
		t.keep(c.sticky, slices.Clone(c.members))
	}
	c.table.Store(t)
	c.rebuilt.Add(1)
	return growing, nil
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// Config is the cluster's configuration with its defaults.
func (c *Cluster) Config() *Config { return &c.cfg }

// Endpoints are all of the cluster's, in the file's order.
func (c *Cluster) Endpoints() []*Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Endpoint, len(c.members))
	for i, m := range c.members {
		out[i] = m.Endpoint
	}
	return out
}

// Rebuilt counts the tables that the cluster has built.
func (c *Cluster) Rebuilt() uint64 { return c.rebuilt.Load() }

// Queued is how many sessions wait for an endpoint.
func (c *Cluster) Queued() int64 { return c.shared.waiting.Load() }

// Eligible is how many endpoints are picked from at present.
func (c *Cluster) Eligible() int { return len(c.table.Load().members) }
