package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"sluice/engine"
)

// Consul is a service of Consul's catalogue, watched by blocking queries: an agent answers when something changes.
//
// TLS (CONSUL_CACERT and so on) is configured as for Consul's own tools, by the environment.
type Consul struct {
	// Address is the agent's, host:port or unix:/path; empty: 127.0.0.1:8500.
	Address string `yaml:"address"`
	Scheme  Scheme `yaml:"scheme"`
	Service string `yaml:"service,required"`
	// Tags must all be there.
	Tags       []string `yaml:"tags"`
	Datacenter string   `yaml:"datacenter"` // empty: the agent's
	Namespace  string   `yaml:"namespace"`  // Consul Enterprise's
	// Token is the ACL token, for example ${CONSUL_TOKEN}; empty: that of CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE.
	Token string `yaml:"token"`
	// State is which instances are endpoints, by their checks.
	State Instances `yaml:"state"`
	// Wait bounds one blocking query; 0: 5 m, Consul's own; at most 10 m, its own bound.
	Wait time.Duration `yaml:"wait"`
}

// Scheme is what an agent speaks; empty: http.
type Scheme string

// Choices are the values that a file may have.
func (Scheme) Choices() []string { return []string{"http", "https"} }

// Instances names which instances of a service are endpoints; empty: passing.
type Instances string

// The choices.
const (
	Passing Instances = "passing" // all of whose checks pass
	Any     Instances = "any"     // all that are registered: for clusters with health checks of their own
)

// Choices are the values that a file may have.
func (Instances) Choices() []string { return []string{string(Passing), string(Any)} }

const maxWait = 10 * time.Minute

func (c *Consul) validate(report func(path, message string)) {
	if c.Address != "" {
		if err := engine.CheckAddr(c.Address, false); err != nil {
			report("address", "bad address "+err.Error())
		}
	}
	oneOf := func(key, v string, choices []string) {
		if v != "" && !slices.Contains(choices, v) {
			report(key, fmt.Sprintf("%q is not one of %s", v, strings.Join(choices, ", ")))
		}
	}
	oneOf("scheme", string(c.Scheme), c.Scheme.Choices())
	oneOf("state", string(c.State), c.State.Choices())
	for _, s := range []struct{ key, text string }{
		{"service", c.Service}, {"datacenter", c.Datacenter}, {"namespace", c.Namespace}, {"token", c.Token},
	} {
		// The service is a part of a path and the token a header's value: neither may become more.
		if strings.ContainsFunc(s.text, func(r rune) bool { return r <= ' ' || r >= 0x7f || s.key != "token" && r == '/' }) {
			report(s.key, "has characters that it cannot have")
		}
	}
	if slices.Contains(c.Tags, "") {
		report("tags", "an empty tag")
	}
	if c.Wait < 0 || c.Wait > maxWait {
		report("wait", fmt.Sprintf("%v: 0 to %v", c.Wait, maxWait))
	}
}

// Blocking queries end early while a service changes much: more than five answers in a second are as good as none.
const queryGap = 200 * time.Millisecond

// consulGrace is how much longer than its wait an answer may take.
const consulGrace = 15 * time.Second

// consulSource is a service and where its index stands. It is owned by the goroutine that asks.
type consulSource struct {
	cfg    Consul
	client *api.Client // nil: not made yet
	index  uint64      // the last answer's; 0: the next query does not block
	gap    time.Duration
	grace  time.Duration
	retry  backoff
}

func newConsulSource(c *Consul) *consulSource {
	return &consulSource{
		cfg: *c, gap: queryGap, grace: consulGrace, retry: backoff{first: retryFirst, most: retryMost},
	}
}

func (c *consulSource) sayAgain() bool { return false }

func (c *consulSource) ask(ctx context.Context) ([]Endpoint, time.Duration, error) {
	begin := time.Now()
	set, err := c.query(ctx)
	if set == nil {
		// Whoever answers next may be another agent, or one that was restored: it is asked for what there is now.
		c.index = 0
		return nil, c.retry.next(), err
	}
	c.retry.reset()
	return set, max(0, c.gap-time.Since(begin)), err
}

