package health

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// 2,000 endpoints that come up at the same time are not all asked at the same time.
func TestNoStormOfChecks(t *testing.T) {
	const endpoints, limit = 2000, 16
	var inFlight, most atomic.Int64
	full := make(chan struct{})
	a := &app{}
	address := a.listen(t, func(n int64, r *http.Request) int {
		now := inFlight.Add(1)
		defer inFlight.Add(-1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		if n == limit {
			close(full)
		}
		// The first ones wait for each other: as many as may be are in flight.
		select {
		case <-full:
		case <-r.Context().Done():
		}
		return 200
	})
	// Each is asked once and found up, which is not asked again in this test's time.
	ch := checker(t, Config{HTTP: &HTTP{Path: "/"}, Interval: time.Hour, IntervalDown: time.Millisecond, Timeout: patience,
		Rise: 1, MaxInFlight: limit})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	up := make(chan bool, endpoints)
	for range endpoints {
		running.Go(func() {
			ch.Run(ctx, Target{Address: address}, false, func(now bool, _ error) { up <- now })
		})
	}
	for range endpoints {
		if !receive(t, "an endpoint is found up", up) {
			t.Fatal("an endpoint is found down")
		}
	}
	if n := most.Load(); n != limit {
		t.Errorf("%d checks were in flight at once, want %d", n, limit)
	}
	if n := a.asked.Load(); n != endpoints {
		t.Errorf("%d checks of %d endpoints", n, endpoints)
	}
}

func TestPlacesInFlight(t *testing.T) {
	f := func(given, want int) {
		t.Helper()
		if got := cap(checker(t, Config{MaxInFlight: given}).gate); got != want {
			t.Errorf("max_in_flight %d: %d places, want %d", given, got, want)
		}
	}
	f(0, 64)
	f(1, 1)
	f(1000, 1000)
}

// watched counts who waits for its end.
type watched struct {
	context.Context
	waits atomic.Int64
}

func (w *watched) Done() <-chan struct{} {
	w.waits.Add(1)
	return w.Context.Done()
}

// A check that waits for a place has not failed, and has all of its time when it gets one.
func TestWaitForAPlaceIsNotTheEndpoints(t *testing.T) {
	ln := serve(t, "tcp", "127.0.0.1:0", func(net.Conn) {})
	ch := checker(t, Config{Interval: time.Millisecond, Timeout: time.Hour, Fall: 1, Rise: 1, MaxInFlight: 1})
	deadlines := make(chan time.Time, 1)
	ch.ask = func(ctx context.Context, _ net.Conn, _ string) error {
		at, _ := ctx.Deadline()
		select {
		case deadlines <- at:
		default:
		}
		return nil
	}
	must(t, ch.gate.enter(t.Context()))
	inner, cancel := context.WithCancel(t.Context())
	ctx := &watched{Context: inner}
	reports := make(chan change, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ch.Run(ctx, Target{Address: ln.Addr().String()}, true, func(up bool, why error) { reports <- change{up, why} })
	}()
	eventually(t, "Run waits for its time, and then for a place", func() bool { return ctx.waits.Load() >= 2 })
	released := time.Now()
	ch.gate.leave()
	if at := receive(t, "the endpoint is checked", deadlines); at.Before(released.Add(time.Hour)) {
		t.Errorf("of its hour, %v had passed", released.Add(time.Hour).Sub(at))
	}
	cancel()
	receive(t, "Run ends", done)
	if len(reports) > 0 {
		t.Errorf("reported %+v", <-reports)
	}
	if len(ch.gate) != 0 {
		t.Error("a place is not given back")
	}
}

func TestWaitForAPlaceEndsWithItsContext(t *testing.T) {
	ch := checker(t, Config{MaxInFlight: 1})
	must(t, ch.gate.enter(t.Context()))
	inner, cancel := context.WithCancel(t.Context())
	ctx := &watched{Context: inner}
	done := make(chan error, 1)
	go func() { done <- ch.check(ctx, Target{Address: "127.0.0.1:1"}) }()
	eventually(t, "it waits", func() bool { return ctx.waits.Load() > 0 })
	cancel()
	if err := receive(t, "it waits no more", done); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if len(ch.gate) != 1 {
		t.Error("it gave back a place that it had not")
	}
}
