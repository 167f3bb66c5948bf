package lb

import (
	"fmt"
	"math/big"
	"strconv"
	"time"

	"sluice/engine"
	"sluice/lb/health"
	"sluice/lb/maglev"
)

// Picker names how an endpoint is chosen.
type Picker string

// The pickers.
const (
	RoundRobin Picker = "round_robin" // smooth weighted round robin, the default
	LeastConn  Picker = "least_conn"  // fewest in flight, by weight
	SourceHash Picker = "source_hash" // by the client's address; moves most clients when endpoints change
	Maglev     Picker = "maglev"      // consistent hashing: moves only whom it must
)

// Choices are the values that a file may have.
func (Picker) Choices() []string {
	return []string{string(RoundRobin), string(LeastConn), string(SourceHash), string(Maglev)}
}

// Config describes a cluster.
type Config struct {
	Name      string           `yaml:"name,required"`
	Picker    Picker           `yaml:"picker"`
	Endpoints []EndpointConfig `yaml:"endpoints,required"`
	// ConnectTimeout bounds a connection attempt to an endpoint, over all its addresses; 0: 1 s. Networks that an
	// edge stands in answer in milliseconds; a second allows one lost SYN.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// ResponseTimeout bounds the wait for a response to begin once the request is sent (http), and between its bytes;
	// 0: 60 s.
	ResponseTimeout time.Duration `yaml:"response_timeout"`
	// IdleTimeout is how long a connection is kept warm for the next request (http); 0: 30 s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// MaxIdle bounds the warm connections that a loop keeps to an endpoint (http); 0: 256.
	MaxIdle int `yaml:"max_idle"`
	// TableSize is Maglev's, a prime; 0: 65,537.
	TableSize int            `yaml:"table_size"`
	Health    *health.Config `yaml:"health"`
}

// EndpointConfig describes an endpoint.
type EndpointConfig struct {
	Address string `yaml:"address,required"`
	// Weight is the endpoint's share relative to the others', 1 to 65535; not given: 1.
	Weight *int `yaml:"weight"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	seen := map[string]bool{}
	if c.Endpoints != nil && len(c.Endpoints) == 0 {
		report("endpoints", fmt.Sprintf("cluster %q has no endpoints", c.Name))
	}
	for i, e := range c.Endpoints {
		at := "endpoints[" + strconv.Itoa(i) + "]"
		if e.Address == "" {
			continue // said already: it is required
		}
		if err := engine.CheckAddr(e.Address, false); err != nil {
			report(at+".address", "bad address "+err.Error())
		}
		if seen[e.Address] {
			report(at+".address", fmt.Sprintf("endpoint %s is there twice: give it a weight instead", e.Address))
		}
		seen[e.Address] = true
		if e.Weight != nil && (*e.Weight < 1 || *e.Weight > 65535) {
			report(at+".weight", fmt.Sprintf("weight %d: 1 to 65535", *e.Weight))
		}
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"connect_timeout", c.ConnectTimeout}, {"response_timeout", c.ResponseTimeout}, {"idle_timeout", c.IdleTimeout}} {
		if d.d < 0 {
			report(d.key, "must not be negative")
		}
	}
	if c.MaxIdle < 0 {
		report("max_idle", "must not be negative")
	}
	switch {
	case c.TableSize == 0:
	case c.Picker != Maglev:
		report("table_size", "is maglev's alone: this cluster has another picker")
	case c.TableSize < len(c.Endpoints) || c.TableSize > 1<<24 || !big.NewInt(int64(c.TableSize)).ProbablyPrime(0):
		report("table_size", fmt.Sprintf("%d is not a prime from the number of endpoints to %d", c.TableSize, 1<<24))
	}
	if c.Health != nil {
		c.Health.Validate(func(path, message string) { report("health."+path, message) })
	}
}

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
	def(&c.IdleTimeout, 30*time.Second)
	if c.MaxIdle == 0 {
		c.MaxIdle = 256
	}
	if c.TableSize == 0 {
		c.TableSize = maglev.DefaultSize
	}
	return c
}
