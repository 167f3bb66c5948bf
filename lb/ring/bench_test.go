package ring

import (
	"fmt"
	"testing"
)

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			endpoints := equal(n)
			for b.Loop() {
				if _, err := New(endpoints); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The hashes are all over the ring, so that caches and branch predictors have nothing to learn.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := build(b, equal(n)...)
			hash, sum := uint32(1), 0
			for b.Loop() {
				hash = hash*1664525 + 1013904223
				sum += table.Lookup(hash)
			}
			if sum < 0 {
				b.Fatal("a hash that is nobody's")
			}
		})
	}
}

// One is skipped, then another is not; and all are.
func BenchmarkNext(b *testing.B) {
	table := build(b, equal(100)...)
	hash := uint32(1)
	b.Run("second", func(b *testing.B) {
		for b.Loop() {
			hash = hash*1664525 + 1013904223
			first := table.Lookup(hash)
			table.Next(hash, func(i int) bool { return i == first })
		}
	})
	b.Run("none", func(b *testing.B) {
		for b.Loop() {
			hash = hash*1664525 + 1013904223
			table.Next(hash, func(int) bool { return true })
		}
	})
}

func BenchmarkHash(b *testing.B) {
	key := []byte("192.0.2.1")
	for b.Loop() {
		Hash(key)
	}
}
