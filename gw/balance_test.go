package gw

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gw/route"
	"sluice/lb"
)

// settles waits until the edge has nothing under way, and all that it counts and holds has been given back but for the
// connections that are kept warm.
func (e *edge) settles(t testing.TB) {
	t.Helper()
	var why string
	settled := func() bool {
		why = ""
		e.on(func(w *worker) {
			for name, cl := range e.clusters {
				for _, ep := range cl.Endpoints() {
					idle := len(ep.Local(w.loop).Idle)
					if ep.InFlight() != 0 || ep.Pending() != 0 || int(ep.Connections()) != idle {
						why = fmt.Sprintf("%s of %s: %d in flight, %d dialled, %d connections of which %d are idle", ep, name,
							ep.InFlight(), ep.Pending(), ep.Connections(), idle)
					}
				}
				if n := cl.Queued(); n != 0 {
					why = fmt.Sprintf("%s: %d wait", name, n)
				}
			}
		})
		if n := e.engine.Held(); n != 0 && why == "" {
			why = fmt.Sprintf("%d bytes are held", n)
		}
		return why == ""
	}
	for deadline := time.Now().Add(patience); !settled(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not settle: %s", patience, why)
		}
	}
}

// steps is an upstream that reads body bytes in steps, each when it is told to, and answers 200 after the last.
func steps(t testing.TB, size, step int) (address string, next chan<- struct{}, body *bytes.Buffer) {
	ch := make(chan struct{})
	body = &bytes.Buffer{}
	address = serveTCP(t, func(c *net.TCPConn) {
		_ = c.SetReadBuffer(32 << 10)
		b := make([]byte, 1)
		for head := ""; !strings.HasSuffix(head, "\r\n\r\n"); head += string(b) {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
		for body.Len() < size {
			<-ch
			if _, err := io.CopyN(body, c, int64(min(step, size-body.Len()))); err != nil {
				return
			}
		}
		_, _ = io.WriteString(c, ok)
	})
	t.Cleanup(func() { close(ch) })
	return address, ch, body
}

// What an upstream that stalls again and again did not take of an upload is given back as often.
func TestUploadToAStallingUpstream(t *testing.T) {
	const size, step = 48 << 20, 12 << 20
	address, next, got := steps(t, size, step)
	e := toUpstream(t, Config{}, address)
	body := make([]byte, size)
	for i := 0; i < size; i += 8 {
		body[i], body[i+1], body[i+3] = byte(i>>3), byte(i>>11), byte(rand.Uint32())
	}
	c := e.dial(t)
	go fmt.Fprintf(c, "PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, body)
	for range size / step {
		eventually(t, "something waits for the upstream", func() bool { return e.engine.Held() > 0 })
		next <- struct{}{}
	}
	c.gets(200)
	if !bytes.Equal(got.Bytes(), body) {
		t.Error("what came is not what was sent")
	}
	e.settles(t)
	if e.engine.Loops()[0].Counters().Spliced.Load() == 0 {
		t.Error("nothing went through the kernel")
	}
}

// An upstream that takes a request in part, and no more of it, is timed for that.
func TestUpstreamThatDoesNotRead(t *testing.T) {
	hold := make(chan struct{})
	address := serveTCP(t, func(c *net.TCPConn) { <-hold })
	t.Cleanup(func() { close(hold) })
	cfg := cluster("c", address)
	cfg.ResponseTimeout = 100 * time.Millisecond
	cfg.Retry.MaxBody = 1 << 24
	e := newEdge(t, Config{}, []Route{{Cluster: "c"}}, cfg)
	c := e.dial(t)
	const size = 12 << 20
	go fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, make([]byte, size))
	resp, _ := c.answer("PUT")
	if resp.StatusCode != 504 {
		t.Errorf("%d", resp.StatusCode)
	}
	e.settles(t)
}

// A route may have more time than the field for it has room for: the endpoint is told of as much as is ever believed.
func TestLongTimeoutIsToldAsTheLongest(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Cluster: "c", Timeout: 100 * 24 * time.Hour}}, cluster("c", rec.address))
	c := e.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: a\r\ngrpc-timeout: 99999999H\r\n\r\n")
	c.gets(200)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.gets(200)
	reqs, _ := rec.requests()
	if h := reqs[1].Header.Get("X-Request-Timeout"); h != "86400.000" {
		t.Errorf("told %q", h)
	}
}

