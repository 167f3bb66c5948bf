package hrw

import (
	"math"
	"slices"
	"testing"
)

// fit fails unless the counts are as probable as a fair draw by the weights makes them: Pearson's χ², whose mean is
// the number of endpoints less one and whose variance is twice that, within five standard deviations.
func fit(t *testing.T, name string, counts []int, endpoints []Endpoint) {
	t.Helper()
	all, weights, degrees := 0, 0.0, -1.0
	for i, e := range endpoints {
		all += counts[i]
		weights += float64(e.Weight)
		if e.Weight > 0 {
			degrees++
		} else if counts[i] > 0 {
			t.Errorf("%s: %s has %d slots without a weight", name, e.Name, counts[i])
		}
	}
	sum := 0.0
	for i, e := range endpoints {
		if want := float64(all) * float64(e.Weight) / weights; want > 0 {
			sum += (float64(counts[i]) - want) * (float64(counts[i]) - want) / want
		}
	}
	if off := (sum - degrees) / math.Sqrt(2*degrees); math.Abs(off) > 5 {
		t.Errorf("%s: χ² %.0f with %.0f degrees of freedom, %+.1f standard deviations", name, sum, degrees, off)
	}
}

func shares(t *Table) []int {
	out := make([]int, len(t.names))
	for _, s := range t.Slots() {
		out[s]++
	}
	return out
}

func TestSharesAreByWeight(t *testing.T) {
	f := func(name string, size int, weight func(i int) int) {
		t.Helper()
		endpoints := equal(100)
		for i := range endpoints {
			endpoints[i].Weight = weight(i)
		}
		fit(t, name, shares(fill(t, size, endpoints...)), endpoints)
	}
	f("equal", DefaultSize, func(int) int { return 1 })
	f("equal, size a power of two", 1<<17, func(int) int { return 1 })
	f("one to four", DefaultSize, func(i int) int { return 1 + i%4 })
	f("some without", DefaultSize, func(i int) int { return i % 3 })
	f("all different", 1<<17, func(i int) int { return 101 + 7*i })
	f("as large as can be", DefaultSize, func(i int) int { return (1 + i%4) * (math.MaxInt32 / 4) })
	f("one alone is heavy", DefaultSize, func(i int) int {
		if i == 42 {
			return 50
		}
		return 1
	})
	f("one to 100", 1<<17, func(i int) int {
		if i%2 == 0 {
			return 100
		}
		return 1
	})
}

// Those of the one that leaves go to all others by their weights, and nothing else moves. Or seen from behind: the one
// that comes takes from all.
func TestOnlyTheKeysOfTheOneThatComesOrLeavesMove(t *testing.T) {
	for name, all := range map[string][]Endpoint{"equal": equal(50), "weighted": weighted(50)} {
		const size = 1 << 16
		whole := fill(t, size, all...)
		for _, gone := range []int{0, 1, 27, 48, 49} {
			less := slices.Clone(all)
			less[gone].Weight = 0
			without := fill(t, size, slices.Delete(slices.Clone(all), gone, gone+1)...)
			heirs := make([]int, len(all))
			for s, owner := range whole.Slots() {
				heir := int(without.Slots()[s])
				if heir >= gone {
					heir++
				}
				if int(owner) == gone {
					heirs[heir]++
				} else if heir != int(owner) {
					t.Fatalf("%s: without %d, slot %d goes from %d to %d", name, gone, s, owner, heir)
				}
			}
			fit(t, name+": heirs", heirs, less)
		}
	}
}

func TestWeightMovesOnlyItsOwn(t *testing.T) {
	lighter, heavier := weighted(50), weighted(50)
	lighter[27].Weight, heavier[27].Weight = 3, 5
	a, b := fill(t, DefaultSize, lighter...).Slots(), fill(t, DefaultSize, heavier...).Slots()
	n := 0
	for s := range a {
		if a[s] != b[s] {
			n++
			if b[s] != 27 {
				t.Errorf("slot %d goes from %d to %d when 27 gets heavier", s, a[s], b[s])
			}
		}
	}
	// A share of 3/195 becomes one of 5/197, of 65,537.
	if n < 500 || n > 800 {
		t.Errorf("%d slots move, want about 655", n)
	}
}
