package gw

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/engine"
	"sluice/gw/route"
	"sluice/lb"
)

// fasthttp's clients look for connections that are idle for too long every ten seconds, until there are none.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// edge is a gateway that listens.
type edge struct {
	engine   *engine.Engine
	listener *engine.Listener
	gateway  *Gateway
	stats    *Stats
	clusters map[string]*lb.Cluster
	current  atomic.Pointer[Gateway]
}

// newEdge runs a gateway of one loop for the time of the test.
func newEdge(t testing.TB, cfg Config, routes []Route, clusters ...lb.Config) *edge {
	t.Helper()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	eng, err := engine.New(engine.Config{Loops: 1}, log)
	must(t, err)
	eng.Start()
	e := &edge{engine: eng, stats: &Stats{Loops: make([]Counters, 1)}, clusters: map[string]*lb.Cluster{}}
	for _, c := range clusters {
		cl, err := lb.NewCluster(c, eng.Loops(), log, nil)
		must(t, err)
		e.clusters[c.Name] = cl
	}
	for i := range routes {
		routes[i].Validate(func(path, message string) { t.Fatalf("route %d: %s: %s", i, path, message) })
	}
	e.gateway = New(cfg, "", routes, func(name string) *lb.Cluster { return e.clusters[name] }, NewWorkers(eng.Loops()),
		e.stats, func(g *Gateway) bool { return e.current.Load() != g }, log)
	e.current.Store(e.gateway)
	e.listener, err = eng.Listen("127.0.0.1:0", 0, e.gateway)
	must(t, err)
	t.Cleanup(func() {
		eng.Stop()
		for _, c := range e.clusters {
			c.Stop(nil)
		}
	})
	return e
}

// toUpstream is an edge whose every request goes to one upstream.
func toUpstream(t testing.TB, cfg Config, upstream string) *edge {
	return newEdge(t, cfg, []Route{{Cluster: "c"}}, cluster("c", upstream))
}

func cluster(name string, addresses ...string) lb.Config {
	c := lb.Config{Name: name}
	for _, a := range addresses {
		c.Endpoints = append(c.Endpoints, lb.EndpointConfig{Address: a})
	}
	return c
}

func prefix(p string) route.Match { return route.Match{PathPrefix: p} }

func (e *edge) counters() *Counters { return &e.stats.Loops[0] }

// on runs f on the edge's loop and waits for it.
func (e *edge) on(f func(w *worker)) {
	done := make(chan struct{})
	e.engine.Loops()[0].Post(func() {
		f(e.gateway.workers.list[0])
		close(done)
	})
	<-done
}

// client is a raw connection to the edge.
type client struct {
	t testing.TB
	*net.TCPConn
	r *bufio.Reader
}

func (e *edge) dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial("tcp", e.listener.Bound())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return &client{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c *client) send(raw string) {
	c.t.Helper()
	if _, err := c.Write([]byte(raw)); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// answer reads one final response and its body.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	for {
		resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
		if err != nil {
			c.t.Fatalf("no response: %v", err)
		}
		if resp.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			c.t.Fatalf("response body: %v", err)
		}
		return resp, string(body)
	}
}

// get is one GET with its answer's status and body.
func (c *client) get(path string) (int, string) {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: a.test\r\n\r\n")
	resp, body := c.answer("GET")
	return resp.StatusCode, body
}

// rest reads to the end of the connection.
func (c *client) rest() (string, error) {
	b, err := io.ReadAll(c.r)
	return string(b), err
}

// serveTCP serves every connection with f on a goroutine, and closes it.
func serveTCP(t testing.TB, f func(c *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			running.Go(func() {
				f(c.(*net.TCPConn))
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr().String()
}

// seen is one request as it came to an upstream.
type seen struct {
	*http.Request
	body string
	err  error // why the body is not whole
}

// recorder is an upstream that keeps what it was sent, and answers each request with what answer makes of it.
type recorder struct {
	address string
	mu      sync.Mutex
	reqs    []*seen
	raw     bytes.Buffer
	conns   int
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"

// errHangUp from an answer closes the connection after it.
var errHangUp = errors.New("close")

// record runs a recorder. answer gets each request's number, from 0, when its head has come, body unread; what it
// returns is sent, if it is not empty.
func record(t testing.TB, answer func(n int, r *seen) (string, error)) *recorder {
	rec := &recorder{}
	rec.address = serveTCP(t, func(c *net.TCPConn) {
		rec.mu.Lock()
		rec.conns++
		rec.mu.Unlock()
		r := bufio.NewReader(io.TeeReader(c, rec))
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			s := &seen{Request: req, err: errors.New("not read to its end")}
			rec.mu.Lock()
			n := len(rec.reqs)
			rec.reqs = append(rec.reqs, s)
			rec.mu.Unlock()
			out, err := answer(n, s)
			if out != "" {
				if _, werr := c.Write([]byte(out)); werr != nil {
					return
				}
			}
			if err != nil {
				return
			}
			rec.readBody(s)
		}
	})
	return rec
}

// readBody reads the request's body, if nobody has.
func (rec *recorder) readBody(s *seen) {
	b, err := io.ReadAll(s.Body)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if s.err != nil {
		s.body, s.err = string(b), err
	}
}

// Write keeps the raw bytes.
func (rec *recorder) Write(p []byte) (int, error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.raw.Write(p)
}

// requests are copies of what has come so far, with all raw bytes.
func (rec *recorder) requests() (reqs []seen, raw string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, s := range rec.reqs {
		reqs = append(reqs, *s)
	}
	return reqs, rec.raw.String()
}

// answerOK reads the body and answers 200.
func (rec *recorder) answerOK(_ int, s *seen) (string, error) {
	rec.readBody(s)
	if s.err != nil {
		return "", s.err
	}
	return ok, nil
}

// recordOK is a recorder that answers 200 to all.
func recordOK(t testing.TB) *recorder {
	var rec *recorder
	ready := make(chan struct{})
	rec = record(t, func(n int, s *seen) (string, error) {
		<-ready
		return rec.answerOK(n, s)
	})
	close(ready)
	return rec
}
