package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// eventually waits for cond, which must come true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not happen that %s", patience, what)
		}
	}
}

func openFDs(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// newEngine runs an engine for the time of the test.
func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	t.Cleanup(e.Stop)
	return e
}

// on runs f on the loop and waits for it.
func on(l *Loop, f func()) {
	done := make(chan struct{})
	l.Post(func() { f(); close(done) })
	<-done
}

// proxy relays every connection that it accepts to one upstream address.
type proxy struct {
	*Listener
	engine *Engine
	to     []Addr
	idle   time.Duration
	prime  struct{ toClient, toUpstream []byte }
	relays atomic.Int64 // open
	ended  atomic.Int64
	last   atomic.Pointer[proxySession]
}

type proxySession struct {
	Relay
	p      *proxy
	client *Conn
	err    error
}

func newProxy(t testing.TB, cfg Config, upstream net.Addr, idle time.Duration) *proxy {
	t.Helper()
	e := newEngine(t, cfg)
	p := &proxy{engine: e, to: []Addr{NewAddr(netip.MustParseAddrPort(upstream.String()))}, idle: idle}
	ln, err := e.Listen("127.0.0.1:0", 0, p)
	if err != nil {
		t.Fatal(err)
	}
	p.Listener = ln
	return p
}

func (p *proxy) Accept(c *Conn) {
	s := &proxySession{p: p, client: c}
	c.SetHandler(s)
	if _, err := c.Loop().Dial(p.to, time.Second*5, s); err != nil {
		c.Reset()
	}
}

func (s *proxySession) Ready(*Conn)   {}
func (s *proxySession) Timeout(*Conn) {}
func (s *proxySession) Connected(up *Conn, err error) {
	if err != nil {
		s.client.Reset()
		return
	}
	s.p.relays.Add(1)
	s.p.last.Store(s)
	s.Prime(s.p.prime.toClient, s.p.prime.toUpstream)
	s.Start(s.client, up, s.p.idle, s)
}
func (s *proxySession) Ended(_ *Relay, err error) {
	s.err = err
	s.p.relays.Add(-1)
	s.p.ended.Add(1)
}

// upstream serves every connection with f on a goroutine, and closes it.
func upstream(t testing.TB, f func(c *net.TCPConn)) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var open atomic.Int64
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // the test may be about running out of descriptors
			}
			open.Add(1)
			go func() {
				defer open.Add(-1)
				defer c.Close()
				f(c.(*net.TCPConn))
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		eventually(t, "the upstream's connections end", func() bool { return open.Load() == 0 })
	})
	return ln.Addr()
}

func echo(c *net.TCPConn) {
	if _, err := io.Copy(c, c); err == nil {
		_ = c.CloseWrite()
	}
}

func client(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func drained(t testing.TB, e *Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, e.Drain(ctx))
}
