package limit

import (
	"math/bits"
	"sync/atomic"
)

// A key's count is one word, with the key: 44 bits of its hash, beside those that name its group, over the count. So a word that
// counts nothing changes hands in one step.
const (
	countBits = 20
	countMask = 1<<countBits - 1
	// MaxCount is the most that a key may be allowed at a time.
	MaxCount   = countMask
	countGroup = 16 // two cache lines
)

// Counts is how many of each key are there at a time: up to a maximum. Safe for concurrent use, without locks. Two that bring a
// new key at the same instant may each begin a count for it, if a third leaves meanwhile: then the second is not counted with
// the others until it leaves.
type Counts struct {
	max    uint64
	groups [][countGroup]atomic.Uint64
	shared []atomic.Uint64 // by group: the count of those that have found no word
}

// NewCounts counts up to max, 1 to MaxCount, of each key, for so many keys that are there at a time, of 16 bytes each. Keys that
// find all words of their group in use share one count.
func NewCounts(keys, max int) *Counts {
	n := (2*keys + countGroup - 1) / countGroup
	return &Counts{max: uint64(max), groups: make([][countGroup]atomic.Uint64, n), shared: make([]atomic.Uint64, n)}
}

// Place is one that has entered.
type Place struct{ word *atomic.Uint64 }

// Enter counts one more of key, a hash as that of Table.Take; false: there are as many as may be.
func (c *Counts) Enter(key uint64) (Place, bool) {
	group, rest := bits.Mul64(key, uint64(len(c.groups)))
	tag := rest &^ countMask
	g := &c.groups[group]
search:
	for {
		var free *atomic.Uint64
		var was uint64
		for i := range g {
			w := &g[(key+uint64(i))%countGroup]
			is := w.Load()
			switch {
			case is&^countMask == tag && (is&countMask > 0 || free == nil):
				// Its own, or one that it had before any free one.
				if is&countMask >= c.max {
					return Place{}, false
				}
				if !w.CompareAndSwap(is, is+1) {
					continue search
				}
				return Place{w}, true
			case is&countMask == 0 && free == nil:
				free, was = w, is
			}
		}
		if free == nil {
			return c.enterShared(&c.shared[group])
		}
		if free.CompareAndSwap(was, tag|1) {
			return Place{free}, true
		}
	}
}

func (c *Counts) enterShared(w *atomic.Uint64) (Place, bool) {
	for {
		is := w.Load()
		if is >= c.max {
			return Place{}, false
		}
		if w.CompareAndSwap(is, is+1) {
			return Place{w}, true
		}
	}
}

// Leave counts one less; once for each Enter. While it has not been called the word stays the key's.
func (p Place) Leave() { p.word.Add(^uint64(0)) }