// query is one blocking query, and the index kept as Consul's documentation of them asks for. The set is nil if nothing
// good was said; with a set, err is what is wrong with the rest.
func (c *consulSource) query(ctx context.Context) ([]Endpoint, error) {
	if c.client == nil {
		var err error
		if c.client, err = c.dial(ctx); err != nil {
			return nil, err
		}
	}
	wait, limit := or(c.cfg.Wait, 5*time.Minute), c.grace
	if c.index > 0 {
		limit += wait + wait/16 // which an agent adds, so that not all come back at once
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	q := &api.QueryOptions{Datacenter: c.cfg.Datacenter, Namespace: c.cfg.Namespace, WaitIndex: c.index, WaitTime: wait}
	entries, meta, err := c.client.Health().ServiceMultipleTags(c.cfg.Service, c.cfg.Tags, c.cfg.State != Any, q.WithContext(ctx))
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no answer in %v", limit)
	case err != nil:
		return nil, err
	case entries == nil:
		return nil, errors.New("the answer is no list") // JSON's null, which a list without services is not
	}
	last := max(meta.LastIndex, 1) // 0 was a defect of old servers, and would never block
	if last < c.index {
		last = 0 // restored from a snapshot: its numbers begin anew
	}
	c.index = last
	set, err := instances(entries)
	if meta.ResultsFilteredByACLs {
		err = first([]error{errors.New("the token may not read all instances"), err})
	}
	switch {
	case len(set) == 0 && err != nil:
		return nil, err
	case len(set) > MaxEndpoints:
		return nil, fmt.Errorf("%d endpoints: at most %d", len(set), MaxEndpoints)
	}
	return set, err
}

// dial makes a client, with connections of its own until ctx ends.
func (c *consulSource) dial(ctx context.Context) (*api.Client, error) {
	cfg := api.DefaultConfig()
	cfg.Address, cfg.Scheme, cfg.Token = or(c.cfg.Address, "127.0.0.1:8500"), or(string(c.cfg.Scheme), "http"), c.cfg.Token
	if path, ok := strings.CutPrefix(c.cfg.Address, "unix:"); ok {
		cfg.Address = "localhost"
		cfg.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	client, err := api.NewClient(cfg)
	if err == nil {
		context.AfterFunc(ctx, cfg.Transport.CloseIdleConnections)
	}
	return client, err
}

// instances are the endpoints that entries describe. The set is not nil; err is what is wrong with those left out.
func instances(entries []*api.ServiceEntry) ([]Endpoint, error) {
	set, errs := make([]Endpoint, 0, len(entries)), []error(nil)
	for _, e := range entries {
		if e == nil || e.Service == nil || e.Node == nil {
			errs = append(errs, errors.New("an instance without service or node"))
			continue
		}
		ep := instance(e)
		if err := engine.CheckAddr(ep.Address, false); err != nil {
			errs = append(errs, fmt.Errorf("instance %q of node %q: bad address %w", e.Service.ID, e.Node.Node, err))
			continue
		}
		set = append(set, ep)
	}
	return unique(set), first(errs)
}

// instance is the endpoint that e describes: the service's address or else its node's; Consul's weights, which are for
// two of the states that its checks are in; maintenance mode; the zone as the service's metadata or localities name it.
func instance(e *api.ServiceEntry) Endpoint {
	s := e.Service
	ep := Endpoint{
		Address: net.JoinHostPort(or(s.Address, e.Node.Address), strconv.Itoa(s.DefaultPort())),
		Zone:    s.Meta["zone"],
	}
	if s.Address == "" && s.SocketPath != "" {
		ep.Address = "unix:" + s.SocketPath
	}
	for _, l := range []*api.Locality{s.Locality, e.Node.Locality} {
		if l != nil && ep.Zone == "" {
			ep.Zone = l.Zone
		}
	}
	weight := max(s.Weights.Passing, 1)
	switch e.Checks.AggregatedStatus() {
	case api.HealthMaint:
		ep.State = Maint
	case api.HealthWarning:
		if weight = s.Weights.Warning; weight < 1 {
			ep.State, weight = Drain, 1 // 0 is Consul's word for it
		}
	}
	weight = min(weight, maxWeight)
	ep.Weight = &weight
	return ep
}
