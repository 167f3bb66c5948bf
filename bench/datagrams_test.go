package bench

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// datagramServer has f answer what comes until the end of the test.
func datagramServer(t *testing.T, f func(n int, p []byte) (answers [][]byte)) (address string, received *atomic.Int64) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	received = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, a := range f(int(received.Add(1)), buf[:n]) {
				_, _ = c.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String(), received
}

// Datagrams may be lost: that is counted, and no error.
func TestLostDatagramsAreCounted(t *testing.T) {
	address, received := datagramServer(t, func(n int, p []byte) [][]byte {
		if n%50 == 0 {
			return nil
		}
		return [][]byte{p}
	})
	sum, err := measured(t, "udp-pps", address, Aim{Conns: 100}, 3*datagramLost)
	must(t, err)
	if sum.lost == 0 || sum.requests == 0 || len(sum.errors) > 0 || sum.requests+sum.lost > uint64(received.Load()) {
		t.Errorf("%d answered, %d lost of %d, errors %v", sum.requests, sum.lost, received.Load(), sum.errors)
	}
}

// What comes twice, too short, or of somebody else's flow, is no answer.
func TestOnlyAnswersCount(t *testing.T) {
	address, received := datagramServer(t, func(n int, p []byte) [][]byte { return [][]byte{p[:10], p, p} })
	sum, err := measured(t, "udp-single", address, Aim{Conns: 100}, 100*time.Millisecond)
	must(t, err)
	if sum.requests == 0 || sum.requests > uint64(received.Load()) || len(sum.errors) > 0 {
		t.Errorf("%d answers to %d datagrams, errors %v", sum.requests, received.Load(), sum.errors)
	}
	address, _ = datagramServer(t, func(n int, p []byte) [][]byte {
		if n > 1 { // the first is to see whether somebody answers
			p[8]++
		}
		return [][]byte{p}
	})
	sum, _ = measured(t, "udp-single", address, Aim{Conns: 100}, 100*time.Millisecond)
	if sum.requests > 0 || sum.errors["answer to another flow"] == 0 {
		t.Errorf("%d answered, errors %v", sum.requests, sum.errors)
	}
}

// Each flow is a source of its own, and all take turns.
func TestFlowsHaveAddressesOfTheirOwn(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	seen := map[string]bool{}
	var sources atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			seen[from.String()] = true
			sources.Store(int64(len(seen)))
			_, _ = c.WriteTo(buf[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	const flows = 500
	g, err := NewGenerator(t.Context(), Aim{Scenario: scenario(t, "udp-pps"), Address: c.LocalAddr().String(), Conns: flows, Loops: 2})
	must(t, err)
	defer g.Close()
	for began := time.Now(); sources.Load() < flows && time.Since(began) < patience; {
		_, _, err := g.Measure(t.Context(), 0, 20*time.Millisecond, func() {}, nil)
		must(t, err)
	}
	if n := sources.Load(); n != flows {
		t.Errorf("%d sources, want %d", n, flows)
	}
}

func TestDatagramsKeepTheirRate(t *testing.T) {
	sum, err := measured(t, "udp-single", testOrigin(t), Aim{Conns: 50, Rate: 500}, time.Second)
	must(t, err)
	if sum.requests < 450 || sum.requests > 550 || sum.slip.TotalCount() == 0 {
		t.Errorf("%d answers in a second at 500/s, %d slips", sum.requests, sum.slip.TotalCount())
	}
}

func TestNoDatagramTarget(t *testing.T) {
	free, err := freePort()
	must(t, err)
	if _, err := measured(t, "udp-pps", free, Aim{}, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	if _, err := measured(t, "udp-pps", "192.0.2.1:9", Aim{}, time.Second); err == nil || !strings.Contains(err.Error(), "127.0.0.0/8") {
		t.Errorf("%v", err)
	}
}

// The floor passes datagrams on, each client's from a socket of its own.
func TestFloorPassesDatagramsOn(t *testing.T) {
	origin := testOrigin(t)
	floor, err := freePort()
	must(t, err)
	f, err := StartFloor(floor, origin, 1)
	must(t, err)
	t.Cleanup(f.Stop)
	for range 3 {
		c, err := net.Dial("udp", floor)
		must(t, err)
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(patience)))
		for _, s := range []string{"a", "bcd", strings.Repeat("e", 1000)} {
			_, err := c.Write([]byte(s))
			must(t, err)
			buf := make([]byte, 2000)
			n, err := c.Read(buf)
			if string(buf[:n]) != s {
				t.Errorf("%q, %v; want %q", buf[:n], err, s)
			}
		}
	}
}

func TestSocketsOfDatagramsAreFound(t *testing.T) {
	address, _ := datagramServer(t, func(int, []byte) [][]byte { return nil })
	pids, err := listenersOf(UDP, address)
	must(t, err)
	if !slices.Equal(pids, []int{os.Getpid()}) {
		t.Errorf("%v, not %d", pids, os.Getpid())
	}
	if _, err := listenersOf(TCP, address); err == nil {
		t.Error("it is taken for TCP")
	}
}
