package lb

import (
	"testing"
	"time"
)

// What the client has said by then is not lost, and is said once.
func TestNextEndpointWhenOneRefuses(t *testing.T) {
	for _, p := range pickers {
		e := newEdge(t, ProxyConfig{}, of(p, refusing(t), named(t, "b")))
		retries, n := uint64(0), uint64(0)
		for n < 8 || retries == 0 && n < 100 { // a picker that hashes or draws may find the good one a few times
			n++
			if got, err := e.ask("hello"); got != "b: hello" || err != nil {
				t.Errorf("%s: answered %q, %v", p, got, err)
			}
			retries = e.stats.Retries.Load()
			e.counts(n, 0, retries, 0, 0, 5*n, 8*n)
		}
		e.endpoint(0, retries, retries, 0, 0)
		e.endpoint(1, n, 0, 5*n, 8*n)
		if retries == 0 {
			t.Errorf("%s: nothing was retried", p)
		}
	}
}

func TestEveryEndpointIsTriedOnce(t *testing.T) {
	e := newEdge(t, ProxyConfig{}, of(RoundRobin, refusing(t), refusing(t), refusing(t), named(t, "d")))
	if got, err := e.ask("hello"); got != "d: hello" || err != nil {
		t.Errorf("answered %q, %v", got, err)
	}
	e.counts(1, 0, 3, 0, 0, 5, 8)
	for i := range 3 {
		e.endpoint(i, 1, 1, 0, 0)
	}
}

func TestNextEndpointWhenOneIsSilent(t *testing.T) {
	cfg := of(RoundRobin, silent(t), named(t, "b"))
	cfg.ConnectTimeout = 300 * time.Millisecond
	e := newEdge(t, ProxyConfig{}, cfg)
	if got, err := e.ask("hello"); got != "b: hello" || err != nil {
		t.Errorf("answered %q, %v", got, err)
	}
	e.counts(1, 0, 1, 0, 0, 5, 8)
	e.endpoint(0, 1, 1, 0, 0)
}

// A name that has not been resolved yet is an endpoint that is not picked, until it is.
func TestEndpointWithoutAddressIsNotPicked(t *testing.T) {
	e := newEdge(t, ProxyConfig{}, of(RoundRobin, named(t, "a"), named(t, "b")))
	a := e.cluster.Endpoints()[0]
	addrs := a.addrs.Swap(nil)
	mark(t, e.cluster, true)
	for range 4 {
		if got, err := e.ask("hello"); got != "b: hello" || err != nil {
			t.Errorf("answered %q, %v", got, err)
		}
	}
	e.counts(4, 0, 0, 0, 0, 20, 32)
	e.endpoint(0, 0, 0, 0, 0)
	a.addrs.Store(addrs)
	(*a.changed.Load())()
	eventually(t, "it is picked", func() bool {
		got, err := e.ask("hello")
		return got == "a: hello" && err == nil
	})
}

// A loop's clock stands still while nothing on it is timed. A session that comes after such a time has its retries.
func TestNextEndpointAfterIdleTime(t *testing.T) {
	cfg := of(RoundRobin, refusing(t), named(t, "b"))
	cfg.ConnectTimeout = 300 * time.Millisecond
	e := newEdge(t, ProxyConfig{}, cfg)
	idle := time.Now()
	eventually(t, "the loop is idle for longer than a search for an endpoint may take", func() bool {
		return time.Since(idle) > (maxTries+1)*cfg.ConnectTimeout
	})
	if got, err := e.ask("hello"); got != "b: hello" || err != nil {
		t.Errorf("answered %q, %v", got, err)
	}
	e.counts(1, 0, 1, 0, 0, 5, 8)
}

func TestNoEndpointResetsTheClient(t *testing.T) {
	f := func(e *edge, retries uint64, connectErrors ...uint64) {
		t.Helper()
		e.resets()
		e.counts(1, 1, retries, 0, 0, 0, 0)
		for i, n := range connectErrors {
			e.endpoint(i, n, n, 0, 0)
		}
	}
	for _, p := range pickers {
		f(newEdge(t, ProxyConfig{}, of(p, refusing(t))), 0, 1)
		f(newEdge(t, ProxyConfig{}, of(p, refusing(t), refusing(t), refusing(t))), 2, 1, 1, 1)
		down := newEdge(t, ProxyConfig{}, of(p, named(t, "a"), named(t, "b")))
		mark(t, down.cluster, false, down.cluster.Endpoints()...)
		f(down, 0, 0, 0) // nobody is dialled
	}
}

// However many endpoints are silent, a client is told within a few times the connect timeout.
func TestSearchIsBounded(t *testing.T) {
	mute := make([]string, 12)
	for i := range mute {
		mute[i] = silent(t)
	}
	cfg := of(RoundRobin, mute...)
	cfg.ConnectTimeout = 50 * time.Millisecond
	e := newEdge(t, ProxyConfig{}, cfg)
	e.resets()
	// Each dial takes its connect timeout at least.
	if n := e.stats.Retries.Load(); n >= maxTries {
		t.Errorf("%d retries, want less than %d", n, maxTries)
	}
	e.counts(1, 1, e.stats.Retries.Load(), 0, 0, 0, 0)
}

// Nobody is there any more to connect an endpoint to.
func TestClientResetsWhileDialling(t *testing.T) {
	cfg := of(RoundRobin, silent(t), named(t, "not asked"))
	cfg.ConnectTimeout = time.Hour
	e := newEdge(t, ProxyConfig{}, cfg)
	c := e.dial("")
	ep := e.cluster.Endpoints()[0]
	eventually(t, "the endpoint is dialled", func() bool { return ep.InFlight() == 1 })
	must(t, c.SetLinger(0))
	must(t, c.Close())
	e.counts(1, 0, 0, 1, 0, 0, 0)
	e.endpoint(0, 1, 0, 0, 0) // that is no fault of the endpoint's
	e.endpoint(1, 0, 0, 0, 0)
}

// A client that has said all, and waits, is not one that is gone.
func TestClientHalfClosesWhileDialling(t *testing.T) {
	cfg := of(RoundRobin, silent(t), named(t, "b"))
	cfg.ConnectTimeout = 300 * time.Millisecond
	e := newEdge(t, ProxyConfig{}, cfg)
	if got, err := e.ask(""); got != "b: " || err != nil {
		t.Errorf("answered %q, %v", got, err)
	}
	e.counts(1, 0, 1, 0, 0, 0, 3)
}
