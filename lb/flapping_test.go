package lb

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/lb/health"
)

// flapper is an endpoint that comes and goes at one address, and greets who connects. While it is gone connections are
// refused, and those that it had not taken yet are reset.
type flapper struct {
	t       testing.TB
	address string
	ln      net.Listener
	served  atomic.Int64
	running sync.WaitGroup
}

// newFlapper is one that is up. Its host is no other socket's, so that nobody takes its port meanwhile.
func newFlapper(t testing.TB, host string) *flapper {
	f := &flapper{t: t, address: host + ":0"}
	f.up()
	t.Cleanup(func() {
		f.ln.Close()
		f.running.Wait()
	})
	return f
}

func (f *flapper) up() {
	ln, err := net.Listen("tcp", f.address)
	if err != nil {
		f.t.Errorf("the endpoint does not come back: %v", err)
		return
	}
	f.ln, f.address = ln, ln.Addr().String()
	f.running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.served.Add(1)
			f.running.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, "220 ready\r\n")
				_, _ = io.Copy(c, c)
			})
		}
	})
}

func (f *flapper) down() { f.ln.Close() }

// meet is a client that waits to be greeted, and has a word echoed.
func (f *front) meet() error {
	c, err := net.Dial("tcp", f.listener.Bound())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	b := make([]byte, len("220 ready\r\n"))
	if _, err := io.ReadFull(c, b); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if _, err := io.WriteString(c, "x"); err != nil {
		return fmt.Errorf("say: %w", err)
	}
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return nil
}

// One of four endpoints comes and goes, as fast as sessions meet it up and down. No client sees anything of it: what it
// refuses, or resets before a word has gone out, is another's session.
func TestFlappingEndpointIsNotSeen(t *testing.T) {
	var flaps [4]*flapper
	var addresses []string
	for i := range flaps {
		flaps[i] = newFlapper(t, fmt.Sprintf("127.0.0.%d", 77+i))
		addresses = append(addresses, flaps[i].address)
	}
	f := newFront(t, frontConfig{}, of(RoundRobin, addresses...))
	ep := f.cluster.Endpoints()[0].Local(f.loop())
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f.meet(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 25 {
		flaps[0].down()
		missed := ep.ConnectErrors.Load() + ep.Failures.Load()
		eventually(t, "somebody meets it down", func() bool { return ep.ConnectErrors.Load()+ep.Failures.Load() > missed })
		flaps[0].up()
		served := flaps[0].served.Load()
		eventually(t, "somebody meets it up", func() bool { return flaps[0].served.Load() > served })
	}
	close(stop)
	clients.Wait()
	eventually(t, "all sessions end", func() bool { return f.engine.Open() == 0 })
	if n := f.stats.NoEndpoint.Load() + f.stats.Failed.Load(); n > 0 {
		t.Errorf("%d of %d sessions failed", n, f.stats.Sessions.Load())
	}
	for _, ep := range f.cluster.Endpoints() {
		if ep.InFlight() != 0 {
			t.Errorf("%d in flight to %s", ep.InFlight(), ep)
		}
	}
}

// With every endpoint down clients are refused without anybody being dialled, and with one back they are served.
func TestAllEndpointsDownAndBack(t *testing.T) {
	a, b := newFlapper(t, "127.0.0.77"), newFlapper(t, "127.0.0.78")
	cfg := of(RoundRobin, a.address, b.address)
	cfg.Health = &health.Config{Interval: 10 * time.Millisecond, Rise: 1, Fall: 1}
	f := newFront(t, frontConfig{}, cfg)
	dialled := func() uint64 { return f.loop().Counters().Dialled.Load() }
	for range 3 {
		must(t, f.meet())
		a.down()
		b.down()
		eventually(t, "both are found down", func() bool { return f.cluster.Eligible() == 0 })
		before := dialled()
		for range 3 {
			f.resets()
		}
		if n := dialled() - before; n > 0 {
			t.Errorf("%d dials to endpoints that are down", n)
		}
		b.up()
		eventually(t, "one is found up", func() bool { return f.cluster.Eligible() == 1 })
		must(t, f.meet())
		a.up()
		eventually(t, "both are found up", func() bool { return f.cluster.Eligible() == 2 })
	}
	if n := f.stats.NoEndpoint.Load(); n != 9 {
		t.Errorf("%d sessions found no endpoint, want 9", n)
	}
	// Without checks it is the dials that find out, and each session's own.
	cfg.Health = nil
	f = newFront(t, frontConfig{}, cfg)
	a.down()
	b.down()
	f.resets()
	f.counts(1, 1, 1, 0, 0, 0, 0)
	a.up()
	must(t, f.meet())
	b.up()
	if err := f.meet(); errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}
