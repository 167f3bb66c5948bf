package lb

import (
	"slices"
	"testing"
	"time"

	"sluice/lb/discovery"
)

func TestValidatePicking(t *testing.T) {
	f := func(p Picker, change func(*Config), want ...string) {
		t.Helper()
		cfg := of(p, "10.0.0.1:80", "10.0.0.2:80")
		change(&cfg)
		var got []string
		cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: got  %q\nwant %q", p, got, want)
		}
	}
	for _, p := range allPickers {
		key := func(cfg *Config) { cfg.HashKey = PeerIP }
		bound := func(cfg *Config) { cfg.BoundedLoad = 1.25 }
		subset := func(cfg *Config) { cfg.Subset, cfg.SubsetKey = 1, "me" }
		f(p, func(cfg *Config) {})
		switch {
		case p.Consistent():
			f(p, key)
			f(p, bound)
			f(p, subset, "subset: nodes with different subsets would not agree where a key belongs: this picker hashes")
		case p.Hashes():
			f(p, key)
			f(p, bound, "bounded_load: is for maglev, ring and hrw: this cluster has another picker")
			f(p, subset, "subset: nodes with different subsets would not agree where a key belongs: this picker hashes")
		default:
			f(p, key, "hash_key: is for the pickers that hash: this cluster has another one")
			f(p, bound, "bounded_load: is for maglev, ring and hrw: this cluster has another picker")
			f(p, subset)
		}
	}
	nan := 0.0
	nan /= nan
	f(Ring, func(cfg *Config) { cfg.BoundedLoad = 1 }, "bounded_load: 1: 1.01 to 100 times the mean")
	f(Ring, func(cfg *Config) { cfg.BoundedLoad = 1.01 })
	f(Ring, func(cfg *Config) { cfg.BoundedLoad = 100 })
	f(Ring, func(cfg *Config) { cfg.BoundedLoad = 101 }, "bounded_load: 101: 1.01 to 100 times the mean")
	f(Ring, func(cfg *Config) { cfg.BoundedLoad = -1 }, "bounded_load: -1: 1.01 to 100 times the mean")
	f(Ring, func(cfg *Config) { cfg.BoundedLoad = nan }, "bounded_load: NaN: 1.01 to 100 times the mean")
	f(Ring, func(cfg *Config) { cfg.TableSize = 65537 }, "table_size: is maglev's and hrw's alone: this cluster has another picker")
	f(HRW, func(cfg *Config) { cfg.TableSize = 65537 })

	for key, want := range map[HashKey]string{
		"header:X-User": "", "cookie:__Host-id": "", "query:user[id]": "", "query:a:b": "", Path: "", SNI: "", Client: "", ClientIP: "",
		"header:":    "a header has a name",
		"header:a b": `"a b" names no header: ' ' cannot be in one`,
		"cookie:a=b": `"a=b" names no cookie: '=' cannot be in one`,
		"cookie:":    "a cookie has a name",
		"query:":     `"" names no query parameter`,
		"query:a&b":  `"a&b" names no query parameter`,
		"path:x":     `"path:x" is not one of client_ip, client, peer_ip, sni, path, header:x, cookie:x, query:x`,
		"paht":       `"paht" is not one of client_ip, client, peer_ip, sni, path, header:NAME, cookie:NAME, query:NAME`,
	} {
		if want != "" {
			f(Maglev, func(cfg *Config) { cfg.HashKey = key }, "hash_key: "+want)
		} else {
			f(Maglev, func(cfg *Config) { cfg.HashKey = key })
		}
	}
	f("", func(cfg *Config) { cfg.Zone, cfg.ZoneMin, cfg.Panic = "x", 100, 100 })
	f("", func(cfg *Config) { cfg.ZoneMin, cfg.Panic = 101, 101 }, "zone_min: 101: 0 to 100 percent", "panic: 101: 0 to 100 percent")
	f("", func(cfg *Config) { cfg.ZoneMin, cfg.Panic, cfg.Subset = -1, -1, -1 },
		"zone_min: -1: 0 to 100 percent", "panic: -1: 0 to 100 percent", "subset: must not be negative")
	f("", func(cfg *Config) { cfg.DrainTimeout, cfg.SlowStart = -1, -1 },
		"drain_timeout: must not be negative", "slow_start: must not be negative")
	f("", func(cfg *Config) { cfg.Queue = &Queue{} })
	f("", func(cfg *Config) { cfg.Queue = &Queue{Size: -1, Timeout: -1} },
		"queue.size: must not be negative", "queue.timeout: must not be negative")

	f("", func(cfg *Config) { cfg.Outlier = &Outlier{} })
	f("", func(cfg *Config) { cfg.Outlier = &Outlier{Latency: 1.5, MaxEjected: 100} })
	f("", func(cfg *Config) {
		cfg.Outlier = &Outlier{Failures: -1, Errors: -1, MinRequests: -1, Interval: -1, EjectionTime: -1, MaxEjectionTime: -1}
	}, "outlier.consecutive_failures: must not be negative", "outlier.consecutive_5xx: must not be negative",
		"outlier.min_requests: must not be negative", "outlier.interval: must not be negative",
		"outlier.ejection_time: must not be negative", "outlier.max_ejection_time: must not be negative")
	f("", func(cfg *Config) { cfg.Outlier = &Outlier{Latency: 1, MaxEjected: 101} },
		"outlier.latency_factor: 1: more than 1 times the median", "outlier.max_ejected_percent: 101: 0 to 100 percent")
	f("", func(cfg *Config) { cfg.Outlier = &Outlier{Latency: nan, MaxEjected: -1} },
		"outlier.latency_factor: NaN: more than 1 times the median", "outlier.max_ejected_percent: -1: 0 to 100 percent")
	f("", func(cfg *Config) { cfg.Discovery = &discovery.Config{File: &discovery.File{Path: "x", Interval: 1}} },
		"discovery.file.interval: 1ns: at least 10ms")
	f("", func(cfg *Config) { cfg.Endpoints[1].State, cfg.Endpoints[1].Priority = "gone", 200 },
		"endpoints[1].priority: priority 200: 0 to 127", `endpoints[1].state: "gone" is not one of ready, drain, maint`)
}

func TestPickingDefaults(t *testing.T) {
	f := func(p Picker, want HashKey) {
		t.Helper()
		if got := (Config{Picker: p}).withDefaults().HashKey; got != want {
			t.Errorf("%s places by %s, want %s", p, got, want)
		}
	}
	f(SourceHash, ClientIP)
	f(Maglev, Client)
	f(Ring, Client)
	f(HRW, Client)
	got := Config{Queue: &Queue{}, Outlier: &Outlier{EjectionTime: time.Hour}}.withDefaults()
	if q := *got.Queue; q != (Queue{Size: 1024, Timeout: 5 * time.Second}) {
		t.Errorf("queue %+v", q)
	}
	want := Outlier{Failures: 5, MinRequests: 20, Interval: 10 * time.Second, EjectionTime: time.Hour, MaxEjectionTime: time.Hour, MaxEjected: 50}
	if o := *got.Outlier; o != want {
		t.Errorf("outlier %+v, want %+v", o, want)
	}
}
