package hrw

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestNextOfNoneSkippedIsLookup(t *testing.T) {
	table := fill(t, 1009, weighted(100)...)
	for h := range uint64(1009) {
		if got, want := table.Next(h, func(int) bool { return false }), table.Lookup(h); got != want {
			t.Errorf("slot %d: %d, want %d", h, got, want)
		}
	}
}

func TestNextIsWhoWouldHaveItWithoutTheSkipped(t *testing.T) {
	f := func(all []Endpoint, down []bool) {
		t.Helper()
		less := slices.Clone(all)
		for i := range less {
			if down[i] {
				less[i].Weight = 0
			}
		}
		table, without := fill(t, 1009, all...), fill(t, 1009, less...)
		for h := range uint64(1009) {
			if got, want := table.Next(h, func(i int) bool { return down[i] }), without.Lookup(h); got != want {
				t.Fatalf("slot %d without %v: %d, want %d", h, down, got, want)
			}
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for _, all := range [][]Endpoint{equal(30), weighted(30)} {
		for one := range all {
			down := make([]bool, len(all))
			down[one] = true
			f(all, down)
		}
		for range 30 {
			down := make([]bool, len(all))
			for range random.IntN(100) {
				down[random.IntN(len(all))] = true
			}
			f(all, down)
		}
	}
}

func TestNextAsksEachOnceAtMost(t *testing.T) {
	table := fill(t, 1009, weighted(100)...)
	for h := range uint64(1009) {
		asked := make([]int, 100)
		if got := table.Next(h, func(i int) bool { asked[i]++; return true }); got != -1 {
			t.Fatalf("all are skipped, and yet %d is next", got)
		}
		if slices.Max(asked) != 1 || slices.Min(asked) != 1 {
			t.Fatalf("slot %d: times that endpoints were asked for: %v", h, asked)
		}
		clear(asked)
		owner := table.Lookup(h)
		table.Next(h, func(i int) bool { asked[i]++; return i == owner })
		if slices.Max(asked) != 1 {
			t.Fatalf("slot %d: times that endpoints were asked for: %v", h, asked)
		}
	}
}
