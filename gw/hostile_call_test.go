package gw

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/gw/filter"
)

// answersWith is a service that reads a head and says this, then does what after says.
func answersWith(t testing.TB, text string, after func(c *net.TCPConn)) string {
	return serveTCP(t, func(c *net.TCPConn) {
		if _, err := c.Read(make([]byte, 64<<10)); err != nil {
			return
		}
		_, _ = c.Write([]byte(text))
		if after != nil {
			after(c)
		}
	})
}

// hold waits until the other side goes.
func hold(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) }

// drip sends a byte now and then, until the other side goes.
func drip(c *net.TCPConn) {
	for {
		if _, err := c.Write([]byte("x")); err != nil {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

// pour sends without end.
func pour(c *net.TCPConn) {
	b := []byte(strings.Repeat("x", 64<<10))
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// deaf is an address at which connections are neither taken nor refused: its queue is full.
func deaf(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(fd, 0))
	at, err := syscall.Getsockname(fd)
	must(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for range 8 {
		c, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("its queue is never full")
	return ""
}

func TestHostileAuthService(t *testing.T) {
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	refusing.Close()
	huge := strings.Repeat("x", 200<<10)
	for _, c := range []struct {
		name, address string
		why           string
	}{
		{"down", refusing.Addr().String(), "unreachable"},
		{"deaf", deaf(t), "unreachable"},
		{"hangs up", answersWith(t, "", nil), "unreachable"},
		{"silent", answersWith(t, "", hold), "timeout"},
		{"slow head", answersWith(t, "HTTP/1.1 200 OK\r\nX-Slow: ", drip), "timeout"},
		{"slow body", answersWith(t, "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n", drip), "timeout"},
		{"cut off", answersWith(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", nil), "unreachable"},
		{"huge body", answersWith(t, "HTTP/1.1 200 OK\r\nContent-Length: 204800\r\n\r\n"+huge, nil), "too large"},
		{"says it is huge", answersWith(t, "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n", hold), "too large"},
		{"huge in chunks", answersWith(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32000\r\n"+huge+"\r\n0\r\n\r\n", nil), "too large"},
		{"a chunk without end", answersWith(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", pour), "too large"},
		{"until it closes, which is never", answersWith(t, "HTTP/1.1 200 OK\r\n\r\n", pour), "too large"},
		{"huge head", answersWith(t, "HTTP/1.1 200 OK\r\nX-Huge: "+huge+"\r\n\r\n", nil), "unreachable"},
		{"not HTTP", answersWith(t, "SSH-2.0-x\r\n\r\n", nil), "unreachable"},
		{"interim for ever", answersWith(t, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000), hold), "unreachable"},
		{"500", answersWith(t, "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", nil), "status"},
		{"status 700", answersWith(t, "HTTP/1.1 700 X\r\nContent-Length: 0\r\n\r\n", nil), "status"},
		{"status 99999", answersWith(t, "HTTP/1.1 99999 X\r\nContent-Length: 0\r\n\r\n", nil), "unreachable"},
	} {
		for _, fail := range []filter.FailMode{filter.FailClosed, filter.FailOpen} {
			t.Run(c.name+", "+string(fail), func(t *testing.T) {
				s := besiege(t, recordOK(t), []filter.Config{{ExtAuth: &filter.ExtAuth{Cluster: "auth", Timeout: 150 * time.Millisecond, Fail: fail,
					ToUpstream: []string{"X-User"}}}}, cluster("auth", c.address))
				s.secret = []string{"s3cret"}
				status, why := 503, "ext_auth: "+c.why
				if fail == filter.FailOpen {
					status, why = 200, ""
				}
				takes(t, 48, func() {
					began := time.Now()
					s.attack(t, c.name, post("/a", "body", "Authorization: Bearer s3cret", "X-User: root"), status, why)
					if d := time.Since(began); d > 5*time.Second {
						t.Errorf("it took %v", d)
					}
				})
				if fail == filter.FailOpen {
					if r := s.last(t); r.Header.Get("X-User") != "" || r.body != "body" {
						t.Errorf("the upstream got %v %q", r.Header, r.body)
					}
				}
			})
		}
	}
}

// What a service says of its own connection, or would have a message read as two, is not passed on: neither to the upstream nor to
// the client.
func TestAuthServiceThatSmuggles(t *testing.T) {
	names := []string{"X-User", "X-Group"}
	taken := 0
	for _, line := range []string{"Connection: keep-alive, X-User", "Keep-Alive: timeout=5", "Transfer-Encoding: identity", "Transfer-Encoding: chunked", "Upgrade: h2c",
		"TE: trailers", "Trailer: X-Group", "Expect: 100-continue", "Proxy-Connection: close", "Host: evil.test", "Content-Length: 5", "Content-Length: 0",
		"X-Group: a\rX-Admin: 1", "X-Group: a\nX-Admin: 1", "X-Group: a\x00X-Admin: 1", "X-Group: a\r\n X-Admin: 1", "X-Group : X-Admin", "X Group: X-Admin", ": X-Admin",
		"X-Group: \"X-Admin\x7f", "X-Group: X-Admin\x01"} {
		for _, status := range []int{200, 403} {
			address := answersWith(t, fmt.Sprintf("HTTP/1.1 %d X\r\nX-User: alice\r\nContent-Length: 0\r\n%s\r\n\r\n", status, line), nil)
			s := besiege(t, recordOK(t), []filter.Config{{ExtAuth: &filter.ExtAuth{Cluster: "auth", Timeout: 500 * time.Millisecond, ToUpstream: names, ToClient: names}}}, cluster("auth", address))
			c := s.dial(t)
			c.send(post("/a", "body", "X-Group: root"))
			resp, _ := c.answer("POST")
			if resp.StatusCode != status && resp.StatusCode != 503 {
				t.Errorf("%q: %d", line, resp.StatusCode)
			}
			_, raw := s.up.requests()
			if resp.StatusCode == 200 {
				taken++
				if !strings.Contains(raw, "X-User: alice\r\n") {
					t.Errorf("%q: the upstream got %q", line, raw)
				}
			}
			for line := range strings.SplitSeq(raw, "\r\n") {
				name, value, _ := strings.Cut(line, ": ")
				switch name {
				case "X-Admin", "Connection", "Keep-Alive", "Upgrade", "TE", "Trailer", "Expect", "Transfer-Encoding":
					t.Errorf("the upstream got %q", line)
				case "X-Group", "X-User":
					if strings.ContainsAny(value, "\r\n\x00\x01\x7f") || value == "root" {
						t.Errorf("the upstream got %q", line)
					}
				}
			}
			for k, v := range resp.Header {
				if k == "X-Admin" || k == "Keep-Alive" || k == "Upgrade" || k == "Trailer" || strings.ContainsAny(strings.Join(v, ""), "\r\n\x00\x01\x7f") {
					t.Errorf("%q: the client got %s: %q", line, k, v)
				}
			}
			if strings.Contains(raw, "evil.test") {
				t.Errorf("%q: the upstream got %q", line, raw)
			}
			if !resp.Close {
				if got, _ := c.get("/well"); got != 200 {
					t.Errorf("%q: the next one gets %d", line, got)
				}
			}
		}
	}
	if taken < 8 {
		t.Errorf("%d are taken: the others prove little", taken)
	}
}

func TestHostileParts(t *testing.T) {
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	refusing.Close()
	good := says(t, answerOf("application/json", `{"a":1}`)).address
	json := func(body string) string { return answersWith(t, answerOf("application/json", body), nil) }
	for _, c := range []struct {
		name, address string
		status        int
		why           string
	}{
		{"down", refusing.Addr().String(), 503, "unreachable"},
		{"silent", answersWith(t, "", hold), 504, "timeout"},
		{"slow", answersWith(t, "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n", drip), 504, "timeout"},
		{"huge", json(`"` + strings.Repeat("x", 200<<10) + `"`), 502, "too large"},
		{"endless", answersWith(t, "HTTP/1.1 200 OK\r\n\r\n", pour), 502, "too large"},
		{"not JSON", json(`<html>`), 502, "not JSON"},
		{"half of it", json(`{"a":`), 502, "not JSON"},
		{"two of them", json(`{} {}`), 502, "not JSON"},
		{"more of the answer", json(`1},"user":{"admin":true`), 502, "not JSON"},
		{"empty", json(``), 502, "not JSON"},
		{"nested", json(strings.Repeat("[", 50_000) + strings.Repeat("]", 50_000)), 502, "not JSON"},
		{"no UTF-8", json("\"\xff\xfe\""), 502, "not JSON"},
		{"redirect", answersWith(t, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\n{}", nil), 502, "status"},
		{"500", answersWith(t, "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}", nil), 502, "status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parts := func(on filter.Failure) []filter.Config {
				return []filter.Config{{Aggregate: &filter.Aggregate{Timeout: 150 * time.Millisecond, MaxBody: 128 << 10, Parts: []filter.Part{
					{Key: "good", Cluster: "good", Path: "/"}, {Key: "bad", Cluster: "bad", Path: "/", OnFailure: on}}}}}
			}
			takes(t, 48, func() {
				s := besiege(t, recordOK(t), parts(filter.FailAll), cluster("good", good), cluster("bad", c.address))
				s.attack(t, c.name, ask("/a"), c.status, "aggregate: "+c.why)
				s.attack(t, "a body", post("/a", "x"), 405, "aggregate: method")
				s = besiege(t, recordOK(t), parts(filter.FailNull), cluster("good", good), cluster("bad", c.address))
				if got := s.attack(t, c.name, ask("/a"), 200, ""); got != `{"good":{"a":1},"bad":null}` {
					t.Errorf("%s", got)
				}
			})
		})
	}
}

// The time that a filter's call may take begins with its dial: what is answered is the filter's answer, not the end of the exchange's time.
func TestCallToADeafServiceEndsInTime(t *testing.T) {
	e := newEdge(t, Config{}, []Route{{Cluster: "c", Timeout: 700 * time.Millisecond, Filters: []filter.Config{{ExtAuth: &filter.ExtAuth{Cluster: "auth", Timeout: 50 * time.Millisecond}}}}},
		cluster("c", recordOK(t).address), cluster("auth", deaf(t)))
	defer e.gateway.Close()
	c := e.dial(t)
	c.ask("/")
	c.gets(503)
}
