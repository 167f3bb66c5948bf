package gw

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gw/route"
	"sluice/lb"
)

// stormTime is how long the storm lasts.
const stormTime = 2 * time.Second

// storm is what clients and upstreams know of each other: every request has a tag, and its body's checksum, and asks for so many
// bytes that anybody can make of the tag.
type storm struct {
	over  atomic.Bool
	tags  atomic.Uint64
	whole atomic.Int64 // responses that were right
	mu    sync.Mutex
	posts map[string]int
	bad   []string
}

func (s *storm) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bad) < 10 {
		s.bad = append(s.bad, fmt.Sprintf(format, args...))
	}
}

// payload is n bytes that are the tag's.
func payload(tag string, n int) []byte {
	return bytes.Repeat([]byte(tag+"/"), n/(len(tag)+1)+1)[:n]
}

func sum(b []byte) string { return strconv.FormatUint(uint64(crc32.ChecksumIEEE(b)), 16) }

// upstream answers requests as they should be, or, one in worse, otherwise.
func (s *storm) upstream(t testing.TB, worse int, mirror bool) string {
	return serveTCP(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(net.Error)) {
					s.wrong("an upstream got what is no request: %v", err)
				}
				return
			}
			tag := req.Header.Get("X-Request-Id")
			parts := strings.Split(req.URL.Path, "/")
			if len(parts) != 4 || parts[2] != tag || tag == "" {
				s.wrong("an upstream got %s %s with tag %q", req.Method, req.URL, tag)
				return
			}
			if req.Method == "POST" && !mirror {
				s.mu.Lock()
				s.posts[tag]++
				s.mu.Unlock()
			}
			size, _ := strconv.Atoi(parts[3])
			how := 0
			if worse > 0 && rand.IntN(worse) == 0 {
				how = 1 + rand.IntN(12)
			}
			if !s.answer(c, r, req, tag, size, how) {
				return
			}
		}
	})
}

// answer answers one request; false: the connection is of no more use. r may be read on for a tunnel.
func (s *storm) answer(c *net.TCPConn, r *bufio.Reader, req *http.Request, tag string, size, how int) bool {
	say := func(format string, args ...any) bool {
		_, err := fmt.Fprintf(c, format, args...)
		return err == nil
	}
	nap := func() { time.Sleep(time.Duration(rand.IntN(80)) * time.Millisecond) }
	switch how {
	case 1: // hangs up before it reads
		return false
	case 2:
		_ = c.SetLinger(0)
		return false
	case 3: // answers early
		say("HTTP/1.1 413 Early\r\nX-Tag: %s\r\nContent-Length: 0\r\n\r\n", tag)
		nap()
		return false
	case 4:
		say("HTTP/1.1 102 Processing\r\n\r\n")
	case 5:
		nap()
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	if want := req.Header.Get("X-Sum"); want != sum(body) {
		s.wrong("an upstream got a body of %d bytes for %s %s, which is another", len(body), req.Method, req.URL)
	}
	if proto := req.Header.Get("Upgrade"); proto != "" && how == 0 {
		if !say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\nX-Tag: %s\r\n\r\n", proto, tag) {
			return false
		}
		_, _ = io.Copy(c, r)
		_ = c.CloseWrite()
		return false
	}
	out := payload(tag, size)
	if req.Method == "HEAD" {
		return say("HTTP/1.1 200 OK\r\nX-Tag: %s\r\nX-Sum: %s\r\nContent-Length: %d\r\n\r\n", tag, sum(body), size)
	}
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Tag: %s\r\nX-Sum: %s\r\n", tag, sum(body))
	switch how {
	case 6: // hangs up when it has all
		return false
	case 7:
		return say("HTTP/1.1 503 Busy\r\nX-Tag: %s\r\nContent-Length: %d\r\n\r\n%s", tag, size, out)
	case 8:
		say("nonsense %s\r\n\r\n", tag)
		return false
	case 9: // breaks off
		say("%sContent-Length: %d\r\n\r\n%s", head, size+1, out)
		return false
	case 10:
		say("%sConnection: close\r\n\r\n%s", head, out)
		return false
	case 11: // says more than it should
		say("%sContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nX-Tag: poison\r\nContent-Length: 0\r\n\r\n", head, size, out)
		nap()
		return false
	}
	if rand.IntN(3) == 0 {
		say("%sTransfer-Encoding: chunked\r\n\r\n", head)
		for len(out) > 0 {
			n := min(len(out), 1+rand.IntN(40_000))
			say("%x\r\n%s\r\n", n, out[:n])
			out = out[n:]
		}
		return say("0\r\nX-Trailer: %s\r\n\r\n", tag)
	}
	return say("%sContent-Length: %d\r\n\r\n%s", head, size, out)
}

// asked is one request that was sent.
type asked struct {
	method, tag string
	size        int
	sum         string
	tunnel      bool
}

