package gw

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice/gw/filter"
	"sluice/lb"
)

func TestForwardedHead(t *testing.T) {
	rec := recordOK(t)
	c := toUpstream(t, Config{}, rec.address).dial(t)
	c.send("GET /a/../b//c?x=1 HTTP/1.1\r\nHost: A.test:80\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n" +
		"X-Real-IP: 9.9.9.9\r\nAccept: */*\r\nX-Request-ID: abc-1\r\nVia: 1.1 front\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\r\n")
	resp, body := c.answer("GET")
	if resp.StatusCode != 200 || body != "OK" || resp.Header.Get("Date") == "" || resp.Close {
		t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
	}
	_, raw := rec.requests()
	want := "GET /b/c?x=1 HTTP/1.1\r\nHost: A.test:80\r\nAccept: */*\r\nVia: 1.1 front\r\nX-Forwarded-For: 127.0.0.1\r\n" +
		"X-Forwarded-Proto: http\r\nX-Forwarded-Host: A.test:80\r\nX-Request-Id: abc-1\r\nVia: 1.1 sluice\r\n\r\n"
	if raw != want {
		t.Errorf("the upstream saw\n%q, not\n%q", raw, want)
	}
}

func TestRequestIDs(t *testing.T) {
	rec := recordOK(t)
	c := toUpstream(t, Config{}, rec.address).dial(t)
	for _, id := range []string{"", "X-Request-Id: a b\r\n", "X-Request-Id: \"\r\n", "X-Request-Id: a\r\nX-Request-Id: b\r\n",
		"X-Request-Id: " + strings.Repeat("a", maxID+1) + "\r\n"} {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n" + id + "\r\n")
		c.answer("GET")
	}
	reqs, _ := rec.requests()
	seen := map[string]bool{}
	for i, r := range reqs {
		v := r.Header.Values("X-Request-Id")
		if len(v) != 1 || len(v[0]) != 32 || seen[v[0]] {
			t.Errorf("request %d has ids %q", i, v)
		}
		seen[v[0]] = true
	}
}

func TestRoutes(t *testing.T) {
	a, b := recordOK(t), recordOK(t)
	e := newEdge(t, Config{}, []Route{
		{Match: prefix("/order"), Cluster: "a"},
		{Match: prefix("/order/old"), Cluster: "b"},
	}, cluster("a", a.address), cluster("b", b.address))
	c := e.dial(t)
	for path, want := range map[string]int{"/order": 200, "/order/1": 200, "/order/old/7": 200, "/orders": 404, "/": 404,
		"/order;v=1/old": 200} {
		status, body := c.get(path)
		if status != want {
			t.Errorf("%s: %d", path, status)
		}
		if status == 404 && !strings.Contains(body, `"request_id":"`) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if r, _ := b.requests(); len(r) != 2 {
		t.Errorf("the longer prefix had %d requests", len(r))
	}
	if r, _ := a.requests(); len(r) != 2 {
		t.Errorf("the shorter prefix had %d requests", len(r))
	}
}

func TestUpstreamConnectionIsReused(t *testing.T) {
	rec := recordOK(t)
	e := toUpstream(t, Config{}, rec.address)
	for range 3 {
		c := e.dial(t)
		for range 5 {
			if status, _ := c.get("/"); status != 200 {
				t.Fatal(status)
			}
		}
		c.Close()
	}
	if rec.conns != 1 {
		t.Errorf("15 requests took %d upstream connections", rec.conns)
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	echo := record(t, func(_ int, s *seen) (string, error) {
		body, err := io.ReadAll(s.Body)
		out := s.URL.Path + ":" + string(body)
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(out), out), err
	})
	c := toUpstream(t, Config{}, echo.address).dial(t)
	var all, want strings.Builder
	for i := range 100 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			fmt.Fprintf(&want, "/%d:;", i)
		case 1:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", i)
			fmt.Fprintf(&want, "/%d:abc;", i)
		case 2:
			fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n", i)
			fmt.Fprintf(&want, "/%d:def;", i)
		}
	}
	c.send(all.String())
	var got strings.Builder
	for range 100 {
		_, body := c.answer("POST")
		got.WriteString(body + ";")
	}
	if got.String() != want.String() {
		t.Errorf("got %s", got.String())
	}
}

