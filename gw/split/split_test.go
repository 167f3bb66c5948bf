package split

import (
	"fmt"
	"math"
	"testing"

	"github.com/cespare/xxhash/v2"
)

func weights(w ...int) (list []Config) {
	for i := range w {
		list = append(list, Config{Cluster: fmt.Sprint(i), Weight: &w[i]})
	}
	return list
}

const keys = 100_000

func key(i int) uint64 { return xxhash.Sum64String(fmt.Sprint("client ", i)) }

func TestPartsAreByWeight(t *testing.T) {
	for _, w := range [][]int{{1, 1}, {90, 10}, {99, 1}, {1, 2, 3, 4}, {0, 5, 0}, {7}} {
		s := New(weights(w...), "r")
		got, sum := make([]int, len(w)), 0
		for i := range keys {
			got[s.Pick(key(i))]++
		}
		for _, n := range w {
			sum += n
		}
		for i, n := range w {
			want := float64(n) / float64(sum) * keys
			if math.Abs(float64(got[i])-want) > 5*math.Sqrt(want)+1e-9 {
				t.Errorf("%v: %d keys of the %d-th, want %.0f", w, got[i], i, want)
			}
		}
	}
	// Hashes that are anything but random, as those of counters.
	n := 0
	s := New(weights(1, 1), "r")
	for i := range uint64(keys) {
		n += s.Pick(i)
	}
	if n < keys*49/100 || n > keys*51/100 {
		t.Errorf("of counted hashes %d in %d", n, keys)
	}
}

// When one weight grows clients move to its cluster, wherever it stands in the list, and none leaves it or moves between the
// others; and no more of them than its part has grown by.
func TestGrowingMovesOneWay(t *testing.T) {
	for _, c := range []struct{ before, after []int }{
		{[]int{95, 5}, []int{80, 20}},
		{[]int{95, 5}, []int{95, 10}},
		{[]int{1, 1, 1}, []int{2, 1, 1}},
		{[]int{1, 1, 1}, []int{1, 2, 1}},
		{[]int{1, 1, 1}, []int{1, 1, 2}},
		{[]int{90, 5, 0, 5}, []int{90, 5, 10, 5}},
	} {
		before, after := New(weights(c.before...), "r"), New(weights(c.after...), "r")
		sum := [2]float64{}
		grown, by := 0, 0.0
		for i := range c.before {
			sum[0] += float64(c.before[i])
			sum[1] += float64(c.after[i])
		}
		for i := range c.before {
			if d := float64(c.after[i])/sum[1] - float64(c.before[i])/sum[0]; d > by {
				grown, by = i, d
			}
		}
		moved := 0
		for i := range keys {
			a, b := before.Pick(key(i)), after.Pick(key(i))
			if a == b {
				continue
			}
			if moved++; b != grown {
				t.Fatalf("%v to %v: a client moved from %d to %d", c.before, c.after, a, b)
			}
		}
		if want := by * keys; math.Abs(float64(moved)-want) > 5*math.Sqrt(want) {
			t.Errorf("%v to %v: %d moved, not %.0f", c.before, c.after, moved, want)
		}
	}
}

// What the file's order is, or a cluster that takes nothing, is nobody's affair, and nor is the scale of the weights.
func TestOrderAndScaleDoNotMatter(t *testing.T) {
	all := weights(6, 3, 1, 0)
	turned := []Config{all[3], all[2], all[0], all[1]}
	a, b, tenfold := New(all, "r"), New(turned, "r"), New(weights(60, 30, 10), "r")
	for i := range keys {
		h := key(i)
		x := all[a.Pick(h)].Cluster
		if y, z := turned[b.Pick(h)].Cluster, all[tenfold.Pick(h)].Cluster; x != y || x != z {
			t.Fatalf("client %d: %s, turned %s, tenfold %s", i, x, y, z)
		}
	}
}

// Nodes that share a configuration, and releases of the gateway, agree: a client is not to change sides by an upgrade.
func TestPicksStayTheSame(t *testing.T) {
	s := New([]Config{{Cluster: "stable", Weight: new(3)}, {Cluster: "canary"}}, "orders")
	got := ""
	for i := range uint64(32) {
		got += fmt.Sprint(s.Pick(i))
	}
	if want := "00000100000000110010000001000001"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// The hashes at the ends of their range cost something and not without end.
func TestEveryHashHasACluster(t *testing.T) {
	s := New(weights(0, 1, maxWeight, 0), "r")
	for _, h := range []uint64{0, 1, 1 << 63, math.MaxUint64} {
		if i := s.Pick(h); i != 1 && i != 2 {
			t.Errorf("%x: %d", h, i)
		}
	}
}

func TestSeedsDivideDifferently(t *testing.T) {
	a, b := New(weights(1, 1), "orders"), New(weights(1, 1), "carts")
	same := 0
	for i := range keys {
		if a.Pick(key(i)) == b.Pick(key(i)) {
			same++
		}
	}
	if same < keys*48/100 || same > keys*52/100 {
		t.Errorf("%d of %d alike", same, keys)
	}
}

func TestValidate(t *testing.T) {
	for name, f := range map[string]struct {
		list []Config
		path string
	}{
		"good":     {weights(1, 0), "-"},
		"default":  {[]Config{{Cluster: "a"}, {Cluster: "b"}}, "-"},
		"none":     {weights(0, 0), ""},
		"negative": {weights(1, -1), "[1].weight"},
		"huge":     {weights(1<<40, 1), "[0].weight"},
		"largest":  {weights(1, maxWeight), "-"},
		"larger":   {weights(1, maxWeight+1), "[1].weight"},
		"twice":    {[]Config{{Cluster: "a"}, {Cluster: "a"}}, "[1].cluster"},
	} {
		got := "-"
		Validate(f.list, func(path, _ string) { got = path })
		if got != f.path {
			t.Errorf("%s: at %q, want %q", name, got, f.path)
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	s := New(weights(1, 2, 3), "r")
	if n := testing.AllocsPerRun(100, func() { s.Pick(42) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, w := range [][]int{{95, 5}, {1, 2, 3, 4}} {
		b.Run(fmt.Sprint(len(w)), func(b *testing.B) {
			s, h := New(weights(w...), "r"), uint64(0)
			for b.Loop() {
				h += uint64(s.Pick(h)) + 1
			}
		})
	}
}
