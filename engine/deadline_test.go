package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// ringer writes down when it was told of its deadline.
type ringer struct {
	Deadline
	l    *Loop
	due  time.Duration
	told []time.Duration
	then func()
}

func (r *ringer) Due(d *Deadline) {
	if d != &r.Deadline {
		panic("another's deadline")
	}
	if r.told = append(r.told, r.l.Clock()); r.then != nil {
		r.then()
	}
}

// Each is told once, in order, never early; those that were stopped or put off are not told before their time.
func TestDeadlinesAreToldInOrderAndNeverEarly(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	const n = 1000
	list := make([]ringer, n)
	var order []int
	r := rand.New(rand.NewPCG(1, 2))
	stopped := 0
	on(l, func() {
		for i := range list {
			a := &list[i]
			a.l, a.then = l, func() { order = append(order, i) }
			l.After(time.Duration(1+r.IntN(20_000))*time.Microsecond, &a.Deadline, a)
			switch i % 4 {
			case 1:
				l.After(time.Duration(1+r.IntN(40_000))*time.Microsecond, &a.Deadline, a)
			case 2:
				a.Stop()
				a.Stop()
				stopped++
			}
			a.due = a.at
		}
	})
	eventually(t, "all are told", func() (all bool) {
		on(l, func() { all = len(order) == n-stopped })
		return all
	})
	on(l, func() {
		for i := range list {
			a := &list[i]
			want := 1
			if i%4 == 2 {
				want = 0
			}
			if len(a.told) != want {
				t.Errorf("deadline %d was told %d times, want %d", i, len(a.told), want)
			} else if want > 0 && a.told[0] < a.due {
				t.Errorf("deadline %d was told at %v, due at %v", i, a.told[0], a.due)
			}
		}
		if !slices.IsSortedFunc(order, func(a, b int) int { return int(list[a].due - list[b].due) }) {
			t.Error("not in order")
		}
		if len(l.deadlines.heap) != 0 || l.deadlines.alarm != 0 {
			t.Errorf("%d left, and the timer is set to %v", len(l.deadlines.heap), l.deadlines.alarm)
		}
	})
}

// A callback may set its own deadline again, and stop another's that is due with it.
func TestDeadlineSetAndStoppedByCallbacks(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	first, second, late := &ringer{l: l}, &ringer{l: l}, &ringer{l: l}
	first.then = func() {
		second.Stop()
		if len(first.told) < 3 {
			l.After(0, &first.Deadline, first)
		}
	}
	on(l, func() {
		l.After(time.Hour, &late.Deadline, late) // the timer is brought forward
		l.After(time.Millisecond, &first.Deadline, first)
		l.After(time.Millisecond, &second.Deadline, second)
		for until := l.Clock() + 2*time.Millisecond; l.Clock() < until; { // both are due in one turn
		}
	})
	eventually(t, "it is told three times", func() (done bool) {
		on(l, func() { done = len(first.told) == 3 })
		return done
	})
	on(l, func() {
		if len(second.told)+len(late.told) != 0 {
			t.Error("told after it was stopped, or before its time")
		}
		late.Stop()
	})
}

// What a deadline waited for and what came in the same batch of events: the connection has its turn first.
func TestDeadlineIsToldAfterTheConnections(t *testing.T) {
	got := make(chan []string, 1)
	e := newEngine(t, Config{Loops: 1})
	l := e.Loops()[0]
	s := &hedge{l: l, got: got}
	ln, err := e.Listen("127.0.0.1:0", 0, s)
	must(t, err)
	c := client(t, ln.Bound())
	eventually(t, "it is accepted", func() (there bool) {
		on(l, func() { there = s.conn != nil })
		return there
	})
	on(l, func() {
		l.After(time.Microsecond, &s.deadline, s)
		_, err := c.Write([]byte("answer")) // while the loop stands here
		must(t, err)
		for until := l.Clock() + time.Millisecond; l.Clock() < until; {
		}
	})
	if order := <-got; !slices.Equal(order, []string{"ready", "due"}) {
		t.Errorf("in the order %q", order)
	}
}

type hedge struct {
	deadline Deadline
	l        *Loop
	conn     *Conn
	order    []string
	got      chan []string
}

func (s *hedge) Accept(c *Conn) { s.conn = c; c.SetHandler(s) }
func (s *hedge) Ready(c *Conn) {
	if n, _ := c.Read(s.l.Scratch()); n > 0 {
		s.order = append(s.order, "ready")
	}
}
func (s *hedge) Timeout(*Conn)          {}
func (s *hedge) Connected(*Conn, error) {}
func (s *hedge) Due(*Deadline)          { s.got <- append(s.order, "due") }

// Whatever is set and stopped, no deadline stands above an earlier one.
func TestDeadlinesStayAHeap(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	list := make([]ringer, 200)
	r := rand.New(rand.NewPCG(3, 4))
	on(l, func() {
		q := &l.deadlines
		for range 20_000 {
			a := &list[r.IntN(len(list))]
			if r.IntN(2) == 0 {
				a.Stop()
			} else {
				l.After(time.Hour+time.Duration(r.Int64N(1e12)), &a.Deadline, a)
			}
			for i, d := range q.heap {
				if d.index != i+1 || d.at < q.heap[max(i-1, 0)/2].at {
					t.Errorf("%d at %d: due at %v, below one that is due at %v", d.index, i, d.at, q.heap[max(i-1, 0)/2].at)
					return
				}
			}
		}
		for i := range list {
			list[i].Stop()
		}
		if len(q.heap) != 0 {
			t.Errorf("%d left", len(q.heap))
		}
	})
}

func TestDeadlineAllocatesNothing(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	list := make([]ringer, 64)
	on(l, func() {
		n := testing.AllocsPerRun(100, func() {
			for i := range list {
				l.After(time.Hour, &list[i].Deadline, &list[i])
			}
			for i := range list {
				list[i].Stop()
			}
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// A deadline that is set and stopped while 1000 others are set, as where hedged requests are answered in time.
func BenchmarkDeadline(b *testing.B) {
	l := newEngine(b, Config{Loops: 1}).Loops()[0]
	var others [1000]ringer
	var r ringer
	on(l, func() {
		for i := range others {
			l.After(time.Hour, &others[i].Deadline, &others[i])
		}
		for range b.N {
			l.After(time.Hour, &r.Deadline, &r)
			r.Stop()
		}
		for i := range others {
			others[i].Stop()
		}
	})
}

// How late a deadline of 3 ms is on an idle loop.
func BenchmarkDeadlineLateness(b *testing.B) {
	l := newEngine(b, Config{Loops: 1}).Loops()[0]
	done := make(chan struct{})
	r := &ringer{l: l, told: make([]time.Duration, 0, 1)}
	var late time.Duration
	r.then = func() { late += r.told[0] - r.at; r.told = r.told[:0]; done <- struct{}{} }
	for range b.N {
		l.Post(func() { l.After(3*time.Millisecond, &r.Deadline, r) })
		<-done
	}
	b.ReportMetric(float64(late.Microseconds())/float64(b.N), "µs-late/op")
}