// Bodies far larger than any buffer, in all framings, both ways at once.
func TestBodiesAreStreamed(t *testing.T) {
	body := make([]byte, 9<<20+17)
	for i := range body {
		body[i] = byte(i * i >> 8)
	}
	sum := sha256.Sum256(body)
	serve := func(answer func(c net.Conn, body []byte)) string {
		return serveTCP(t, func(c *net.TCPConn) {
			r := bufio.NewReader(c)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				got, err := io.ReadAll(req.Body)
				if err != nil {
					return
				}
				if len(got) > 0 && sha256.Sum256(got) != sum {
					_, _ = io.WriteString(c, "HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n")
					return
				}
				answer(c, body)
				if req.URL.Path == "/close" {
					return
				}
			}
		})
	}
	framings := map[string]func(c net.Conn, body []byte){
		"length": func(c net.Conn, body []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
			_, _ = c.Write(body)
		},
		"chunked": func(c net.Conn, body []byte) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for n := 1; len(body) > 0; n = n*3 + 1 {
				n = min(n, len(body), 1<<20)
				fmt.Fprintf(c, "%x\r\n%s\r\n", n, body[:n])
				body = body[n:]
			}
			_, _ = io.WriteString(c, "0\r\n\r\n")
		},
		"close": func(c net.Conn, body []byte) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = c.Write(body)
		},
	}
	for name, answer := range framings {
		for _, sent := range []string{"length", "chunked", "none", "http10"} {
			t.Run(sent+"_"+name, func(t *testing.T) {
				t.Parallel()
				e := toUpstream(t, Config{}, serve(answer))
				for range 2 {
					c := e.dial(t)
					go func() {
						w := bufio.NewWriterSize(c, 1<<20)
						path, version := "/"+name, "1.1"
						if sent == "http10" {
							version = "1.0"
						}
						fmt.Fprintf(w, "POST %s HTTP/%s\r\nHost: a\r\n", path, version)
						switch sent {
						case "length", "http10":
							fmt.Fprintf(w, "Content-Length: %d\r\n\r\n", len(body))
							_, _ = w.Write(body)
						case "chunked":
							_, _ = w.WriteString("Transfer-Encoding: chunked\r\n\r\n")
							for b := body; len(b) > 0; {
								n := min(len(b), 70_001)
								fmt.Fprintf(w, "%X;x=\"y\"\r\n%s\r\n", n, b[:n])
								b = b[n:]
							}
							_, _ = w.WriteString("0\r\nX-T: 1\r\n\r\n")
						default:
							_, _ = w.WriteString("\r\n")
						}
						_ = w.Flush()
					}()
					resp, got := c.answer("POST")
					if resp.StatusCode != 200 || sha256.Sum256([]byte(got)) != sum {
						t.Errorf("status %d, %d bytes of %d", resp.StatusCode, len(got), len(body))
					}
					if resp.Close != (sent == "http10") {
						t.Errorf("close: %v", resp.Close)
					}
					c.Close()
				}
			})
		}
	}
}

// A client that does not read stalls the upstream, and one that an upstream does not read is stalled.
func TestBackPressure(t *testing.T) {
	const size = 256 << 20
	wrote := make(chan int64, 1)
	up := serveTCP(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		n, _ := io.Copy(c, io.LimitReader(zeros{}, size))
		wrote <- n
	})
	e := toUpstream(t, Config{}, up)
	c := e.dial(t)
	must(t, c.SetReadBuffer(64<<10))
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	local := e.clusters["c"].Endpoints()[0].Local(e.engine.Loops()[0])
	// The flow stops when all buffers are full: far below what there is to send.
	last, still := uint64(0), 0
	eventually(t, "the transfer stalls", func() bool {
		if n := local.Received.Load(); n != last || n == 0 {
			last, still = n, 0
		} else {
			still++
		}
		return still > 200
	})
	if last > size/4 {
		t.Errorf("%d bytes were taken for a client that does not read", last)
	}
	c.Close()
	if n := <-wrote; n >= size {
		t.Error("the upstream wrote all")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestExpectContinue(t *testing.T) {
	up := serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil || !strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		_, _ = io.Copy(io.Discard, r)
	})
	c := toUpstream(t, Config{}, up).dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
	line, err := c.r.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	if line, _ = c.r.ReadString('\n'); line != "\r\n" {
		t.Fatalf("%q", line)
	}
	c.send("hello")
	if _, body := c.answer("POST"); body != "hello" {
		t.Errorf("%q", body)
	}
}

