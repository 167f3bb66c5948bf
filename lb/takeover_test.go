package lb

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sluice/lb/discovery"
)

// A reload goes on where the cluster was: what is in flight, who waits, whose turn it is.
func TestReloadTakesOverState(t *testing.T) {
	h := newHouse(t, 1, 10, 1, 1, 0)
	l := h.loops[0]
	third := h.Endpoints()[2]
	mark(t, h.Cluster, false, third)
	h.comes(0, "1")
	h.comes(0, "2")
	h.comes(0, "3")
	h.hears(1, "1: a", "2: b")

	cfg := lettered(RoundRobin, 1, 1)
	cfg.Queue = &Queue{Size: 10}
	cfg.Endpoints[0].MaxConn, cfg.Endpoints[1].MaxConn = 1, 2
	next := reload(t, h.Cluster, cfg)
	if ep, err := next.Take(l, 0, nil); letter(ep) != "b" || err != nil {
		t.Errorf("%s, %v; b may have one more now", letter(ep), err)
	} else {
		ep.End(l)
	}
	if n := next.Queued(); n != 1 {
		t.Errorf("%d wait", n)
	}
	next.Start()
	h.Stop(next)
	// Who waits gets what the new configuration allows.
	h.hears(0, "1: a", "2: b", "3: b")
	if n := next.shared.inFlight(); n != 3 {
		t.Errorf("%d are in flight, want 3", n)
	}
	if _, err := next.Take(l, 0, nil); err != ErrFull {
		t.Errorf("%v, when all have what they may", err)
	}
	if s := chosen(h.Cluster); s != "ab" || !third.Leaving() {
		t.Errorf("sessions of before are given to %q", s)
	}
}

func TestReloadTakesOverTurns(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	prev := newCluster(t, e, lettered(RoundRobin, 1, 1, 1))
	var got string
	for i := range 6 {
		cfg := lettered(RoundRobin, 1, 1, 1)
		cfg.MaxIdle = i + 1
		next := reload(t, prev, cfg)
		next.Start()
		prev.Stop(next)
		got += letter(next.Pick(l, 0, nil))
		prev = next
	}
	if got != "abcabc" {
		t.Errorf("picked %s over reloads", got)
	}
}

// fileCluster's discovery is of a file that is not there: the test says what is discovered.
func fileCluster(path string, idle int, static ...string) Config {
	cfg := of(RoundRobin, static...)
	cfg.MaxIdle = idle
	cfg.Discovery = &discovery.Config{File: &discovery.File{Path: path, Interval: time.Hour}}
	return cfg
}

func TestReloadKeepsWhatWasDiscovered(t *testing.T) {
	e := newEngine(t, 1)
	dir := t.TempDir()
	x, y := filepath.Join(dir, "x"), filepath.Join(dir, "y")
	names := func(c *Cluster) (out []string) {
		for _, ep := range c.Endpoints() {
			out = append(out, ep.String())
		}
		return out
	}
	is := func(what string, c *Cluster, want ...string) {
		t.Helper()
		if got := names(c); !slices.Equal(got, want) || c.Eligible() != len(want) {
			t.Errorf("%s: endpoints %v, %d picked from, want %v", what, got, c.Eligible(), want)
		}
	}
	prev := newCluster(t, e, fileCluster(x, 1, "10.0.0.1:1"))
	is("until something is discovered", prev, "10.0.0.1:1")
	// The list of the file counts until then, also the list of another file.
	early := reload(t, prev, fileCluster(x, 2, "10.0.0.2:2"))
	is("after a reload before", early, "10.0.0.2:2")
	early.Stop(prev)

	prev.SetEndpoints(of("", "10.0.0.3:3", "10.0.0.4:4").Endpoints)
	is("discovered", prev, "10.0.0.3:3", "10.0.0.4:4")
	kept := prev.Endpoints()
	next := reload(t, prev, fileCluster(x, 3, "10.0.0.1:1"))
	is("after a reload", next, "10.0.0.3:3", "10.0.0.4:4")
	// There is news while the new one is built.
	prev.SetEndpoints(of("", "10.0.0.4:4", "10.0.0.5:5").Endpoints)
	next.Start()
	prev.Stop(next)
	is("after news in between", next, "10.0.0.4:4", "10.0.0.5:5")
	if got := next.Endpoints(); got[0] != kept[1] || got[1].Leaving() || !kept[0].Leaving() {
		t.Error("the endpoints are not those of before")
	}
	next.SetEndpoints(of("", "10.0.0.6:6").Endpoints)
	is("after news", next, "10.0.0.6:6")

	// Another source has to say anew.
	other := reload(t, next, fileCluster(y, 3, "10.0.0.1:1"))
	is("with another source", other, "10.0.0.1:1")
	none := reload(t, next, of(RoundRobin, "10.0.0.7:7"))
	is("without a source", none, "10.0.0.7:7")
}

// A configuration that cannot be built leaves nothing behind: goleak would find who resolves the names.
func TestReloadThatFailsLeavesNothing(t *testing.T) {
	e := newEngine(t, 1)
	prev := newCluster(t, e, of(Maglev, "localhost:1"))
	cfg := of(Maglev, "localhost:1", "localhost:2", "localhost:3")
	cfg.TableSize = 4
	if _, err := NewCluster(cfg, e.Loops(), quiet, prev); err == nil {
		t.Fatal("it is built")
	}
	if _, err := NewCluster(cfg, e.Loops(), quiet, nil); err == nil {
		t.Fatal("it is built")
	}
	ep := prev.Endpoints()[0]
	eventually(t, "the name is resolved still", func() bool { return len(ep.Addrs()) > 0 && prev.Eligible() == 1 })
	prev.mu.Lock()
	defer prev.mu.Unlock()
	if ep.stop == nil {
		t.Error("the name of the endpoint that stays is not resolved any more")
	}
}

// A name that discovery has dropped and a reload names again is resolved again.
func TestDroppedNameIsResolvedAgain(t *testing.T) {
	e := newEngine(t, 1)
	prev := newCluster(t, e, discovered(t))
	list := of("", "localhost:1", "localhost:2").Endpoints
	prev.SetEndpoints(list)
	ep := prev.Endpoints()[1]
	next := reload(t, prev, Config{Name: "c", Endpoints: list})
	prev.SetEndpoints(list[:1])
	next.Start()
	prev.Stop(next)
	eventually(t, "both are resolved", func() bool { return next.Eligible() == 2 })
	next.mu.Lock()
	defer next.mu.Unlock()
	if next.members[1].Endpoint != ep || ep.stop == nil || ep.Leaving() || ep.drain != nil {
		t.Error(fmt.Sprint(ep, " is not what it was: leaving ", ep.Leaving()))
	}
}
