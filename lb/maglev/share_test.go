package maglev

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// hundred endpoints of weight 1.
func hundred() []Endpoint {
	out := make([]Endpoint, 100)
	for i := range out {
		out[i] = Endpoint{fmt.Sprintf("10.0.%d.%d:8080", i/10, i), 1}
	}
	return out
}

// shares counts the slots of each endpoint.
func shares(table *Table, endpoints int) []int {
	out := make([]int, endpoints)
	for _, s := range table.Slots() {
		out[s]++
	}
	return out
}

func TestSharesAreByWeight(t *testing.T) {
	f := func(name string, within float64, weight func(i int) int) {
		t.Helper()
		endpoints, total := hundred(), 0
		for i := range endpoints {
			endpoints[i].Weight = weight(i)
			total += weight(i)
		}
		for i, got := range shares(fill(t, DefaultSize, endpoints...), len(endpoints)) {
			want := DefaultSize * float64(weight(i)) / float64(total)
			if off := math.Abs(float64(got) - want); off > within*want {
				t.Errorf("%s: endpoint %d of weight %d has %d slots, want %.0f within %.1f %%",
					name, i, weight(i), got, want, within*100)
			}
		}
	}
	// The same number of turns each: one slot is the most that two can differ by, 0.15 % of 655.
	f("equal", 0.002, func(int) int { return 1 })
	f("one to four", 0.01, func(i int) int { return 1 + i%4 })
	f("scaled up", 0.01, func(i int) int { return 1000 * (1 + i%4) })
	f("no common divisor", 0.01, func(i int) int { return 101 + 7*i })
	f("one alone is heavy", 0.02, func(i int) int {
		if i == 42 {
			return 50
		}
		return 1
	})
}

func TestFullTableHasOneSlotEach(t *testing.T) {
	endpoints := hundred()[:7]
	for i, n := range shares(fill(t, 7, endpoints...), 7) {
		if n != 1 {
			t.Errorf("endpoint %d of 7 has %d of 7 slots", i, n)
		}
	}
}

func TestWithoutWeightNoSlot(t *testing.T) {
	endpoints := hundred()
	endpoints[7].Weight = 0
	if n := shares(fill(t, DefaultSize, endpoints...), len(endpoints))[7]; n != 0 {
		t.Errorf("%d slots", n)
	}
	// Its place in the list is kept, and otherwise it is as if it were not there.
	less := slices.Delete(hundred(), 7, 8)
	with, without := fill(t, DefaultSize, endpoints...), fill(t, DefaultSize, less...)
	if n := moved(with, without, endpoints, less); n != 0 {
		t.Errorf("%d slots are others' than without it", n)
	}
}

// moved counts the slots that have another endpoint in b than in a.
func moved(a, b *Table, inA, inB []Endpoint) (n int) {
	for i := range a.Slots() {
		if inA[a.Slots()[i]].Name != inB[b.Slots()[i]].Name {
			n++
		}
	}
	return n
}

// The least that can move is the share of the endpoint that leaves or comes. Maglev trades some more for even shares
// (the paper's section 5.3): half as many again here, of the 99 % that hash mod n would move.
func TestMovementIsBounded(t *testing.T) {
	const most = 2
	all := hundred()
	whole := fill(t, DefaultSize, all...)
	share := shares(whole, len(all))
	for _, gone := range []int{0, 1, 42, 98, 99} {
		less := slices.Delete(hundred(), gone, gone+1)
		least := share[gone]
		n := moved(whole, fill(t, DefaultSize, less...), all, less)
		if n < least || n > most*least {
			t.Errorf("endpoint %d leaves, or comes: %d slots move, want %d to %d", gone, n, least, most*least)
		}
	}
}

func TestMovementOfAWeightIsBounded(t *testing.T) {
	all, lighter := hundred(), hundred()
	for i := range all {
		all[i].Weight, lighter[i].Weight = 10, 10
	}
	lighter[42].Weight = 5
	a, b := fill(t, DefaultSize, all...), fill(t, DefaultSize, lighter...)
	least := shares(a, 100)[42] - shares(b, 100)[42]
	if n := moved(a, b, all, lighter); least < 300 || n < least || n > 3*least {
		t.Errorf("%d slots move for half of one's weight, at least %d must", n, least)
	}
}
