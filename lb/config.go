package lb

import (
	"cmp"
	"fmt"
	"math/big"
	"time"

	"sluice/engine"
	"sluice/lb/certs"
	"sluice/lb/discovery"
	"sluice/lb/health"
	"sluice/lb/maglev"
)

// Picker names how an endpoint is chosen.
type Picker string

// The pickers.
const (
	RoundRobin Picker = "round_robin" // smooth weighted round robin, the default
	LeastConn  Picker = "least_conn"  // fewest in flight, by weight
	Random     Picker = "random"      // by weight
	P2C        Picker = "p2c"         // the less busy of two at random
	EWMA       Picker = "ewma"        // of two at random, the one that answers faster
	SourceHash Picker = "source_hash" // by the client's address; moves most clients when endpoints change
	Maglev     Picker = "maglev"      // consistent hashing: moves hardly more than it must
	Ring       Picker = "ring"        // consistent hashing with libmemcached's placement
	HRW        Picker = "hrw"         // consistent hashing: moves only whom it must
)

// Choices are the values that a file may have.
func (Picker) Choices() []string {
	return []string{string(RoundRobin), string(LeastConn), string(Random), string(P2C), string(EWMA), string(SourceHash),
		string(Maglev), string(Ring), string(HRW)}
}

// Hashes says that the picker places by a key.
func (p Picker) Hashes() bool { return p == SourceHash || p.Consistent() }

// Consistent says that the picker moves few keys when endpoints come and go.
func (p Picker) Consistent() bool { return p == Maglev || p == Ring || p == HRW }

// ProxyVersion is a version of the PROXY protocol to send.
type ProxyVersion string

// The versions.
const (
	ProxyV1 ProxyVersion = "v1"
	ProxyV2 ProxyVersion = "v2"
)

// Choices are the values that a file may have.
func (ProxyVersion) Choices() []string { return []string{string(ProxyV1), string(ProxyV2)} }

// Config describes a cluster.
type Config struct {
	Name   string `yaml:"name,required"`
	Picker Picker `yaml:"picker"`
	// HashKey is what the pickers that hash go by: client_ip, client, peer_ip, sni, or of requests (http) path, header:NAME,
	// cookie:NAME or query:NAME, and client_ip where they have none; not given: client_ip for source_hash, client for the
	// others.
	HashKey HashKey `yaml:"hash_key"`
	// BoundedLoad keeps every endpoint of a consistent picker below so many times its share of what is in flight
	// (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016); 0: no bound.
	BoundedLoad float64 `yaml:"bounded_load"`
	// TableSize is maglev's and hrw's number of slots, a prime; 0: 65,537.
	TableSize int              `yaml:"table_size"`
	Endpoints []EndpointConfig `yaml:"endpoints"`
	// Discovery finds the endpoints; those that are listed are there until it has.
	Discovery *discovery.Config `yaml:"discovery"`
	// Zone prefers the endpoints that are in it, while ZoneMin percent (0: 50) of them may be used.
	Zone    string `yaml:"zone"`
	ZoneMin int    `yaml:"zone_min"`
	// Subset has this process use so many of the usable endpoints, chosen by its SubsetKey (not given: the host's name);
	// 0: all.
	Subset    int    `yaml:"subset"`
	SubsetKey string `yaml:"subset_key"`
	// Panic is the percentage of usable endpoints in a tier below which health is no longer believed, and all of the tier
	// are used; 0: never. A tier without any is not in panic while another one can be fallen back on.
	Panic int `yaml:"panic"`
	// ConnectTimeout bounds a connection attempt to an endpoint, over all its addresses; 0: 1 s. Networks that an
	// edge stands in answer in milliseconds; a second allows one lost SYN.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// ResponseTimeout bounds the wait for a response to begin once the request is sent (http); 0: 60 s.
	ResponseTimeout time.Duration `yaml:"response_timeout"`
	// BodyTimeout bounds the wait between the bytes of a body (http); 0: 60 s.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// IdleTimeout is how long a connection is kept warm for the next request (http); 0: 30 s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxIdle bounds the warm connections that a loop keeps to an endpoint (http); 0: 256.
	MaxIdle int `yaml:"max_idle"`
	// MaxAge is how long a connection serves requests, give or take a tenth, and MaxUses how many it serves, likewise
	// (http): then it is closed, once it is idle; 0: no bound.
	MaxAge  time.Duration `yaml:"max_age"`
	MaxUses int           `yaml:"max_uses"`
	// Warm is how many connections a loop keeps open ahead to each endpoint, of its MaxIdle (http); 0: none.
	Warm int `yaml:"warm"`
	// Sticky has clients keep their endpoints (http).
	Sticky *StickyConfig `yaml:"sticky"`
	// Limits break the circuit to an endpoint that has too much to do.
	Limits   Limits    `yaml:"limits"`
	Adaptive *Adaptive `yaml:"adaptive"`
	// Retry is for requests that failed (http).
	Retry Retry  `yaml:"retry"`
	Hedge *Hedge `yaml:"hedge"`
	// RetryBudget is how many requests may be sent again, in percent of those that are sent (http); 0: 20.
	RetryBudget int `yaml:"retry_budget"`
	// DrainTimeout is how long sessions may go on when their endpoint drains or is gone; 0: 10 min.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
	// SlowStart is how long the weight of an endpoint that has come up takes to grow to the whole; 0: at once.
	SlowStart time.Duration  `yaml:"slow_start"`
	Health    *health.Config `yaml:"health"`
	// ResetOnDown ends the sessions of an endpoint that checks find down.
	ResetOnDown bool     `yaml:"reset_on_down"`
	Outlier     *Outlier `yaml:"outlier"`
	// Queue is for sessions that find every endpoint at its maxconn.
	Queue *Queue `yaml:"queue"`
	// The sockets towards the endpoints.
	engine.DialConfig `yaml:",inline"`
	// TLS is spoken with the endpoints, by checks too.
	TLS *certs.ClientConfig `yaml:"tls"`
	// SendProxyProtocol begins every connection with the client's address.
	SendProxyProtocol ProxyVersion `yaml:"send_proxy_protocol"`
}

