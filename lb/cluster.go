package lb

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"

	"sluice/engine"
	"sluice/lb/maglev"
)

// Cluster is a named set of endpoints and their policy.
type Cluster struct {
	cfg       Config
	given     Config // as configured, to be compared at a reload
	endpoints []member
	loops     []*engine.Loop
	log       *slog.Logger
	table     atomic.Pointer[table]
	turns     []turn
	rebuild   sync.Mutex
	started   bool
	checks    context.CancelFunc
	checking  sync.WaitGroup
}

// member is an endpoint as one cluster sees it.
type member struct {
	*Endpoint
	weight int
}

// turn is one loop's place in the round robin, on a cache line of its own.
type turn struct {
	n uint32
	_ [60]byte
}

// NewCluster builds a cluster of a valid configuration. Of prev, the cluster of that name before a reload or nil, it
// is the same one if nothing changed; else it takes over the endpoints that stay.
func NewCluster(cfg Config, loops []*engine.Loop, log *slog.Logger, prev *Cluster) (*Cluster, error) {
	if prev != nil && reflect.DeepEqual(prev.given, cfg) {
		return prev, nil
	}
	c := &Cluster{cfg: cfg.withDefaults(), given: cfg, loops: loops, log: log, turns: make([]turn, len(loops))}
	for _, e := range cfg.Endpoints {
		m := member{weight: 1}
		if e.Weight != nil {
			m.weight = *e.Weight
		}
		if prev != nil {
			m.Endpoint = prev.endpoint(e.Address)
		}
		if m.Endpoint == nil {
			m.Endpoint = newEndpoint(e.Address, len(loops), log)
		}
		c.endpoints = append(c.endpoints, m)
	}
	if err := c.refresh(); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
	}
	// Loops start apart from each other, so that together too they go round.
	for i := range c.turns {
		c.turns[i].n = uint32(i * len(c.table.Load().schedule) / len(loops))
	}
	return c, nil
}

// Start puts the cluster in use, and begins its health checks. Not before does it touch what it shares with the cluster
// before it, whose own checks may have found something since NewCluster.
func (c *Cluster) Start() {
	if c.started {
		return
	}
	c.started = true
	if c.cfg.Health == nil {
		for _, m := range c.endpoints {
			m.healthy.Store(true)
		}
	}
	c.update()
	if c.cfg.Health == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.checks = cancel
	for _, m := range c.endpoints {
		c.checking.Go(func() {
			c.cfg.Health.Run(ctx, m.address, m.Healthy(), func(up bool, why error) {
				m.healthy.Store(up)
				c.update()
				if up {
					c.log.Info("endpoint is up", "cluster", c.Name(), "endpoint", m.address)
				} else {
					c.log.Warn("endpoint is down", "cluster", c.Name(), "endpoint", m.address, "error", why)
				}
			})
		})
	}
}

// Stop ends what runs for the cluster, in favour of next, its successor or nil: endpoints that it does not take over
// lose their warm connections.
func (c *Cluster) Stop(next *Cluster) {
	if c == next {
		return
	}
	if c.checks != nil {
		c.checks()
		c.checking.Wait()
	}
	for _, m := range c.endpoints {
		if next != nil && next.endpoint(m.address) == m.Endpoint {
			continue
		}
		m.stop()
		m.gone.Store(true)
		for _, l := range c.loops {
			l.Post(func() {
				idle := m.Local(l)
				for _, conn := range append([]*engine.Conn(nil), idle.Idle...) {
					conn.Close()
				}
				idle.Idle = nil
			})
		}
	}
}

func (c *Cluster) endpoint(address string) *Endpoint {
	for _, m := range c.endpoints {
		if m.address == address {
			return m.Endpoint
		}
	}
	return nil
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// Config is the cluster's configuration with its defaults.
func (c *Cluster) Config() *Config { return &c.cfg }

// Endpoints are all of the cluster's, in the file's order.
func (c *Cluster) Endpoints() []*Endpoint {
	out := make([]*Endpoint, len(c.endpoints))
	for i, m := range c.endpoints {
		out[i] = m.Endpoint
	}
	return out
}

// Ready says that at least one endpoint may be picked.
func (c *Cluster) Ready() bool { return len(c.table.Load().members) > 0 }

// update is refresh for a table that could be built before.
func (c *Cluster) update() {
	if err := c.refresh(); err != nil {
		c.log.Error("cluster cannot be rebuilt", "cluster", c.Name(), "error", err)
	}
}

// refresh builds the table anew, after a change of health.
func (c *Cluster) refresh() error {
	c.rebuild.Lock()
	defer c.rebuild.Unlock()
	t := &table{}
	for _, m := range c.endpoints {
		if m.Healthy() {
			t.members = append(t.members, m)
		}
	}
	switch c.cfg.Picker {
	case RoundRobin, SourceHash:
		t.schedule = smooth(t.members)
	case Maglev:
		eps := make([]maglev.Endpoint, len(t.members))
		for i, m := range t.members {
			eps[i] = maglev.Endpoint{Name: m.address, Weight: m.weight}
		}
		var err error
		if t.maglev, err = maglev.New(eps, c.cfg.TableSize); err != nil {
			return err
		}
	}
	c.table.Store(t)
	return nil
}