// narrow has the edge's socket of the connection, which is of this process, take little.
func (c *client) narrow() {
	me := c.LocalAddr().(*net.TCPAddr).Port
	found := false
	eventually(c.t, "the connection is accepted", func() bool {
		for fd := range 1024 {
			if sa, err := unix.Getpeername(fd); err == nil {
				if in, ok := sa.(*unix.SockaddrInet4); ok && in.Port == me {
					must(c.t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10))
					found = true
				}
			}
		}
		return found
	})
}

// A response of the gateway's own does not overtake the interim ones that its client has not read.
func TestInterimResponsesStayInOrder(t *testing.T) {
	interim := "HTTP/1.1 103 Early Hints\r\n" + strings.Repeat("X-Hint: "+strings.Repeat("h", 6000)+"\r\n", 10) + "\r\n"
	rec := record(t, func(int, *seen) (string, error) { return strings.Repeat(interim, maxInterim), nil })
	e := toUpstream(t, Config{}, rec.address)
	var x *exchange // that will be taken next
	e.on(func(w *worker) { x = &exchange{w: w}; w.free = append(w.free, x) })
	c := e.dial(t)
	must(t, c.SetReadBuffer(4<<10))
	c.narrow()
	c.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	waits := func() (n int) {
		e.on(func(*worker) { n = len(x.toClient) - x.taken })
		return n
	}
	eventually(t, "interim responses wait for the client", func() bool { return waits() > 0 })
	var all []byte
	e.on(func(*worker) {
		// The loop meets what the client has read, which is all there is, and its malformed body, in one event.
		c.send("nonsense\r\n")
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		all, _ = io.ReadAll(c.r)
		_ = c.SetReadDeadline(time.Now().Add(patience))
	})
	rest, _ := c.rest()
	all = append(all, rest...)
	at := bytes.Index(all, []byte("HTTP/1.1 400 "))
	if want := strings.Repeat(interim, len(all)/len(interim)); at != len(want) || !strings.HasPrefix(string(all), want) {
		t.Errorf("of %d bytes the 400 is at %d, want %d", len(all), at, len(want))
	}
	e.settles(t)
}

// What a client in a hurry sent into a tunnel that was not opened is no request.
func TestRefusedCONNECTEndsItsConnection(t *testing.T) {
	rec := recordOK(t)
	e := newEdge(t, Config{}, []Route{{Match: route.Match{Host: "db.test"}, Cluster: "c", Connect: true}, {Cluster: "up"}}, cluster("c", dead(t)),
		cluster("up", rec.address))
	c := e.dial(t)
	c.send("CONNECT db.test:1 HTTP/1.1\r\nHost: db.test:1\r\n\r\nPOST /evil HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	c.gets(503)
	if rest, err := c.rest(); rest != "" || err != nil {
		t.Errorf("%q and %v after a tunnel that is none", rest, err)
	}
	if reqs, _ := rec.requests(); len(reqs) != 0 {
		t.Errorf("%s came through", reqs[0].URL)
	}
	e.settles(t)
}

// Exchanges of every kind leave nothing behind.
func TestNothingIsLeftBehind(t *testing.T) {
	busy := record(t, func(_ int, s *seen) (string, error) { return "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", nil })
	good := recordOK(t)
	cfg := cluster("c", busy.address, good.address)
	cfg.Retry = lb.Retry{Statuses: []int{503}, MaxBody: 1000}
	e := newEdge(t, Config{MaxBody: 5000}, []Route{{Cluster: "c"}}, cfg)
	chunked := func(size int) string {
		out := "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		for size > 0 {
			n := min(size, 700)
			out += fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("x", n))
			size -= n
		}
		return out + "0\r\nX-Sum: 1\r\n\r\n"
	}
	sized := func(size int) string {
		return fmt.Sprintf("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	}
	for name, request := range map[string]string{
		"no body":              "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"exactly what is kept": sized(1000), "one more": sized(1001), "less": sized(999),
		"chunks within": chunked(900), "chunks beyond": chunked(2000), "too much in chunks": chunked(6000), "too much": sized(6000),
		"HTTP/1.0": "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HEAD": "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
		"no chunk": "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n",
		"cut":      sized(900)[:500],
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{len(request), 300} {
				c := e.dial(t)
				for rest := request; rest != ""; {
					n := min(len(rest), piece)
					if _, err := c.Write([]byte(rest[:n])); err != nil {
						break // it was told before
					}
					rest = rest[n:]
				}
				must(t, c.CloseWrite())
				_, _ = c.rest()
				e.settles(t)
			}
		})
	}
	if reqs, raw := good.requests(); len(reqs) == 0 || strings.Contains(raw, "\r\n\r\n1\r\n") {
		t.Errorf("%d requests", len(reqs))
	}
}
