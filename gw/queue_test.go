package gw

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/lb"
)

// gated is an upstream that answers a request when it is told to, by a 200.
func gated(t testing.TB) (address string, begun <-chan string, answer chan<- struct{}) {
	b, a := make(chan string, 16), make(chan struct{}, 16)
	address = serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b <- req.URL.Path
			<-a
			if _, err := io.WriteString(c, ok); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { close(a) })
	return address, b, a
}

// queueing is a cluster whose endpoints take one exchange each.
func queueing(q lb.Queue, addresses ...string) lb.Config {
	cfg := cluster("c", addresses...)
	cfg.Queue = &q
	for i := range cfg.Endpoints {
		cfg.Endpoints[i].MaxConn = 1
	}
	return cfg
}

func (c *client) ask(path string) {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

func (c *client) gets(status int) {
	c.t.Helper()
	if resp, body := c.answer("GET"); resp.StatusCode != status {
		c.t.Errorf("%d %s, want %d", resp.StatusCode, body, status)
	}
}

// queues is a client whose request finds n before it.
func (e *edge) queues(t testing.TB, path string, n int64) *client {
	t.Helper()
	c := e.dial(t)
	c.ask(path)
	eventually(t, path+" waits", func() bool { return e.clusters["c"].Queued() == n+1 })
	return c
}

func (e *edge) nothingInFlight(t testing.TB) {
	t.Helper()
	eventually(t, "nothing is in flight", func() bool {
		n := e.clusters["c"].Queued()
		for _, ep := range e.clusters["c"].Endpoints() {
			n += ep.InFlight()
		}
		return n == 0
	})
}

// Requests wait for an endpoint that has room, and get it in the order in which they came.
func TestRequestsQueue(t *testing.T) {
	upstream, begun, answer := gated(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, queueing(lb.Queue{Timeout: time.Hour}, upstream))
	a := e.dial(t)
	a.ask("/a")
	paths := []string{<-begun}
	clients := []*client{a, e.queues(t, "/b", 0), e.queues(t, "/c", 1)}
	for i, c := range clients {
		answer <- struct{}{}
		c.gets(200)
		if i < 2 {
			paths = append(paths, <-begun)
		}
	}
	if got := strings.Join(paths, " "); got != "/a /b /c" {
		t.Errorf("served in the order %s", got)
	}
	e.nothingInFlight(t)
}

// The queue's timeout is of the wait alone: an upstream may take longer to answer.
func TestQueueTimeoutEndsWithTheWait(t *testing.T) {
	upstream, begun, answer := gated(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, queueing(lb.Queue{Timeout: 200 * time.Millisecond}, upstream))
	a := e.dial(t)
	a.ask("/a")
	<-begun
	b := e.queues(t, "/b", 0)
	answer <- struct{}{}
	a.gets(200)
	<-begun
	var from, now time.Duration
	e.on(func(w *worker) { from = w.loop.Now() })
	eventually(t, "the queue's timeout is over", func() bool {
		e.on(func(w *worker) { now = w.loop.Now() })
		return now > from+400*time.Millisecond
	})
	answer <- struct{}{}
	b.gets(200)
	e.nothingInFlight(t)
}

func TestQueueTimeout(t *testing.T) {
	upstream, begun, answer := gated(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, queueing(lb.Queue{Timeout: short}, upstream))
	a := e.dial(t)
	a.ask("/a")
	<-begun
	b := e.dial(t)
	for range 2 { // the connection lives on
		b.ask("/b")
		b.gets(503)
	}
	answer <- struct{}{}
	a.gets(200)
	e.nothingInFlight(t)
	if n := e.counters().Timeouts.Load(); n != 2 {
		t.Errorf("%d timeouts", n)
	}
}

func TestQueueIsFull(t *testing.T) {
	upstream, begun, answer := gated(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, queueing(lb.Queue{Size: 1, Timeout: time.Hour}, upstream))
	a := e.dial(t)
	a.ask("/a")
	<-begun
	b := e.queues(t, "/b", 0)
	c := e.dial(t)
	if status, body := c.get("/c"); status != 503 || !strings.Contains(body, "every endpoint is busy") {
		t.Errorf("%d %s", status, body)
	}
	answer <- struct{}{}
	a.gets(200)
	answer <- struct{}{}
	b.gets(200)
	e.nothingInFlight(t)
}

// Who goes gives its place to those behind it.
func TestClientResetsInTheQueue(t *testing.T) {
	upstream, begun, answer := gated(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, queueing(lb.Queue{Timeout: time.Hour}, upstream))
	a := e.dial(t)
	a.ask("/a")
	<-begun
	b, c := e.queues(t, "/b", 0), e.queues(t, "/c", 1)
	must(t, b.SetLinger(0))
	must(t, b.Close())
	eventually(t, "it is gone", func() bool { return e.clusters["c"].Queued() == 1 })
	answer <- struct{}{}
	a.gets(200)
	answer <- struct{}{}
	c.gets(200)
	e.nothingInFlight(t)
}

// An endpoint that refuses does not end the search while another one has only to have room.
func TestQueueAfterRefusal(t *testing.T) {
	upstream, begun, answer := gated(t)
	cfg := queueing(lb.Queue{Timeout: time.Hour}, dead(t), upstream)
	cfg.ConnectTimeout = 100 * time.Millisecond
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	a := e.dial(t)
	a.ask("/a")
	<-begun
	b := e.queues(t, "/b", 0)
	// The time in the queue is not of the search.
	var from, now time.Duration
	e.on(func(w *worker) { from = w.loop.Now() })
	eventually(t, "more time passes than a search may take", func() bool {
		e.on(func(w *worker) { now = w.loop.Now() })
		return now > from+(maxTries+1)*cfg.ConnectTimeout
	})
	answer <- struct{}{}
	a.gets(200)
	answer <- struct{}{}
	b.gets(200)
	e.nothingInFlight(t)
}

// mute is an address whose backlog is full: connecting to it is answered by nothing at all.
func mute(t testing.TB) string {
	t.Helper()
	open := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	ln := open()
	must(t, unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(ln, 0))
	sa, err := unix.Getsockname(ln)
	must(t, err)
	for range 4 {
		if err := unix.Connect(open(), sa); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
}

// A client is told what went wrong last.
func TestNoEndpointSaysWhy(t *testing.T) {
	f := func(status int, message string, endpoints ...string) {
		t.Helper()
		cfg := cluster("c", endpoints...)
		cfg.ConnectTimeout = short
		e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
		if got, body := e.dial(t).get("/"); got != status || !strings.Contains(body, message) {
			t.Errorf("%d %s, want %d, %s", got, body, status, message)
		}
		if n := e.counters().Retries.Load(); n != uint64(len(endpoints)-1) {
			t.Errorf("%d retries", n)
		}
		e.nothingInFlight(t)
	}
	f(503, "no endpoint can be reached", dead(t))
	f(503, "no endpoint can be reached", dead(t), dead(t))
	f(504, "no endpoint answered in time", mute(t))
	f(504, "no endpoint answered in time", dead(t), mute(t))
	f(503, "no endpoint can be reached", mute(t), dead(t))
}
