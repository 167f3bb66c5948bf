package limit

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, rate float64, burst int64) Limit {
	t.Helper()
	l, ok := New(rate, burst)
	if !ok {
		t.Fatalf("no limit of %v/s, burst %d", rate, burst)
	}
	return l
}

// What each request is told as time passes.
func TestVerdicts(t *testing.T) {
	ms := int64(time.Millisecond)
	table := NewTable(1, must(t, 10, 3))
	start := int64(1)
	for i, c := range []struct {
		at, cost   int64
		ok         bool
		left       int64
		full, wait time.Duration
	}{
		{0, 1, true, 2, 100 * time.Millisecond, 0},
		{0, 1, true, 1, 200 * time.Millisecond, 0},
		{0, 2, false, 1, 200 * time.Millisecond, 100 * time.Millisecond},
		{0, 1, true, 0, 300 * time.Millisecond, 0},
		{0, 1, false, 0, 300 * time.Millisecond, 100 * time.Millisecond},
		{99, 1, false, 0, 201 * time.Millisecond, time.Millisecond},
		{100, 1, true, 0, 300 * time.Millisecond, 0},
		{50, 1, false, 0, 350 * time.Millisecond, 150 * time.Millisecond}, // out of order: stricter
		{350, 1, true, 1, 150 * time.Millisecond, 0},
		{9000, 3, true, 0, 300 * time.Millisecond, 0},
		{18000, 4, false, 3, 0, 300 * time.Millisecond}, // more than there ever is
		{18000, 1 << 62, false, 3, 0, 300 * time.Millisecond},
	} {
		got := table.Take(7, start+c.at*ms, c.cost)
		if want := (Verdict{c.ok, 0, c.left, c.full, c.wait}); got != want {
			t.Errorf("step %d: %+v, not %+v", i, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		burst int64
		ok    bool
	}{
		{1, 1, true}, {1e9, 1, true}, {1e9 + 1, 1, false}, {0, 1, false}, {-1, 1, false}, {1, 0, false}, {1, -1, false},
		{1e-9, 1, false}, {1, int64(MaxFill / time.Second), true}, {1, int64(MaxFill/time.Second) + 1, false}, {1e9, 1 << 62, false},
	} {
		if _, ok := New(c.rate, c.burst); ok != c.ok {
			t.Errorf("%v/s, burst %d: %v", c.rate, c.burst, ok)
		}
	}
}

// Never more than burst + rate·t, and not less than 99 % of it, when all cores ask for three times as much for ten seconds, of a
// clock that goes as fast as they ask.
func TestExactUnderLoad(t *testing.T) {
	for _, c := range []struct {
		name  string
		rate  float64
		burst int64
		cost  int64
	}{{"1000/s", 1000, 1000, 1}, {"77777/s", 77777, 10, 1}, {"100/s", 100, 10, 1}, {"cost 7", 10000, 700, 7}} {
		t.Run(c.name, func(t *testing.T) {
			const seconds = 10
			table := NewTable(1, must(t, c.rate, c.burst))
			asked := int64(3 * c.rate / float64(c.cost) * seconds)
			tick := seconds * int64(time.Second) / asked
			var next, given atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for i := next.Add(1); i <= asked; i = next.Add(1) {
						if table.Take(99, i*tick, c.cost).OK {
							given.Add(c.cost)
						}
					}
				})
			}
			wg.Wait()
			// A goroutine may be late by as many ticks as the others have gone on meanwhile: it errs on the side of the bound.
			bound := float64(c.burst) + c.rate*seconds
			if got := float64(given.Load()); got > bound || got < 0.99*bound {
				t.Errorf("%v given, of %v", got, bound)
			}
		})
	}
}

// What one limit refuses does not cost the others.
func TestSeveralLimits(t *testing.T) {
	second := int64(time.Second)
	table := NewTable(1, must(t, 10, 10), must(t, 1.0/60, 15))
	now, given := int64(1), 0
	for range 100 {
		if table.Take(1, now, 1).OK {
			given++
		}
	}
	if given != 10 {
		t.Errorf("%d at once, not 10", given)
	}
	now += second
	for range 100 {
		if table.Take(1, now, 1).OK {
			given++
		}
	}
	v := table.Take(1, now, 1)
	if given != 15 || v.OK || v.Limit != 1 || v.Wait < 58*time.Second {
		t.Errorf("%d after a second, not 15; then %+v", given, v)
	}
	now += 60 * second // one of the slow limit; the fast one is full: refusals have cost it nothing
	if v = table.Take(1, now, 1); !v.OK || v.Limit != 1 || v.Left != 0 {
		t.Errorf("after a minute: %+v", v)
	}
	if v = table.Take(2, now, 4); !v.OK || v.Limit != 0 || v.Left != 6 {
		t.Errorf("another key: %+v", v)
	}
}

