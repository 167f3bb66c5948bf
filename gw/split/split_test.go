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

// When a canary grows, clients move to it, and none from it.
func TestGrowingMovesOneWay(t *testing.T) {
	before, after := New(weights(95, 5), "r"), New(weights(80, 20), "r")
	moved := 0
	for i := range keys {
		a, b := before.Pick(key(i)), after.Pick(key(i))
		if a == 1 && b == 0 {
			t.Fatal("a client left the canary that grew")
		}
		if a != b {
			moved++
		}
	}
	if moved < keys*14/100 || moved > keys*16/100 {
		t.Errorf("%d of %d moved, not 15 %%", moved, keys)
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
