package lb

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
)

var hashing = []Picker{SourceHash, Maglev, Ring, HRW}

func placement(t *testing.T, cfg Config) *Placement {
	t.Helper()
	p, err := NewPlacement(cfg)
	must(t, err)
	return p
}

// The preview and a running cluster agree on every key.
func TestPlacementIsTheClusters(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	f := func(cfg Config) {
		t.Helper()
		c, p := newCluster(t, e, cfg), placement(t, cfg)
		on(l, func() {
			for n := range uint64(5000) {
				key := binary.LittleEndian.AppendUint64(nil, n)
				if got, want := p.Of(n), c.Pick(l, c.hash(key), nil).String(); got != want {
					t.Errorf("%s: %d is on %s in the preview, on %s in the cluster", cfg.Picker, n, got, want)
					return
				}
			}
		})
	}
	for _, p := range hashing {
		f(lettered(p, 1, 2, 3))
		f(lettered(p, 1))
		some := tiered("0 0D B 0 1 0M")
		some.Picker = p
		f(some)
		full := bounded(p, 1.25, 1, 1, 5)
		if !p.Consistent() {
			full.BoundedLoad = 0
		}
		full.Endpoints[0].MaxConn = 1
		f(full)
		slow := lettered(p, 3, 1)
		slow.SlowStart = 1e9
		f(slow)
	}
}

func TestPlacementShares(t *testing.T) {
	f := func(cfg Config, want ...float64) {
		t.Helper()
		p := placement(t, cfg)
		got := p.Share()
		const keys = 20000
		count := map[string]int{}
		for n := range uint64(keys) {
			count[p.Of(n)]++
		}
		n := 0
		for i, ep := range cfg.Endpoints {
			share, there := got[ep.Address]
			if math.Abs(share-want[i]) > 1e-9 || there != (want[i] > 0) {
				t.Errorf("%s: %s has a share of %v, want %v", cfg.Picker, ep.Address, share, want[i])
			}
			if off := math.Abs(float64(count[ep.Address]) - keys*share); off > keys*0.05 {
				t.Errorf("%s: %s has %d of %d keys, and a share of %v", cfg.Picker, ep.Address, count[ep.Address], keys, share)
			}
			if there {
				n++
			}
		}
		if len(got) != n {
			t.Errorf("%s: shares are %v", cfg.Picker, got)
		}
	}
	for _, p := range hashing {
		f(lettered(p, 1, 1, 2), 0.25, 0.25, 0.5)
		f(lettered(p, 7), 1)
		some := tiered("0 0D B 0 1 0M") // those who get nothing at present have no share
		some.Picker = p
		f(some, 0.5, 0, 0, 0.5, 0, 0)
	}
	empty := placement(t, Config{Name: "c", Picker: Maglev})
	if s := empty.Of(1); s != "" || len(empty.Share()) != 0 {
		t.Errorf("a key is on %q where there is no endpoint", s)
	}
}

func TestPlacementNeedsAHash(t *testing.T) {
	for _, p := range []Picker{"", RoundRobin, LeastConn, Random, P2C, EWMA} {
		name := p
		if p == "" {
			name = RoundRobin
		}
		want := fmt.Sprintf("cluster c: %s does not place by keys: any endpoint may get any session", name)
		if _, err := NewPlacement(lettered(p, 1)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", p, err, want)
		}
	}
	bad := lettered(Maglev, 1, 1, 1)
	bad.TableSize = 4
	if _, err := NewPlacement(bad); err == nil {
		t.Error("a table that cannot be built is")
	}
}
