package gw

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/lb"
)

// What an upstream may do wrong with its response. The client must learn that there is none, or that it is not
// whole; the upstream's connection must not serve another request.
func TestUpstreamMisbehaves(t *testing.T) {
	for name, x := range map[string]struct {
		says   string
		status int  // of what the client gets; 0: a response that is not whole
		hangUp bool // after saying it
	}{
		"garbage":             {"\x16\x03\x01\x00\xff\x00", 502, false},
		"another protocol":    {"SSH-2.0-OpenSSH_9.2\r\n", 502, false},
		"nothing":             {"", 502, true},
		"half a head":         {"HTTP/1.1 200 OK\r\nContent-Le", 502, true},
		"empty lines first":   {"\r\n\r\n" + ok, 502, false},
		"two lengths":         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nOK", 502, false},
		"bare LF":             {"HTTP/1.1 200 OK\nContent-Length: 2\n\nOK", 502, false},
		"switches protocols":  {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 502, false},
		"interim for ever":    {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000), 502, false},
		"head without end":    {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 100), 502, false},
		"bad chunk at once":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 502, false},
		"too little":          {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", 0, true},
		"too few chunks":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0, true},
		"too much":            {ok + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON", 200, false},
		"a body of HEAD's":    {"HTTP/1.1 204 No Content\r\n\r\nPOISON", 204, false},
		"wants to close":      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK", 200, false},
		"HTTP/1.0, no length": {"HTTP/1.0 200 OK\r\n\r\nOK", 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := record(t, func(n int, s *seen) (string, error) {
				if n > 0 {
					return ok, nil
				}
				if x.hangUp {
					return x.says, errHangUp
				}
				return x.says, nil
			})
			e := toUpstream(t, Config{}, rec.address)
			c := e.dial(t)
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			var resp *http.Response
			for {
				var err error
				if resp, err = http.ReadResponse(c.r, nil); err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode >= 200 {
					break
				}
			}
			body, err := io.ReadAll(resp.Body)
			if x.status == 0 {
				if err == nil {
					t.Errorf("the client took %d %q for a whole response", resp.StatusCode, body)
				}
				c = e.dial(t)
			} else if resp.StatusCode != x.status || err != nil {
				t.Errorf("%d %q %v", resp.StatusCode, body, err)
			}
			if status, body := c.get("/next"); status != 200 || body != "OK" {
				t.Errorf("the next request got %d %q", status, body)
			}
			if rec.conns != 2 {
				t.Errorf("the next request came on the same upstream connection")
			}
		})
	}
}

// An upstream that sends without being asked loses its connection, and what it sent is nobody's response.
func TestUpstreamSpeaksUnasked(t *testing.T) {
	speak := make(chan struct{})
	var first net.Conn
	loud := serveTCP(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		if first == nil {
			first = c
			_, _ = io.WriteString(c, ok)
			<-speak
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")
			_, _ = io.Copy(io.Discard, c)
			return
		}
		_, _ = io.WriteString(c, ok)
	})
	e := toUpstream(t, Config{}, loud)
	c := e.dial(t)
	c.get("/")
	close(speak)
	ep := e.clusters["c"].Endpoints()[0]
	eventually(t, "the connection is dropped", func() bool {
		n := 0
		e.on(func(w *worker) { n = len(ep.Local(w.loop).Idle) })
		return n == 0
	})
	if _, body := c.get("/"); body != "OK" {
		t.Errorf("%q", body)
	}
}

// An upstream may answer before it has the request: the answer is passed on, and both connections end.
func TestEarlyResponse(t *testing.T) {
	up := serveTCP(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n")
		_ = c.SetLinger(0) // it does not want the rest
	})
	c := toUpstream(t, Config{}, up).dial(t)
	go func() {
		_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 64<<20)
		_, _ = io.Copy(c, io.LimitReader(zeros{}, 64<<20))
	}()
	resp, body := c.answer("POST")
	if resp.StatusCode != 403 || body != "no\n" || !resp.Close {
		t.Errorf("%d %q close %v", resp.StatusCode, body, resp.Close)
	}
}