// Exact for both limits when they are contended.
func TestSeveralLimitsUnderLoad(t *testing.T) {
	table := NewTable(1, must(t, 1000, 100), must(t, 500, 2000))
	var next, given atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := next.Add(1); i <= 30000; i = next.Add(1) {
				if table.Take(99, i*int64(time.Second)/3000, 1).OK {
					given.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := given.Load(); got > 2000+500*10 || float64(got) < 0.99*7000 {
		t.Errorf("%d given, of 7000", got)
	}
}

// Every key that the table is made for has its own bucket.
func TestKeysDoNotShare(t *testing.T) {
	const keys = 100_000
	table := NewTable(keys, must(t, 1, 2))
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]uint64, keys)
	refused := 0
	for i := range all {
		all[i] = r.Uint64()
	}
	for range 2 {
		for _, k := range all {
			if !table.Take(k, 1, 1).OK {
				refused++
			}
		}
	}
	for _, k := range all {
		if table.Take(k, 1, 1).OK {
			t.Fatal("a third is granted")
		}
	}
	if table.Crowded() > 3*keys/2000 || refused > keys/2000 {
		t.Errorf("%d calls shared a bucket, %d refused", table.Crowded(), refused)
	}
	if size := unsafe.Sizeof(cell{}) * groupCells * uintptr(len(table.groups)); size > 33*keys {
		t.Errorf("%d bytes for %d keys", size, keys)
	}
}

// Of a table that new keys overrun, those that it knows keep what they have, and the rest get something, but not everything.
func TestFullTable(t *testing.T) {
	second := int64(time.Second)
	table := NewTable(1, must(t, 1, 5)) // 2048 cells
	r := rand.New(rand.NewPCG(1, 2))
	const known = 12345 << 32
	for range 5 {
		table.Take(known, 1, 1)
	}
	given := 0
	for range 200_000 {
		if table.Take(r.Uint64(), 1, 5).OK {
			given++
		}
	}
	// A bucket for each cell, and one for each group.
	if cells, most := minGroups*groupCells, minGroups*(groupCells+1); given < cells-1 || given > most {
		t.Errorf("%d of new keys given, not %d to %d", given, cells, most)
	}
	if table.Take(known, 1, 1).OK {
		t.Error("a known key was forgotten")
	}
	if v := table.Take(known, 1+second, 1); !v.OK {
		t.Errorf("a known key pays for others: %+v", v)
	}
	// A second later there is one more for each group's bucket; ten later all cells are free again.
	given = 0
	for range 100_000 {
		if table.Take(r.Uint64(), 1+second, 1).OK {
			given++
		}
	}
	if given < minGroups || given > minGroups+1 {
		t.Errorf("%d given a second later", given)
	}
	given = 0
	for range 1000 {
		if table.Take(r.Uint64(), 1+20*second, 5).OK {
			given++
		}
	}
	if given < 990 {
		t.Errorf("%d of 1000 given when all cells are free again", given)
	}
}

// Many goroutines bring the same keys to a table whose cells change hands all the time: no key has more than its limit.
func TestCellsChangeHands(t *testing.T) {
	table := NewTable(1, must(t, 40_000, 3))
	const keys, last, tick = 4, 400_000, 2000
	var next atomic.Int64
	var given [keys]atomic.Int64
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 9))
			for i := next.Add(1); i <= last; i = next.Add(1) {
				if i%2 == 0 { // 1.6 times the limit
					if k := r.Uint64N(keys); table.Take(1000+k, i*tick, 1).OK {
						given[k].Add(1)
					}
				} else {
					table.Take(r.Uint64()>>16, i*tick, 1) // the same group
				}
			}
		})
	}
	wg.Wait()
	for k := range given {
		if got, bound := given[k].Load(), int64(3+40_000*last*tick/1e9); got > bound || got < bound/2 {
			t.Errorf("key %d: %d given, bound %d", k, got, bound)
		}
	}
}

// Two cells of one key become one, which owes what both did.
func TestTwoCellsMerge(t *testing.T) {
	table := NewTable(1, must(t, 1, 10))
	g, key := &table.groups[0], uint64(40)
	home := key * lineCells
	a, b := &g[home%groupCells], &g[(home+3)%groupCells]
	a.key.Store(key)
	b.key.Store(key)
	a.full.Store(1 + 2*int64(time.Second))
	b.full.Store(1 + 3*int64(time.Second))
	if g.settle(key, home, 1); a.key.Load() != key || b.key.Load() != dead {
		t.Error("the first does not stay alone")
	}
	if v := table.Take(key, 1, 1); v.Left != 4 {
		t.Errorf("%d left, not 4", v.Left)
	}
}

func TestTakeAllocatesNothing(t *testing.T) {
	one, two := NewTable(100, must(t, 1e6, 10)), NewTable(100, must(t, 1e6, 10), must(t, 1, 10))
	now, key := int64(1), uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now, key = now+100, key+1<<58+1
		one.Take(key, now, 1)
		two.Take(key, now, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
	}{{"warm", 1}, {"keys=1024", 1024}, {"keys=1M", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			table := NewTable(c.keys, must(b, 1e6, 1000))
			all := make([]uint64, c.keys)
			for i := range all {
				all[i] = rand.Uint64()
				table.Take(all[i], 1, 1)
			}
			b.ReportAllocs()
			before := cpu(b)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.Int(); pb.Next(); i++ {
					table.Take(all[i&(len(all)-1)], int64(i&0xffffff)+1, 1)
				}
			})
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpu is what the process has used: on a machine that does other things too, wall time says little.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
