package engine

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	f := func(text string, want Rate, shown string) {
		t.Helper()
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || math.Abs(float64(r-want)) > 1e-12 {
			t.Errorf("%q: %v, %v; want %v", text, float64(r), err, float64(want))
		}
		if s := r.String(); s != shown {
			t.Errorf("%q: shown as %q, want %q", text, s, shown)
		}
	}
	f("1000/s", 1000, "1000/s")
	f("60/m", 1, "1/s")
	f("90/m", 1.5, "90/m")
	f("100/m", 100./60, "100/m")
	f("5/h", 5./3600, "5/h")
	f("2.5/s", 2.5, "150/m")
	f("1e3/s", 1000, "1000/s")
	f("1000000/s", maxRate, "1000000/s")
	f("3600000000/h", maxRate, "1000000/s")
	f("0.1/h", 0.1/3600, "2.777777777777778e-05/s")
	for _, bad := range []string{"", "1000", "/s", "1000/", "1000/d", "1000/S", "0/s", "-1/s", "NaN/s", "Inf/s", "1000001/s", "1/s/s", "1 /s"} {
		var r Rate
		if err := r.UnmarshalText([]byte(bad)); err == nil || r != 0 {
			t.Errorf("%q: %v, %v", bad, r, err)
		}
	}
	if s := Rate(0).String(); s != "0/s" {
		t.Errorf("no rate is shown as %q", s)
	}
}

// What is shown can be read, and is the same rate.
func FuzzRate(f *testing.F) {
	for _, s := range []string{"1000/s", "60/m", "5/h", "2.5/s", "1e-300/h", "0x1p4/s", "1_000/s", "+5/m", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r, again Rate
		if r.UnmarshalText([]byte(text)) != nil {
			return
		}
		if r < 0 || r > maxRate {
			t.Fatalf("%q is %v", text, float64(r))
		}
		if r == 0 {
			return // less than the smallest float64
		}
		if err := again.UnmarshalText([]byte(r.String())); err != nil || math.Abs(float64(again-r)) > 1e-9*float64(r) {
			t.Errorf("%q is %v, shown as %v, which is %v, %v", text, float64(r), r, float64(again), err)
		}
		if d := r.Interval(); d <= 0 {
			t.Errorf("interval %v", d)
		}
	})
}

// Over any time, events come at whatever instants, no more are admitted than the burst and the rate allow.
func TestPaceBoundsEveryWindow(t *testing.T) {
	for _, r := range []Rate{maxRate, 12345, 1000, 7, 3, 2.5, 1, 0.1} {
		burst := math.Max(1, math.Floor(float64(r)))
		rnd := rand.New(rand.NewPCG(1, uint64(r*10)))
		var p pace
		var admitted []int64
		for now := int64(1); len(admitted) < 3000; {
			x, wait := p.take(r, now)
			switch {
			case wait > 0:
				now += rnd.Int64N(2*int64(wait)) + 1
			case rnd.IntN(4) == 0:
				p.undo(x)
			default:
				admitted = append(admitted, now)
			}
			if rnd.IntN(500) == 0 {
				now += rnd.Int64N(3 * max(int64(time.Second), int64(r.Interval()))) // nobody comes for a while
			}
		}
		for i := range admitted {
			for _, j := range []int{i + 1, i + 2, i + 10, i + 100, i + 1000, len(admitted) - 1} {
				if j < i || j >= len(admitted) {
					continue
				}
				in := float64(admitted[j]-admitted[i]) / 1e9
				if n := float64(j - i + 1); n > burst+float64(r)*in+1e-6 {
					t.Fatalf("%v: %v admitted in %v s", r, n, in)
				}
			}
		}
	}
}

// Whoever waits as long as he is told to gets the whole rate.
func TestPaceGivesTheWholeRate(t *testing.T) {
	for _, r := range []Rate{50_000, 1000, 7, 3, 1, 0.1} {
		var p pace
		n, now := 0, int64(1)
		end := now + int64(10*time.Second) + 20*int64(r.Interval())
		for now <= end {
			if _, wait := p.take(r, now); wait > 0 {
				now += int64(wait)
			} else {
				n++
			}
		}
		want := float64(r)*float64(end-1)/1e9 + math.Max(1, math.Floor(float64(r)))
		if f := float64(n); f > want || f < want*(1-float64(r)/1e9)-2 {
			t.Errorf("%v: %d admitted, want %v", r, n, want)
		}
	}
}

func TestPaceIsExactForAllLoopsTogether(t *testing.T) {
	const r = 1000
	var p pace
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10_000 {
				x, wait := p.take(r, 1)
				if wait > 0 {
					continue
				}
				if rand.IntN(2) == 0 {
					p.undo(x)
				} else {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n > r {
		t.Errorf("%d taken at once, of %d", n, r)
	}
	// What was given back, but for what was lost to others, can be taken by one.
	var q pace
	for range 10 * r {
		x, wait := q.take(r, 1)
		if wait > 0 {
			t.Fatal("nothing left, though all was given back")
		}
		q.undo(x)
	}
}

// A permit that is given back when others have taken does not give them theirs back.
func TestPermitGivenBackLateIsLost(t *testing.T) {
	var p pace
	second := int64(time.Second)
	late, _ := p.take(1, second)
	if _, wait := p.take(1, 5*second); wait > 0 {
		t.Fatal("the bucket is empty after four seconds")
	}
	p.undo(late)
	if _, wait := p.take(1, 5*second); wait != time.Second {
		t.Errorf("the next has to wait %v", wait)
	}
}

func BenchmarkPace(b *testing.B) {
	var p pace
	from := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		x, wait := p.take(1000, int64(time.Since(from)))
		if wait == 0 {
			p.undo(x)
		}
	}
}