// A kept connection that the upstream closed meanwhile: a GET is sent again, a POST is not.
func TestStaleConnection(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			// The second request of a connection is read, and not answered.
			rec := record(t, func(n int, s *seen) (string, error) {
				if n == 1 {
					return "", errHangUp
				}
				return ok, nil
			})
			e := toUpstream(t, Config{}, rec.address)
			c := e.dial(t)
			c.get("/")
			c.send(method + " / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
			want, conns := 200, 3
			if method == "POST" {
				want, conns = 502, 2
			}
			if resp, _ := c.answer(method); resp.StatusCode != want {
				t.Errorf("status %d", resp.StatusCode)
			}
			if reqs, _ := rec.requests(); len(reqs) != conns {
				t.Errorf("the upstream saw %d requests", len(reqs))
			}
		})
	}
}

func TestNextEndpoint(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cluster("c", dead(t), rec.address, dead(t)))
	c := e.dial(t)
	for i := range 9 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
		if resp, _ := c.answer("POST"); resp.StatusCode != 200 {
			t.Errorf("request %d: %d", i, resp.StatusCode)
		}
	}
	if e.counters().Retries.Load() == 0 {
		t.Error("no retry was counted")
	}
	for _, ep := range e.clusters["c"].Endpoints() {
		eventually(t, "nothing is in flight to "+ep.String(), func() bool { return ep.InFlight() == 0 })
	}
}

// dead is an address that refuses connections.
func dead(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, ln.Close())
	return ln.Addr().String()
}

func TestNoEndpoint(t *testing.T) {
	c := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cluster("c", dead(t), dead(t))).dial(t)
	for range 2 {
		if status, body := c.get("/"); status != 503 || !strings.Contains(body, `"status":503`) {
			t.Errorf("%d %s", status, body)
		}
	}
}

func TestLimits(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{MaxBody: 10}, []Route{{Cluster: "c"}}, cluster("c", rec.address))
	for name, x := range map[string]struct {
		request string
		status  int
	}{
		"line":           {"GET /" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
		"head":           {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 40) + "\r\n", 431},
		"fields":         {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: a\r\n", 100) + "\r\n", 431},
		"length":         {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world", 413},
		"chunks":         {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n", 413},
		"within, length": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello worl", 200},
		"within, chunks": {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n4\r\nworl\r\n0\r\n\r\n", 200},
		"fields, just":   {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: a\r\n", 99) + "\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			c := e.dial(t)
			c.send(x.request)
			resp, body := c.answer("POST")
			if resp.StatusCode != x.status {
				t.Errorf("status %d", resp.StatusCode)
			}
			if x.status != 200 && (!resp.Close || !strings.Contains(body, `"error":"`)) {
				t.Errorf("close %v, %s", resp.Close, body)
			}
		})
	}
	reqs, _ := rec.requests()
	for _, r := range reqs {
		if r.err == nil && len(r.body) > 10 {
			t.Errorf("the upstream got %q", r.body)
		}
	}
}

const short = 100 * time.Millisecond

func TestTimeouts(t *testing.T) {
	silent := serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	for name, x := range map[string]struct {
		cfg    Config
		sends  string
		drips  bool // goes on sending a byte now and then
		status int  // 0: closed without a word
	}{
		"idle":             {Config{IdleTimeout: short, HeaderTimeout: short}, "", false, 0},
		"head":             {Config{HeaderTimeout: short}, "GET / HTTP/1.1\r\nHost: a\r\nX-A: ", false, 408},
		"head, slowloris":  {Config{HeaderTimeout: short}, "GET / HTTP/1.1\r\nHost: a\r\nX-A: ", true, 408},
		"body":             {Config{RequestTimeout: short}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", false, 408},
		"body, drips":      {Config{RequestTimeout: short}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", true, 408},
		"response":         {Config{}, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", false, 504},
		"response to POST": {Config{}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", false, 504},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, x.cfg, []Route{{Cluster: "c"}}, lb.Config{Name: "c", ResponseTimeout: short,
				Endpoints: []lb.EndpointConfig{{Address: silent}}})
			c := e.dial(t)
			c.send(x.sends)
			stop := make(chan struct{})
			defer close(stop)
			if x.drips {
				go func() {
					tick := time.NewTicker(short / 10)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							_, _ = c.Write([]byte("a"))
						case <-stop:
							return
						}
					}
				}()
			}
			if x.status == 0 {
				if b, err := c.rest(); b != "" || err != nil {
					t.Errorf("%q %v", b, err)
				}
				return
			}
			resp, _ := c.answer("POST")
			if resp.StatusCode != x.status || (x.status == 408) != resp.Close {
				t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
			}
			if x.status == 408 && e.counters().Timeouts.Load() != 1 {
				t.Error("no timeout was counted")
			}
		})
	}
}

