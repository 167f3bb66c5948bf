package lb

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/engine"
)

var allPickers = []Picker{RoundRobin, LeastConn, Random, P2C, EWMA, SourceHash, Maglev, Ring, HRW}

// eachPicker has f try every picker with these weights, on a loop; f answers what is wrong, or nothing.
func eachPicker(t *testing.T, change func(*Config), weights []int, f func(c *Cluster, l *engine.Loop) string) {
	t.Helper()
	e := newEngine(t, 1)
	for _, p := range allPickers {
		cfg := lettered(p, weights...)
		if change != nil {
			change(&cfg)
		}
		c := newCluster(t, e, cfg)
		if wrong := from(e.Loops()[0], func() string { return f(c, e.Loops()[0]) }); wrong != "" {
			t.Errorf("%s, weights %v: %s", p, weights, wrong)
		}
	}
}

// Each client goes through all endpoints, each once, and then there is none.
func TestEveryPickerGoesThroughAll(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 1, 1}, {5, 1, 3, 2}, {1, 1000}} {
		eachPicker(t, nil, weights, func(c *Cluster, l *engine.Loop) string {
			for i := range uint64(50) {
				var tried []*Endpoint
				for range weights {
					ep := c.Pick(l, i*hashStep, tried)
					if ep == nil || slices.Contains(tried, ep) {
						return fmt.Sprintf("%s is picked when %d are tried", letter(ep), len(tried))
					}
					tried = append(tried, ep)
				}
				if ep := c.Pick(l, i*hashStep, tried); ep != nil {
					return fmt.Sprintf("%s is picked when all are tried", letter(ep))
				}
				if _, err := c.Take(l, i*hashStep, tried); err != ErrNoEndpoint {
					return fmt.Sprintf("the error is %v when all are tried", err)
				}
			}
			return ""
		})
	}
}

// What may be taken is given out to the last place, and then there is none.
func TestEveryPickerFillsUp(t *testing.T) {
	maxes := []int{1, 3, 2, 4}
	limit := func(cfg *Config) {
		for i := range cfg.Endpoints {
			cfg.Endpoints[i].MaxConn = maxes[i]
		}
	}
	eachPicker(t, limit, []int{1, 1, 5, 2}, func(c *Cluster, l *engine.Loop) string {
		all := c.Endpoints()
		for i := range uint64(10) {
			if _, err := c.Take(l, i*hashStep, nil); err != nil {
				return fmt.Sprintf("%v when %d are in flight", err, i)
			}
		}
		for i, ep := range all {
			if ep.InFlight() != int64(maxes[i]) {
				return fmt.Sprintf("%s has %d, want its %d", letter(ep), ep.InFlight(), maxes[i])
			}
		}
		for i := range uint64(20) {
			if ep, err := c.Take(l, i*hashStep, nil); err != ErrFull {
				return fmt.Sprintf("%s, %v when all are full", letter(ep), err)
			}
			if ep := c.Pick(l, i*hashStep, nil); ep != nil {
				return letter(ep) + " is picked when all are full"
			}
			// Somebody may leave, unless all are tried.
			if _, err := c.Take(l, i*hashStep, all[1:]); err != ErrFull {
				return fmt.Sprintf("%v when the others are tried", err)
			}
			if _, err := c.Take(l, i*hashStep, all); err != ErrNoEndpoint {
				return fmt.Sprintf("%v when all are tried", err)
			}
			left := all[i%4]
			left.End(l)
			if ep, err := c.Take(l, i*hashStep, nil); ep != left {
				return fmt.Sprintf("%s, %v; %s has room", letter(ep), err, letter(left))
			}
		}
		return ""
	})
}

func TestEveryPickerFindsTheOnlyOne(t *testing.T) {
	eachPicker(t, nil, []int{2, 1, 3}, func(c *Cluster, l *engine.Loop) string {
		all := c.Endpoints()
		set := func(up bool, list ...*Endpoint) {
			for _, ep := range list {
				ep.healthy.Store(up)
			}
			c.mu.Lock()
			c.renew(time.Now())
			c.mu.Unlock()
		}
		set(false, all[0], all[2])
		for i := range uint64(100) {
			if ep, err := c.Take(l, i*hashStep, nil); ep != all[1] {
				return fmt.Sprintf("%s, %v; only b is up", letter(ep), err)
			}
		}
		set(false, all[1])
		if ep, err := c.Take(l, 1, nil); err != ErrNoEndpoint || c.Pick(l, 1, nil) != nil {
			return fmt.Sprintf("%s, %v when none is up", letter(ep), err)
		}
		set(true, all...)
		got := map[string]bool{}
		for i := range uint64(1000) {
			ep, _ := c.Take(l, i*hashStep, nil)
			got[letter(ep)] = true
		}
		if len(got) != 3 {
			return fmt.Sprintf("only %v are taken when all are up again", got)
		}
		return ""
	})
}

func TestNoPickerAllocates(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	f := func(p Picker, what string, change func(*Config)) {
		t.Helper()
		c := busy(t, e, p, 100, change)
		tried := c.Endpoints()[:3]
		var pick, take float64
		on(l, func() {
			i := uint64(0)
			pick = testing.AllocsPerRun(500, func() {
				i += hashStep
				c.Pick(l, i, nil)
				c.Pick(l, i, tried)
			})
			take = testing.AllocsPerRun(500, func() {
				i += hashStep
				if ep, err := c.Take(l, i, nil); err == nil {
					ep.End(l)
				}
			})
		})
		if pick != 0 || take != 0 {
			t.Errorf("%s%s: %v allocations a pick, %v a session", p, what, pick, take)
		}
	}
	for _, p := range allPickers {
		f(p, "", nil)
		f(p, " with maxconn", func(cfg *Config) {
			for i := range cfg.Endpoints {
				cfg.Endpoints[i].MaxConn = i / 4 // some are full
			}
		})
		if p.Consistent() {
			f(p, " with bounded_load", func(cfg *Config) { cfg.BoundedLoad = 1.01 })
		}
	}
}
