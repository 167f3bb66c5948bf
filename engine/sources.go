package engine

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
)

// sources counts a listener's open connections by where they come from: an IPv4 address, or an IPv6 /64, the least
// that a host is given (RFC 7421) and in which it takes as many addresses as it likes (RFC 8981).
//
// It is a hash table of a fixed size that all loops share without a lock. A source is in one of the sourceWindow slots
// from where its hash points to: 48 bits of the hash above 16 bits of count, 0 for a free slot. An entry never moves, so
// that a connection remembers its slot and leaves by it. Sources whose window is full are not counted. The hash has a
// key of this process's own: nobody outside can choose addresses that fill a window.
type sources struct {
	seed  maphash.Seed
	slots []atomic.Uint64
}

const (
	sourceWindow = 16
	countBits    = 16
	countMask    = 1<<countBits - 1
	// maxPerSource is what the count can hold.
	maxPerSource = countMask
	// Sizes of the table: 8 KiB to 8 MiB.
	minSources, maxSources = 1 << 10, 1 << 20
)

// newSources makes a table for so many open connections. Even if each is from elsewhere, the table is half full, and
// not one in 1,000 finds no room.
func newSources(connections int64) *sources {
	size := int64(minSources)
	for size < 2*connections && size < maxSources {
		size *= 2
	}
	return &sources{seed: maphash.MakeSeed(), slots: make([]atomic.Uint64, size)}
}

// enter counts a connection from a. Its slot is for leave, and ok is false if limit others are open already. Of a
// source that could not be counted the slot is 0; that of a counted one is not.
func (s *sources) enter(a netip.Addr, limit int) (slot uint32, ok bool) {
	h := s.hash(a)
	for {
		i, v, n := s.find(h)
		switch {
		case n >= limit:
			return 0, false
		case i < 0:
			return 0, true
		}
		if !s.slots[i].CompareAndSwap(v, h&^countMask|v&countMask+1) {
			continue
		}
		// Another loop may have entered the same source in another slot at the same time: then one of them sees the
		// other's here, and tries again.
		if v == 0 && s.others(h, i) {
			s.leave(uint32(i + 1))
			continue
		}
		return uint32(i + 1), true
	}
}

// leave undoes enter; slot 0 was not counted.
func (s *sources) leave(slot uint32) {
	if slot == 0 {
		return
	}
	for p := &s.slots[slot-1]; ; {
		v := p.Load()
		left := v - 1
		if left&countMask == 0 {
			left = 0
		}
		if p.CompareAndSwap(v, left) {
			return
		}
	}
}

// find looks for h's slot and, without one, for a free one; i is -1 if there is neither. v is what is in it, n how many
// connections are open.
func (s *sources) find(h uint64) (i int, v uint64, n int) {
	i = -1
	for k := range sourceWindow {
		at := s.at(h, k)
		switch x := s.slots[at].Load(); {
		case x == 0 && i < 0:
			i = at
		case x != 0 && (x^h)>>countBits == 0:
			if n == 0 {
				i, v = at, x
			}
			n += int(x & countMask)
		}
	}
	return i, v, n
}

// others says whether h is in a slot other than i.
func (s *sources) others(h uint64, i int) bool {
	for k := range sourceWindow {
		at := s.at(h, k)
		if x := s.slots[at].Load(); at != i && x != 0 && (x^h)>>countBits == 0 {
			return true
		}
	}
	return false
}

// at is the k-th slot of h's window. The low bits choose it, which are not kept in it but for a few of a large table.
func (s *sources) at(h uint64, k int) int { return (int(h&(maxSources-1)) + k) & (len(s.slots) - 1) }

func (s *sources) hash(a netip.Addr) uint64 {
	b := a.As16()
	if a.Is4() {
		return maphash.Bytes(s.seed, b[:])
	}
	return maphash.Bytes(s.seed, b[:8])
}