// A client that takes nothing of its response for the idle timeout is reset.
func TestClientDoesNotRead(t *testing.T) {
	up := serveTCP(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<30)
		_, _ = io.Copy(c, io.LimitReader(zeros{}, 1<<30))
	})
	e := toUpstream(t, Config{IdleTimeout: short}, up)
	c := e.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "the exchange ends", func() bool { return e.listener.Open() == 0 })
	if _, err := c.rest(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client read to %v", err)
	}
	eventually(t, "it is counted", func() bool {
		return e.counters().Timeouts.Load() == 1 && e.counters().Aborted.Load() == 1
	})
}

// A client that goes away takes its request with it, however far that is.
func TestClientResets(t *testing.T) {
	gone := make(chan struct{}, 1)
	up := serveTCP(t, func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		gone <- struct{}{}
	})
	e := toUpstream(t, Config{}, up)
	c := e.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "the request is under way", func() bool { return e.clusters["c"].Endpoints()[0].InFlight() == 1 })
	must(t, c.SetLinger(0))
	c.Close()
	<-gone
	eventually(t, "the exchange ends", func() bool { return e.engine.Open() == 0 })
}

// After a reload, a connection of the gateway of before is told to go with its next response.
func TestStaleGateway(t *testing.T) {
	e := toUpstream(t, Config{}, recordOK(t).address)
	c := e.dial(t)
	c.get("/")
	e.current.Store(nil)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, _ := c.answer("GET"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
	}
	if _, err := c.rest(); err != nil {
		t.Error(err)
	}
}

// Draining closes idle connections at once, and the others after their response.
func TestDrain(t *testing.T) {
	begun, answer := make(chan struct{}), make(chan struct{})
	up := serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/slow" {
				close(begun)
				<-answer
			}
			_, _ = io.WriteString(c, ok)
		}
	})
	e := toUpstream(t, Config{}, up)
	idle, busy := e.dial(t), e.dial(t)
	idle.get("/")
	busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	e.listener.Close()
	drained := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		drained <- e.engine.Drain(ctx)
	}()
	if _, err := idle.rest(); err != nil {
		t.Errorf("idle: %v", err)
	}
	close(answer)
	if resp, body := busy.answer("GET"); resp.StatusCode != 200 || body != "OK" || !resp.Close {
		t.Errorf("%d %q close %v", resp.StatusCode, body, resp.Close)
	}
	must(t, <-drained)
}

// To an HTTP/1.0 client a body ends with its connection: one that is not whole must end with a reset, not with FIN.
func TestTruncatedBodyForHTTP10(t *testing.T) {
	for _, says := range []string{
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
	} {
		got := make(chan struct{})
		up := serveTCP(t, func(c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				return
			}
			head, tail := says[:len(says)-4], says[len(says)-4:]
			_, _ = io.WriteString(c, head)
			<-got // the client has the beginning: it cannot be told otherwise
			_, _ = io.WriteString(c, tail)
		})
		c := toUpstream(t, Config{}, up).dial(t)
		c.send("GET / HTTP/1.0\r\n\r\n")
		if _, err := c.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		close(got)
		if b, err := c.rest(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: the client read %q to %v", says, b, err)
		}
	}
}
