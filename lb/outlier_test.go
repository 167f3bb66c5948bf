package lb

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/engine"
)

// diary is a log that is read by the test.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) Enabled(context.Context, slog.Level) bool { return true }
func (d *diary) WithAttrs([]slog.Attr) slog.Handler       { return d }
func (d *diary) WithGroup(string) slog.Handler            { return d }

func (d *diary) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
	return nil
}

// about are the lines that begin so.
func (d *diary) about(what string) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lines {
		if strings.HasPrefix(l, what) {
			out = append(out, l)
		}
	}
	return out
}

// ward is a cluster whose keeper is the test: time is what it says.
type ward struct {
	*Cluster
	t   *testing.T
	l   *engine.Loop
	log *diary
	now time.Time
}

func newWard(t *testing.T, o Outlier, endpoints int) *ward {
	t.Helper()
	e := newEngine(t, 1)
	cfg := lettered(RoundRobin, slices.Repeat([]int{1}, endpoints)...)
	cfg.Outlier = &o
	log := &diary{}
	c, err := NewCluster(cfg, e.Loops(), slog.New(log), nil)
	must(t, err)
	t.Cleanup(func() { c.Stop(nil) })
	c.shared.current = c
	return &ward{Cluster: c, t: t, l: e.Loops()[0], log: log, now: time.Now()}
}

// passes has the keeper do what is due in d, and says when it would look again.
func (w *ward) passes(d time.Duration) (next time.Duration) {
	w.now = w.now.Add(d)
	for {
		select {
		case ep := <-w.suspects:
			w.attend(ep, w.now)
			continue
		default:
		}
		return w.attend(nil, w.now)
	}
}

// out checks who is ejected.
func (w *ward) out(want string) {
	w.t.Helper()
	w.passes(0)
	got, in := "", ""
	for _, ep := range w.Endpoints() {
		if ep.Ejected() {
			got += letter(ep)
		} else {
			in += letter(ep)
		}
	}
	if got != want || chosen(w.Cluster) != in {
		w.t.Errorf("%q is ejected, want %q; picked from %q", got, want, chosen(w.Cluster))
	}
}

// does has endpoint i do things: c connects, x is refused, f fails, and a digit's hundred is the status of its response.
func (w *ward) does(i int, things string) {
	ep := w.Endpoints()[i]
	on(w.l, func() {
		for _, r := range things {
			switch r {
			case 'c':
				w.Connected(w.l, ep, time.Millisecond)
			case 'x':
				w.ConnectFailed(w.l, ep)
			case 'f':
				w.Failed(w.l, ep)
			case 's':
				w.Served(ep, 0)
			case 'g':
				w.Served(ep, 503)
			default:
				w.Served(ep, int(r-'0')*100)
			}
		}
	})
}

func TestFailuresInARowEject(t *testing.T) {
	f := func(o Outlier, things string, ejects bool) {
		t.Helper()
		w := newWard(t, o, 3)
		w.does(1, things)
		want := ""
		if ejects {
			want = "b"
		}
		w.out(want)
		if n := w.Endpoints()[1].Ejections.Load(); (n == 1) != ejects {
			t.Errorf("after %s: %d ejections", things, n)
		}
	}
	three := Outlier{Failures: 3}
	f(three, "xx", false)
	f(three, "xxx", true)
	f(three, "xxcxx", false)
	f(three, "xxcxxx", true)
	f(three, "xx2xx", false) // at L7 a response tells of the connection
	f(three, "xxsxx", true)  // at L4 the end of an old session tells nothing
	f(three, "ff", false)
	f(three, "fff", true)
	f(three, "ff2ff", false)
	f(three, "ffsff", false)
	f(three, "ffxxcff", true) // each for itself: it can be connected to, and then fails
	f(three, "xxffcc", false)
	f(three, "ggg", true)     // a gateway's errors
	f(three, "fgf", true)     // are failures
	f(three, "gg2gg", false)  //
	f(three, "555555", false) // an application's are not
	f(three, "gg5gg", false)
	errs := Outlier{Failures: 3, Errors: 5}
	f(errs, "5555", false)
	f(errs, "55555", true)
	f(errs, "5555255555", true)
	f(errs, "55552555", false)
	f(errs, "5555455555", true)
	f(errs, "55g5g", true)
	f(Outlier{}, "xxxx", false)
	f(Outlier{}, "xxxxx", true)
}

