package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// book is a ledger in memory, which may be closed.
type book struct {
	mu     sync.Mutex
	totals map[uint64]int64
	closed bool
}

func (b *book) Add(_ context.Context, sums []Sum) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errors.New("closed")
	}
	for i := range sums {
		b.totals[sums[i].Key] += sums[i].Taken
		sums[i].Total = b.totals[sums[i].Key]
	}
	return nil
}

func TestTally(t *testing.T) {
	tally := NewTally(10)
	for i, c := range []struct {
		key        uint64
		cost, left int64
		ok, due    bool
	}{
		{7, 4, 996, true, true}, {7, 4, 992, true, false}, {7, 993, 992, false, false}, {7, 992, 0, true, false}, {7, 1, 0, false, false},
		{8, 1001, 1000, false, true}, {8, 1 << 62, 1000, false, false}, {8, 1, 999, true, false}, {8, 1, 998, true, true}, {8, 1, 997, true, false},
		{0, 1, 999, true, true}, {1, 1, 998, true, true}, {1, 1, 997, true, false},
	} {
		if left, ok, due := tally.Take(c.key, c.cost, 1000); left != c.left || ok != c.ok || due != c.due {
			t.Errorf("step %d: %d, %v, %v", i, left, ok, due)
		}
	}
	if tally.Used() != 3 {
		t.Errorf("%d are used", tally.Used())
	}
}

// Two that share know of each other after a round each; one that begins anew goes on after one; and what a closed ledger was not
// told it is told later, once.
func TestTalliesShare(t *testing.T) {
	b := &book{totals: map[uint64]int64{}}
	one, two := NewTally(10), NewTally(10)
	report := func(x *Tally, works bool) {
		t.Helper()
		if _, err := x.Report(t.Context(), b); (err == nil) != works {
			t.Fatal(err)
		}
	}
	one.Take(7, 5, 10)
	report(one, true)
	two.Take(7, 1, 10)
	report(two, true)
	if left, ok, _ := two.Take(7, 5, 10); ok || left != 4 {
		t.Errorf("%d left, %v", left, ok)
	}
	b.closed = true
	one.Take(7, 2, 10)
	report(one, false)
	report(one, false)
	b.closed = false
	report(one, true)
	if told, err := one.Report(t.Context(), b); told || err != nil || b.totals[7] != 8 {
		t.Errorf("%v, %v, %v", told, err, b.totals)
	}
	if left, _, _ := one.Take(7, 3, 10); left != 2 {
		t.Errorf("%d left", left)
	}
	b.totals[7] = 0 // it has forgotten
	one.Take(7, 1, 10)
	report(one, true)
	if left, _, _ := one.Take(7, 3, 10); left != 1 {
		t.Errorf("%d left after the ledger has forgotten", left)
	}
}

// More keys than there is room for share a count by group: they get something, and not everything; and the others keep their own.
func TestFullTally(t *testing.T) {
	tally := NewTally(16) // one group
	for k := range uint64(tallyGroup) {
		if _, ok, _ := tally.Take(k+1, 1, 5); !ok {
			t.Fatal("refused")
		}
	}
	given := 0
	for k := range uint64(100) {
		if _, ok, _ := tally.Take(1000+k, 1, 5); ok {
			given++
		}
	}
	if left, ok, _ := tally.Take(1, 1, 5); given != 5 || !ok || left != 3 || tally.Crowded() != 100 || tally.Used() != tally.Room() {
		t.Errorf("%d given, %d crowded; then %d left", given, tally.Crowded(), left)
	}
}

// From all cores at once, with rounds between: exactly what may be, and all of it told.
func TestTallyUnderLoad(t *testing.T) {
	const keys, most = 8, 5000
	b := &book{totals: map[uint64]int64{}}
	tally := NewTally(100)
	all := make([]uint64, keys)
	for i := range all {
		all[i] = rand.Uint64()
	}
	var given [keys]atomic.Int64
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 3))
			for range 4 * keys * most / 4 * 2 {
				k := r.IntN(keys)
				if _, ok, _ := tally.Take(all[k], 1, most); ok {
					given[k].Add(1)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		if _, err := tally.Report(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for k := range given {
		if given[k].Load() != most || b.totals[all[k]] != most {
			t.Errorf("key %d: %d given, %d told, of %d", k, given[k].Load(), b.totals[all[k]], most)
		}
	}
}

func TestTallyAllocatesNothing(t *testing.T) {
	tally, key := NewTally(1000), uint64(0)
	if n := testing.AllocsPerRun(1000, func() { key += 1<<54 + 1; tally.Take(key, 1, 10) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTallyTake(b *testing.B) {
	tally := NewTally(1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tally.Take(99<<32, 1, 1<<60)
		}
	})
}