// request is one of the storm's, and what is known of it.
func (s *storm) request() (raw []byte, a asked) {
	a = asked{method: []string{"GET", "GET", "HEAD", "POST", "PUT", "DELETE"}[rand.IntN(6)], tag: fmt.Sprintf("t%d", s.tags.Add(1))}
	some := func() int {
		if rand.IntN(20) == 0 {
			return 1 << 20
		}
		return []int{0, 10, 1000, 1000, 8 << 10, 19_990, 40_000, 300_000}[rand.IntN(8)]
	}
	a.size = some()
	var body []byte
	if a.method == "POST" || a.method == "PUT" {
		body = payload(a.tag, some())
	}
	a.sum = sum(body)
	raw = fmt.Appendf(raw, "%s /x/%s/%d HTTP/1.1\r\nHost: a\r\nX-Request-Id: %s\r\nX-Sum: %s\r\n", a.method, a.tag, a.size, a.tag, a.sum)
	switch {
	case body == nil && a.method == "GET" && rand.IntN(8) == 0:
		a.tunnel = true
		raw = append(raw, "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"...)
	case body == nil:
		raw = append(raw, "\r\n"...)
	case rand.IntN(2) == 0:
		raw = fmt.Appendf(raw, "Content-Length: %d\r\n\r\n%s", len(body), body)
	default:
		raw = append(raw, "Transfer-Encoding: chunked\r\n\r\n"...)
		for len(body) > 0 {
			n := min(len(body), 1+rand.IntN(30_000))
			raw = fmt.Appendf(raw, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		raw = append(raw, "0\r\nX-Trailer: end\r\n\r\n"...)
	}
	return raw, a
}

// client is one connection's life.
func (s *storm) client(address string) {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	c := nc.(*net.TCPConn)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if rand.IntN(10) == 0 {
		s.connect(c)
		return
	}
	var all []byte
	var list []asked
	for range 1 + rand.IntN(5) {
		raw, a := s.request()
		all, list = append(all, raw...), append(list, a)
		if a.tunnel {
			break // what comes behind it is the tunnel's, or is not
		}
	}
	how := rand.IntN(8)
	if how == 0 {
		all = all[:rand.IntN(len(all))] // and is gone
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for len(all) > 0 {
			n := len(all)
			if how < 4 {
				n = min(n, 1+rand.IntN(100_000))
			}
			if _, err := c.Write(all[:n]); err != nil {
				return
			}
			if all = all[n:]; how == 1 {
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			}
		}
		if how == 2 && !list[len(list)-1].tunnel {
			_ = c.CloseWrite()
		}
	})
	r := bufio.NewReader(c)
	if how == 3 { // does not read for a while
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
	}
	for _, a := range list {
		if how == 0 || how == 4 && rand.IntN(3) == 0 {
			_ = c.SetLinger(0)
			c.Close()
			return
		}
		if !s.response(c, r, a) {
			c.Close()
			return
		}
	}
}

// connect is a client that wants a tunnel, and sends into it what would be a request.
func (s *storm) connect(c *net.TCPConn) {
	tag := fmt.Sprintf("t%d", s.tags.Add(1))
	early := "GET /early HTTP/1.1\r\nHost: a\r\n\r\n"
	_, _ = fmt.Fprintf(c, "CONNECT db.test:1 HTTP/1.1\r\nHost: db.test:1\r\nX-Request-Id: %s\r\n\r\n%s", tag, early)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, &http.Request{Method: "CONNECT"})
	switch {
	case err != nil:
	case resp.StatusCode != 200:
		if body, _ := io.ReadAll(r); !bytes.Contains(body, []byte(tag)) || bytes.Contains(body, []byte("HTTP/")) {
			s.wrong("CONNECT got %d %.200q", resp.StatusCode, body)
		}
	default:
		b := make([]byte, len(early))
		if _, err := io.ReadFull(r, b); err == nil && string(b) != early {
			s.wrong("a tunnel gave %q for %q", b, early)
		} else if err == nil {
			s.tunnelled(c, r, asked{method: "CONNECT", tag: tag})
		}
	}
}

