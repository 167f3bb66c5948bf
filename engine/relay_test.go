package engine

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestRelayPassesBulkWholeAndSplicesIt(t *testing.T) {
	p := newProxy(t, Config{Loops: 1}, upstream(t, echo), time.Minute)
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data)
	c := client(t, p.Bound())
	go func() {
		_, _ = c.Write(data)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	must(t, err)
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Fatalf("sent %d bytes, got %d others back", len(data), len(got))
	}
	eventually(t, "the session ends", func() bool { return p.ended.Load() == 1 })
	l := p.engine.Loops()[0]
	if n := l.Counters().Spliced.Load(); n < uint64(len(data)) {
		t.Errorf("%d of %d bytes spliced", n, 2*len(data))
	}
	on(l, func() {
		if a, b := p.last.Load().Bytes(); a != uint64(len(data)) || b != uint64(len(data)) {
			t.Errorf("counted %d and %d bytes, want %d each", a, b, len(data))
		}
		if err := p.last.Load().err; err != nil {
			t.Errorf("ended with %v", err)
		}
		if l.held != 0 {
			t.Errorf("%d bytes not given back", l.held)
		}
		if len(l.pipes.free) != l.pipesOpen {
			t.Errorf("%d pipes open, %d in the pool", l.pipesOpen, len(l.pipes.free))
		}
	})
}

func TestRelayCopiesSmallMessagesWithoutPipe(t *testing.T) {
	p := newProxy(t, Config{Loops: 1}, upstream(t, echo), 0)
	c := client(t, p.Bound())
	msg, got := []byte("hello"), make([]byte, 5)
	for range 50 {
		_, err := c.Write(msg)
		must(t, err)
		_, err = io.ReadFull(c, got)
		must(t, err)
		if !bytes.Equal(got, msg) {
			t.Fatalf("got %q", got)
		}
	}
	l := p.engine.Loops()[0]
	on(l, func() {
		if l.held != 0 || l.pipesOpen != 0 {
			t.Errorf("an idle session holds %d bytes, %d pipes are open", l.held, l.pipesOpen)
		}
	})
}

func TestRelayHalfClose(t *testing.T) {
	// Each end says FIN first, and the other still gets to say something afterwards.
	t.Run("client first", func(t *testing.T) {
		p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
			b, _ := io.ReadAll(c)
			_, _ = c.Write(append(b, " answered"...))
		}), 0)
		c := client(t, p.Bound())
		_, err := c.Write([]byte("asked"))
		must(t, err)
		must(t, c.CloseWrite())
		got, err := io.ReadAll(c)
		must(t, err)
		if string(got) != "asked answered" {
			t.Errorf("got %q", got)
		}
		eventually(t, "the session ends", func() bool { return p.relays.Load() == 0 })
	})
	t.Run("upstream first", func(t *testing.T) {
		late := make(chan string, 1)
		p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("bye"))
			_ = c.CloseWrite()
			b, _ := io.ReadAll(c)
			late <- string(b)
		}), 0)
		c := client(t, p.Bound())
		got, err := io.ReadAll(c)
		must(t, err)
		_, err = c.Write([]byte("late"))
		must(t, err)
		must(t, c.CloseWrite())
		if s := <-late; string(got) != "bye" || s != "late" {
			t.Errorf("got %q, and upstream %q", got, s)
		}
	})
	t.Run("with data in flight", func(t *testing.T) {
		p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
			_, _ = c.Write(make([]byte, 3<<20))
		}), 0)
		c := client(t, p.Bound())
		must(t, c.CloseWrite())
		n, err := io.Copy(io.Discard, c)
		must(t, err)
		if n != 3<<20 {
			t.Errorf("got %d bytes", n)
		}
	})
}

func TestRelayReset(t *testing.T) {
	reset := func(c *net.TCPConn) {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	t.Run("of the upstream", func(t *testing.T) {
		p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			reset(c)
		}), 0)
		c := client(t, p.Bound())
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client saw %v, want a reset", err)
		}
	})
	t.Run("of the client", func(t *testing.T) {
		seen := make(chan error, 1)
		p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
			_, err := io.ReadAll(c)
			seen <- err
		}), 0)
		c := client(t, p.Bound())
		eventually(t, "the session starts", func() bool { return p.relays.Load() == 1 })
		reset(c)
		if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("upstream saw %v, want a reset", err)
		}
	})
	t.Run("of a client that nobody reads", func(t *testing.T) {
		// The upstream takes nothing: the client's direction is stalled when the reset comes.
		stop := make(chan struct{})
		defer close(stop)
		p := newProxy(t, Config{Loops: 1}, upstream(t, func(*net.TCPConn) { <-stop }), 0)
		c := client(t, p.Bound())
		stall(t, c)
		reset(c)
		eventually(t, "the session ends", func() bool { return p.ended.Load() == 1 })
	})
	t.Run("after an answer", func(t *testing.T) {
		// A server that answers at once and closes over unread input answers with RST; its answer must get through.
		p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = c.Write([]byte("too large"))
		}), 0)
		c := client(t, p.Bound())
		_, _ = c.Write(make([]byte, 64<<10))
		got, _ := io.ReadAll(c)
		if string(got) != "too large" {
			t.Errorf("got %q", got)
		}
	})
}

// stall writes until the other side takes no more.
func stall(t *testing.T, c *net.TCPConn) (sent int64) {
	t.Helper()
	chunk := make([]byte, 1<<20)
	for {
		must(t, c.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		n, err := c.Write(chunk)
		sent += int64(n)
		if err != nil {
			return sent
		}
	}
}

func TestRelaySlowReaderStallsItsSender(t *testing.T) {
	read := make(chan struct{})
	var got atomic.Int64
	p := newProxy(t, Config{Loops: 1}, upstream(t, func(c *net.TCPConn) {
		<-read
		n, _ := io.Copy(io.Discard, c)
		got.Store(n)
	}), 0)
	c := client(t, p.Bound())
	sent := stall(t, c)
	l := p.engine.Loops()[0]
	on(l, func() {
		s := p.last.Load()
		if held := s.ab.held() + s.ba.held(); held > 256<<10 {
			t.Errorf("%d bytes held", held)
		}
		if s.ab.held() == 0 {
			t.Error("nothing held: the session was not stalled")
		}
	})
	close(read)
	must(t, c.CloseWrite())
	_, err := io.ReadAll(c)
	must(t, err)
	eventually(t, "the upstream gets all", func() bool { return got.Load() == sent })
}

func TestRelayIdleTimeout(t *testing.T) {
	p := newProxy(t, Config{Loops: 1}, upstream(t, echo), 2*tick)
	c := client(t, p.Bound())
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("an idle session with nothing held ends with %v, want FIN", err)
	}
	on(p.engine.Loops()[0], func() {
		if err := p.last.Load().err; !errors.Is(err, ErrIdle) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestRelayAllocatesNothing(t *testing.T) {
	p := newProxy(t, Config{Loops: 1}, upstream(t, echo), time.Minute)
	c := client(t, p.Bound())
	msg, got := make([]byte, 512), make([]byte, 512)
	n := testing.AllocsPerRun(500, func() {
		_, _ = c.Write(msg)
		_, _ = io.ReadFull(c, got)
	})
	if n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}
