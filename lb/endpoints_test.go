package lb

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/lb/discovery"
	"sluice/lb/health"
)

// discovered is a cluster's configuration whose discovery finds nothing in the time of the test: that says what there is.
func discovered(t *testing.T) Config {
	return Config{Name: "c", Discovery: &discovery.Config{File: &discovery.File{Path: filepath.Join(t.TempDir(), "none"), Interval: time.Hour}}}
}

func TestSetEndpointsKeepsWhatStays(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := discovered(t)
	cfg.Health = &health.Config{Interval: time.Hour}
	c := newCluster(t, e, cfg)
	if c.Eligible() != 0 {
		t.Errorf("%d endpoints before any is discovered", c.Eligible())
	}
	c.SetEndpoints(lettered("", 1, 1, 1).Endpoints)
	all := c.Endpoints()
	a, b := all[0], all[1]
	a.Begin(l)
	b.Begin(l)
	c.checked(b, false, errors.New("test"))
	next := lettered("", 1, 2, 3, 4).Endpoints
	c.SetEndpoints(next[1:])
	now := c.Endpoints()
	if len(now) != 3 || now[0] != b || now[1] != all[2] || letter(now[2]) != "d" {
		t.Errorf("endpoints are %v", now)
	}
	if b.InFlight() != 1 || b.Healthy() || b.Down.Load() != 1 || b.Local(l).Requests.Load() != 1 {
		t.Errorf("b has %d in flight, healthy %v, %d times down", b.InFlight(), b.Healthy(), b.Down.Load())
	}
	if !a.Leaving() || b.Leaving() || now[2].Leaving() {
		t.Errorf("leaving: a %v, b %v, d %v", a.Leaving(), b.Leaving(), now[2].Leaving())
	}
	if s, w := chosen(c), weights(c); s != "cd" || !slices.Equal(w, []int{3, 4}) {
		t.Errorf("picked from %q of weights %v", s, w)
	}
	// An endpoint that has gone and comes back is another one, and the old one's checks have no say.
	c.checked(a, false, errors.New("test"))
	c.SetEndpoints(next)
	if again := c.Endpoints()[0]; again == a || again.InFlight() != 0 || !again.Healthy() || a.Down.Load() != 0 {
		t.Error("a is the old one")
	}
	c.SetEndpoints(nil)
	if c.Eligible() != 0 || len(c.Endpoints()) != 0 {
		t.Error("discovery cannot empty the cluster")
	}
}

func TestDiscoveredEndpointIsChecked(t *testing.T) {
	cfg := discovered(t)
	cfg.Health = &health.Config{Interval: time.Millisecond, Timeout: patience}
	c := newCluster(t, newEngine(t, 1), cfg)
	asked := make(chan struct{}, 1)
	up := serve(t, "tcp", "127.0.0.1:0", func(net.Conn) {
		select {
		case asked <- struct{}{}:
		default:
		}
	})
	down := refusing(t)
	c.SetEndpoints(of("", up, down).Endpoints)
	receive(t, "it is checked", asked)
	ep := c.Endpoints()[1]
	eventually(t, "the other one is found down", func() bool { return !ep.Healthy() && c.Eligible() == 1 })
	c.SetEndpoints(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.checks) != 0 {
		t.Errorf("%d are checked that are not there", len(c.checks))
	}
}

// echoing is an endpoint that answers its name to the first byte, and then holds on to its connections.
func echoing(t *testing.T, name string) string {
	return serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			_, _ = io.WriteString(c, name)
			_, _ = io.Copy(io.Discard, c)
		}
	})
}

// greets begins a session, and says who serves it.
func (e *edge) greets() (*net.TCPConn, string) {
	e.t.Helper()
	c := e.dial("")
	_, err := c.Write([]byte("x"))
	must(e.t, err)
	b := make([]byte, 1)
	_, err = io.ReadFull(c, b)
	must(e.t, err)
	return c, string(b)
}

// states is edge's endpoints with these states.
func (e *edge) states(addresses []string, states ...discovery.State) {
	list := of("", addresses...).Endpoints
	for i, s := range states {
		list[i].State = s
	}
	e.cluster.SetEndpoints(list)
}

