package discovery

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func of(addresses ...string) (list []Endpoint) {
	for _, a := range addresses {
		list = append(list, Endpoint{Address: a})
	}
	return list
}

func TestEndpointsThatAreRefused(t *testing.T) {
	f := func(list []Endpoint, want ...string) {
		t.Helper()
		var got []string
		ValidateAll(list, func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	weighted := func(weights ...int) []Endpoint {
		list := of("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")[:len(weights)]
		for i := range weights {
			list[i].Weight = &weights[i]
		}
		return list
	}
	f(nil)
	f(of("10.0.0.1:80", "[2001:db8::1]:80", "unix:/run/app.sock", "app.internal:80"))
	f([]Endpoint{{Address: "10.0.0.1:80", Zone: "a", Priority: 127, State: Drain, MaxConn: 9}, {Address: "10.0.0.2:80", Backup: true, State: Maint}})
	f(weighted(1, 65535))
	f(of("10.0.0.1:80", "10.0.0.1", "10.0.0.3:0"),
		`[1].address: bad address "10.0.0.1" is not host:port, [v6]:port or unix:/path`,
		`[2].address: bad address "10.0.0.3:0": port 0 cannot be connected to`)
	f(of("10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"),
		"[2].address: endpoint 10.0.0.1:80 is there twice: give it a weight instead")
	f(of("10.0.0.1:80", "", "")) // that an address is required is the decoder's to say
	f(weighted(1, 0, -1, 65536), "[1].weight: weight 0: 1 to 65535",
		"[2].weight: weight -1: 1 to 65535", "[3].weight: weight 65536: 1 to 65535")
	f([]Endpoint{{Address: "10.0.0.1:80", Priority: -1}, {Address: "10.0.0.2:80", Priority: 128}, {Address: "10.0.0.3:80", Priority: 1, Backup: true}},
		"[0].priority: priority -1: 0 to 127", "[1].priority: priority 128: 0 to 127",
		"[2].priority: a backup endpoint has none: it is tried after all others")
	f([]Endpoint{{Address: "10.0.0.1:80", State: "up", MaxConn: -1}},
		`[0].state: "up" is not one of ready, drain, maint`, "[0].maxconn: must not be negative")

	many := make([]Endpoint, MaxEndpoints+1)
	for i := range many {
		many[i].Address = fmt.Sprintf("10.0.%d.%d:%d", i>>8&255, i&255, 1+i>>16)
	}
	f(many[:MaxEndpoints])
	f(many, ": 65536 endpoints: at most 65535")
}

func TestSourcesThatAreRefused(t *testing.T) {
	f := func(cfg Config, want ...string) {
		t.Helper()
		var got []string
		cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	f(Config{})
	f(Config{File: &File{}, DNS: &DNS{Port: 1}, Consul: &Consul{}}, // that path, name and service are required is the decoder's to say
		"dns: a cluster's endpoints have one source: file is given as well",
		"consul: a cluster's endpoints have one source: file is given as well")

	f(Config{File: &File{Path: "/run/endpoints.yaml", Interval: 10 * time.Millisecond}})
	f(Config{File: &File{Path: "e", Interval: time.Millisecond}}, "file.interval: 1ms: at least 10ms")
	f(Config{File: &File{Path: "e", Interval: -1}}, "file.interval: -1ns: at least 10ms")

	query := func(d DNS) Config { return Config{DNS: &d} }
	f(query(DNS{Name: "app.internal", Port: 80}))
	f(query(DNS{Name: "app.internal.", Type: AAAA, Port: 65535, MinTTL: 1, MaxTTL: 1, Timeout: 1,
		Resolvers: []string{"10.0.0.1", "10.0.0.1:5353", "2001:db8::1", "[2001:db8::1]:53", "fe80::1%eth0"}}))
	f(query(DNS{Name: "_http._tcp.app.internal", Type: SRV}))
	for _, name := range []string{".", "a..b", strings.Repeat("a", 64) + ".test", "a b", "bücher.test", "a\n", `a\032b`} {
		f(query(DNS{Name: name, Port: 80}), fmt.Sprintf("dns.name: %q is not a domain name", name))
	}
	f(query(DNS{Name: "10.0.0.1", Port: 80}), `dns.name: "10.0.0.1" is an address, and needs no DNS: put it into endpoints`)
	f(query(DNS{Name: "2001:db8::1", Port: 80}), `dns.name: "2001:db8::1" is an address, and needs no DNS: put it into endpoints`)
	f(query(DNS{Name: "a.test", Type: "MX", Port: 80}), `dns.type: "MX" is not one of A, AAAA, SRV`)
	f(query(DNS{Name: "a.test"}), "dns.port: is missing: A and AAAA records have none")
	f(query(DNS{Name: "a.test", Type: A, Port: 65536}), "dns.port: port 65536: 1 to 65535")
	f(query(DNS{Name: "a.test", Type: A, Port: -1}), "dns.port: port -1: 1 to 65535")
	f(query(DNS{Name: "a.test", Type: SRV, Port: 80}), "dns.port: SRV records have their own")
	f(query(DNS{Name: "a.test", Port: 80, Resolvers: []string{"10.0.0.1", "ns.test", "10.0.0.1:0"}}),
		`dns.resolvers[1]: "ns.test" is not an IP address, with or without a port`,
		`dns.resolvers[2]: "10.0.0.1:0" is not an IP address, with or without a port`)
	f(query(DNS{Name: "a.test", Port: 80, MinTTL: -1, MaxTTL: -1, Timeout: -1}),
		"dns.min_ttl: must not be negative", "dns.max_ttl: must not be negative", "dns.timeout: must not be negative")
	f(query(DNS{Name: "a.test", Port: 80, MaxTTL: 200 * time.Hour}), "dns.max_ttl: is more than a week")
	f(query(DNS{Name: "a.test", Port: 80, MinTTL: 10 * time.Minute}), "dns.max_ttl: 5m0s is less than min_ttl, 10m0s")
	f(query(DNS{Name: "a.test", Port: 80, MaxTTL: time.Millisecond}), "dns.max_ttl: 1ms is less than min_ttl, 1s")

	consul := func(c Consul) Config { return Config{Consul: &c} }
	f(consul(Consul{Service: "web"}))
	f(consul(Consul{Service: "web", Address: "consul.internal:8501", Scheme: "https", Tags: []string{"v1", "eu"}, Datacenter: "dc1",
		Namespace: "team", Token: "b1gs33cr3t/=", State: Any, Wait: 10 * time.Minute}))
	f(consul(Consul{Service: "web", Address: "unix:/run/consul.sock", State: Passing}))
	f(consul(Consul{Service: "web", Address: "http://consul:8500"}),
		`consul.address: bad address "http://consul:8500" is not host:port, [v6]:port or unix:/path`)
	f(consul(Consul{Service: "web", Scheme: "ftp", State: "up"}),
		`consul.scheme: "ftp" is not one of http, https`, `consul.state: "up" is not one of passing, any`)
	f(consul(Consul{Service: "../kv/secret", Datacenter: "a b", Namespace: "ä", Token: "a\r\nX: y"}),
		"consul.service: has characters that it cannot have", "consul.datacenter: has characters that it cannot have",
		"consul.namespace: has characters that it cannot have", "consul.token: has characters that it cannot have")
	f(consul(Consul{Service: "web", Tags: []string{"a", ""}}), "consul.tags: an empty tag")
	f(consul(Consul{Service: "web", Wait: 11 * time.Minute}), "consul.wait: 11m0s: 0 to 10m0s")
	f(consul(Consul{Service: "web", Wait: -1}), "consul.wait: -1ns: 0 to 10m0s")
}

// What a list of endpoints may have is what the type has.
func TestListKnowsEveryKey(t *testing.T) {
	var want []string
	e := reflect.TypeFor[Endpoint]()
	for i := range e.NumField() {
		name, _, _ := strings.Cut(e.Field(i).Tag.Get("yaml"), ",")
		want = append(want, name)
	}
	slices.Sort(want)
	if !slices.Equal(keys, want) {
		t.Errorf("keys are %q, Endpoint has %q", keys, want)
	}
	set, err := parseList("l", []byte("- {address: '10.0.0.1:80', weight: 5, zone: a, priority: 3, state: drain, maxconn: 9}\n"+
		"- {address: '10.0.0.2:80', backup: true}\n"))
	must(t, err)
	if got, want := strings.Join(describe(set), ", "),
		"10.0.0.1:80 weight 5 priority 3 zone a drain maxconn 9, 10.0.0.2:80 backup"; got != want {
		t.Errorf("decoded %s, want %s", got, want)
	}
}
