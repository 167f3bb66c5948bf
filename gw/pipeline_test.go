package gw

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
	"sluice/gw/h1"
	"sluice/gw/route"
)

// with has the requests for a path go through filters of the test's own.
func (e *edge) with(t testing.TB, path string, filters ...filter.Filter) {
	t.Helper()
	target, ok := e.gateway.routes.Find(&h1.Request{}, []byte("a.test"), []byte(path), netip.Addr{}, &route.Captures{})
	if !ok {
		t.Fatal("no route")
	}
	e.on(func(*worker) { target.setFilters(filters) })
}

// probe is a filter of functions; what is not given does nothing.
type probe struct {
	request  func(ctx *fasthttp.RequestCtx) filter.Result
	response func(ctx *fasthttp.RequestCtx)
	ended    atomic.Int64
	seen     atomic.Int64
}

func (p *probe) Request(ctx *fasthttp.RequestCtx) filter.Result {
	p.seen.Add(1)
	if p.request == nil {
		return filter.Continue
	}
	return p.request(ctx)
}

func (p *probe) Response(ctx *fasthttp.RequestCtx) {
	if p.response != nil {
		p.response(ctx)
	}
}

func (p *probe) End(*fasthttp.RequestCtx) { p.ended.Add(1) }

// waiter waits until it is told what to do.
func waiter() (p *probe, waits chan func(filter.Result)) {
	waits = make(chan func(filter.Result), 64)
	return &probe{request: func(ctx *fasthttp.RequestCtx) filter.Result {
		ctx.Request.Header.Set("X-Waited", "yes")
		waits <- filter.Resume(ctx)
		return filter.Wait
	}}, waits
}

// A request that waits goes on as it was, whatever the loop has read meanwhile.
func TestFilterWaits(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Match: prefix("/wait"), Cluster: "c"}, {Cluster: "c"}}, cluster("c", rec.address))
	w, waits := waiter()
	after := &probe{request: func(ctx *fasthttp.RequestCtx) filter.Result {
		ctx.Request.Header.Set("X-After", string(ctx.Request.Header.Peek("X-Waited"))+" "+ctx.RemoteIP().String())
		return filter.Continue
	}}
	e.with(t, "/wait", w, after)
	c, other := e.dial(t), e.dial(t)
	c.send("POST /wait?q HTTP/1.1\r\nHost: a.test\r\nCookie: a=b; c=\"d e\"\r\nContent-Length: 10\r\n\r\nearly")
	resume := <-waits
	for i := range 5 {
		if status, _ := other.get(fmt.Sprintf("/other/%d", i)); status != 200 {
			t.Fatalf("%d", status)
		}
	}
	c.send("later")
	resume(filter.Continue)
	if resp, _ := c.answer("POST"); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
	reqs, _ := rec.requests()
	r := reqs[len(reqs)-1]
	if r.Method != "POST" || r.RequestURI != "/wait?q" || r.body != "earlylater" || r.Header.Get("Cookie") != `a=b; c="d e"` ||
		r.Header.Get("X-After") != "yes 127.0.0.1" {
		t.Errorf("the upstream saw %s %s %q %v", r.Method, r.RequestURI, r.body, r.Header)
	}
	// And one that is answered after all.
	refuses := func(ctx *fasthttp.RequestCtx) filter.Result {
		resume := filter.Resume(ctx)
		go func() { resume(filter.Refuse(ctx, 403, "no", &filter.Refusal{Filter: "probe", Reason: "because"})) }()
		return filter.Wait
	}
	e.on(func(*worker) { w.request = refuses })
	c.ask("/wait")
	c.gets(403)
	if n := e.stats.Refusals(); n[filter.Refusal{Filter: "probe", Reason: "because"}] != 1 {
		t.Errorf("refusals %v", n)
	}
	if status, _ := c.get("/other"); status != 200 {
		t.Errorf("%d", status)
	}
	e.settles(t)
	if w.ended.Load() != w.seen.Load() || after.ended.Load() != after.seen.Load() {
		t.Errorf("%d and %d requests seen, %d and %d ended", w.seen.Load(), after.seen.Load(), w.ended.Load(), after.ended.Load())
	}
}

// A client that goes, or whose time is over, while a filter waits leaves nothing behind.
func TestClientGoesWhileAFilterWaits(t *testing.T) {
	e := newEdge(t, Config{}, []Route{{Cluster: "c", Timeout: 100 * time.Millisecond}}, cluster("c", recordOK(t).address))
	w, waits := waiter()
	e.with(t, "/", w)
	c := e.dial(t)
	c.ask("/")
	resume := <-waits
	c.gets(504)
	resume(filter.Continue)
	c = e.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
	resume = <-waits
	must(t, c.SetLinger(0))
	c.Close()
	eventually(t, "the connection has ended", func() bool { return e.engine.Open() == 0 })
	resume(filter.Answer)
	eventually(t, "both have ended", func() bool { return w.ended.Load() == 2 })
	e.settles(t)
}

