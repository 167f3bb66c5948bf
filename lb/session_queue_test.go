package lb

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// queueing is a cluster whose endpoints take one session each.
func queueing(q Queue, addresses ...string) Config {
	cfg := of(RoundRobin, addresses...)
	cfg.Queue = &q
	for i := range cfg.Endpoints {
		cfg.Endpoints[i].MaxConn = 1
	}
	return cfg
}

// occupies is a client that has the i-th endpoint for itself.
func (f *front) occupies(i int) *net.TCPConn {
	f.t.Helper()
	ep := f.cluster.Endpoints()[i]
	c := f.dial("")
	eventually(f.t, "the endpoint is taken", func() bool { return ep.InFlight() == 1 })
	return c
}

// queues is a client that finds n before it.
func (f *front) queues(n int64) *net.TCPConn {
	f.t.Helper()
	c := f.dial("")
	eventually(f.t, "it waits", func() bool { return f.cluster.Queued() == n+1 })
	return c
}

// queued checks what was counted of the queue.
func (f *front) queued(queued, full, timeout uint64) {
	f.t.Helper()
	got := [...]uint64{f.stats.Queued.Load(), f.stats.QueueFull.Load(), f.stats.QueueTimeout.Load()}
	if want := [...]uint64{queued, full, timeout}; got != want || f.cluster.Queued() != 0 {
		f.t.Errorf("queued, full, timeout: %d, want %d; %d wait", got, want, f.cluster.Queued())
	}
}

func isReset(t testing.TB, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client got %q, %v; want a reset", b, err)
	}
}

func isServed(t testing.TB, c *net.TCPConn, by string) {
	t.Helper()
	_, err := io.WriteString(c, "hello")
	must(t, err)
	must(t, c.CloseWrite())
	if b, err := io.ReadAll(c); string(b) != by+": hello" || err != nil {
		t.Errorf("answered %q, %v", b, err)
	}
}

// Sessions wait for an endpoint that has room, and get it in the order in which they came. What they needed for that is
// not the next ones'.
func TestSessionsQueue(t *testing.T) {
	f := newFront(t, frontConfig{}, queueing(Queue{}, named(t, "a")))
	for round := range uint64(2) {
		clients := []*net.TCPConn{f.occupies(0), f.queues(0), f.queues(1), f.queues(2)}
		for i, c := range clients {
			if n := f.cluster.Queued(); n != int64(3-i) {
				t.Errorf("%d wait for %d", n, i)
			}
			isServed(t, c, "a")
			if i < 3 {
				eventually(t, "the next one has the endpoint", func() bool { return f.cluster.Queued() == int64(2-i) })
			}
		}
		n := round + 1
		f.counts(4*n, 0, 0, 0, 0, 20*n, 32*n)
		f.queued(3*n, 0, 0)
		f.endpoint(0, 4*n, 0, 20*n, 32*n)
	}
}

func TestQueueTimeout(t *testing.T) {
	f := newFront(t, frontConfig{}, queueing(Queue{Timeout: 40 * time.Millisecond}, named(t, "a")))
	c := f.occupies(0)
	isReset(t, f.dial(""))
	isServed(t, c, "a")
	f.counts(2, 0, 0, 0, 0, 5, 8)
	f.queued(1, 0, 1)
}

func TestQueueIsFull(t *testing.T) {
	f := newFront(t, frontConfig{}, queueing(Queue{Size: 1}, named(t, "a")))
	a, b := f.occupies(0), f.queues(0)
	f.resets()
	isServed(t, a, "a")
	isServed(t, b, "a")
	f.counts(3, 0, 0, 0, 0, 10, 16)
	f.queued(1, 1, 0)

	cfg := queueing(Queue{}, named(t, "a"))
	cfg.Queue = nil
	f = newFront(t, frontConfig{}, cfg)
	a = f.occupies(0)
	f.resets()
	isServed(t, a, "a")
	f.counts(2, 0, 0, 0, 0, 5, 8)
	f.queued(0, 1, 0)
}

// Who goes gives its place to those behind it.
func TestClientResetsInTheQueue(t *testing.T) {
	f := newFront(t, frontConfig{}, queueing(Queue{}, named(t, "a")))
	a, b, c := f.occupies(0), f.queues(0), f.queues(1)
	must(t, b.SetLinger(0))
	must(t, b.Close())
	eventually(t, "it is gone", func() bool { return f.cluster.Queued() == 1 })
	isServed(t, a, "a")
	isServed(t, c, "a")
	f.counts(3, 0, 0, 1, 0, 10, 16)
	f.queued(2, 0, 0)
}

