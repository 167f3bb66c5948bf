package lb

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/engine"
)

// guest is one who takes an endpoint, or waits for one, as sessions and exchanges do.
type guest struct {
	Waiter
	c    *Cluster
	l    *engine.Loop
	done func(ep *Endpoint, err error)
}

// ask is of the guest's loop.
func (g *guest) ask() {
	ep, err := g.c.Take(g.l, 0, nil)
	if err == ErrFull {
		again := g.Retry != nil
		g.Retry = g.ask
		if !g.c.Wait(g.l, &g.Waiter, again) {
			g.done(nil, err)
			return
		}
		if ep, err = g.c.Take(g.l, 0, nil); err != nil {
			return
		}
		g.c.Leave(g.l, &g.Waiter)
	}
	g.done(ep, err)
}

// house is a cluster with a queue, and what its guests were told, in their order.
type house struct {
	*Cluster
	t     *testing.T
	loops []*engine.Loop
	mu    sync.Mutex
	told  []string
}

func newHouse(t *testing.T, loops, size int, maxes ...int) *house {
	t.Helper()
	e := newEngine(t, loops)
	cfg := lettered(RoundRobin, make([]int, len(maxes))...)
	cfg.Queue = &Queue{Size: size}
	for i, most := range maxes {
		w := 1
		cfg.Endpoints[i].Weight, cfg.Endpoints[i].MaxConn = &w, most
	}
	return &house{Cluster: newCluster(t, e, cfg), t: t, loops: e.Loops()}
}

// comes has a guest ask on a loop.
func (h *house) comes(loop int, name string) *guest {
	g := &guest{c: h.Cluster, l: h.loops[loop]}
	g.done = func(ep *Endpoint, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil {
			h.told = append(h.told, name+": "+err.Error())
		} else {
			h.told = append(h.told, name+": "+letter(ep))
		}
	}
	on(g.l, g.ask)
	return g
}

// hears waits until all that guests were told is want, and so many wait.
func (h *house) hears(waiting int64, want ...string) {
	h.t.Helper()
	ok := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Equal(h.told, want) && h.Queued() == waiting
	}
	eventually(h.t, fmt.Sprintf("%d wait, and the others hear %q", waiting, want), ok)
	for _, l := range h.loops {
		on(l, func() {}) // and nobody else is told
	}
	if !ok() {
		h.t.Fatalf("guests were told %q, and %d wait; want %q, and %d", h.told, h.Queued(), want, waiting)
	}
}

func (h *house) leaves(loop, ep int) {
	l := h.loops[loop]
	on(l, func() { h.Endpoints()[ep].End(l) })
}

func TestQueueIsFirstComeFirstServed(t *testing.T) {
	h := newHouse(t, 1, 10, 1)
	h.comes(0, "1")
	h.comes(0, "2")
	h.comes(0, "3")
	h.comes(0, "4")
	h.hears(3, "1: a")
	h.leaves(0, 0)
	h.hears(2, "1: a", "2: a")
	h.leaves(0, 0)
	h.hears(1, "1: a", "2: a", "3: a")
	h.leaves(0, 0)
	h.hears(0, "1: a", "2: a", "3: a", "4: a")
	h.leaves(0, 0)
	h.comes(0, "5")
	h.hears(0, "1: a", "2: a", "3: a", "4: a", "5: a")
}

func TestOtherLoopsWake(t *testing.T) {
	h := newHouse(t, 3, 10, 1)
	h.comes(0, "1")
	h.comes(1, "2")
	h.comes(2, "3")
	h.comes(2, "4")
	h.hears(3, "1: a")
	h.leaves(0, 0)
	h.hears(2, "1: a", "3: a") // the longest queue is first
	h.leaves(2, 0)
	h.hears(1, "1: a", "3: a", "2: a")
	h.leaves(1, 0)
	h.hears(0, "1: a", "3: a", "2: a", "4: a")
}

// A place that becomes free after a guest has found none, and before it stands in the queue, wakes nobody.
func TestEndBeforeWaitIsNotLost(t *testing.T) {
	h := newHouse(t, 2, 10, 1)
	h.comes(0, "1")
	g := &guest{c: h.Cluster, l: h.loops[1]}
	on(g.l, func() {
		if _, err := h.Take(g.l, 0, nil); err != ErrFull {
			t.Errorf("%v when all are full", err)
		}
		h.leaves(0, 0) // on the other loop, meanwhile
		g.Retry = func() { t.Error("it is woken, too") }
		if !h.Wait(g.l, &g.Waiter, false) {
			t.Error("there is no room in the queue")
		}
		if ep, err := h.Take(g.l, 0, nil); letter(ep) != "a" || err != nil {
			t.Errorf("%s, %v after it stands in the queue", letter(ep), err)
		}
		h.Leave(g.l, &g.Waiter)
	})
	h.hears(0, "1: a")
}