// Queue bounds who waits for an endpoint.
type Queue struct {
	// Size is how many may wait; 0: 1024. Timeout is for how long; 0: 5 s.
	Size    int           `yaml:"size"`
	Timeout time.Duration `yaml:"timeout"`
}

// EndpointConfig describes an endpoint.
type EndpointConfig = discovery.Endpoint

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	switch {
	case c.Endpoints == nil && c.Discovery == nil:
		report("", `key "endpoints" is missing`)
	case c.Endpoints != nil && len(c.Endpoints) == 0:
		report("endpoints", fmt.Sprintf("cluster %q has no endpoints", c.Name))
	}
	discovery.ValidateAll(c.Endpoints, func(path, message string) { report("endpoints"+path, message) })
	if c.Discovery != nil {
		c.Discovery.Validate(func(path, message string) { report("discovery."+path, message) })
	}
	for _, n := range []struct {
		key string
		bad bool
	}{{"connect_timeout", c.ConnectTimeout < 0}, {"response_timeout", c.ResponseTimeout < 0}, {"body_timeout", c.BodyTimeout < 0},
		{"idle_timeout", c.IdleTimeout < 0}, {"drain_timeout", c.DrainTimeout < 0}, {"slow_start", c.SlowStart < 0},
		{"max_idle", c.MaxIdle < 0}, {"max_age", c.MaxAge < 0}, {"max_uses", c.MaxUses < 0}, {"warm", c.Warm < 0}} {
		if n.bad {
			report(n.key, "must not be negative")
		}
	}
	if most := cmp.Or(c.MaxIdle, defaultMaxIdle); c.Warm > most && most > 0 {
		report("warm", fmt.Sprintf("%d are more than the %d of max_idle", c.Warm, most))
	}
	if c.Sticky != nil {
		c.Sticky.validate(func(path, message string) { report("sticky."+path, message) })
	}
	c.Limits.validate(func(path, message string) { report("limits."+path, message) })
	if c.Adaptive != nil {
		c.Adaptive.validate(func(path, message string) { report("adaptive."+path, message) })
	}
	c.Retry.validate(func(path, message string) { report("retry."+path, message) })
	if c.Hedge != nil {
		c.Hedge.validate(func(path, message string) { report("hedge."+path, message) })
	}
	c.validatePicking(report)
	switch {
	case c.TableSize == 0:
	case c.Picker != Maglev && c.Picker != HRW:
		report("table_size", "is maglev's and hrw's alone: this cluster has another picker")
	case c.TableSize < len(c.Endpoints) || c.TableSize > 1<<24 || !big.NewInt(int64(c.TableSize)).ProbablyPrime(0):
		report("table_size", fmt.Sprintf("%d is not a prime from the number of endpoints to %d", c.TableSize, 1<<24))
	}
	if c.TLS != nil {
		c.TLS.Validate(func(path, message string) { report("tls."+path, message) })
	}
	if c.Health != nil {
		c.Health.Validate(func(path, message string) { report("health."+path, message) })
	}
	c.DialConfig.Validate(report)
	for i, e := range c.Endpoints {
		if err := c.DialConfig.Suits(e.Address); err != nil {
			report(fmt.Sprintf("endpoints[%d].address", i), err.Error())
		}
	}
	if c.Outlier != nil {
		c.Outlier.validate(func(path, message string) { report("outlier."+path, message) })
	}
	if q := c.Queue; q != nil {
		if q.Size < 0 {
			report("queue.size", "must not be negative")
		}
		if q.Timeout < 0 {
			report("queue.timeout", "must not be negative")
		}
	}
}