// response reads one, and judges it; false: none follows.
func (s *storm) response(c *net.TCPConn, r *bufio.Reader, a asked) bool {
	var resp *http.Response
	for resp == nil || resp.StatusCode < 200 && resp.StatusCode != 101 {
		var err error
		if resp, err = http.ReadResponse(r, &http.Request{Method: a.method}); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(net.Error)) {
				var ne net.Error
				if errors.As(err, &ne) && ne.Timeout() {
					s.wrong("%v has no response, and no end", a)
				}
				return false // it may have been cut off, or the one before it closed the connection
			}
			s.wrong("%v got no response: %v", a, err)
			return false
		}
	}
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode == 101 {
		return s.tunnelled(c, r, a)
	}
	if tag := resp.Header.Get("X-Tag"); tag != "" && tag != a.tag {
		s.wrong("%v got the response to %s", a, tag)
	} else if tag == "" && a.method != "HEAD" && err == nil && !bytes.Contains(body, []byte(`"request_id":"`+a.tag+`"`)) {
		s.wrong("%v got %d %.200q", a, resp.StatusCode, body)
	}
	if resp.StatusCode == 200 && err == nil {
		if got := resp.Header.Get("X-Sum"); got != a.sum {
			s.wrong("%v: the upstream read a body with sum %s", a, got)
		}
		if a.method != "HEAD" && !bytes.Equal(body, payload(a.tag, a.size)) {
			s.wrong("%v got %d bytes (%.50q), which are others", a, len(body), body)
		}
		s.whole.Add(1)
	}
	return err == nil && !resp.Close
}

// tunnelled has everything come back.
func (s *storm) tunnelled(c *net.TCPConn, r *bufio.Reader, a asked) bool {
	said := payload(a.tag, 1+rand.IntN(200_000))
	sent := make(chan error)
	go func() {
		_, err := c.Write(said)
		_ = c.CloseWrite()
		sent <- err
	}()
	got, err := io.ReadAll(r)
	if err != nil {
		c.Close()
	}
	if werr := <-sent; err == nil {
		err = werr // a reset is told once, to the one or the other
	}
	if !bytes.HasPrefix(said, got) || err == nil && len(got) != len(said) {
		s.wrong("%v: %d bytes of %d came back, and %v", a, len(got), len(said), err)
	}
	return false
}

// All at once: clients that pipeline, stall, half-close and reset, upstreams that fail in every way, retries, hedges, mirrors,
// queues, tunnels and endpoints that come and go. Nobody gets anybody else's bytes, no POST is sent twice, and nothing is left.
func TestStorm(t *testing.T) {
	s := &storm{posts: map[string]int{}}
	cfg := cluster("c", s.upstream(t, 0, false), s.upstream(t, 2, false), s.upstream(t, 3, false), s.upstream(t, 8, false))
	cfg.Queue = &lb.Queue{Size: 8, Timeout: 50 * time.Millisecond}
	cfg.Retry = lb.Retry{Statuses: []int{503}, PerTry: 60 * time.Millisecond, MaxBody: 20_000}
	cfg.Hedge, cfg.RetryBudget = &lb.Hedge{After: 5 * time.Millisecond, MaxPercent: 50}, 100
	cfg.ResponseTimeout, cfg.BodyTimeout, cfg.MaxUses = 200*time.Millisecond, 200*time.Millisecond, 7
	cfg.Limits = lb.Limits{Requests: 6, Connections: 8, Pending: 5}
	mirror := cluster("m", s.upstream(t, 2, true))
	mirror.ResponseTimeout = 200 * time.Millisecond
	tunnels := cluster("t", serveTCP(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c); _ = c.CloseWrite() }))
	tunnels.Queue, tunnels.Limits.Requests = &lb.Queue{Size: 2, Timeout: 20 * time.Millisecond}, 1
	percent := 30.0
	e := newEdge(t, Config{RequestTimeout: time.Second, IdleTimeout: time.Second}, []Route{
		{Match: route.Match{PathPrefix: "/x"}, Cluster: "c", Timeout: time.Second, Mirror: &MirrorConfig{Cluster: "m", Percent: &percent}},
		{Match: route.Match{Host: "db.test"}, Cluster: "t", Connect: true},
	}, cfg, mirror, tunnels)
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for !s.over.Load() {
				s.client(e.listener.Bound())
			}
		})
	}
	for end := time.Now().Add(stormTime); time.Now().Before(end); {
		e.maintain(cfg.Endpoints[rand.IntN(len(cfg.Endpoints))].Address)
		<-time.After(30 * time.Millisecond)
		e.maintain()
		<-time.After(30 * time.Millisecond)
	}
	s.over.Store(true)
	e.listener.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.engine.Drain(ctx); err != nil {
		t.Error(err)
	}
	clients.Wait()
	e.settles(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	for tag, n := range s.posts {
		if n > 1 {
			t.Errorf("the POST %s was sent %d times", tag, n)
		}
	}
	for _, b := range s.bad {
		t.Error(b)
	}
	n := e.counters()
	t.Logf("%d whole responses; %d retries, %d hedges, %d aborted, %d timeouts, %d mirrored, %d tunnels", s.whole.Load(),
		n.Retries.Load(), n.Hedges.Load(), n.Aborted.Load(), n.Timeouts.Load(), n.Mirrored.Load(), n.Tunnels.Load())
	if s.whole.Load() == 0 || n.Retries.Load() == 0 || n.Hedges.Load() == 0 || n.Mirrored.Load() == 0 || n.Tunnels.Load() != n.TunnelsEnded.Load() {
		t.Error("it was no storm")
	}
}
