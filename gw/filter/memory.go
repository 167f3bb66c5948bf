package filter

import (
	"bytes"
	"sync/atomic"
)

// memory remembers what was verified, until its time is over: a bounded table, read by all loops without a lock. A set of four
// is where a hash leads; the new one takes the place of itself, of one that is over, or of any.
type memory[V any] struct {
	sets []memorySet[V]
	turn atomic.Uint32
}

type memorySet[V any] [4]atomic.Pointer[acceptance[V]]

// acceptance is one entry. Immutable. key is compared whole: a hash that is not cryptographic may collide by intent.
type acceptance[V any] struct {
	hash  uint64
	key   []byte
	until int64 // Unix seconds, from which it is over
	value V
}

// newMemory has room for n or some more.
func newMemory[V any](n int) *memory[V] {
	sets := 1
	for sets*4 < n {
		sets *= 2
	}
	return &memory[V]{sets: make([]memorySet[V], sets)}
}

func (t *memory[V]) get(hash uint64, key []byte, now int64) (v V, ok bool) {
	set := &t.sets[hash&uint64(len(t.sets)-1)]
	for i := range set {
		if e := set[i].Load(); e != nil && e.hash == hash && now < e.until && bytes.Equal(e.key, key) {
			return e.value, true
		}
	}
	return v, false
}

// put keeps key, which must not change.
func (t *memory[V]) put(hash uint64, key []byte, now, until int64, value V) {
	set := &t.sets[hash&uint64(len(t.sets)-1)]
	at := int(t.turn.Add(1)) % len(set)
	for i := range set {
		e := set[i].Load()
		if e == nil || now >= e.until {
			at = i
		} else if e.hash == hash && bytes.Equal(e.key, key) {
			at = i
			break
		}
	}
	set[at].Store(&acceptance[V]{hash, key, until, value})
}
