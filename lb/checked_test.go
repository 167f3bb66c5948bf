package lb

import (
	"net"
	"testing"
	"time"

	"sluice/lb/health"
)

// checked is a cluster's configuration with connection checks that follow each other fast.
func checked(addresses ...string) Config {
	cfg := of(RoundRobin, addresses...)
	cfg.Health = &health.Config{Interval: time.Millisecond, Timeout: patience}
	return cfg
}

func listenOn(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestChecksTakeEndpointsOutAndBack(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	first, second := listenOn(t, "127.0.0.1:0"), listenOn(t, "127.0.0.1:0")
	c := newCluster(t, e, checked(first.Addr().String(), second.Addr().String()))
	a, b := c.Endpoints()[0], c.Endpoints()[1]
	// Until something else is known they are up: an edge that starts serves at once.
	if !a.Healthy() || !b.Healthy() || c.Eligible() == 0 {
		t.Error("endpoints are down at the start")
	}
	picked := func() (list [2]*Endpoint) {
		for i := range list {
			list[i] = c.Pick(l, 0, nil)
		}
		return list
	}
	first.Close()
	eventually(t, "the first is taken out", func() bool { return picked() == [2]*Endpoint{b, b} })
	if a.Healthy() || !b.Healthy() {
		t.Errorf("healthy: %v, %v", a.Healthy(), b.Healthy())
	}
	second.Close()
	eventually(t, "the second is taken out", func() bool { return c.Eligible() == 0 && c.Pick(l, 0, nil) == nil })
	listenOn(t, a.String())
	eventually(t, "the first is back", func() bool { return picked() == [2]*Endpoint{a, a} })
}

func TestChecksGoOnUntilStop(t *testing.T) {
	asked := make(chan struct{}, 1)
	address := serve(t, "tcp", "127.0.0.1:0", func(net.Conn) {
		select {
		case asked <- struct{}{}:
		default:
		}
	})
	c := newCluster(t, newEngine(t, 1), checked(address))
	receive(t, "the endpoint is checked", asked)
	// A reload that leaves the cluster as it is.
	c.Start()
	c.Stop(c)
	for range 3 {
		receive(t, "checks go on", asked)
	}
	// Now goleak would find whoever goes on.
	c.Stop(nil)
	if !c.Endpoints()[0].Leaving() {
		t.Error("the endpoint has not gone")
	}
}

// The old cluster's checks go on until it is stopped, when the new one is built already. What they find by then holds.
func TestChangeDuringReloadIsNotLost(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	ln, stays := listenOn(t, "127.0.0.1:0"), listenOn(t, "127.0.0.1:0")
	prev := newCluster(t, e, checked(ln.Addr().String(), stays.Addr().String()))
	down := prev.Endpoints()[0]
	cfg := checked(ln.Addr().String(), stays.Addr().String())
	cfg.MaxIdle = 1
	next := reload(t, prev, cfg)
	ln.Close()
	eventually(t, "the old cluster finds the endpoint down", func() bool { return !down.Healthy() })
	next.Start()
	prev.Stop(next)
	for range 4 {
		if next.Pick(l, 0, nil) == down {
			t.Fatal("the new cluster picks an endpoint that is known to be down")
		}
	}
	listenOn(t, down.String())
	eventually(t, "it is back", func() bool { return next.Pick(l, 0, nil) == down })
}

// A cluster without checks believes in its endpoints, once it is in use: the reload may still fail.
func TestWithoutChecksAllAreUp(t *testing.T) {
	e := newEngine(t, 1)
	l := e.Loops()[0]
	prev := newCluster(t, e, checked(refusing(t)))
	ep := prev.Endpoints()[0]
	eventually(t, "the endpoint is down", func() bool { return !ep.Healthy() && prev.Pick(l, 0, nil) == nil })

	failed := reload(t, prev, of(RoundRobin, ep.String()))
	failed.Stop(prev)
	if ep.Healthy() || ep.Leaving() {
		t.Errorf("after a reload that failed: healthy %v, gone %v", ep.Healthy(), ep.Leaving())
	}
	next := reload(t, prev, of(RoundRobin, ep.String()))
	next.Start()
	prev.Stop(next)
	if !ep.Healthy() || next.Pick(l, 0, nil) != ep {
		t.Errorf("without checks: healthy %v, and %v is picked", ep.Healthy(), next.Pick(l, 0, nil))
	}
}
