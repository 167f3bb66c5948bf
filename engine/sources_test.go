package engine

import (
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func (s *sources) used() (n int) {
	for i := range s.slots {
		if s.slots[i].Load() != 0 {
			n++
		}
	}
	return n
}

func v4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func TestSourcesCountAddressesAndIPv6Networks(t *testing.T) {
	s := newSources(100)
	var slots []uint32
	f := func(addr string, limit int, want bool) {
		t.Helper()
		slot, ok := s.enter(netip.MustParseAddr(addr), limit)
		if ok != want {
			t.Errorf("%s: admitted %v, want %v", addr, ok, want)
		}
		if ok && slot == 0 {
			t.Errorf("%s is not counted", addr)
		}
		slots = append(slots, slot)
	}
	f("192.0.2.1", 2, true)
	f("192.0.2.1", 2, true)
	f("192.0.2.1", 2, false)
	f("192.0.2.2", 2, true) // its neighbour
	f("192.0.2.1", 3, true) // a higher limit
	f("192.0.2.1", 2, false)
	f("2001:db8:0:1::1", 2, true)
	f("2001:db8:0:1:ffff:ffff:ffff:ffff", 2, true)
	f("2001:db8:0:1::3", 2, false)
	f("2001:db8:0:2::1", 2, true) // another /64
	f("::192.0.2.1", 1, true)     // ::/64 is no IPv4
	f("::1", 1, false)
	for _, slot := range slots {
		s.leave(slot)
	}
	if n := s.used(); n != 0 {
		t.Errorf("%d slots in use when all have left", n)
	}
	f("192.0.2.1", 1, true)
	f("192.0.2.1", 1, false)
}

// All loops at once, few sources: never more than the limit, and nothing is left.
func TestSourcesHoldTheLimitForAllLoopsTogether(t *testing.T) {
	const limit, addrs = 3, 8
	s := newSources(100)
	var open [addrs]atomic.Int64
	var wg sync.WaitGroup
	var over, untracked, entered atomic.Int64
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			type held struct {
				addr uint32
				slot uint32
			}
			var mine []held
			leave := func(i int) {
				open[mine[i].addr].Add(-1)
				s.leave(mine[i].slot)
				mine[i] = mine[len(mine)-1]
				mine = mine[:len(mine)-1]
			}
			for range 20_000 {
				if len(mine) > 0 && r.IntN(2) == 0 {
					leave(r.IntN(len(mine)))
					continue
				}
				a := r.Uint32N(addrs)
				slot, ok := s.enter(v4(a), limit)
				if !ok {
					continue
				}
				entered.Add(1)
				if slot == 0 {
					untracked.Add(1)
					continue
				}
				if open[a].Add(1) > limit {
					over.Add(1)
				}
				mine = append(mine, held{a, slot})
			}
			for len(mine) > 0 {
				leave(0)
			}
		})
	}
	wg.Wait()
	if over.Load() > 0 || untracked.Load() > 0 {
		t.Errorf("%d times over the limit, %d not counted", over.Load(), untracked.Load())
	}
	if entered.Load() < 10_000 {
		t.Errorf("only %d entered", entered.Load())
	}
	if n := s.used(); n != 0 {
		t.Errorf("%d slots in use when all have left", n)
	}
}

// Loops that enter the same source at the same time may put it in two slots; they count as one, and both are freed.
func TestSourceInTwoSlotsIsCountedOnce(t *testing.T) {
	s := newSources(100)
	h := s.hash(v4(1))
	s.slots[s.at(h, 2)].Store(h&^countMask | 1)
	s.slots[s.at(h, 5)].Store(h&^countMask | 1)
	if _, ok := s.enter(v4(1), 2); ok {
		t.Error("a third is let in")
	}
	slot, ok := s.enter(v4(1), 3)
	if !ok || int(slot) != s.at(h, 2)+1 {
		t.Errorf("entered %v, in slot %d", ok, slot)
	}
	s.leave(slot)
	s.leave(uint32(s.at(h, 2) + 1))
	s.leave(uint32(s.at(h, 5) + 1))
	if n := s.used(); n != 0 {
		t.Errorf("%d slots in use", n)
	}
}

// A table with room for one window: sources come and go in each other's way.
func TestSourcesHoldTheLimitInACrowdedWindow(t *testing.T) {
	const addrs = 3
	s := &sources{seed: maphash.MakeSeed(), slots: make([]atomic.Uint64, sourceWindow)}
	var open [addrs]atomic.Int64
	var over atomic.Int64
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, w))
			for range 200_000 {
				a := r.Uint32N(addrs)
				slot, ok := s.enter(v4(a), 1)
				if !ok || slot == 0 {
					continue
				}
				if open[a].Add(1) > 1 {
					over.Add(1)
				}
				if r.IntN(4) == 0 {
					runtime.Gosched()
				}
				open[a].Add(-1)
				s.leave(slot)
			}
		})
	}
	wg.Wait()
	if n := over.Load(); n > 0 {
		t.Errorf("%d times over the limit", n)
	}
	if n := s.used(); n != 0 {
		t.Errorf("%d slots in use", n)
	}
}

// A table of its intended load counts all but a few; one that is overrun admits what it cannot count.
func TestSourcesThatFindNoRoomAreAdmittedUncounted(t *testing.T) {
	const connections = 8192
	s := newSources(connections)
	f := func(from, to uint32) (untracked int) {
		for a := from; a < to; a++ {
			slot, ok := s.enter(v4(a), 1)
			if !ok {
				t.Fatalf("source %d is refused", a)
			}
			if slot == 0 {
				untracked++
			}
		}
		return untracked
	}
	n := f(0, connections)
	if n > connections/500 {
		t.Errorf("%d of %d are not counted", n, connections)
	}
	many := uint32(len(s.slots)) * 3
	if n += f(connections, many); n+s.used() != int(many) || s.used() < len(s.slots)*99/100 {
		t.Errorf("of %d, %d are not counted, %d in %d slots are", many, n, s.used(), len(s.slots))
	}
}

// The bound of a source is what the count can hold, and reaching it does not spill.
func TestSourceOfTheLargestLimit(t *testing.T) {
	s := newSources(1)
	var slot uint32
	for range maxPerSource {
		var ok bool
		if slot, ok = s.enter(v4(1), maxPerSource); !ok {
			t.Fatal("refused below the limit")
		}
	}
	if _, ok := s.enter(v4(1), maxPerSource); ok {
		t.Error("admitted above the limit")
	}
	for range maxPerSource {
		s.leave(slot)
	}
	if n := s.used(); n != 0 {
		t.Errorf("%d slots in use", n)
	}
}

// Two processes place the same sources differently, so that nobody can choose some that meet.
func TestSourcesHaveAKeyOfTheirOwn(t *testing.T) {
	a, b := newSources(1000), newSources(1000)
	same := 0
	for i := range uint32(1000) {
		if a.at(a.hash(v4(i)), 0) == b.at(b.hash(v4(i)), 0) {
			same++
		}
	}
	if same > 20 {
		t.Errorf("%d of 1000 sources are in the same place", same)
	}
}

func TestSourcesAllocateNothing(t *testing.T) {
	s := newSources(1000)
	a, b := v4(7), netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(100, func() {
		x, _ := s.enter(a, 2)
		y, _ := s.enter(b, 2)
		s.leave(x)
		s.leave(y)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSources(b *testing.B) {
	s := newSources(16384)
	for i := range uint32(16384) {
		s.enter(v4(i), 10)
	}
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		slot, _ := s.enter(v4(i&16383), 10)
		s.leave(slot)
		i += 7919
	}
}
