package gw

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/lb"
)

// An endpoint that is to be told who the client is is told by a rival's connection too, and by a mirror's.
func TestRivalAndMirrorAreIntroduced(t *testing.T) {
	slow, _ := held(t, "")
	rival, shadow := tellMe(t), tellMe(t)
	cfg, mirror := hedging(slow, rival.address), cluster("shadow", shadow.address)
	cfg.SendProxyProtocol, mirror.SendProxyProtocol = lb.ProxyV1, lb.ProxyV2
	e := newEdge(t, Config{}, []Route{{Cluster: "c", Mirror: &MirrorConfig{Cluster: "shadow"}}}, cfg, mirror)
	c := e.dial(t)
	for range 2 {
		c.ask("/")
		c.gets(200)
	}
	eventually(t, "the mirror has seen both", func() bool { return len(shadow.requests()) == 2 })
	me := c.LocalAddr().String()
	for _, a := range append(rival.requests(), shadow.requests()...) {
		if a.client != me || a.nth != 0 {
			t.Errorf("the %dth request of a connection of %s, want one of its own, of %s", a.nth, a.client, me)
		}
	}
	e.settles(t)
}

// Connections that begin with a client's address cannot be made ahead.
func TestNothingIsKeptWarmForOneClient(t *testing.T) {
	u := tellMe(t)
	cfg := cluster("c", u.address)
	cfg.SendProxyProtocol, cfg.Warm = lb.ProxyV2, 2
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.gateway.workers.KeepWarm(ctx, e.clusters["c"])
	e.on(func(*worker) {})
	if n := e.engine.Loops()[0].Counters().Dialled.Load(); n != 0 {
		t.Errorf("%d connections are dialled", n)
	}
	e.settles(t)
}

// A rival that is still dialled when it has to take over has no more time for that than any endpoint.
func TestRivalThatCannotBeReached(t *testing.T) {
	gone := make(chan struct{})
	first := record(t, func(int, *seen) (string, error) { <-gone; return "", errHangUp })
	cfg := hedging(first.address, mute(t))
	cfg.ConnectTimeout = 300 * time.Millisecond
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	c.ask("/")
	eventually(t, "the rival is dialled", func() bool { return e.counters().Hedges.Load() == 1 })
	close(gone)
	c.gets(504)
	e.settles(t)
	if reqs, _ := first.requests(); len(reqs) != 1 {
		t.Errorf("the first was asked %d times", len(reqs))
	}
}

// A warm connection that a rival takes is timed no more as one that is idle.
func TestRivalOnAWarmConnection(t *testing.T) {
	answer := make(chan struct{})
	slow := record(t, func(n int, s *seen) (string, error) {
		if n > 0 {
			<-answer
			return "", errHangUp
		}
		return ok, nil
	})
	good := record(t, func(n int, s *seen) (string, error) {
		if n > 0 {
			<-answer
		}
		return ok, nil
	})
	cfg := hedging(slow.address, good.address)
	cfg.IdleTimeout = 300 * time.Millisecond
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	for range 2 {
		c.ask("/")
		c.gets(200)
	}
	c.ask("/hedged")
	eventually(t, "the second is asked", func() bool { reqs, _ := good.requests(); return len(reqs) == 2 })
	since := e.now()
	eventually(t, "an idle connection would have ended", func() bool { return e.now() > since+cfg.IdleTimeout+100*time.Millisecond })
	close(answer)
	c.gets(200)
	e.settles(t)
	if reqs, _ := good.requests(); len(reqs) != 2 {
		t.Errorf("the second was asked anew: %d requests", len(reqs))
	}
}

// now is the loop's time.
func (e *edge) now() (now time.Duration) {
	e.on(func(w *worker) { now = w.loop.Now() })
	return now
}

// A mirror that takes a copy only in part keeps nothing for ever; an offer to change the protocol is none of its business, and
// of the time it is told as the endpoint is.
func TestMirrorOfWhatIsNoPlainRequest(t *testing.T) {
	hold := make(chan struct{})
	stuck := serveTCP(t, func(*net.TCPConn) { <-hold })
	t.Cleanup(func() { close(hold) })
	main, shadow := recordOK(t), recordOK(t)
	cfg, deaf := cluster("c", main.address), cluster("deaf", stuck)
	cfg.Retry.MaxBody, deaf.ResponseTimeout = 1<<24, 100*time.Millisecond
	upstream, _ := switching(t, switched)
	e := newEdge(t, Config{}, []Route{
		{Cluster: "c", Timeout: time.Minute, Mirror: &MirrorConfig{Cluster: "shadow"}},
		{Match: prefix("/chat"), Cluster: "ws", Mirror: &MirrorConfig{Cluster: "shadow"}},
		{Match: prefix("/large"), Cluster: "c", Mirror: &MirrorConfig{Cluster: "deaf"}},
	}, cfg, deaf, cluster("shadow", shadow.address), cluster("ws", upstream))
	c := e.dial(t)
	c.ask("/")
	c.gets(200)
	eventually(t, "the mirror has seen it", func() bool { reqs, _ := shadow.requests(); return len(reqs) == 1 })
	if reqs, _ := shadow.requests(); reqs[0].Header.Get("X-Request-Timeout") == "" {
		t.Error("the mirror is told of no time")
	}
	ws := e.dial(t)
	ws.upgraded(upgrade)
	ws.echoes("x")
	ws.Close()
	e.settles(t)
	if reqs, _ := shadow.requests(); len(reqs) != 1 || e.counters().MirrorFailed.Load() != 0 {
		t.Errorf("the mirror saw %d requests, and failed %d times", len(reqs), e.counters().MirrorFailed.Load())
	}
	const size = 12 << 20
	c.send(fmt.Sprintf("PUT /large HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
	c.gets(200)
	e.settles(t)
	if n := e.counters().MirrorFailed.Load(); n != 1 {
		t.Errorf("%d copies failed, want the one that was not taken", n)
	}
}
