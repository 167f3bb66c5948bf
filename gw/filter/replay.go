package filter

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// replays remembers for a time which one-time numbers were used, in a table of fixed size without locks: a word for each, in sets of
// sixteen. A word is a part of the number's hash, under a seed that nobody knows, and when it may be forgotten; two numbers that
// look alike by chance (2⁻²⁸) have the second refused.
//
// When a set is full of what may not be forgotten yet the answer is full, and the request must be refused: to forget would be to let
// a replay in. With four words for each number that the table was made for that is less than once in 10⁵ (Poisson of mean 4
// above 16).
type replays struct {
	seed maphash.Seed
	sets [][16]atomic.Uint64
}

type replayAnswer int

const (
	fresh replayAnswer = iota
	replayed
	full
)

func newReplays(numbers int) *replays {
	sets := 1
	for sets*4 < numbers {
		sets *= 2
	}
	return &replays{seed: maphash.MakeSeed(), sets: make([][16]atomic.Uint64, sets)}
}

// use says whether this number is used for the first time, and remembers it until then.
func (t *replays) use(number []byte, now, until time.Time) replayAnswer {
	hash := maphash.Bytes(t.seed, number)
	set := &t.sets[hash&uint64(len(t.sets)-1)]
	word := hash>>32<<32 | uint64(uint32(until.Unix()+1)) // a word of 0 is over, and free
	for {
		free := -1
		var was uint64
		for i := range set {
			w := set[i].Load()
			switch {
			case over(w, now):
				if free < 0 {
					free, was = i, w
				}
			case w>>32 == word>>32:
				return replayed
			}
		}
		if free < 0 {
			return full
		}
		if !set[free].CompareAndSwap(was, word) {
			continue
		}
		// Another loop may have taken another word for the same number, which it found free and we did not. Both see both then.
		for i := range set {
			if w := set[i].Load(); i != free && w>>32 == word>>32 && !over(w, now) {
				return replayed
			}
		}
		return fresh
	}
}

// over says that a word's time has come.
func over(word uint64, now time.Time) bool { return uint32(word) <= uint32(now.Unix()) }
