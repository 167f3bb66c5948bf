package bench

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Every scenario that can be run measures something against the origin itself, or TLS before it, and nothing fails.
func TestScenariosAgainstTheOrigin(t *testing.T) {
	address := testOrigin(t)
	secured := terminating(t, address, asItIs)
	for _, sc := range Scenarios {
		t.Run(sc.Name, func(t *testing.T) {
			if sc.Missing != "" {
				t.Skip("no target can do it: " + sc.Missing)
			}
			aim := Aim{Conns: 8}
			at := address
			if sc.secure() {
				at, aim.Trust = secured.address, secured.trust
			}
			sum, err := measuredSome(t, sc.Name, at, aim)
			must(t, err)
			if len(sum.errors) > 0 {
				t.Errorf("errors: %v", sum.errors)
			}
			if sc.Load == Idle {
				return
			}
			if sum.requests == 0 || sum.latency.TotalCount() != int64(sum.requests) {
				t.Errorf("%d requests, %d latencies", sum.requests, sum.latency.TotalCount())
			}
			least := uint64(max(sc.Answer, pingSize))
			if sc.Answer > 0 {
				least = uint64(sc.Answer)
			}
			if sum.bytes < sum.requests*least {
				t.Errorf("%d bytes of %d answers of at least %d", sum.bytes, sum.requests, least)
			}
		})
	}
}

func TestPipeline(t *testing.T) {
	address := testOrigin(t)
	sum, err := measured(t, "http-keepalive", address, Aim{Conns: 2, Pipeline: 8}, 100*time.Millisecond)
	must(t, err)
	if sum.requests == 0 || len(sum.errors) > 0 {
		t.Errorf("%d requests, errors %v", sum.requests, sum.errors)
	}
}

// A target that stalls for 200 ms shows it in the open loop, as every request that was due meanwhile. The closed loop,
// which asks nothing meanwhile, hides it: that is what the open loop is for.
func TestStallShowsInTheOpenLoop(t *testing.T) {
	const stall = 200 * time.Millisecond
	var since atomic.Pointer[time.Time]
	stalling := func() string {
		now := time.Now()
		since.Store(&now)
		return answering(t, func(int) string {
			if time.Since(*since.Load()) >= 500*time.Millisecond {
				<-time.After(stall)
				now := time.Now()
				since.Store(&now)
			}
			return response("200 OK", "ok")
		})
	}
	open, err := measured(t, "http-keepalive", stalling(), Aim{Conns: 16, Rate: 1000}, 2*time.Second)
	must(t, err)
	closed, err := measured(t, "http-keepalive", stalling(), Aim{Conns: 16}, 2*time.Second)
	must(t, err)
	at := func(s *tally, q float64) time.Duration { return time.Duration(s.latency.ValueAtQuantile(q)) }
	if p99, most := at(open, 99), time.Duration(open.latency.Max()); p99 < stall/2 || most < stall*9/10 {
		t.Errorf("open loop: p99 %v, max %v: the stall of %v does not show", p99, most, stall)
	}
	if p95 := at(closed, 95); p95 > stall/2 || at(open, 95) < p95 {
		t.Errorf("closed loop: p95 %v, open loop %v: the test's target does not tell them apart", p95, at(open, 95))
	}
}

// The open loop sends at its rate as long as the target keeps up.
func TestOpenLoopKeepsItsRate(t *testing.T) {
	address := testOrigin(t)
	sum, err := measured(t, "http-keepalive", address, Aim{Conns: 4, Rate: 500}, time.Second)
	must(t, err)
	if sum.requests < 450 || sum.requests > 550 {
		t.Errorf("%d requests in a second at 500/s", sum.requests)
	}
}

func TestTargetFails(t *testing.T) {
	free, err := freePort()
	must(t, err)
	t.Run("down", func(t *testing.T) {
		_, err := measured(t, "http-keepalive", free, Aim{}, time.Second)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v", err)
		}
		if _, err := measured(t, "http-close", free, Aim{}, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v", err)
		}
	})
	t.Run("wrong protocol", func(t *testing.T) {
		address := serve(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n\r\n")) })
		_, err := measured(t, "http-keepalive", address, Aim{}, time.Second)
		if !errors.Is(err, errTarget) || !strings.Contains(err.Error(), "no HTTP response") {
			t.Errorf("%v", err)
		}
	})
	t.Run("resets now and then", func(t *testing.T) {
		address := answering(t, func(n int) string {
			if n%10 == 9 {
				return ""
			}
			return response("200 OK", "ok")
		})
		sum, err := measured(t, "http-keepalive", address, Aim{Conns: 4}, 300*time.Millisecond)
		must(t, err)
		if sum.errors["connection reset"] == 0 || sum.requests == 0 {
			t.Errorf("%d requests, errors %v", sum.requests, sum.errors)
		}
	})
	t.Run("answers errors", func(t *testing.T) {
		address := answering(t, func(int) string { return response("503 Service Unavailable", "no") })
		sum, err := measured(t, "http-keepalive", address, Aim{Conns: 4}, 100*time.Millisecond)
		must(t, err)
		if sum.errors["status 503"] != sum.requests {
			t.Errorf("%d requests, errors %v", sum.requests, sum.errors)
		}
	})
	t.Run("closes politely", func(t *testing.T) {
		address := answering(t, func(int) string { return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" })
		sum, err := measured(t, "http-keepalive", address, Aim{Conns: 4}, 200*time.Millisecond)
		must(t, err)
		if len(sum.errors) > 0 || sum.requests < 8 {
			t.Errorf("%d requests, errors %v", sum.requests, sum.errors)
		}
	})
}

// What was measured before the target went away is kept.
func TestPartialResultIsKept(t *testing.T) {
	origin := testOrigin(t)
	address, err := freePort()
	must(t, err)
	f, err := StartFloor(address, origin, 1)
	must(t, err)
	s := &Suite{Scenarios: []Scenario{scenario(t, "http-keepalive")}, Origin: origin, Rounds: 1, Duration: 30 * time.Second,
		Targets: []Target{{Name: "floor", HTTP: address}}}
	asked := 0
	s.Watch = func(Status) {
		if asked++; asked == 1 {
			f.Stop()
		}
	}
	r := &Result{}
	if err := s.Run(t.Context(), r); !errors.Is(err, errTarget) {
		t.Fatalf("%v", err)
	}
	if len(r.Samples) != 1 || r.Samples[0].Requests == 0 || len(r.Samples[0].Errors) == 0 {
		t.Errorf("kept: %+v", r.Samples)
	}
}