// whole needs bodies whole, and changes them.
type whole struct {
	probe
	limit int
}

func (f *whole) RequestBody(*fasthttp.RequestCtx) int { return f.limit }

func (f *whole) ResponseBody(*fasthttp.RequestCtx) int { return f.limit }

func (f *whole) Request(ctx *fasthttp.RequestCtx) filter.Result {
	f.seen.Add(1)
	ctx.Request.SetBody(append([]byte("<"), append(ctx.Request.Body(), '>')...))
	return filter.Continue
}

func (f *whole) Response(ctx *fasthttp.RequestCtx) {
	ctx.Response.SetBody(append([]byte("["), append(ctx.Response.Body(), ']')...))
}

func TestFilterNeedsWholeBodies(t *testing.T) {
	for name, answer := range map[string]string{
		"by length":     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"in chunks":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: y\r\n\r\n",
		"until the end": "HTTP/1.1 200 OK\r\n\r\nhello",
		"too large":     "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000),
	} {
		t.Run(name, func(t *testing.T) {
			var rec *recorder
			ready := make(chan struct{})
			rec = record(t, func(_ int, s *seen) (string, error) {
				<-ready
				rec.readBody(s)
				if name == "until the end" {
					return answer, errHangUp
				}
				return answer, nil
			})
			close(ready)
			e := toUpstream(t, Config{}, rec.address)
			f := &whole{limit: 1000}
			e.with(t, "/", f)
			c := e.dial(t)
			for i, request := range []string{
				"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
				"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
				"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
			} {
				c.send(request)
				if i == 2 {
					line, err := c.r.ReadString('\n')
					must(t, err)
					if !strings.Contains(line, "100 Continue") {
						t.Fatalf("%q", line)
					}
					_, _ = c.r.ReadString('\n')
					c.send("abc")
				}
				resp, body := c.answer("POST")
				if name == "too large" {
					if resp.StatusCode != 502 {
						t.Errorf("%d", resp.StatusCode)
					}
				} else if resp.StatusCode != 200 || body != "[hello]" || resp.ContentLength != 7 {
					t.Errorf("%d %q of %d", resp.StatusCode, body, resp.ContentLength)
				}
				reqs, _ := rec.requests()
				if r := reqs[len(reqs)-1]; r.body != "<abc>" || r.ContentLength != 5 || r.Header.Get("Expect") != "" {
					t.Errorf("the upstream saw %q of %d, %v", r.body, r.ContentLength, r.Header)
				}
				if resp.Close {
					c = e.dial(t)
				}
			}
			c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + strings.Repeat("x", 2000) + "\r\n0\r\n\r\n")
			if resp, _ := c.answer("POST"); resp.StatusCode != 413 {
				t.Errorf("%d", resp.StatusCode)
			}
			e.settles(t)
			if f.ended.Load() != f.seen.Load() {
				t.Errorf("%d seen, %d ended", f.seen.Load(), f.ended.Load())
			}
		})
	}
}

// late is whole, and takes its time for responses.
type late struct {
	whole
	waits chan func(filter.Result)
}

func (f *late) ResponseWait(ctx *fasthttp.RequestCtx) filter.Result {
	f.Response(ctx)
	f.waits <- filter.Resume(ctx)
	return filter.Wait
}

func TestFilterWaitsWithTheResponse(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Match: prefix("/late"), Cluster: "c"}, {Cluster: "c"}}, cluster("c", rec.address))
	f := &late{whole{limit: 100}, make(chan func(filter.Result), 8)}
	outer := &probe{response: func(ctx *fasthttp.RequestCtx) { ctx.Response.Header.Set("X-Outer", string(ctx.Response.Body())) }}
	e.with(t, "/late", outer, f)
	c, other := e.dial(t), e.dial(t)
	for range 2 {
		c.ask("/late")
		resume := <-f.waits
		if status, _ := other.get("/"); status != 200 {
			t.Fatalf("%d", status)
		}
		resume(filter.Continue)
		if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != "[OK]" || resp.Header.Get("X-Outer") != "[OK]" {
			t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
		}
	}
	c.ask("/late")
	resume := <-f.waits
	must(t, c.SetLinger(0))
	c.Close()
	eventually(t, "the connection has ended", func() bool { return e.listener.Open() == 1 })
	resume(filter.Continue)
	eventually(t, "all have ended", func() bool { return outer.ended.Load() == 3 && f.ended.Load() == 3 })
	other.Close()
	e.settles(t)
}

// shout transforms bodies as they come.
type shout struct {
	probe
	closed atomic.Int64
}

func (f *shout) Stream(ctx *fasthttp.RequestCtx) filter.Transform {
	if bytes.HasSuffix(ctx.Path(), []byte("/not")) {
		return nil
	}
	return &shouting{f}
}

type shouting struct{ of *shout }