// Nobody is told twice of what the keeper knows already, and what is told late does not count if it is over.
func TestSuspectedOnce(t *testing.T) {
	w := newWard(t, Outlier{Failures: 2}, 3)
	w.does(1, "xxc") // is well again when the keeper comes to it
	w.out("")
	w.does(0, "xxxxxxxxxx")
	if n := len(w.suspects); n != 1 {
		t.Errorf("the keeper is told %d times", n)
	}
	w.out("a")
	w.does(1, "xx")
	w.out("a") // of three, half may be out: one
	// What an ejected endpoint's last sessions add does not eject it again.
	w.does(0, "xxxx")
	w.passes(30 * time.Second)
	w.out("")
	w.does(0, "x")
	w.out("")
	w.does(0, "x")
	w.out("a")
}

func TestEjectionsAreLoggedWithTheReason(t *testing.T) {
	w := newWard(t, Outlier{Failures: 3}, 3)
	w.does(1, "fxxxxx")
	w.out("b")
	w.passes(time.Second)
	w.passes(time.Minute)
	w.out("")
	if got := w.log.about("endpoint is ejected"); len(got) != 1 || got[0] != "endpoint is ejected endpoint=unix:@b for=30s in_a_row=[connect_errors=5 failures=1 errors=0]" {
		t.Errorf("ejections are logged so: %q", got)
	}
	if got := w.log.about("endpoint is let in"); len(got) != 1 || got[0] != "endpoint is let in again endpoint=unix:@b" {
		t.Errorf("and so when they are over: %q", got)
	}
}

// The n-th ejection in a row lasts n times as long, up to a bound; good conduct takes back one at a time.
func TestEjectionTimeGrowsAndShrinks(t *testing.T) {
	w := newWard(t, Outlier{Failures: 1, EjectionTime: 10 * time.Second, MaxEjectionTime: 25 * time.Second}, 3)
	lasts := func(want time.Duration) {
		t.Helper()
		w.does(0, "x")
		w.out("a")
		w.passes(want - time.Millisecond)
		w.out("a")
		if next := w.passes(0); next != time.Millisecond {
			t.Errorf("the keeper looks again in %v, want 1 ms", next)
		}
		w.passes(time.Millisecond)
		w.out("")
	}
	lasts(10 * time.Second)
	lasts(20 * time.Second)
	lasts(25 * time.Second)
	lasts(25 * time.Second)
	if n := w.Endpoints()[0].Ejections.Load(); n != 4 {
		t.Errorf("%d ejections", n)
	}
	// Of four in a row two are taken back.
	w.passes(10 * time.Second)
	w.passes(10 * time.Second)
	lasts(25 * time.Second)
	for range 3 {
		w.passes(10 * time.Second)
	}
	lasts(10 * time.Second)
	if next := w.passes(10 * time.Second); next != 0 {
		t.Errorf("all is well, and the keeper wants to look again in %v", next)
	}
}

func TestNotTooManyAreEjected(t *testing.T) {
	f := func(percent, endpoints int, want string) {
		t.Helper()
		w := newWard(t, Outlier{Failures: 1, MaxEjected: percent}, endpoints)
		for i := range endpoints {
			w.does(i, "x")
		}
		w.out(want)
	}
	f(0, 4, "ab") // half
	f(50, 5, "ab")
	f(1, 5, "a") // but one
	f(25, 8, "ab")
	f(100, 3, "ab") // not the last
	f(50, 1, "")
}

