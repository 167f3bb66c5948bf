package gw

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
)

// bulky is an upstream that answers every request of a connection with head and body, in one go.
func bulky(t testing.TB, body []byte, after string) string {
	return serveTCP(t, func(c *net.TCPConn) {
		b := make([]byte, 4096)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(body), body, after); err != nil {
				return
			}
		}
	})
}

// nothingHeld waits until the edge has given back all that large bodies take.
func (e *edge) nothingHeld(t testing.TB) {
	t.Helper()
	for _, ep := range e.clusters["c"].Endpoints() {
		eventually(t, "nothing is in flight", func() bool { return ep.InFlight() == 0 })
	}
}

// Large bodies go through the kernel, and arrive as they were, one after the other on the same connections.
func TestLargeBodiesAreSpliced(t *testing.T) {
	body := make([]byte, 5<<20+12345)
	_, _ = rand.Read(body)
	e := toUpstream(t, Config{}, bulky(t, body, ""))
	c := e.dial(t)
	for range 3 {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, got := c.answer("GET"); resp.StatusCode != 200 || !bytes.Equal([]byte(got), body) {
			t.Fatalf("status %d, %d bytes, which are others", resp.StatusCode, len(got))
		}
	}
	e.nothingHeld(t)
	l := e.engine.Loops()[0]
	if n := l.Counters().Spliced.Load(); n < uint64(len(body)) {
		t.Errorf("%d bytes of %d spliced", n, 3*len(body))
	}
	ep := e.clusters["c"].Endpoints()[0]
	if n := ep.Local(l).Received.Load(); n < uint64(3*len(body)) || n > uint64(3*len(body)+1000) {
		t.Errorf("%d bytes received of %d", n, 3*len(body))
	}
	if n := ep.Local(l).Requests.Load(); n != 3 {
		t.Errorf("%d requests", n)
	}
	if n := l.Counters().Dialled.Load(); n != 1 {
		t.Errorf("%d connections to the upstream, want 1 that is kept warm", n)
	}
}

// What follows the body is not taken for a part of it, nor for the next response.
func TestBytesBehindALargeBody(t *testing.T) {
	body := bytes.Repeat([]byte("b"), 1<<20)
	e := toUpstream(t, Config{}, bulky(t, body, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
	c := e.dial(t)
	for range 3 {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, got := c.answer("GET"); resp.StatusCode != 200 || got != string(body) {
			t.Fatalf("status %d, %d bytes, which are others", resp.StatusCode, len(got))
		}
	}
	if n := e.engine.Loops()[0].Counters().Dialled.Load(); n != 3 {
		t.Errorf("%d connections to an upstream that says more than it was asked, want 3", n)
	}
}

// A client that reads slowly gets all of it; one that is gone, or an upstream that breaks off, leaves nothing behind.
func TestLargeBodyEnds(t *testing.T) {
	body := make([]byte, 8<<20)
	_, _ = rand.Read(body)
	e := toUpstream(t, Config{}, bulky(t, body, ""))
	c := e.dial(t)
	must(t, c.SetReadBuffer(64<<10))
	c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	var got bytes.Buffer
	for b := make([]byte, 30000); ; {
		n, err := c.Read(b)
		got.Write(b[:n])
		if err == io.EOF {
			break
		}
		must(t, err)
	}
	if !bytes.HasSuffix(got.Bytes(), body) || got.Len() > len(body)+1000 {
		t.Errorf("a slow client got %d bytes of %d", got.Len(), len(body))
	}

	gone := e.dial(t)
	gone.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, err := io.ReadFull(gone, make([]byte, 1<<20))
	must(t, err)
	must(t, gone.SetLinger(0))
	must(t, gone.Close())
	e.nothingHeld(t)

	broken := toUpstream(t, Config{}, serveTCP(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:len(body)/2])
	}))
	c = broken.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	n, err := io.Copy(io.Discard, c)
	if n > int64(len(body)/2+1000) || n < int64(len(body)/2) {
		t.Errorf("of half a body %d bytes came, of %d", n, len(body)/2)
	}
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	broken.nothingHeld(t)
}

// Large uploads go through the kernel too, and the request behind one on its connection is read as one.
func TestLargeUploadsAreSpliced(t *testing.T) {
	body := make([]byte, 3<<20+4321)
	_, _ = rand.Read(body)
	rec := recordOK(t)
	e := toUpstream(t, Config{}, rec.address)
	c := e.dial(t)
	for range 2 {
		c.send(fmt.Sprintf("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%sGET /next HTTP/1.1\r\nHost: a\r\n\r\n", len(body), body))
		c.gets(200)
		c.gets(200)
	}
	reqs, _ := rec.requests()
	if len(reqs) != 4 || reqs[2].body != string(body) || reqs[3].URL.Path != "/next" {
		t.Fatalf("%d requests, or others than were sent", len(reqs))
	}
	e.nothingHeld(t)
	l := e.engine.Loops()[0]
	if n := l.Counters().Spliced.Load(); n < uint64(len(body)) {
		t.Errorf("%d bytes of %d spliced", n, 2*len(body))
	}
	if n := e.clusters["c"].Endpoints()[0].Local(l).Sent.Load(); n < uint64(2*len(body)) || n > uint64(2*len(body)+2000) {
		t.Errorf("%d bytes sent of %d", n, 2*len(body))
	}
}

// An upload that ends early is no whole request to anybody.
func TestLargeUploadEndsEarly(t *testing.T) {
	rec := recordOK(t)
	e := toUpstream(t, Config{}, rec.address)
	c := e.dial(t)
	c.send(fmt.Sprintf("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", 1<<20, make([]byte, 700<<10)))
	_ = c.CloseWrite()
	c.gets(400)
	e.nothingHeld(t)
	eventually(t, "the upstream knows that it is not whole", func() bool {
		reqs, _ := rec.requests()
		return len(reqs) == 1 && errors.Is(reqs[0].err, io.ErrUnexpectedEOF)
	})
}