func (s *shouting) Append(dst, src []byte, last bool) ([]byte, error) {
	if bytes.Contains(src, []byte("!")) {
		return dst, io.ErrUnexpectedEOF
	}
	dst = append(dst, bytes.ToUpper(src)...)
	if last {
		dst = append(dst, "."...)
	}
	return dst, nil
}

func (s *shouting) Close() { s.of.closed.Add(1) }

func TestFilterTransformsAStream(t *testing.T) {
	long := strings.Repeat("abcdefgh", 100<<10)
	for name, f := range map[string]struct{ answer, want string }{
		"by length":     {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HELLO."},
		"in chunks":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "HELLO."},
		"until the end": {"HTTP/1.1 200 OK\r\n\r\nhello", "HELLO."},
		"nothing":       {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		"large":         {fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), strings.ToUpper(long) + "."},
	} {
		t.Run(name, func(t *testing.T) {
			rec := record(t, func(int, *seen) (string, error) {
				if name == "until the end" {
					return f.answer, errHangUp
				}
				return f.answer, nil
			})
			e := toUpstream(t, Config{}, rec.address)
			s := &shout{}
			e.with(t, "/", s)
			c := e.dial(t)
			for range 2 {
				c.ask("/")
				if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != f.want {
					t.Errorf("%d %.40q", resp.StatusCode, body)
				}
			}
			c.ask("/not")
			if resp, body := c.answer("GET"); resp.StatusCode != 200 || strings.ToUpper(body) == body && body != "" {
				t.Errorf("%d %.40q", resp.StatusCode, body)
			}
			c.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
			if resp, body := c.answer("GET"); resp.StatusCode != 200 || body != f.want {
				t.Errorf("HTTP/1.0: %d %.40q", resp.StatusCode, body)
			}
			if name == "nothing" {
				return
			}
			eventually(t, "every transform is closed", func() bool { return s.closed.Load() == 3 })
		})
	}
	// One that fails ends the response where it is, so that nobody takes it for whole.
	rec := record(t, func(int, *seen) (string, error) { return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi!!", nil })
	e := toUpstream(t, Config{}, rec.address)
	s := &shout{}
	e.with(t, "/", s)
	c := e.dial(t)
	c.ask("/")
	if resp, _ := c.answer("GET"); resp.StatusCode != 502 {
		t.Errorf("%d", resp.StatusCode)
	}
	eventually(t, "the transform is closed", func() bool { return s.closed.Load() == 1 })
	e.settles(t)
}

// Each filter hears once of the end of each exchange that it has seen the beginning of.
func TestFilterHearsOfTheEnd(t *testing.T) {
	first, second := &probe{}, &probe{request: func(ctx *fasthttp.RequestCtx) filter.Result {
		if string(ctx.Path()) == "/answer" {
			ctx.Response.SetStatusCode(200)
			return filter.Answer
		}
		return filter.Continue
	}}
	third := &probe{}
	hold := make(chan struct{})
	upstream := serveTCP(t, func(c *net.TCPConn) { <-hold })
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cluster("c", upstream))
	e.with(t, "/", first, second, third)
	defer close(hold)
	c := e.dial(t)
	c.ask("/answer")
	c.gets(200)
	c.ask("/hangs")
	eventually(t, "it is on its way", func() bool { return e.clusters["c"].Endpoints()[0].InFlight() == 1 })
	must(t, c.SetLinger(0))
	c.Close()
	eventually(t, "all have ended", func() bool { return first.ended.Load() == 2 && second.ended.Load() == 2 && third.ended.Load() == 1 })
	if first.seen.Load() != 2 || third.seen.Load() != 1 {
		t.Errorf("%d and %d seen", first.seen.Load(), third.seen.Load())
	}
}

// A listener's filters come before those of its routes, and are the same for all: a limit is one.
func TestFiltersOfTheListener(t *testing.T) {
	rec := recordOK(t)
	limit := filter.Config{RateLimit: &filter.RateLimit{Burst: 3}}
	must(t, limit.RateLimit.Rate.UnmarshalText([]byte("3/h")))
	set := func(v string) filter.Config {
		return filter.Config{Headers: &filter.Headers{RequestEdit: filter.Edit{Set: map[string]string{"X-Who": v}}}}
	}
	e := newEdge(t, Config{Filters: []filter.Config{set("listener"), limit}}, []Route{
		{Match: prefix("/a"), Cluster: "c"}, {Match: prefix("/b"), Cluster: "c", Filters: []filter.Config{set("route")}}}, cluster("c", rec.address))
	c := e.dial(t)
	for i, path := range []string{"/a", "/b", "/a", "/b", "/a"} {
		want := 200
		if i >= 3 {
			want = 429
		}
		if status, _ := c.get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	reqs, _ := rec.requests()
	if a, b := reqs[0].Header.Get("X-Who"), reqs[1].Header.Get("X-Who"); a != "listener" || b != "route" {
		t.Errorf("%q and %q", a, b)
	}
}
