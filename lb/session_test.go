package lb

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSessionIsRelayedAndCounted(t *testing.T) {
	for _, p := range pickers {
		e := newEdge(t, ProxyConfig{}, of(p, named(t, "a")))
		for range 2 {
			got, err := e.ask("hello")
			must(t, err)
			if got != "a: hello" {
				t.Errorf("%s: answered %q", p, got)
			}
		}
		e.counts(2, 0, 0, 0, 0, 10, 16)
		e.endpoint(0, 2, 0, 10, 16)
	}
}

func TestBytesOfBulkAreCounted(t *testing.T) {
	e := newEdge(t, ProxyConfig{}, of(RoundRobin, named(t, "a")))
	got, err := e.ask(strings.Repeat("x", 5<<20))
	must(t, err)
	if len(got) != 3+5<<20 {
		t.Errorf("%d bytes answered", len(got))
	}
	e.counts(1, 0, 0, 0, 0, 5<<20, 3+5<<20)
	e.endpoint(0, 1, 0, 5<<20, 3+5<<20)
}

// A session counts as in flight from the dial to its end, and its bytes when it has ended.
func TestOpenSessionIsInFlight(t *testing.T) {
	e := newEdge(t, ProxyConfig{}, of(LeastConn, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(c, c) })))
	ep := e.cluster.Endpoints()[0]
	var open []*net.TCPConn
	for i := range 3 {
		c := e.dial("")
		open = append(open, c)
		_, err := c.Write([]byte("ping"))
		must(t, err)
		_, err = io.ReadFull(c, make([]byte, 4))
		must(t, err)
		if n := ep.InFlight(); n != int64(i+1) {
			t.Errorf("%d in flight, want %d", n, i+1)
		}
	}
	if n := e.stats.Sessions.Load(); n != 3 {
		t.Errorf("%d sessions", n)
	}
	for _, c := range open {
		must(t, c.CloseWrite())
	}
	e.counts(3, 0, 0, 0, 0, 12, 12)
}

func TestUnixSocketEndpoint(t *testing.T) {
	address := serve(t, "unix", filepath.Join(t.TempDir(), "s"), func(c net.Conn) {
		b, _ := io.ReadAll(c)
		_, _ = fmt.Fprintf(c, "heard %s", b)
	})
	e := newEdge(t, ProxyConfig{}, of(RoundRobin, address))
	if got, err := e.ask("you"); got != "heard you" || err != nil {
		t.Errorf("answered %q, %v", got, err)
	}
}

// Either end may say FIN first and go on listening; who is silent then still has the word.
func TestHalfClose(t *testing.T) {
	t.Run("of the client", func(t *testing.T) {
		e := newEdge(t, ProxyConfig{}, of(RoundRobin, named(t, "a")))
		if got, err := e.ask("bye"); got != "a: bye" || err != nil {
			t.Errorf("answered %q, %v", got, err)
		}
		e.counts(1, 0, 0, 0, 0, 3, 6)
	})
	t.Run("of the endpoint", func(t *testing.T) {
		late := make(chan string, 1)
		e := newEdge(t, ProxyConfig{}, of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.WriteString(c, "bye")
			_ = c.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(c)
			late <- string(b)
		})))
		c := e.dial("")
		got, err := io.ReadAll(c)
		must(t, err)
		if n := e.cluster.Endpoints()[0].InFlight(); n != 1 {
			t.Errorf("%d in flight while the client may speak", n)
		}
		_, err = c.Write([]byte("late"))
		must(t, err)
		must(t, c.CloseWrite())
		if s := receive(t, "the endpoint has heard all", late); string(got) != "bye" || s != "late" {
			t.Errorf("the client got %q, the endpoint %q", got, s)
		}
		e.counts(1, 0, 0, 0, 0, 4, 3)
	})
}