func TestSessionsOfWhatDrainsHaveTime(t *testing.T) {
	addresses := []string{echoing(t, "a"), echoing(t, "b")}
	f := func(change, back func(e *edge)) {
		t.Helper()
		cfg := discovered(t)
		cfg.DrainTimeout = 200 * time.Millisecond
		e := newEdge(t, ProxyConfig{}, cfg)
		l := e.engine.Loops()[0]
		e.states(addresses)
		a := e.cluster.Endpoints()[0]
		warm(t, l, a)
		c1, who1 := e.greets()
		c2, who2 := e.greets()
		if who1+who2 != "ab" {
			t.Fatalf("served by %s and %s", who1, who2)
		}
		began := time.Now()
		change(e)
		for range 4 { // nothing new
			if _, who := e.greets(); who != "b" {
				t.Errorf("%s serves while a drains", who)
			}
		}
		if back != nil {
			back(e)
			if _, who := e.greets(); who != "a" && a.Leaving() {
				t.Errorf("%s serves when a is ready again", who)
			}
			c1.Close()
			c2.Close()
			if a.drain != nil {
				t.Error("its sessions are still to be ended")
			}
			return
		}
		isReset(t, c1)
		if d := time.Since(began); d < cfg.DrainTimeout {
			t.Errorf("the session ended after %v", d)
		}
		on(l, func() {
			if n := len(a.Local(l).Idle); n != 0 {
				t.Errorf("%d connections are kept warm", n)
			}
		})
		_, err := c2.Write([]byte("still there")) // the other one's session goes on
		must(t, err)
		c2.Close()
	}
	drain := func(e *edge) { e.states(addresses, discovery.Drain) }
	f(drain, nil)
	f(func(e *edge) { e.states(addresses[1:]) }, nil) // it is gone
	f(drain, func(e *edge) { e.states(addresses) })
}

func TestMaintenanceEndsSessionsAtOnce(t *testing.T) {
	asked := make(chan struct{}, 1000)
	addresses := []string{echoing(t, "a"), echoing(t, "b")}
	cfg := discovered(t)
	cfg.DrainTimeout = time.Hour
	e := newEdge(t, ProxyConfig{}, cfg)
	e.states(addresses)
	c1, who1 := e.greets()
	_, who2 := e.greets()
	if who1+who2 != "ab" {
		t.Fatalf("served by %s and %s", who1, who2)
	}
	e.states(addresses, discovery.Maint)
	isReset(t, c1)
	for range 4 {
		if _, who := e.greets(); who != "b" {
			t.Errorf("%s serves while a is in maintenance", who)
		}
	}
	e.states(addresses, discovery.Ready, discovery.Drain)
	if c, who := e.greets(); who != "a" {
		t.Errorf("%s serves when a is ready again", who)
	} else {
		e.states(addresses, discovery.Drain)
		e.states(addresses, discovery.Maint) // out of draining, too
		isReset(t, c)
	}

	// And it is not checked.
	address := serve(t, "tcp", "127.0.0.1:0", func(net.Conn) { asked <- struct{}{} })
	cfg = of("", address)
	cfg.Health = &health.Config{Interval: time.Millisecond, Timeout: patience}
	cfg.Endpoints[0].State = discovery.Maint
	c := newCluster(t, e.engine, cfg)
	checks := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.checks)
	}
	if n := checks(); n != 0 {
		t.Errorf("%d are checked in maintenance", n)
	}
	cfg.Endpoints[0].State = ""
	c.SetEndpoints(cfg.Endpoints)
	receive(t, "it is checked when it is ready", asked)
	c.SetEndpoints([]EndpointConfig{{Address: address, State: discovery.Maint}})
	if n := checks(); n != 0 {
		t.Errorf("%d are checked in maintenance", n)
	}
}

func many(n int) []EndpointConfig {
	list := make([]EndpointConfig, n)
	for i := range list {
		list[i].Address = fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&0xff, i&0xff)
	}
	return list
}

func TestOneOfManyChangesOneTable(t *testing.T) {
	e := newEngine(t, 1)
	c, other := newCluster(t, e, discovered(t)), newCluster(t, e, discovered(t))
	list := many(5000)
	c.SetEndpoints(list)
	other.SetEndpoints(list)
	before, table := c.Endpoints(), other.table.Load()
	n, m := c.Rebuilt(), other.Rebuilt()
	changed := slices.Clone(list)
	changed[1234].Address = "192.0.2.1:80"
	c.SetEndpoints(changed)
	eventually(t, "the keeper has looked", func() bool { return len(c.due) == 0 })
	c.mu.Lock() // it is done
	got := c.Rebuilt() - n
	c.mu.Unlock()
	if got != 1 {
		t.Errorf("%d tables are built for one change", got)
	}
	if other.Rebuilt() != m || other.table.Load() != table {
		t.Error("another cluster's table is built")
	}
	for i, ep := range c.Endpoints() {
		if (ep == before[i]) != (i != 1234) {
			t.Fatalf("endpoint %d: %v was %v", i, ep, before[i])
		}
	}
	if c.Eligible() != 5000 {
		t.Errorf("%d are picked from", c.Eligible())
	}
}

func TestManyChangesMakeFewTables(t *testing.T) {
	cfg := Config{Name: "c", Endpoints: many(1000), Health: &health.Config{Interval: time.Hour}}
	c := newCluster(t, newEngine(t, 1), cfg)
	eventually(t, "the keeper has begun", func() bool { return len(c.due) == 0 })
	n := c.Rebuilt()
	var done sync.WaitGroup
	all := c.Endpoints()
	c.mu.Lock() // as if a table was being built
	for _, ep := range all {
		done.Go(func() { c.checked(ep, false, errors.New("test")) })
	}
	c.mu.Unlock()
	done.Wait()
	eventually(t, "all are out", func() bool { return c.Eligible() == 0 })
	if got := c.Rebuilt() - n; got > 100 {
		t.Errorf("%d tables are built for 1000 changes", got)
	}
}

