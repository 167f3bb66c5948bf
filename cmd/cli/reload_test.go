package cli

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sluice/lb"
)

// edgeConfig is a load balancer before a gateway. change makes it differ: in a route's filter, in the endpoints of the
// orders, in a listener that is there or not.
func edgeConfig(gateway string, orders []string, change int) string {
	endpoints := []string{}
	for i, o := range orders {
		if change%3 != i+1 || len(orders) == 1 {
			endpoints = append(endpoints, fmt.Sprintf("{address: %q}", o))
		}
	}
	extra := ""
	if change%2 == 1 {
		extra = "  - {name: extra, address: \"127.0.0.1:0\", protocol: tcp, cluster: gateways}\n"
	}
	return fmt.Sprintf(`listeners:
  - {name: edge, address: "localhost:0", protocol: tcp, cluster: gateways}
  - {name: gateway, address: %q, protocol: http, routes: api}
%sroutes:
  api:
    - {match: {path_prefix: /order}, cluster: orders, filters: [headers: {response: {set: {X-Change: "%d"}}}]}
    - {match: {path_prefix: /user}, cluster: users}
clusters:
  - {name: gateways, picker: maglev, endpoints: [address: %q]}
  - {name: orders, endpoints: [%s]}
  - {name: users, endpoints: [address: %q]}
engine: {loops: 2}
`, gateway, extra, change, gateway, strings.Join(endpoints, ", "), orders[0])
}

// 200 reloads under load, every one of which changes something: no request fails.
func TestReloadUnderLoad(t *testing.T) {
	gateway := freePort(t)
	orders := []string{origin(t, "a"), origin(t, "b")}
	s := startServer(t, edgeConfig(gateway, orders, 0))
	edge := s.bound("edge")

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	requests, dials := 0, 0
	for i := range 16 {
		wg.Go(func() {
			c := keepAliveClient{address: edge}
			if i%2 == 0 {
				c.address = gateway
			}
			defer c.close()
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					mu.Lock()
					requests, dials = requests+n, dials+c.dials
					mu.Unlock()
					return
				default:
				}
				path := []string{"/order", "/user"}[n%2]
				if body, err := c.get(path); err != nil || !strings.Contains(body, path) {
					t.Errorf("request %d of client %d: %q %v", n, i, body, err)
					return
				}
			}
		})
	}
	served := func() uint64 {
		n := uint64(0)
		for i := range s.current.Load().named("gateway").http.Loops {
			n += s.current.Load().named("gateway").http.Loops[i].Responses[2].Load()
		}
		return n
	}
	for i := range 200 {
		s.reload(func() (*File, error) { return parseFile("test.yaml", []byte(edgeConfig(gateway, orders, i+1)), nil) })
		if i%20 == 0 {
			s.reload(func() (*File, error) { return parseFile("test.yaml", []byte("listeners: 7\n"), nil) })
		}
		// Some requests between two reloads, or there is no load to speak of.
		now := served()
		eventually(t, "requests go on", func() bool { return served() >= now+8 || t.Failed() })
	}
	close(stop)
	wg.Wait()
	if ok, failed := s.reloads.ok.Load(), s.reloads.failed.Load(); ok != 200 || failed != 10 {
		t.Errorf("%d reloads, %d failed", ok, failed)
	}
	if dials < 32 {
		t.Errorf("%d requests on %d connections: they are to change with the configuration", requests, dials)
	}
	if got := s.bound("edge"); got != edge {
		t.Errorf("the unchanged listener moved from %s to %s", edge, got)
	}
	for _, c := range s.current.Load().clusters {
		for _, ep := range c.Endpoints() {
			eventually(t, "nothing is in flight to "+ep.String(), func() bool {
				return ep.InFlight() == 0 || c.Name() == "gateways"
			})
		}
	}
}

// What did not change keeps its identity.
func TestReloadKeepsWhatIsUnchanged(t *testing.T) {
	gateway := freePort(t)
	orders := []string{origin(t, "a"), origin(t, "b")}
	s := startServer(t, edgeConfig(gateway, orders, 0))
	c := keepAliveClient{address: gateway}
	defer c.close()
	for range 10 {
		_, err := c.get("/user")
		must(t, err)
	}
	before := s.current.Load()

	s.reload(func() (*File, error) { return parseFile("test.yaml", []byte(edgeConfig(gateway, orders, 0)), nil) })
	same := s.current.Load()
	if same == before {
		t.Fatal("no new snapshot")
	}
	if same.named("gateway").handler != before.named("gateway").handler || same.byName["users"] != before.byName["users"] {
		t.Error("the same configuration made new objects")
	}
	if _, err := c.get("/user"); err != nil || c.dials != 1 {
		t.Errorf("the connection did not outlive a reload of the same: %d dials, %v", c.dials, err)
	}

	s.reload(func() (*File, error) { return parseFile("test.yaml", []byte(edgeConfig(gateway, orders, 2)), nil) })
	after := s.current.Load()
	if after.byName["users"] != before.byName["users"] {
		t.Error("an unchanged cluster is another one")
	}
	if after.byName["orders"] == before.byName["orders"] {
		t.Error("a changed cluster is the same")
	}
	if after.byName["orders"].Endpoints()[0] != before.byName["orders"].Endpoints()[0] {
		t.Error("the endpoint that stayed is another one")
	}
	if after.named("gateway").socket != before.named("gateway").socket || after.named("gateway").http != before.named("gateway").http {
		t.Error("the listener's socket and counters are not the same")
	}
	requests := func(c *lb.Cluster) uint64 {
		n := uint64(0)
		for i := range s.engine.Loops() {
			n += c.Endpoints()[0].Local(s.engine.Loops()[i]).Requests.Load()
		}
		return n
	}
	if n := requests(after.byName["users"]); n != 11 {
		t.Errorf("the endpoint counts %d requests", n)
	}
	if _, err := c.get("/user"); err != nil || c.dials != 1 {
		t.Errorf("the request at hand was not served: %v", err)
	}
	if _, err := c.get("/user"); err != nil || c.dials != 2 {
		t.Errorf("the connection stayed with the old configuration: %d dials, %v", c.dials, err)
	}
}

// A configuration that cannot be put in force changes nothing, also if it is an address that is in use.
func TestReloadAddressInUse(t *testing.T) {
	taken := origin(t, "other")
	gateway := freePort(t)
	s := startServer(t, edgeConfig(gateway, []string{taken}, 0))
	before := s.current.Load()
	clash := strings.Replace(edgeConfig(gateway, []string{taken}, 1), `address: "127.0.0.1:0"`, fmt.Sprintf("address: %q", taken), 1)
	s.reload(func() (*File, error) { return parseFile("test.yaml", []byte(clash), nil) })
	s.reload(func() (*File, error) { return nil, errors.New("cannot be read") })
	if s.current.Load() != before || s.reloads.failed.Load() != 2 {
		t.Errorf("%d failed reloads", s.reloads.failed.Load())
	}
	if status, _ := get(t, "http://"+gateway+"/user"); status != 200 {
		t.Error(status)
	}
}