// HEAD, 204 and 304 have no body, whatever their fields say; the connections stay in step.
func TestResponsesWithoutBody(t *testing.T) {
	rec := record(t, func(_ int, s *seen) (string, error) {
		switch {
		case s.Method == "HEAD":
			return "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", nil
		case s.URL.Path == "/204":
			return "HTTP/1.1 204 No Content\r\n\r\n", nil
		case s.URL.Path == "/304":
			return "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"x\"\r\n\r\n", nil
		}
		return ok, nil
	})
	c := toUpstream(t, Config{}, rec.address).dial(t)
	for _, x := range []struct {
		method, path string
		status       int
	}{{"HEAD", "/", 200}, {"GET", "/204", 204}, {"GET", "/304", 304}, {"HEAD", "/", 200}, {"GET", "/", 200}} {
		c.send(x.method + " " + x.path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, _ := c.answer(x.method); resp.StatusCode != x.status {
			t.Errorf("%s %s: %d", x.method, x.path, resp.StatusCode)
		}
	}
	if rec.conns != 1 {
		t.Errorf("%d upstream connections", rec.conns)
	}
	none := newEdge(t, Config{}, []Route{{Match: prefix("/x"), Cluster: "c"}}, cluster("c", rec.address)).dial(t)
	none.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	for range 2 {
		if resp, _ := none.answer("HEAD"); resp.StatusCode != 404 || resp.ContentLength <= 0 {
			t.Errorf("%d, length %d", resp.StatusCode, resp.ContentLength)
		}
	}
}

func TestFilters(t *testing.T) {
	rec := record(t, func(_ int, s *seen) (string, error) {
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: a=2\r\nX-Secret: s\r\nServer: x\r\n\r\nOK", nil
	})
	change := filter.Config{Headers: &filter.Headers{
		RequestEdit: filter.Edit{Set: map[string]string{"X-Env": "prod", "Host": "inner.test"},
			Add: map[string]string{"X-Tag": "b"}, Remove: []string{"X-Debug"}},
		ResponseEdit: filter.Edit{Set: map[string]string{"X-Gateway": "g"}, Remove: []string{"x-secret"}},
	}}
	e := newEdge(t, Config{}, []Route{
		{Match: prefix("/no"), Filters: []filter.Config{change, {Respond: &filter.Respond{Status: 418, Body: "short\n",
			Headers: map[string]string{"X-Why": "tea"}}}}},
		{Cluster: "c", Filters: []filter.Config{change}},
	}, cluster("c", rec.address))
	c := e.dial(t)
	c.send("POST /p?q=1 HTTP/1.1\r\nHost: a.test\r\nX-Debug: 1\r\nx-tag: a\r\nx-env: dev\r\nCookie: b=2; c\r\nCookie: d\r\n" +
		"User-Agent: u\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\r\nabc")
	resp, body := c.answer("POST")
	if resp.StatusCode != 200 || body != "OK" || resp.Header.Get("X-Gateway") != "g" || resp.Header.Get("X-Secret") != "" ||
		resp.Header.Get("Server") != "x" || len(resp.Header.Values("Set-Cookie")) != 2 || resp.Header.Get("Content-Type") != "" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	reqs, raw := rec.requests()
	r := reqs[0]
	if r.Host != "inner.test" || r.RequestURI != "/p?q=1" || r.Header.Get("X-Env") != "prod" || r.Header.Get("X-Debug") != "" ||
		strings.Join(r.Header.Values("X-Tag"), ",") != "a,b" || r.Header.Get("User-Agent") != "u" ||
		r.Header.Get("Content-Type") != "text/x" || !strings.HasSuffix(raw, "\r\n\r\nabc") {
		t.Errorf("the upstream saw %s", raw)
	}
	if strings.Join(r.Header.Values("Cookie"), "|") != "b=2; c|d" {
		t.Errorf("cookies %q", r.Header.Values("Cookie"))
	}
	c.send("POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
	resp, body = c.answer("POST")
	if resp.StatusCode != 418 || body != "short\n" || resp.Header.Get("X-Why") != "tea" || resp.Header.Get("X-Gateway") != "g" ||
		resp.Header.Get("Date") == "" || resp.Close {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	if status, _ := c.get("/again"); status != 200 {
		t.Error(status)
	}
}

func TestHTTP10KeepAlive(t *testing.T) {
	c := toUpstream(t, Config{}, recordOK(t).address).dial(t)
	for range 2 {
		c.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		resp, _ := c.answer("GET")
		if resp.StatusCode != 200 || resp.Header.Get("Connection") != "keep-alive" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
	c.send("GET / HTTP/1.0\r\n\r\n")
	c.answer("GET")
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("an HTTP/1.0 connection was kept: %v", err)
	}
}

// A steady request allocates nothing, through the whole pipeline, with and without filters.
func TestNoAllocations(t *testing.T) {
	var reply = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: x\r\n\r\nOK")
	up := serveTCP(t, func(c *net.TCPConn) {
		b := make([]byte, 4096)
		for {
			if n, err := c.Read(b); err != nil || !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
				return
			}
			if _, err := c.Write(reply); err != nil {
				return
			}
		}
	})
	change := filter.Config{Headers: &filter.Headers{ResponseEdit: filter.Edit{Set: map[string]string{"X-Gateway": "g"}}}}
	e := newEdge(t, Config{}, []Route{
		{Match: prefix("/plain"), Cluster: "c"},
		{Match: prefix("/filtered"), Cluster: "c", Filters: []filter.Config{change}},
		{Match: prefix("/here"), Filters: []filter.Config{{Respond: &filter.Respond{Body: "x"}}}},
	}, lb.Config{Name: "c", Endpoints: []lb.EndpointConfig{{Address: up}}})
	for _, path := range []string{"/plain", "/filtered", "/here"} {
		c := e.dial(t)
		req := []byte("GET " + path + "?q=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: x\r\nAccept: */*\r\nCookie: a=b\r\n\r\n")
		b := make([]byte, 4096)
		once := func() {
			if _, err := c.Write(req); err != nil {
				t.Fatal(err)
			}
			if n, err := c.TCPConn.Read(b); err != nil || !bytes.HasPrefix(b[:n], []byte("HTTP/1.1 200 ")) {
				t.Fatalf("%q %v", b[:n], err)
			}
		}
		once()
		if n := testing.AllocsPerRun(400, once); n != 0 {
			t.Errorf("%s: %v allocations per request", path, n)
		}
		c.Close()
	}
}

// Uploads of which a read of the loop is full: head and piece together need a buffer of the pool.
func TestUploadsAllocateNothing(t *testing.T) {
	const size = 256 << 10
	reply := []byte(ok)
	up := serveTCP(t, func(c *net.TCPConn) {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if b[n-1] == 'Z' { // the body's last byte
				if _, err := c.Write(reply); err != nil {
					return
				}
			}
		}
	})
	c := toUpstream(t, Config{}, up).dial(t)
	req := append([]byte(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", size)), bytes.Repeat([]byte("a"), size)...)
	req[len(req)-1] = 'Z'
	b := make([]byte, 4096)
	once := func() {
		if _, err := c.Write(req); err != nil {
			t.Fatal(err)
		}
		if n, err := c.TCPConn.Read(b); err != nil || !bytes.HasPrefix(b[:n], []byte("HTTP/1.1 200 ")) {
			t.Fatalf("%q %v", b[:n], err)
		}
	}
	for range 20 {
		once() // the pool fills
	}
	if n := testing.AllocsPerRun(50, once); n != 0 {
		t.Errorf("%v allocations per upload", n)
	}
}
