package hrw

import (
	"fmt"
	"slices"
	"testing"
)

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{100, 1000} {
		for name, endpoints := range map[string][]Endpoint{"equal": equal(n), "weighted": weighted(n)} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				for b.Loop() {
					fill(b, DefaultSize, endpoints...)
				}
			})
		}
	}
}

// One comes, and one leaves.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100, 1000} {
		all, less := weighted(n), slices.Delete(weighted(n), 42, 43)
		for name, pair := range map[string][2][]Endpoint{"comes": {less, all}, "leaves": {all, less}} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				table := fill(b, DefaultSize, pair[0]...)
				for b.Loop() {
					if _, err := table.Update(pair[1]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	table := fill(b, DefaultSize, weighted(100)...)
	hash, sum := uint64(1), 0
	for b.Loop() {
		hash = hash*6364136223846793005 + 1442695040888963407
		sum += table.Lookup(hash)
	}
	if sum < 0 {
		b.Fatal("a hash that is nobody's")
	}
}

// The owner is skipped.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := fill(b, DefaultSize, weighted(n)...)
			hash := uint64(1)
			for b.Loop() {
				hash = hash*6364136223846793005 + 1442695040888963407
				owner := table.Lookup(hash)
				table.Next(hash, func(i int) bool { return i == owner })
			}
		})
	}
}
