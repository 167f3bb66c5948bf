package health

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConnectionRefusedIsDownAcceptedIsUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := ln.Addr().String()
	changes, _ := watch(t, often(nil), address, true)
	ln.Close()
	if c := next(t, changes); c.up || c.why == nil || !strings.Contains(c.why.Error(), "refused") {
		t.Errorf("closed: up %v, %v", c.up, c.why)
	}
	ln, err = net.Listen("tcp", address)
	must(t, err)
	defer ln.Close()
	if c := next(t, changes); !c.up || c.why != nil {
		t.Errorf("opened: up %v, %v", c.up, c.why)
	}
}

// A change is reported by the check that decides it, and by no other.
func TestRiseAndFall(t *testing.T) {
	f := func(rise, fall int, healthy bool, script, want string) {
		t.Helper()
		a := &app{}
		over := make(chan struct{})
		address := a.listen(t, func(n int64, r *http.Request) int {
			if n > int64(len(script)) {
				close(over) // by now Run has judged all of the script, and has to wait for more
				<-r.Context().Done()
				return 500
			}
			if script[n-1] == '+' {
				return 200
			}
			return 500
		})
		cfg := often(&HTTP{Path: "/"})
		cfg.Rise, cfg.Fall = rise, fall
		var got []string
		changes, stop := watch(t, cfg, address, healthy)
		receive(t, "all of "+script+" is asked for", over)
		stop()
		for len(changes) > 0 {
			c := <-changes
			got = append(got, fmt.Sprint(c.up))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("rise %d, fall %d, healthy %v, checks %s: reported %q, want %q", rise, fall, healthy, script, s, want)
		}
	}
	f(2, 3, true, "++++", "")
	f(2, 3, true, "--", "")
	f(2, 3, true, "---", "false")
	f(2, 3, true, "--+--+--", "")
	f(2, 3, true, "--+---", "false")
	f(2, 3, true, "---------", "false")
	f(2, 3, true, "---+-+-+-", "false")
	f(2, 3, true, "---++", "false true")
	f(2, 3, true, "---++++++---++", "false true false true")
	f(2, 3, false, "---", "")
	f(2, 3, false, "+-+-+-", "")
	f(2, 3, false, "-++", "true")
	f(1, 1, true, "-+-+", "false true false true")
	f(5, 1, true, "-++++", "false")
	f(5, 1, true, "-+++++", "false true")
	f(0, 0, true, "--+---++-", "false true") // the defaults are 2 and 3
}

// Where nothing else is up, one good check is enough.
func TestOneGoodCheckWhereNothingIsUp(t *testing.T) {
	a := newApp(t, 500)
	ch, err := New(Config{HTTP: &HTTP{Path: "/"}, Interval: time.Millisecond, Rise: 1000, Fall: 1})
	must(t, err)
	var needed atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan bool, 10), make(chan struct{})
	go func() {
		defer close(done)
		ch.Run(ctx, Target{Address: a.address, Needed: needed.Load}, true, func(up bool, _ error) { changes <- up })
	}()
	defer func() { cancel(); <-done }()
	if up := receive(t, "it goes down", changes); up {
		t.Error("it is up")
	}
	a.status.Store(200)
	from := a.asked.Load()
	eventually(t, "it is asked some more", func() bool { return a.asked.Load() >= from+10 })
	if len(changes) > 0 {
		t.Error("10 good checks of 1000 are enough, and there are others")
	}
	needed.Store(true)
	if up := receive(t, "it comes up", changes); !up {
		t.Error("it is down")
	}
}

// The endpoint is asked on and on; only changes are told, each once and with its own reason.
func TestChangeIsReportedOnce(t *testing.T) {
	a := newApp(t, 503)
	cfg := often(&HTTP{Path: "/"})
	changes, stop := watch(t, cfg, a.address, true)
	var got []string
	for _, status := range []int64{200, 404, 301} {
		c := next(t, changes)
		got = append(got, fmt.Sprint(c.up, " ", c.why))
		from := a.asked.Load()
		eventually(t, "ten more checks are made", func() bool { return a.asked.Load() >= from+10 })
		a.status.Store(status)
	}
	c := next(t, changes)
	got = append(got, fmt.Sprint(c.up, " ", c.why))
	from := a.asked.Load()
	eventually(t, "ten more checks are made", func() bool { return a.asked.Load() >= from+10 })
	stop()
	want := []string{"false answered 503", "true <nil>", "false answered 404", "true <nil>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if n := len(changes); n != 0 {
		t.Errorf("%d more changes are reported", n)
	}
}

// An interval may be as short as a duration can be written.
func TestShortestInterval(t *testing.T) {
	a := newApp(t, 500)
	cfg := Config{HTTP: &HTTP{Path: "/"}, Interval: 1, Timeout: patience}
	changes, _ := watch(t, cfg, a.address, true)
	if c := next(t, changes); c.up {
		t.Error("up")
	}
}

// While an endpoint is down, another interval may hold; no other tells of it here, for the first check alone is soon.
func TestIntervalWhileDown(t *testing.T) {
	a := newApp(t, 500)
	cfg := Config{HTTP: &HTTP{Path: "/"}, Interval: time.Hour, IntervalDown: time.Millisecond, Timeout: patience}
	changes, _ := watch(t, cfg, a.address, false)
	eventually(t, "it is asked often", func() bool { return a.asked.Load() >= 10 })
	a.status.Store(200)
	if c := next(t, changes); !c.up {
		t.Errorf("down: %v", c.why)
	}
	f := func(cfg Config, up, down time.Duration) {
		t.Helper()
		if ch := checker(t, cfg); ch.interval != up || ch.intervalDown != down {
			t.Errorf("%+v: intervals %v and %v, want %v and %v", cfg, ch.interval, ch.intervalDown, up, down)
		}
	}
	f(Config{}, 2*time.Second, 2*time.Second)
	f(Config{Interval: 7}, 7, 7)
	f(Config{IntervalDown: 7}, 2*time.Second, 7)
	f(Config{Interval: 7, IntervalDown: 8}, 7, 8)
}

func TestIntervalIsAtMostAFifthShorter(t *testing.T) {
	for _, d := range []time.Duration{1, 9, 10, 100, time.Second, 24 * time.Hour} {
		lo, hi := d, d
		for range 1000 {
			j := jitter(d)
			lo, hi = min(lo, j), max(hi, j)
		}
		if lo < d-d/5 || hi > d {
			t.Errorf("%v: from %v to %v", d, lo, hi)
		}
		if d >= 10 && (lo > d-d/10 || hi < d-d/10) {
			t.Errorf("%v: only from %v to %v", d, lo, hi)
		}
	}
}