func TestSlowEndpointsAreEjected(t *testing.T) {
	const ms = time.Millisecond
	f := func(want string, requests int, times ...time.Duration) {
		t.Helper()
		w := newWard(t, Outlier{Latency: 3, Interval: time.Minute, MinRequests: 10}, len(times))
		w.passes(0) // the first interval begins
		on(w.l, func() {
			for i, took := range times {
				for range requests {
					w.Answered(w.l, w.Endpoints()[i], took)
				}
			}
		})
		w.passes(59 * time.Second)
		w.out("")
		if next := w.passes(0); next != time.Second {
			t.Errorf("the keeper looks again in %v", next)
		}
		w.passes(time.Second)
		w.out(want)
		for _, line := range w.log.about("endpoint is ejected") {
			if want == "b" && !strings.Contains(line, "latency=[mean=4ms median=1ms]") {
				t.Errorf("logged so: %s", line)
			}
		}
		// What was before the interval does not count.
		w.passes(30 * time.Second)
		w.out("")
		w.passes(time.Minute)
		w.out("")
	}
	f("b", 10, ms, 4*ms, ms)
	f("", 10, ms, 3*ms, ms) // not more than three times the median
	f("", 9, ms, 4*ms, ms)  // too few requests to say
	f("", 10, ms, 40*ms)    // of two nobody can say which is the slow one
	f("c", 20, ms, 2*ms, 9*ms, 2*ms, 2*ms)
	f("de", 10, ms, ms, ms, 5*ms, 9*ms)
	f("bc", 10, ms, 9*ms, 8*ms, ms, ms) // the slowest first
	f("e", 10, ms, ms, 2*ms, 2*ms, 9*ms)
}

// Who is ejected comes back by itself, and slowly if that is asked for.
func TestEjectedComeBack(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := lettered(RoundRobin, 1, 1, 1)
	cfg.Outlier = &Outlier{Failures: 2, EjectionTime: 30 * time.Millisecond}
	cfg.SlowStart = 300 * time.Millisecond
	c := newCluster(t, e, cfg)
	b := c.Endpoints()[1]
	on(l, func() {
		c.ConnectFailed(l, b)
		c.ConnectFailed(l, b)
	})
	eventually(t, "it is ejected", func() bool { return chosen(c) == "ac" })
	eventually(t, "it is back", func() bool { return chosen(c) == "abc" })
	if b.Ejected() || b.Ejections.Load() != 1 {
		t.Errorf("ejected %v, %d times", b.Ejected(), b.Ejections.Load())
	}
	grew(t, "b", settles(t, c, 1))
}

// A reload keeps ejections, and ends them if there is nobody to do so.
func TestEjectionsOverReload(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	cfg := func(o *Outlier, idle int) Config {
		cfg := lettered(RoundRobin, 1, 1)
		cfg.Outlier, cfg.MaxIdle = o, idle
		return cfg
	}
	prev := newCluster(t, e, cfg(&Outlier{Failures: 1, EjectionTime: time.Hour}, 1))
	a := prev.Endpoints()[0]
	on(l, func() { prev.ConnectFailed(l, a) })
	eventually(t, "it is ejected", func() bool { return chosen(prev) == "b" })
	next := reload(t, prev, cfg(&Outlier{Failures: 3}, 2))
	next.Start()
	prev.Stop(next)
	if chosen(next) != "b" || !a.Ejected() {
		t.Errorf("picked from %q after a reload", chosen(next))
	}
	last := reload(t, next, cfg(nil, 3))
	last.Start()
	next.Stop(last)
	if chosen(last) != "ab" || a.Ejected() {
		t.Errorf("picked from %q without outlier ejection", chosen(last))
	}
}

// Failures of sessions reach the keeper.
func TestEndpointThatRefusesIsEjected(t *testing.T) {
	cfg := of(RoundRobin, refusing(t), named(t, "b"))
	cfg.Outlier = &Outlier{Failures: 3, EjectionTime: time.Hour}
	e := newEdge(t, ProxyConfig{}, cfg)
	a := e.cluster.Endpoints()[0]
	for i := 0; !a.Ejected() || e.cluster.Eligible() != 1; i++ {
		if got, err := e.ask("hello"); got != "b: hello" || err != nil {
			t.Fatalf("answered %q, %v", got, err)
		}
		if i == 1000 {
			t.Fatal("it is not ejected")
		}
	}
	n := a.Local(e.engine.Loops()[0]).ConnectErrors.Load()
	for range 4 {
		if _, err := e.ask("hello"); err != nil {
			t.Error(err)
		}
	}
	if now := a.Local(e.engine.Loops()[0]).ConnectErrors.Load(); now != n || n < 3 {
		t.Errorf("%d connect errors, and then %d", n, now)
	}
}