// Whoever is woken may have no use for the room, or be gone by then. The next one has it.
func TestRoomIsPassedOn(t *testing.T) {
	t.Run("on the loop", func(t *testing.T) {
		h := newHouse(t, 1, 10, 1)
		h.comes(0, "1")
		w := &Waiter{Retry: func() {}} // takes nothing
		on(h.loops[0], func() { h.Wait(h.loops[0], w, false) })
		h.comes(0, "2")
		h.hears(2, "1: a")
		h.leaves(0, 0)
		h.hears(0, "1: a", "2: a")
	})
	t.Run("to another loop", func(t *testing.T) {
		h := newHouse(t, 3, 10, 1)
		h.comes(2, "1")
		g := h.comes(0, "2")
		h.comes(1, "3")
		h.hears(2, "1: a")
		on(h.loops[0], func() {
			h.leaves(2, 0) // wakes this loop, whose queue is as long as the other one
			h.Leave(g.l, &g.Waiter)
		})
		h.hears(0, "1: a", "3: a")
	})
}

func TestQueueIsBounded(t *testing.T) {
	h := newHouse(t, 2, 2, 1)
	h.comes(0, "1")
	g := h.comes(0, "2")
	h.comes(1, "3")
	h.hears(2, "1: a")
	h.comes(0, "4")
	h.comes(1, "5")
	h.hears(2, "1: a", "4: "+ErrFull.Error(), "5: "+ErrFull.Error())
	if !g.Waiting() {
		t.Error("the first in the queue does not wait")
	}
	on(g.l, func() {
		h.Leave(g.l, &g.Waiter)
		h.Leave(g.l, &g.Waiter) // who is not in it cannot leave it
	})
	if g.Waiting() {
		t.Error("who has left waits")
	}
	h.comes(0, "6")
	h.hears(2, "1: a", "4: "+ErrFull.Error(), "5: "+ErrFull.Error())

	none := newCluster(t, newEngine(t, 1), lettered(RoundRobin, 1))
	if none.Wait(h.loops[0], &Waiter{}, false) || none.Queued() != 0 {
		t.Error("somebody waits where there is no queue")
	}
}

func TestLeaveFromAnywhereInTheQueue(t *testing.T) {
	for out := range 3 {
		h := newHouse(t, 1, 10, 1)
		h.comes(0, "0")
		guests := []*guest{h.comes(0, "1"), h.comes(0, "2"), h.comes(0, "3")}
		on(h.loops[0], func() { h.Leave(h.loops[0], &guests[out].Waiter) })
		want := []string{"0: a"}
		for i := range 3 {
			if i != out {
				h.leaves(0, 0)
				want = append(want, fmt.Sprintf("%d: a", i+1))
			}
		}
		h.hears(0, want...)
	}
}

func TestWaitersHearOfEndpoints(t *testing.T) {
	h := newHouse(t, 2, 10, 1, 1)
	a, b := h.Endpoints()[0], h.Endpoints()[1]
	mark(t, h.Cluster, false, b)
	h.comes(0, "1")
	h.comes(0, "2")
	h.comes(1, "3")
	h.hears(2, "1: a")
	b.healthy.Store(true)
	h.touch() // as checks do
	eventually(t, "one of them has the endpoint that came up", func() bool { return b.InFlight() == 1 && h.Queued() == 1 })
	a.healthy.Store(false)
	b.healthy.Store(false)
	h.touch()
	eventually(t, "the last one learns that all are down", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.told) == 3 && h.told[2][3:] == ErrNoEndpoint.Error() && h.Queued() == 0
	})
}

// Whatever happens at once, everyone is served in the end.
func TestNobodyWaitsForever(t *testing.T) {
	const loops, each = 3, 2000
	h := newHouse(t, loops, loops*each, 1, 2)
	var served, over atomic.Int64
	for _, l := range h.loops {
		l.Post(func() {
			for range each {
				g := &guest{c: h.Cluster, l: l}
				g.done = func(ep *Endpoint, err error) {
					if err != nil {
						t.Error(err)
						return
					}
					if ep.InFlight() > 2 {
						over.Add(1)
					}
					l.Post(func() {
						served.Add(1)
						ep.End(l)
					})
				}
				l.Post(g.ask)
			}
		})
	}
	eventually(t, "all are served", func() bool { return served.Load() == loops*each })
	if over.Load() != 0 || h.Queued() != 0 {
		t.Errorf("%d times too many, %d wait", over.Load(), h.Queued())
	}
}
