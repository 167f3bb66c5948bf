package ring

import (
	"math/rand/v2"
	"testing"
)

func TestNextOfNoneSkippedIsLookup(t *testing.T) {
	table := build(t, equal(100)...)
	around(table, func(hash uint32) {
		if got, want := table.Next(hash, func(int) bool { return false }), table.Lookup(hash); got != want {
			t.Errorf("hash %08x: %d, want %d", hash, got, want)
		}
	})
}

// 1,100 do not fit the small set of who was asked. The others are its edges.
func TestNextIsTheFirstOnTheRingNotSkipped(t *testing.T) {
	for _, n := range []int{1, 2, 3, 64, 100, 1024, 1025, 1100} {
		table := build(t, equal(n)...)
		points := table.points[:len(table.points)-1]
		random := rand.New(rand.NewPCG(1, uint64(n)))
		for range 300 {
			hash, limit := random.Uint32(), random.IntN(n+1)
			down := make([]bool, n)
			for range limit {
				down[random.IntN(n)] = true
			}
			want := -1
			for i, from := 0, first(table, hash); i < len(points) && want < 0; i++ {
				if owner := int(points[(from+i)%len(points)].owner); !down[owner] {
					want = owner
				}
			}
			if got := table.Next(hash, func(i int) bool { return down[i] }); got != want {
				t.Fatalf("%d endpoints, hash %08x: %d, want %d", n, hash, got, want)
			}
		}
	}
}

func TestNextAsksEachOnce(t *testing.T) {
	for _, n := range []int{1, 100, 1024, 1025, 1100} {
		table := build(t, equal(n)...)
		asked := make([]int, n)
		if got := table.Next(1<<31, func(i int) bool { asked[i]++; return true }); got != -1 {
			t.Errorf("all of %d are skipped, and yet %d is next", n, got)
		}
		for i, times := range asked {
			if times != 1 {
				t.Errorf("endpoint %d of %d was asked for %d times", i, n, times)
			}
		}
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	for _, n := range []int{100, 1100} {
		table := build(t, equal(n)...)
		hash := uint32(0)
		allocs := testing.AllocsPerRun(100, func() {
			hash += 1 << 20
			owner := table.Lookup(hash)
			table.Next(hash, func(i int) bool { return i == owner })
			table.Next(hash, func(int) bool { return true })
		})
		if allocs != 0 {
			t.Errorf("%d endpoints: %v allocations", n, allocs)
		}
	}
}
