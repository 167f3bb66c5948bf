package lb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/engine"
)

// leastIs says what is wrong with ep as the pick of those that have room; or nothing.
func leastIs(c *Cluster, ep *Endpoint) string {
	t := c.table.Load()
	var mine *member
	for i := range t.members {
		if t.members[i].Endpoint == ep {
			mine = &t.members[i]
		}
	}
	for i := range t.members {
		m := &t.members[i]
		room := m.max == 0 || m.InFlight() < m.max
		if room && mine == nil {
			return fmt.Sprintf("none, and %s has room", m.address)
		}
		if room && (m.InFlight()+1)*int64(mine.weight) < (mine.InFlight()+1)*int64(m.weight) {
			return fmt.Sprintf("%s with %d of weight %d; %s has %d of weight %d", ep, ep.InFlight(), mine.weight, m.address, m.InFlight(), m.weight)
		}
	}
	return ""
}

// On one loop every single pick is of the fewest connections, whatever came before.
func TestLeastConnIsExactOnOneLoop(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	f := func(endpoints int, change func(i int, ep *EndpointConfig)) {
		t.Helper()
		c := busy(t, e, LeastConn, endpoints, func(cfg *Config) {
			for i := range cfg.Endpoints {
				change(i, &cfg.Endpoints[i])
			}
		})
		all := c.Endpoints()
		var open []*Endpoint
		for _, ep := range all {
			for range ep.InFlight() {
				open = append(open, ep)
			}
		}
		r := rand.New(rand.NewPCG(1, uint64(endpoints)))
		end := func() {
			if len(open) > 0 {
				i := r.IntN(len(open))
				open[i].End(l)
				open[i] = open[len(open)-1]
				open = open[:len(open)-1]
			}
		}
		wrong := from(l, func() string {
			for n := range 50000 {
				switch k := r.IntN(1000); {
				case k < 450:
					end()
				case k < 460: // many at once
					for range r.IntN(200) {
						end()
					}
				case k < 463: // not by a pick
					ep := all[r.IntN(len(all))]
					ep.Begin(l)
					open = append(open, ep)
				case k < 600: // by nobody who takes it
					if s := leastIs(c, c.Pick(l, 0, nil)); s != "" {
						return fmt.Sprintf("pick %d: %s", n, s)
					}
				default:
					ep := c.Pick(l, 0, nil)
					if s := leastIs(c, ep); s != "" {
						return fmt.Sprintf("pick %d: %s", n, s)
					}
					if ep, err := c.Take(l, 0, nil); err == nil {
						open = append(open, ep)
					}
				}
			}
			return ""
		})
		if wrong != "" {
			t.Errorf("%d endpoints: %s", endpoints, wrong)
		}
	}
	weight := func(w int) *int { return &w }
	f(1, func(int, *EndpointConfig) {})
	f(2, func(int, *EndpointConfig) {})
	f(100, func(int, *EndpointConfig) {})
	f(100, func(i int, ep *EndpointConfig) { ep.Weight = weight(1 + i%7) })
	f(37, func(i int, ep *EndpointConfig) { ep.Weight = weight(1 + i*1000) })
	f(100, func(i int, ep *EndpointConfig) { ep.MaxConn = 1 + i%9 })
	f(13, func(i int, ep *EndpointConfig) { ep.Weight, ep.MaxConn = weight(1+i%3), 20+i })
}

// Among equals everyone has a turn before anyone has the next, for as long as it goes on.
func TestLeastConnGoesRoundWhileIdle(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	f := func(endpoints, rounds int, use func(c *Cluster) *Endpoint) {
		t.Helper()
		cfg := Config{Name: "c", Picker: LeastConn}
		for i := range endpoints {
			cfg.Endpoints = append(cfg.Endpoints, EndpointConfig{Address: fmt.Sprintf("unix:@%d", i)})
		}
		c := newCluster(t, e, cfg)
		got := map[*Endpoint]int{}
		on(l, func() {
			for range endpoints * rounds {
				got[use(c)]++
			}
		})
		for _, ep := range c.Endpoints() {
			if off := got[ep] - rounds; off < -2 || off > 2 {
				t.Errorf("%d rounds of %d: %s has had %d turns", rounds, endpoints, ep, got[ep])
			}
		}
	}
	pick := func(c *Cluster) *Endpoint { return c.Pick(l, 0, nil) }
	whole := func(c *Cluster) *Endpoint {
		ep, _ := c.Take(l, 0, nil)
		ep.End(l)
		return ep
	}
	f(7, 30000, pick) // more than there are places among equals
	f(100, 1000, pick)
	f(7, 30000, whole)
	f(100, 1000, whole)
}

// What other loops have done is seen too: what they have begun at once, what they have ended within a round.
func TestLeastConnSeesOtherLoops(t *testing.T) {
	e := newEngine(t, 2)
	here, there := e.Loops()[0], e.Loops()[1]
	c := busy(t, e, LeastConn, 50, nil)
	all := c.Endpoints()
	level := func(l *engine.Loop, n int64) {
		on(l, func() {
			for _, ep := range all {
				for ep.InFlight() < n {
					ep.Begin(l)
				}
			}
		})
	}
	level(there, 50)
	first := from(here, func() *Endpoint { return c.Pick(here, 0, nil) })
	on(there, func() { first.Begin(there) })
	on(there, func() {
		for _, ep := range all {
			if ep != first && ep != all[33] {
				ep.Begin(there)
			}
		}
	})
	if ep := from(here, func() *Endpoint { return c.Pick(here, 0, nil) }); ep != all[33] {
		t.Errorf("%v is picked, of whom another loop has taken one; %v has fewer", ep, all[33])
	}
	on(there, func() {
		for range 30 {
			all[20].End(there)
		}
	})
	seen := from(here, func() bool {
		for range len(all) {
			c.Pick(here, 0, nil)
		}
		return c.Pick(here, 0, nil) == all[20]
	})
	if !seen {
		t.Error("that another loop's sessions have ended is not seen within a round")
	}
	if got := from(here, func() *Endpoint { return c.Pick(here, 0, []*Endpoint{all[20]}) }); got != all[33] {
		t.Errorf("%v is picked when %v is tried", got, all[20])
	}
}

// A place that another loop's session has left is found although all looked full.
func TestLeastConnFindsTheLastPlace(t *testing.T) {
	e := newEngine(t, 2)
	here, there := e.Loops()[0], e.Loops()[1]
	c := newCluster(t, e, func() Config {
		cfg := lettered(LeastConn, 1, 1, 1, 1, 1, 1)
		for i := range cfg.Endpoints {
			cfg.Endpoints[i].MaxConn = 1
		}
		return cfg
	}())
	take := func(l *engine.Loop) (ep *Endpoint, err error) {
		on(l, func() { ep, err = c.Take(l, 0, nil) })
		return ep, err
	}
	for range 6 {
		_, err := take(there)
		must(t, err)
	}
	if _, err := take(here); err != ErrFull {
		t.Fatalf("%v when all are full", err)
	}
	for _, ep := range slices.Backward(c.Endpoints()) {
		on(there, func() { ep.End(there) })
		if got, err := take(here); got != ep {
			t.Errorf("%s, %v; %s has room", letter(got), err, letter(ep))
		}
		on(here, func() { ep.End(here); ep.Begin(there) })
	}
}
