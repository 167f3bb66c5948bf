package lb

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/lb/discovery"
)

// What goes on with an endpoint is aborted when it is taken out of use, on its own loop, and nothing else is.
func TestHeldIsAborted(t *testing.T) {
	const a, b = "unix:@a", "unix:@b"
	for name, take := range map[string]func(c *Cluster){
		"maint":                  func(c *Cluster) { c.SetEndpoints([]EndpointConfig{{Address: a, State: discovery.Maint}, {Address: b}}) },
		"drain, to its deadline": func(c *Cluster) { c.SetEndpoints([]EndpointConfig{{Address: a, State: discovery.Drain}, {Address: b}}) },
		"gone, to its deadline":  func(c *Cluster) { c.SetEndpoints([]EndpointConfig{{Address: b}}) },
		"down": func(c *Cluster) {
			c.mu.Lock()
			c.checks[c.members[0].Endpoint] = func() {}
			c.mu.Unlock()
			c.checked(c.members[0].Endpoint, false, nil)
		},
	} {
		e := newEngine(t, 2)
		cfg := lettered(RoundRobin, 1, 1)
		cfg.DrainTimeout, cfg.ResetOnDown = 10*time.Millisecond, true
		c := newCluster(t, e, cfg)
		eps := c.Endpoints()
		aborted := make(chan string, 10)
		for i, l := range e.Loops() {
			on(l, func() {
				for k, ep := range eps {
					h := &Held{}
					h.Abort = func() {
						ep.Local(l).Detach(h) // it need not, and may
						aborted <- fmt.Sprintf("%d on loop %d", k, i)
					}
					ep.Local(l).Attach(h)
				}
			})
		}
		take(c)
		got := []string{receive(t, name, aborted), receive(t, name, aborted)}
		if slices.Sort(got); !slices.Equal(got, []string{"0 on loop 0", "0 on loop 1"}) {
			t.Errorf("%s: %q were aborted", name, got)
		}
		for _, l := range e.Loops() {
			on(l, func() {
				if eps[0].Local(l).held != nil || eps[1].Local(l).held == nil {
					t.Errorf("%s: the wrong ones are attached still", name)
				}
			})
		}
		if len(aborted) > 0 {
			t.Errorf("%s: and %s", name, <-aborted)
		}
	}
}

// An abort may end others of the same endpoint, and begin something new with it.
func TestAbortMayAttachAndDetach(t *testing.T) {
	var n Local
	var got []int
	list := make([]Held, 6)
	for i := range list {
		list[i].Abort = func() { got = append(got, i) }
	}
	fresh := &Held{Abort: func() { t.Error("what is new was aborted") }}
	list[4].Abort = func() {
		got = append(got, 4)
		n.Attach(fresh)
		n.Detach(&list[3]) // which would be next
		n.Detach(&list[0])
		n.Detach(&list[5]) // which was before
	}
	for i := range list {
		n.Attach(&list[i])
	}
	n.Detach(&list[1])
	n.Detach(&list[1])
	n.evict()
	if !slices.Equal(got, []int{5, 4, 2}) {
		t.Errorf("%d were aborted", got)
	}
	if n.held != fresh || fresh.next != nil || fresh.prev != nil {
		t.Error("what is new is not attached")
	}
	n.Detach(fresh)
	n.Detach(&list[2])
	if n.held != nil {
		t.Error("something is attached in the end")
	}
	if n := testing.AllocsPerRun(100, func() { n.Attach(fresh); n.Detach(fresh) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