// validatePicking is the part of Validate about who is picked.
func (c *Config) validatePicking(report func(path, message string)) {
	if c.HashKey != "" {
		if _, err := c.HashKey.By(); err != nil {
			report("hash_key", err.Error())
		} else if !c.Picker.Hashes() {
			report("hash_key", "is for the pickers that hash: this cluster has another one")
		}
	}
	switch {
	case c.BoundedLoad == 0:
	case !c.Picker.Consistent():
		report("bounded_load", "is for maglev, ring and hrw: this cluster has another picker")
	case !(c.BoundedLoad >= 1.01 && c.BoundedLoad <= 100):
		report("bounded_load", fmt.Sprintf("%v: 1.01 to 100 times the mean", c.BoundedLoad))
	}
	for _, p := range []struct {
		key     string
		percent int
	}{{"zone_min", c.ZoneMin}, {"panic", c.Panic}, {"retry_budget", c.RetryBudget}} {
		if p.percent < 0 || p.percent > 100 {
			report(p.key, fmt.Sprintf("%d: 0 to 100 percent", p.percent))
		}
	}
	switch {
	case c.Subset < 0:
		report("subset", "must not be negative")
	case c.Subset > 0 && c.Picker.Hashes():
		report("subset", "nodes with different subsets would not agree where a key belongs: this picker hashes")
	}
}

// HTTPOnly says that sessions of L4 listeners cannot be given to the cluster as it wants them to be: by what requests say,
// or how long responses take.
func (c *Config) HTTPOnly() bool {
	by, _ := c.HashKey.By()
	return by.OfRequest() || c.Sticky != nil || c.Adaptive != nil
}

const defaultMaxIdle = 256

// withDefaults fills in what was not given.
func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Picker == "" {
		c.Picker = RoundRobin
	}
	def(&c.ConnectTimeout, time.Second)
	def(&c.ResponseTimeout, time.Minute)
	def(&c.BodyTimeout, time.Minute)
	def(&c.IdleTimeout, 30*time.Second)
	if c.MaxIdle == 0 {
		c.MaxIdle = defaultMaxIdle
	}
	if c.Sticky != nil {
		c.Sticky = c.Sticky.withDefaults()
	}
	if c.Adaptive != nil {
		c.Adaptive = c.Adaptive.withDefaults()
	}
	c.Retry = c.Retry.withDefaults()
	if c.Hedge != nil {
		c.Hedge = c.Hedge.withDefaults()
	}
	if c.TableSize == 0 {
		c.TableSize = maglev.DefaultSize
	}
	if c.HashKey == "" {
		c.HashKey = Client
		if c.Picker == SourceHash {
			c.HashKey = ClientIP
		}
	}
	if c.ZoneMin == 0 {
		c.ZoneMin = 50
	}
	if c.RetryBudget == 0 {
		c.RetryBudget = 20
	}
	def(&c.DrainTimeout, 10*time.Minute)
	if c.Queue != nil {
		q := *c.Queue
		if q.Size == 0 {
			q.Size = 1024
		}
		def(&q.Timeout, 5*time.Second)
		c.Queue = &q
	}
	if c.Outlier != nil {
		c.Outlier = c.Outlier.withDefaults()
	}
	return c
}
