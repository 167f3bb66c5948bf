package lb

import (
	"errors"
	"slices"
	"testing"
	"time"

	"sluice/lb/health"
)

// weights are those of the table that picks look at.
func weights(c *Cluster) (out []int) {
	for _, m := range c.table.Load().members {
		out = append(out, m.weight)
	}
	return out
}

// settles waits until nobody's weight grows any more, and says which weights endpoint i has had by then.
func settles(t *testing.T, c *Cluster, i int) (seen []int) {
	t.Helper()
	eventually(t, "all weights are whole", func() bool {
		w := weights(c)
		if len(seen) == 0 || seen[len(seen)-1] != w[i] {
			seen = append(seen, w[i])
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.grows.IsZero()
	})
	return append(seen, weights(c)[i])
}

func grew(t *testing.T, what string, seen []int) {
	t.Helper()
	seen = slices.Compact(seen)
	if len(seen) < 3 || seen[0] != 10 || seen[len(seen)-1] != 100 || !slices.IsSorted(seen) {
		t.Errorf("%s had weights %v, want them to grow from 10 to 100", what, seen)
	}
}

func TestRecoveredEndpointStartsSlowly(t *testing.T) {
	cfg := lettered(RoundRobin, 1, 1)
	cfg.SlowStart = 300 * time.Millisecond
	cfg.Health = &health.Config{Interval: time.Hour}
	e := newEngine(t, 1)
	c := newCluster(t, e, cfg)
	b := c.Endpoints()[1]
	if w := weights(c); w[0] != w[1] {
		t.Errorf("weights %v at the start of the process", w)
	}
	c.checked(b, false, errors.New("test"))
	eventually(t, "b is out", func() bool { return chosen(c) == "a" })
	c.checked(b, true, nil)
	eventually(t, "b is in", func() bool { return chosen(c) == "ab" })
	if b.Up.Load() != 1 || b.Down.Load() != 1 {
		t.Errorf("%d times up, %d down", b.Up.Load(), b.Down.Load())
	}
	grew(t, "b", settles(t, c, 1))
	// And that is all: whatever pokes the keeper, nothing is built any more.
	n := c.Rebuilt()
	c.poke()
	eventually(t, "the keeper has looked", func() bool { return len(c.due) == 0 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Rebuilt() != n || !c.grows.IsZero() {
		t.Errorf("%d tables more", c.Rebuilt()-n)
	}
}

func TestDiscoveredEndpointStartsSlowly(t *testing.T) {
	cfg := discovered(t)
	cfg.SlowStart = 300 * time.Millisecond
	c := newCluster(t, newEngine(t, 1), cfg)
	c.SetEndpoints(lettered("", 1, 1).Endpoints)
	if w := weights(c); len(w) != 2 || w[0] != 100 || w[1] != 100 {
		t.Errorf("the first that are discovered have weights %v", w)
	}
	c.SetEndpoints(lettered("", 1, 1, 1).Endpoints)
	if w := weights(c); w[0] != 100 || w[1] != 100 {
		t.Errorf("weights %v when another one comes", w)
	}
	grew(t, "the new one", settles(t, c, 2))
}

// The keeper is told that weights grow: it may be at rest.
func TestKeeperIsToldOfNewcomers(t *testing.T) {
	cfg := lettered(RoundRobin, 1)
	cfg.SlowStart = time.Hour
	c, err := NewCluster(cfg, newEngine(t, 1).Loops(), quiet, nil)
	must(t, err)
	t.Cleanup(func() { c.Stop(nil) })
	c.shared.current = c // and has no keeper
	c.SetEndpoints(lettered("", 1, 1).Endpoints)
	if len(c.due) != 1 || c.grows.IsZero() {
		t.Error("weights grow, and nobody is told")
	}
}

// Back from maintenance, an endpoint is as cold as after a failure. One that a reload adds is new.
func TestReadyAgainStartsSlowly(t *testing.T) {
	cfg := tiered("0 0M")
	cfg.SlowStart = 300 * time.Millisecond
	prev := newCluster(t, newEngine(t, 1), cfg)
	next := tiered("0 0 0")
	next.SlowStart = cfg.SlowStart
	c := reload(t, prev, next)
	c.Start()
	prev.Stop(c)
	third := []int{weights(c)[2]}
	grew(t, "the one back from maintenance", settles(t, c, 1))
	grew(t, "the new one", append(third, 50, weights(c)[2]))
}
