package lb

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine"
	"sluice/lb/discovery"
	"sluice/lb/health"
)

func TestValidate(t *testing.T) {
	f := func(cfg Config, want ...string) {
		t.Helper()
		cfg.Name = "c"
		var got []string
		cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	weighted := func(weights ...int) Config {
		cfg := of(RoundRobin, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")
		cfg.Endpoints = cfg.Endpoints[:len(weights)]
		for i := range weights {
			cfg.Endpoints[i].Weight = &weights[i]
		}
		return cfg
	}
	f(of("", "10.0.0.1:80", "[2001:db8::1]:80", "unix:/run/app.sock", "app.internal:80"))
	f(weighted(1, 65535))
	f(Config{}, `: key "endpoints" is missing`)
	f(Config{Discovery: &discovery.Config{}})
	f(Config{Endpoints: []EndpointConfig{}}, `endpoints: cluster "c" has no endpoints`)
	f(of("", "10.0.0.1:80", "10.0.0.1", "10.0.0.3:0"),
		`endpoints[1].address: bad address "10.0.0.1" is not host:port, [v6]:port or unix:/path`,
		`endpoints[2].address: bad address "10.0.0.3:0": port 0 cannot be connected to`)
	f(of("", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"),
		"endpoints[2].address: endpoint 10.0.0.1:80 is there twice: give it a weight instead")
	f(of("", "10.0.0.1:80", "", "")) // said already
	f(weighted(1, 0, -1, 65536), "endpoints[1].weight: weight 0: 1 to 65535",
		"endpoints[2].weight: weight -1: 1 to 65535", "endpoints[3].weight: weight 65536: 1 to 65535")

	sized := func(p Picker, size int) Config {
		cfg := of(p, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
		cfg.TableSize = size
		return cfg
	}
	const foreign = "table_size: is maglev's and hrw's alone: this cluster has another picker"
	f(sized(Maglev, 0))
	f(sized(Maglev, 3))
	f(sized(Maglev, 655373))
	f(sized("", 65537), foreign)
	f(sized(LeastConn, 4), foreign)
	f(sized(Maglev, 2), "table_size: 2 is not a prime from the number of endpoints to 16777216")
	f(sized(Maglev, 65536), "table_size: 65536 is not a prime from the number of endpoints to 16777216")
	f(sized(Maglev, -7), "table_size: -7 is not a prime from the number of endpoints to 16777216")
	f(sized(Maglev, 16777259), "table_size: 16777259 is not a prime from the number of endpoints to 16777216")

	f(Config{Endpoints: of("", "10.0.0.1:80").Endpoints, ConnectTimeout: -1, ResponseTimeout: -1, IdleTimeout: -1, MaxIdle: -1, Health: &health.Config{Rise: -1}},
		"connect_timeout: must not be negative", "response_timeout: must not be negative",
		"idle_timeout: must not be negative", "max_idle: must not be negative", "health.rise: must not be negative")

	with := func(change func(*Config)) Config {
		cfg := of("", "10.0.0.1:80")
		change(&cfg)
		return cfg
	}
	f(with(func(c *Config) { c.BodyTimeout, c.MaxAge, c.MaxUses, c.Warm = -1, -1, -1, -1 }), "body_timeout: must not be negative",
		"max_age: must not be negative", "max_uses: must not be negative", "warm: must not be negative")
	f(with(func(c *Config) { c.Warm = 256 }))
	f(with(func(c *Config) { c.Warm = 257 }), "warm: 257 are more than the 256 of max_idle")
	f(with(func(c *Config) { c.Warm, c.MaxIdle = 3, 3 }))
	f(with(func(c *Config) { c.Warm, c.MaxIdle = 4, 3 }), "warm: 4 are more than the 3 of max_idle")

	f(with(func(c *Config) { c.Retry = Retry{Attempts: -1, Statuses: []int{400, 502, 599}, MaxBody: -1} }))
	f(with(func(c *Config) { c.Retry = Retry{Attempts: 10, PerTry: 1, MaxBody: 1 << 24} }))
	f(with(func(c *Config) {
		c.Retry = Retry{Attempts: -2, Statuses: []int{399, 503, 600, 503}, PerTry: -1, MaxBody: -2}
	}),
		"retry.attempts: -2: 1 to 10 times, or -1 for never", "retry.statuses[0]: 399 is no status of a failure: 400 to 599",
		"retry.statuses[2]: 600 is no status of a failure: 400 to 599", "retry.statuses[3]: 503 is there twice",
		"retry.per_try_timeout: must not be negative", "retry.max_body: -2: 1 to 16777216 bytes, or -1 for none")
	f(with(func(c *Config) { c.Limits = Limits{-1, -1, -1} }), "limits.max_requests: must not be negative",
		"limits.max_connections: must not be negative", "limits.max_pending: must not be negative")
	f(with(func(c *Config) { c.Hedge = &Hedge{After: -1, MaxPercent: 101} }), "hedge.after: must not be negative",
		"hedge.max_percent: 101: 0 to 100 percent")
	f(with(func(c *Config) { c.Retry = Retry{Attempts: 11, MaxBody: 1<<24 + 1} }), "retry.attempts: 11: 1 to 10 times, or -1 for never",
		"retry.max_body: 16777217: 1 to 16777216 bytes, or -1 for none")
}

// What Validate lets pass can be built.
func TestSmallestTableIsBuilt(t *testing.T) {
	cfg := lettered(Maglev, 1, 1, 1)
	cfg.TableSize = 3
	newCluster(t, newEngine(t, 1), cfg)
}

func TestDefaults(t *testing.T) {
	want := Config{
		Picker: RoundRobin, ConnectTimeout: time.Second, ResponseTimeout: time.Minute, BodyTimeout: time.Minute,
		IdleTimeout: 30 * time.Second, MaxIdle: 256, TableSize: 65537, HashKey: Client, ZoneMin: 50, RetryBudget: 20, DrainTimeout: 10 * time.Minute,
		Retry: Retry{Attempts: 2, MaxBody: 65536},
	}
	comparable := cmp.Comparer(func(a, b engine.DialConfig) bool { return a == b })
	if diff := cmp.Diff(want, Config{}.withDefaults(), comparable); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	given := Config{
		Picker: Maglev, ConnectTimeout: 1, ResponseTimeout: 2, IdleTimeout: 3, MaxIdle: 4, TableSize: 5,
		Health: &health.Config{}, HashKey: SNI, ZoneMin: 6, RetryBudget: 7, DrainTimeout: 7, BodyTimeout: 8,
		MaxAge: 9, MaxUses: 10, Warm: 11, Retry: Retry{Attempts: 3, Statuses: []int{503}, PerTry: 4, MaxBody: 5},
	}
	if diff := cmp.Diff(given, given.withDefaults(), comparable); diff != "" {
		t.Errorf("what was given (-given +got):\n%s", diff)
	}
	if r := (Retry{Attempts: -1, MaxBody: -1}).withDefaults(); r.Attempts != 0 || r.MaxBody != 0 {
		t.Errorf("what is switched off reads %+v", r)
	}
}
