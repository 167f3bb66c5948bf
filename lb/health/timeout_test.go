package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// silent is an address whose backlog is full: connecting to it is answered by nothing at all.
func silent(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	for range 4 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(c) })
		_ = unix.Connect(c, sa)
	}
	return fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
}

func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// drip is an endpoint that says start, and then one byte after the other, each in time.
func drip(start string) func(c net.Conn) {
	return func(c net.Conn) {
		for _, err := io.WriteString(c, start); err == nil; _, err = c.Write([]byte("x")) {
			<-time.After(time.Millisecond)
		}
	}
}

func TestTimeout(t *testing.T) {
	tcp := func(f func(c net.Conn)) string { return serve(t, "tcp", "127.0.0.1:0", f).Addr().String() }
	get, matching, ping, call := &HTTP{Path: "/"}, &HTTP{Path: "/", Body: "ok"}, &Expect{Send: "PING", Receive: "PONG"}, &GRPC{}
	for _, c := range []struct {
		name, address string
		kind          any
	}{
		{"takes no connection", silent(t), nil},
		{"takes no connection to ask", silent(t), get},
		{"takes no connection to ping", silent(t), ping},
		{"takes no connection to call", silent(t), call},
		{"does not answer", tcp(hang), get},
		{"does not answer a ping", tcp(hang), ping},
		{"has no banner", tcp(hang), &Expect{Receive: "220"}},
		{"does not speak HTTP/2", tcp(hang), call},
		{"does not answer a call", h2(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), call},
		{"answers for ever", tcp(drip("HTTP/1.1 200 OK\r\nX: ")), get},
		{"answers with a body for ever", tcp(drip("HTTP/1.1 200 OK\r\n\r\n")), matching},
		{"answers with chunks for ever", tcp(drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n")), matching},
		{"talks for ever", tcp(drip("PON")), ping},
		{"sends a message for ever", h2(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte{0})
				_ = http.NewResponseController(w).Flush()
				<-time.After(time.Millisecond)
			}
		}), call},
	} {
		cfg := asking(c.kind)
		cfg.Timeout = 30 * time.Millisecond
		done := make(chan error, 1)
		go func() { done <- checker(t, cfg).check(context.Background(), Target{Address: c.address}) }()
		select {
		case err := <-done:
			if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasSuffix(err.Error(), "i/o timeout") {
				t.Errorf("%s: %v, want a timeout", c.name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s: the check does not end", c.name)
		}
	}
}

// A reload waits for the checks of what it replaces: they may not hold it up, however patient they are.
func TestRunEndsWithItsContext(t *testing.T) {
	for _, o := range openings {
		if o.kind == nil {
			continue // is over when it has begun
		}
		asked := make(chan struct{}, 100)
		ln := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			if o.begins != "" {
				_, _ = c.Read(make([]byte, 4096))
			}
			asked <- struct{}{}
			hang(c)
		})
		cfg := asking(o.kind)
		cfg.Interval, cfg.Timeout, cfg.Rise, cfg.Fall = time.Millisecond, time.Hour, 1, 1
		changes, stop := watch(t, cfg, ln.Addr().String(), true)
		receive(t, "the endpoint is asked", asked)
		stop()
		if len(changes) != 0 {
			t.Errorf("%s: the check that was cut short is reported: %+v", o.name, <-changes)
		}
	}
	// While it connects.
	cfg := asking(nil)
	cfg.Interval, cfg.Timeout = time.Millisecond, time.Hour
	_, stop := watch(t, cfg, silent(t), true)
	stop()
	// And between two checks.
	_, stop = watch(t, asking(nil), silent(t), true)
	stop()
}
