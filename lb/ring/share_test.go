package ring

import (
	"math"
	"slices"
	"testing"
)

// samples are that many hashes, evenly around the ring.
const samples = 1 << 20

func sample(f func(hash uint32)) {
	for i := range uint32(samples) {
		f(i << 12)
	}
}

// The arcs of 160 points are 160 exponential variates, near enough: 1/√160 is their sum's deviation, 8 %.
func TestSharesAreByWeight(t *testing.T) {
	f := func(name string, least, most float64, weight func(i int) int) {
		t.Helper()
		endpoints, total := equal(100), 0
		for i := range endpoints {
			endpoints[i].Weight = weight(i)
			total += weight(i)
		}
		table := build(t, endpoints...)
		var got [100]float64
		sample(func(hash uint32) { got[table.Lookup(hash)]++ })
		squares := 0.0
		for i := range got {
			off := got[i]/samples*float64(total)/float64(weight(i)) - 1
			squares += off * off
			if math.Abs(off) > 0.35 {
				t.Errorf("%s: endpoint %d of weight %d has %+.0f %% of its share", name, i, weight(i), 100*off)
			}
		}
		if deviation := math.Sqrt(squares / 100); deviation < least || deviation > most {
			t.Errorf("%s: standard deviation %.3f, want %.2f to %.2f", name, deviation, least, most)
		}
	}
	f("equal", 0.06, 0.10, func(int) int { return 1 })
	f("one to four", 0.06, 0.12, func(i int) int { return 1 + i%4 })
	f("scaled up", 0.06, 0.12, func(i int) int { return 1000 * (1 + i%4) })
}

// moved counts the samples that are another endpoint's in b than in a, of them those that are neither joined's in b
// nor were gone's in a.
func moved(a, b []Endpoint, t *testing.T, touched string) (all, others int) {
	t.Helper()
	x, y := build(t, a...), build(t, b...)
	sample(func(hash uint32) {
		if was, is := a[x.Lookup(hash)].Name, b[y.Lookup(hash)].Name; was != is {
			all++
			if was != touched && is != touched {
				others++
			}
		}
	})
	return all, others
}

func TestOnlyTheKeysOfTheOneThatComesOrLeavesMove(t *testing.T) {
	all := equal(99)
	for _, gone := range []int{0, 1, 42, 97, 98} {
		less := slices.Delete(equal(99), gone, gone+1)
		for name, pair := range map[string][2][]Endpoint{"leaves": {all, less}, "comes": {less, all}} {
			n, others := moved(pair[0], pair[1], t, all[gone].Name)
			if share := float64(n) / samples * 99; others != 0 || share < 0.65 || share > 1.35 {
				t.Errorf("endpoint %d %s: %.2f of its share moves, and %d samples among others", gone, name, share, others)
			}
		}
	}
}

// libmemcached's rounding leaves each of 100 the points of 39 hashes, when each of 99 has those of 40: one in forty of
// the points of all comes or goes. The package's doc warns of it.
func TestRoundingMovesAFortieth(t *testing.T) {
	_, others := moved(equal(99), equal(100), t, equal(100)[99].Name)
	if share := float64(others) / samples; share < 0.02 || share > 0.03 {
		t.Errorf("%.3f of the keys move among the others, want a fortieth", share)
	}
}

func TestNextIsWhoWouldHaveItWithoutTheSkipped(t *testing.T) {
	all := equal(99)
	table := build(t, all...)
	for gone := range 99 {
		less := slices.Delete(equal(99), gone, gone+1)
		without := build(t, less...)
		for i := range uint32(2000) {
			hash := i * 2147483
			got, want := all[table.Next(hash, func(i int) bool { return i == gone })].Name, less[without.Lookup(hash)].Name
			if got != want {
				t.Fatalf("hash %08x without %d: %s, want %s", hash, gone, got, want)
			}
		}
	}
}