// Whatever is called at once, nobody is left behind: goleak would find them, and the race detector the rest.
func TestClusterChangesFromAllSides(t *testing.T) {
	e := newEngine(t, 2)
	cfg := func(i int) Config {
		c := discovered(t)
		c.Discovery.File.Path = "/nowhere"
		c.Health = &health.Config{Interval: time.Millisecond, Timeout: patience}
		c.Outlier = &Outlier{Failures: 1, EjectionTime: time.Millisecond, Latency: 2, Interval: time.Millisecond}
		c.SlowStart = time.Millisecond
		c.MaxIdle = 1 + i
		return c
	}
	names := []string{"localhost:1", "localhost:2", "127.0.0.1:3", "127.0.0.1:4", "unix:@5"}
	current := newCluster(t, e, cfg(0))
	var mu sync.Mutex
	now := func() *Cluster {
		mu.Lock()
		defer mu.Unlock()
		return current
	}
	var busy sync.WaitGroup
	stop := make(chan struct{})
	again := func(f func(i int)) {
		busy.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	for k := range 2 {
		again(func(i int) { now().SetEndpoints(of("", names[(i+k)%3:][:1+i%3]...).Endpoints) })
	}
	for _, l := range e.Loops() {
		again(func(i int) {
			on(l, func() {
				c := now()
				ep, err := c.Take(l, uint64(i), nil)
				if err != nil {
					return
				}
				if i%3 == 0 {
					c.ConnectFailed(l, ep)
				} else {
					c.Connected(l, ep, time.Duration(i%7))
				}
				ep.End(l)
			})
		})
	}
	for i := range 60 {
		next := reload(t, now(), cfg(i+1))
		mu.Lock()
		prev := current
		current = next
		mu.Unlock()
		next.Start()
		prev.Stop(next)
	}
	busy.Go(func() { now().Stop(nil) })
	close(stop)
	busy.Wait()
}

// What was found out for the cluster before has no say once its successor is in use.
func TestOldChecksHaveNoSay(t *testing.T) {
	e := newEngine(t, 1)
	cfg := lettered(RoundRobin, 1, 1)
	cfg.Health = &health.Config{Interval: time.Hour}
	prev := newCluster(t, e, cfg)
	a := prev.Endpoints()[0]
	cfg.MaxIdle = 7
	next := reload(t, prev, cfg)
	prev.checked(a, false, errors.New("before it is in use"))
	if a.Healthy() {
		t.Error("what was found before that does not count")
	}
	next.Start()
	prev.checked(a, true, nil)
	prev.SetEndpoints(nil)
	if a.Healthy() || a.Up.Load() != 0 || len(prev.Endpoints()) != 2 {
		t.Error("the old one has a say")
	}
	next.checked(a, true, nil)
	prev.Stop(next)
	eventually(t, "it is up", func() bool { return chosen(next) == "ab" && a.Healthy() })
}

func TestEndpointsOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.yaml")
	write := func(lines ...string) {
		t.Helper()
		must(t, os.WriteFile(path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600))
		must(t, os.Rename(path+".new", path))
	}
	cfg := Config{Name: "c", Discovery: &discovery.Config{File: &discovery.File{Path: path, Interval: 10 * time.Millisecond}}}
	e := newEdge(t, ProxyConfig{}, cfg)
	e.resets() // nobody is there
	a, b := named(t, "a"), named(t, "b")
	serves := func(what string, want ...string) {
		t.Helper()
		eventually(t, what, func() bool {
			got := map[string]bool{}
			for range 6 {
				c, err := net.Dial("tcp", e.listener.Bound())
				if err != nil {
					return false // there is nobody yet
				}
				must(t, c.SetDeadline(time.Now().Add(patience)))
				_ = c.(*net.TCPConn).CloseWrite()
				b, _ := io.ReadAll(c)
				c.Close()
				got[string(b)] = true
			}
			for _, w := range want {
				if !got[w+": "] {
					return false
				}
			}
			return len(got) == len(want)
		})
	}
	write("- address: " + a)
	serves("a serves", "a")
	first := e.cluster.Endpoints()[0]
	write("- address: "+a, "- address: "+b)
	serves("both serve", "a", "b")
	write("- {address: \""+a+"\", weight: 5}", "- {address: \""+b+"\", state: drain}")
	serves("only a serves", "a")
	if ep := e.cluster.Endpoints(); len(ep) != 2 || !slices.Contains(ep, first) {
		t.Error("a has become another endpoint")
	}
	write("- address: 127.0.0.1", "- nonsense")
	write("- address: " + b)
	serves("only b serves", "b")
	if !first.Leaving() {
		t.Error("a is still there")
	}
}
