package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// What a relay is primed with goes out before what it reads, and before a FIN that was there already. It may be in the
// loop's scratch buffer.
func TestRelayIsPrimed(t *testing.T) {
	f := func(toClient, toUpstream string) {
		t.Helper()
		p := newProxy(t, Config{Loops: 1}, upstream(t, echo), time.Minute)
		l := p.engine.Loops()[0]
		said := bytes.Repeat([]byte("said"), 1000)
		var c *net.TCPConn
		on(l, func() {
			p.prime.toClient = l.scratch[:copy(l.scratch, toClient)]
			p.prime.toUpstream = l.scratch[1000 : 1000+copy(l.scratch[1000:], toUpstream)]
			c = client(t, p.Bound()) // and it has said all before the loop knows of it
			_, err := c.Write(said)
			must(t, err)
			must(t, c.CloseWrite())
		})
		got, err := io.ReadAll(c)
		if want := toClient + toUpstream + string(said); err != nil || string(got) != want {
			t.Errorf("%q and %q: got %d bytes, %.50q…, %v; want %d", toClient, toUpstream, len(got), got, err, len(want))
		}
		eventually(t, "the session ends", func() bool { return p.ended.Load() == 1 })
		on(l, func() {
			s := p.last.Load()
			a, b := s.Bytes()
			if s.err != nil || a != uint64(len(toUpstream)+len(said)) || b != uint64(len(toClient))+a {
				t.Errorf("%q and %q: counted %d and %d, %v", toClient, toUpstream, a, b, s.err)
			}
			if l.held != 0 {
				t.Errorf("%d bytes not given back", l.held)
			}
		})
	}
	f("to the client", "to the upstream")
	f("to the client", "")
	f("", "to the upstream")
	f("", "")
}

// A primed relay whose upstream takes nothing reads nothing for it, and ends whole once it does.
func TestRelayPrimedBeyondWhatIsTaken(t *testing.T) {
	read, took := make(chan struct{}), make(chan []byte, 1)
	p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
		<-read
		b, _ := io.ReadAll(c)
		took <- b
	}), time.Minute)
	l := p.engine.Loops()[0]
	primed := bytes.Repeat([]byte("primed. "), 4<<20) // 32 MiB: more than the sockets take
	on(l, func() { p.prime.toUpstream = primed })
	c := client(t, p.Bound())
	_, err := c.Write([]byte("said"))
	must(t, err)
	must(t, c.CloseWrite())
	eventually(t, "the relay starts", func() bool { return p.last.Load() != nil })
	on(l, func() {
		s := p.last.Load()
		if a, _ := s.Bytes(); s.ab.held() == 0 || a != uint64(len(primed)) || l.held < int64(len(primed)) {
			t.Errorf("%d bytes read from the client, %d primed, %d of them held; the loop counts %d", a, len(primed), s.ab.held(), l.held)
		}
	})
	close(read)
	if got := <-took; !bytes.Equal(got, append(primed, "said"...)) {
		t.Errorf("the upstream got %d bytes, want %d", len(got), len(primed)+4)
	}
	eventually(t, "the session ends", func() bool { return p.ended.Load() == 1 })
	on(l, func() {
		if err := p.last.Load().err; err != nil || l.held != 0 {
			t.Errorf("ended with %v, %d bytes held", err, l.held)
		}
	})
}

// A primed relay is timed from its start: one whose bytes nobody takes is reset, as they are lost.
func TestRelayPrimedAndIdle(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	p := newProxy(t, Config{Loops: 1}, upstream(t, func(*net.TCPConn) { <-stop }), 4*tick)
	l := p.engine.Loops()[0]
	on(l, func() { p.prime.toUpstream = make([]byte, 32<<20) })
	c := client(t, p.Bound())
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
	on(l, func() {
		if err := p.last.Load().err; err != ErrIdle || l.held != 0 {
			t.Errorf("ended with %v, %d bytes held", err, l.held)
		}
	})
}

// A relay that only empties what it holds is not idle.
func TestRelayThatWritesIsNotIdle(t *testing.T) {
	step := make(chan struct{})
	p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
		<-step
		_, _ = io.CopyN(io.Discard, c, 16<<20)
		<-step
	}), time.Hour)
	defer close(step)
	l := p.engine.Loops()[0]
	on(l, func() { p.prime.toUpstream = make([]byte, 64<<20) })
	client(t, p.Bound())
	eventually(t, "the relay starts", func() bool { return p.last.Load() != nil })
	s := p.last.Load()
	var held int
	var until, began time.Duration
	eventually(t, "the upstream's socket is full", func() bool {
		was := held
		on(l, func() { held, until, began = s.ab.held(), s.client.timer.deadline, l.Now() })
		return held == was
	})
	eventually(t, "the loop's clock moves", func() (moved bool) {
		on(l, func() { moved = l.Now() > began })
		return moved
	})
	step <- struct{}{}
	eventually(t, "more is written, and the timeout put off", func() (done bool) {
		on(l, func() { done = s.ab.held() < held && s.client.timer.deadline > until })
		return done
	})
}

// Relays go on while the process drains, and those without traffic end at their idle timeout.
func TestRelayOnDrain(t *testing.T) {
	p := newProxy(t, Config{Loops: 1}, upstream(t, echo), 20*tick)
	l := p.engine.Loops()[0]
	c := client(t, p.Bound())
	say := func() {
		t.Helper()
		_, err := c.Write([]byte("hello"))
		must(t, err)
		_, err = io.ReadFull(c, make([]byte, 5))
		must(t, err)
	}
	say()
	p.Close()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() { done <- p.engine.Drain(ctx) }()
	eventually(t, "the loop drains", func() (draining bool) {
		on(l, func() { draining = l.draining })
		return draining
	})
	say()
	must(t, <-done)
	on(l, func() {
		if err := p.last.Load().err; err != ErrIdle {
			t.Errorf("ended with %v", err)
		}
	})
}