// FIN is no farewell: who has said all may wait for an answer.
func TestClientHalfClosesInTheQueue(t *testing.T) {
	f := newFront(t, frontConfig{}, queueing(Queue{}, named(t, "a")))
	a, b := f.occupies(0), f.queues(0)
	_, err := io.WriteString(b, "bye")
	must(t, err)
	must(t, b.CloseWrite())
	f.turn()
	isServed(t, a, "a")
	if got, err := io.ReadAll(b); string(got) != "a: bye" || err != nil {
		t.Errorf("answered %q, %v", got, err)
	}
	f.queued(1, 0, 0)
}

// The queue's timeout is the queue's: it does not reach into the dial behind it.
func TestQueueTimeoutEndsWithTheWait(t *testing.T) {
	cfg := queueing(Queue{Timeout: 500 * time.Millisecond}, silent(t))
	cfg.ConnectTimeout = 300 * time.Millisecond
	f := newFront(t, frontConfig{}, cfg)
	a := f.occupies(0)
	b := f.dial("")
	isReset(t, a) // by its connect timeout, which leaves b less of the queue's than its own dial takes
	isReset(t, b)
	f.counts(2, 2, 0, 0, 0, 0, 0)
	f.queued(1, 0, 0)
	f.endpoint(0, 2, 2, 0, 0)
}

// leaving is an endpoint that can be closed for others than those who are there.
func leaving(t testing.TB) (address string, leave func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		ln.Close()
		if err == nil {
			_, _ = io.ReadAll(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String(), func() {
		t.Helper()
		eventually(t, "nobody listens there any more", func() bool {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
	}
}

// A session that has waited, tried an endpoint in vain and has to wait again, waits at the front, and for as long as
// anybody.
func TestQueueAgain(t *testing.T) {
	f := func(name string, timeout time.Duration, check func(f *front, b, c *net.TCPConn)) {
		t.Run(name, func(t *testing.T) {
			first, gone := leaving(t)
			f := newFront(t, frontConfig{}, queueing(Queue{Timeout: timeout}, first, named(t, "b")))
			a, b := f.occupies(0), f.occupies(1)
			gone()
			c := f.queues(0)
			must(t, a.Close())
			eventually(t, "the first endpoint has refused", func() bool {
				return f.cluster.Endpoints()[0].Local(f.loop()).ConnectErrors.Load() == 1
			})
			check(f, b, c)
			f.endpoint(0, 2, 1, 0, 0)
		})
	}
	f("times out", 500*time.Millisecond, func(f *front, b, c *net.TCPConn) {
		isReset(t, c)
		isServed(t, b, "b")
		f.counts(3, 0, 0, 0, 0, 5, 8)
		f.queued(1, 0, 1)
	})
	f("is served", time.Hour, func(f *front, b, c *net.TCPConn) {
		isServed(t, b, "b")
		isServed(t, c, "b")
		f.counts(3, 0, 1, 0, 0, 10, 16)
		f.queued(1, 0, 0)
	})
}

// The time in the queue is not of the search for an endpoint that answers.
func TestQueueIsNoPartOfTheSearch(t *testing.T) {
	cfg := queueing(Queue{Timeout: time.Hour}, refusing(t), named(t, "b"))
	cfg.ConnectTimeout = 100 * time.Millisecond
	f := newFront(t, frontConfig{}, cfg)
	b := f.occupies(1)
	c := f.queues(0)
	var began, now time.Duration
	on(f.loop(), func() { began = f.loop().Now() })
	eventually(t, "more time passes than a search may take", func() bool {
		on(f.loop(), func() { now = f.loop().Now() })
		return now > began+(maxTries+1)*cfg.ConnectTimeout
	})
	isServed(t, b, "b")
	isServed(t, c, "b")
	f.queued(1, 0, 0)
}

// A change of the endpoints is news for those who wait: there is room elsewhere, or nobody to wait for.
func TestQueueHearsOfEndpoints(t *testing.T) {
	a := named(t, "a")
	f := newFront(t, frontConfig{}, queueing(Queue{Timeout: time.Hour}, a))
	first, second := f.occupies(0), f.queues(0)
	b := named(t, "b")
	f.cluster.SetEndpoints([]EndpointConfig{{Address: a, MaxConn: 1}, {Address: b, MaxConn: 1}})
	isServed(t, second, "b")
	second = f.dial("") // at b now
	eventually(t, "b is taken", func() bool { return f.cluster.Endpoints()[1].InFlight() == 1 })
	third := f.queues(0)
	f.cluster.SetEndpoints(nil)
	isReset(t, third)
	isServed(t, first, "a")
	isServed(t, second, "b")
	f.counts(4, 1, 0, 0, 0, 15, 24)
	f.queued(2, 0, 0)
}
