package limit

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestCount(t *testing.T) {
	c := NewCounts(1, 2)
	a, ok := c.Enter(5)
	b, ok2 := c.Enter(5)
	if !ok || !ok2 {
		t.Fatal("refused")
	}
	if _, ok := c.Enter(5); ok {
		t.Error("a third is there")
	}
	if p, ok := c.Enter(5 << 40); !ok {
		t.Error("another key is refused")
	} else {
		p.Leave()
	}
	a.Leave()
	if a, ok = c.Enter(5); !ok {
		t.Error("refused after one has left")
	}
	a.Leave()
	b.Leave()
}

// As many keys as there are words, and then some: these share one count, and everything ends at zero.
func TestCountOfMoreKeysThanWords(t *testing.T) {
	c := NewCounts(8, 3)
	var all []Place
	entered := func(key uint64) int {
		n := 0
		for {
			p, ok := c.Enter(key)
			if !ok {
				return n
			}
			all = append(all, p)
			n++
		}
	}
	for k := range uint64(countGroup) {
		if n := entered(k<<40 + k<<30); n != 3 {
			t.Errorf("key %d: %d", k, n)
		}
	}
	if a, b := entered(100<<40), entered(200<<40); a != 3 || b != 0 {
		t.Errorf("%d and %d share", a, b)
	}
	for _, p := range all {
		p.Leave()
	}
	for k := range uint64(countGroup) {
		if n := entered(k<<41 + 7<<50); n != 3 {
			t.Errorf("afterwards, key %d: %d", k, n)
		}
	}
}

// Many goroutines enter and leave, with keys that change: never more of one than may be, and nothing is left over.
func TestCountUnderLoad(t *testing.T) {
	const keys, most = 4, 3
	c := NewCounts(64, most)
	var inside [keys]atomic.Int64
	var full atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 20_000 {
				k := r.Uint64N(keys)
				p, ok := c.Enter((k + 1) * 0x9E3779B97F4A7C15)
				if !ok {
					full.Add(1)
					continue
				}
				if inside[k].Add(1) > most {
					t.Error("too many")
				}
				if r.Uint64N(8) == 0 {
					runtime.Gosched()
				}
				inside[k].Add(-1)
				p.Leave()
			}
		})
	}
	wg.Wait()
	for i := range c.groups {
		for j := range c.groups[i] {
			if n := c.groups[i][j].Load() & countMask; n != 0 {
				t.Errorf("%d are left over", n)
			}
		}
	}
}

func TestEnterAllocatesNothing(t *testing.T) {
	c := NewCounts(10, 1)
	if n := testing.AllocsPerRun(1000, func() {
		if p, ok := c.Enter(3); ok {
			p.Leave()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