func TestSessionTimeout(t *testing.T) {
	e := newEdge(t, ProxyConfig{SessionTimeout: 40 * time.Millisecond}, of(RoundRobin, named(t, "a")))
	c := e.dial("")
	_, err := c.Write([]byte("and then?"))
	must(t, err)
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("a session without a byte ends with %q, %v; want FIN", b, err)
	}
	e.counts(1, 0, 0, 0, 1, 9, 0)
	e.endpoint(0, 1, 0, 9, 0)
}

func TestResetIsPassedOnAndCounted(t *testing.T) {
	t.Run("of the endpoint", func(t *testing.T) {
		e := newEdge(t, ProxyConfig{}, of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
		}), named(t, "not asked")))
		c := e.dial("")
		_, err := c.Write([]byte("x"))
		must(t, err)
		if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client got %q, %v; want a reset, and no other endpoint's answer", b, err)
		}
		e.counts(1, 0, 0, 1, 0, 1, 0)
	})
	t.Run("of the client", func(t *testing.T) {
		began, saw := make(chan struct{}), make(chan error, 1)
		e := newEdge(t, ProxyConfig{}, of(RoundRobin, serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			close(began)
			_, err := io.ReadAll(c)
			saw <- err
		})))
		c := e.dial("")
		_, err := c.Write([]byte("x"))
		must(t, err)
		receive(t, "the endpoint is spoken to", began)
		must(t, c.SetLinger(0))
		must(t, c.Close())
		if err := receive(t, "the endpoint hears of it", saw); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the endpoint saw %v, want a reset", err)
		}
		e.counts(1, 0, 0, 1, 0, 1, 0)
	})
}

// source_hash keeps a client at its endpoint, whatever port it comes from.
func TestSourceHashKeepsClients(t *testing.T) {
	e := newEdge(t, ProxyConfig{}, of(SourceHash, named(t, "a"), named(t, "b"), named(t, "c")))
	served := map[string]bool{}
	for i := 1; i <= 16; i++ {
		first := ""
		for range 3 {
			c := e.dial(fmt.Sprintf("127.0.0.%d", i))
			must(t, c.CloseWrite())
			b, err := io.ReadAll(c)
			must(t, err)
			if got := string(b); first == "" {
				first = got
			} else if got != first {
				t.Errorf("client %d is served by %q, and then by %q", i, first, got)
			}
		}
		served[first] = true
	}
	if len(served) != 3 {
		t.Errorf("16 clients are served by %d endpoints", len(served))
	}
}

// maglev counts a client's port in: one busy address (a NAT's, a load balancer's) does not weigh on one endpoint.
func TestMaglevSpreadsOneAddress(t *testing.T) {
	e := newEdge(t, ProxyConfig{}, of(Maglev, named(t, "a"), named(t, "b")))
	served := map[string]bool{}
	eventually(t, "both endpoints serve", func() bool {
		got, err := e.ask("")
		must(t, err)
		served[got] = true
		return len(served) == 2
	})
}

// half_close end ends the session with one side's FIN, after what was said by then; relay does not.
func TestHalfCloseEndsOrNot(t *testing.T) {
	f := func(h HalfClose, want string) {
		t.Helper()
		said := make(chan struct{})
		address := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.WriteString(c, "hello")
			_, _ = io.ReadAll(c) // until the client's FIN, or the end of the session
			close(said)
			_, _ = io.WriteString(c, ", and bye")
		})
		e := newEdge(t, ProxyConfig{HalfClose: h}, of(RoundRobin, address))
		c := e.dial("")
		first := make([]byte, 5)
		_, err := io.ReadFull(c, first)
		must(t, err)
		_, err = io.WriteString(c, "thanks")
		must(t, err)
		must(t, c.CloseWrite())
		rest, err := io.ReadAll(c)
		if string(first)+string(rest) != want || err != nil {
			t.Errorf("%s: got %q%q, %v", h, first, rest, err)
		}
		receive(t, "the endpoint has read all", said)
		e.counts(1, 0, 0, 0, 0, 6, uint64(len(want)))
	}
	f("", "hello, and bye")
	f(HalfCloseRelay, "hello, and bye")
	f(HalfCloseEnd, "hello")
}
