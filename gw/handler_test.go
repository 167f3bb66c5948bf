package gw

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
)

// A handler answers, on the loop or by a worker, and sees the request's body; or it has the request go on.
func TestHandler(t *testing.T) {
	rec := recordOK(t)
	handle := func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.Path()) {
		case "/next":
			ctx.Request.Header.Set("X-Handled", "yes")
			filter.Next(ctx)
		case "/panic":
			panic("as asked")
		case "/stream":
			ctx.SetBodyStreamWriter(func(w *bufio.Writer) { _, _ = w.WriteString(strings.Repeat("s", 100_000)) })
		default:
			ctx.SetStatusCode(201)
			fmt.Fprintf(ctx, "%s %s %s %s", ctx.Method(), ctx.Path(), ctx.PostBody(), ctx.RemoteIP())
		}
	}
	for _, workers := range []int{0, 2} {
		e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cluster("c", rec.address))
		e.with(t, "/", filter.Handler(handle, filter.HandlerConfig{Workers: workers, MaxBody: 10}))
		c := e.dial(t)
		c.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody")
		if resp, body := c.answer("POST"); resp.StatusCode != 201 || body != "POST /x body 127.0.0.1" ||
			resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%d workers: %d %q", workers, resp.StatusCode, body)
		}
		if status, body := c.get("/stream"); status != 200 || len(body) != 100_000 {
			t.Errorf("%d workers: stream: %d, %d bytes", workers, status, len(body))
		}
		if status, _ := c.get("/next"); status != 200 {
			t.Errorf("%d workers: next: %d", workers, status)
		}
		if reqs, _ := rec.requests(); reqs[len(reqs)-1].Header.Get("X-Handled") != "yes" {
			t.Errorf("%d workers: the upstream did not see what the handler set", workers)
		}
		if status, _ := c.get("/panic"); status != 500 {
			t.Errorf("%d workers: panic: %d", workers, status)
		}
		c.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 11\r\n\r\nelevenbytes")
		c.gets(413)
		e.settles(t)
	}
}

// While a handler blocks, others are served; beyond its workers and its queue, requests are refused.
func TestBlockingHandler(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Match: prefix("/slow"), Cluster: "c"}, {Cluster: "c"}}, cluster("c", rec.address))
	started, release := make(chan struct{}, 8), make(chan struct{})
	e.with(t, "/slow", filter.Handler(func(ctx *fasthttp.RequestCtx) {
		started <- struct{}{}
		<-release
		ctx.SetBodyString("late")
	}, filter.HandlerConfig{Workers: 1, Queue: 1}))
	first, second, third := e.dial(t), e.dial(t), e.dial(t)
	first.ask("/slow")
	<-started
	second.ask("/slow") // waits for the worker
	e.on(func(*worker) {})
	if status, _ := third.get("/other"); status != 200 {
		t.Errorf("beside it: %d", status)
	}
	if status, _ := third.get("/slow"); status != 503 {
		t.Errorf("beyond the queue: %d", status)
	}
	close(release)
	for _, c := range []*client{first, second} {
		if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != "late" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	}
	if n := e.stats.Refusals()[filter.Refusal{Filter: "handler", Reason: "busy"}]; n != 1 {
		t.Errorf("%d refusals are counted", n)
	}
	e.settles(t)
}

// logBuffer is written by goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A refusal is in the log with its reason and without what the client has sent, once a second at most; what a filter in shadow mode
// would have refused is counted apart.
func TestRefusalsAreLogged(t *testing.T) {
	rec := recordOK(t)
	var log logBuffer
	e := newEdge(t, Config{}, []Route{{Match: prefix("/no"), Name: "secured", Cluster: "c"}, {Cluster: "c"}}, cluster("c", rec.address))
	e.on(func(*worker) { e.gateway.log = slog.New(slog.NewTextHandler(&log, nil)) })
	sum := sha256.Sum256([]byte("the right key"))
	e.with(t, "/no", filter.New(filter.Config{APIKey: &filter.APIKey{Keys: []filter.NamedKey{{Name: "x", SHA256: hex.EncodeToString(sum[:])}}}}))
	e.with(t, "/", filter.New(filter.Config{RateLimit: &filter.RateLimit{Rate: 1. / 3600, Burst: 1, Shadow: true}}))
	c := e.dial(t)
	for range 3 {
		c.send("GET /no HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: seven\r\nX-Api-Key: a stolen key\r\n\r\n")
		c.gets(401)
		if status, _ := c.get("/"); status != 200 {
			t.Errorf("in shadow mode: %d", status)
		}
	}
	eventually(t, "both are in the log", func() bool { return strings.Count(log.String(), "\n") >= 2 })
	var refused, shadowed string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, `msg="request refused"`) {
			refused = line
		} else {
			shadowed = line
		}
	}
	for _, want := range []string{"filter=api_key", "reason=", "route=secured", "client=127.0.0.1", "status=401", "count=1"} {
		if !strings.Contains(refused, want) {
			t.Errorf("%q is without %s", refused, want)
		}
	}
	if !strings.Contains(shadowed, `msg="request would have been refused" filter=rate_limit`) {
		t.Errorf("%q", shadowed)
	}
	if strings.Contains(log.String(), "stolen") {
		t.Error("the key is in the log")
	}
	if n := e.stats.Shadowed()[filter.Refusal{Filter: "rate_limit", Reason: "rate"}]; n != 2 {
		t.Errorf("%v", e.stats.Shadowed())
	}
}

// A line a second and reason, and nothing that was not in one is forgotten.
func TestRefusalsAreLoggedOnceASecond(t *testing.T) {
	var all sync.Map
	r := &filter.Refusal{Filter: "f", Reason: "r"}
	for _, c := range []struct {
		at    time.Duration
		since uint64
	}{{0, 1}, {time.Millisecond, 0}, {999 * time.Millisecond, 0}, {time.Second, 3}, {1500 * time.Millisecond, 0}, {9 * time.Second, 2}} {
		if since, ok := refusalOf(&all, r).log(c.at); since != c.since || ok != (c.since > 0) {
			t.Errorf("at %v: %d, %v", c.at, since, ok)
		}
	}
}
