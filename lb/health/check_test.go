package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

func TestStatusesUpAndDown(t *testing.T) {
	f := func(up bool, statuses ...int) {
		t.Helper()
		for _, status := range statuses {
			cfg := often(&HTTP{Path: "/"})
			err := cfg.check(t.Context(), says(t, fmt.Sprintf("HTTP/1.1 %d x\r\n\r\n", status)))
			if (err == nil) != up {
				t.Errorf("%d: %v", status, err)
			}
		}
	}
	f(true, 200, 201, 204, 299, 300, 301, 304, 399)
	f(false, 400, 404, 429, 499, 500, 503, 599)
}

func TestAnswersUpAndDown(t *testing.T) {
	f := func(answer, want string) {
		t.Helper()
		cfg := often(&HTTP{Path: "/"})
		got := "up"
		if err := cfg.check(t.Context(), says(t, answer)); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%.60q: %s, want %s", answer, got, want)
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "up")
	f("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nthe body does not count", "up")
	f("HTTP/1.0 204 No Content\r\n\r\n", "up")
	// The gateway takes heads of 32 KiB, and so does a check.
	f("HTTP/1.1 200 OK\r\nSet-Cookie: "+strings.Repeat("a", 30<<10)+"\r\n\r\n", "up")
	f("HTTP/1.1 200 OK\r\nSet-Cookie: "+strings.Repeat("a", 70<<10)+"\r\n\r\n", "read response: ")
	f("", "read response: ")
	f("HTTP/1.1 200", "read response: ")
	f("HTTP/1.1 200 OK\r\nContent-Le", "read response: ")
	f("SSH-2.0-OpenSSH_9.2\r\n\r\n", "read response: ")
}

func TestRequest(t *testing.T) {
	f := func(network, address, host, want string) {
		t.Helper()
		got := make(chan *http.Request, 1)
		ln := serve(t, network, address, func(c net.Conn) {
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				got <- r
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			}
		})
		endpoint := ln.Addr().String()
		if network == "unix" {
			endpoint = "unix:" + endpoint
		}
		cfg := often(&HTTP{Path: "/healthz?full=1", Host: host})
		must(t, cfg.check(t.Context(), endpoint))
		r := receive(t, "the request is read", got)
		if want == "" {
			want = endpoint
		}
		if r.Method != "GET" || r.RequestURI != "/healthz?full=1" || r.Host != want || !r.Close {
			t.Errorf("%s: asked %s %s of %q, close %v; want Host %q", endpoint, r.Method, r.RequestURI, r.Host, r.Close, want)
		}
		if diff := cmp.Diff(http.Header{"User-Agent": {"sluice-health"}, "Connection": {"close"}}, r.Header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	f("tcp", "127.0.0.1:0", "", "") // the endpoint's address
	f("tcp", "127.0.0.1:0", "app.test", "app.test")
	f("unix", socket+"1", "", "localhost") // a path is no host
	f("unix", socket+"2", "app.test", "app.test")
	f("unix", fmt.Sprint("@sluice-health-", os.Getpid()), "", "localhost")
}

func TestUnixSocketWithoutListenerIsDown(t *testing.T) {
	cfg := often(nil)
	if err := cfg.check(t.Context(), "unix:"+filepath.Join(t.TempDir(), "s")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("checked with %v", err)
	}
}

// A check of thousands of endpoints every other second would fill the table of ports with TIME_WAITs.
func TestCheckLeavesNoTimeWait(t *testing.T) {
	saw := make(chan error, 1)
	ln := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		saw <- err
	})
	cfg := often(nil)
	must(t, cfg.check(t.Context(), ln.Addr().String()))
	if err := receive(t, "the connection ends", saw); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the endpoint saw %v, want a reset", err)
	}
}

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

func TestTimeout(t *testing.T) {
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	drip := func(c net.Conn) {
		// Each byte is in time; the whole is not.
		for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); err == nil; _, err = c.Write([]byte("x")) {
			<-time.After(time.Millisecond)
		}
	}
	for _, c := range []struct {
		name, address string
		http          *HTTP
	}{
		{"takes no connection", silent(t), nil},
		{"takes no connection to ask", silent(t), &HTTP{Path: "/"}},
		{"does not answer", serve(t, "tcp", "127.0.0.1:0", hang).Addr().String(), &HTTP{Path: "/"}},
		{"answers for ever", serve(t, "tcp", "127.0.0.1:0", drip).Addr().String(), &HTTP{Path: "/"}},
	} {
		cfg := Config{HTTP: c.http, Timeout: 30 * time.Millisecond}
		done := make(chan error, 1)
		go func() { done <- cfg.check(context.Background(), c.address) }()
		select {
		case err := <-done:
			if ne := net.Error(nil); !errors.Is(err, fasthttp.ErrTimeout) && (!errors.As(err, &ne) || !ne.Timeout()) {
				t.Errorf("%s: %v, want a timeout", c.name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s: the check does not end", c.name)
		}
	}
}

// A reload waits for the checks of what it replaces: they may not hold it up, however patient they are.
func TestRunEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{}, 1)
	ln := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err == nil {
			asked <- struct{}{}
			_, _ = io.Copy(io.Discard, c)
		}
	})
	cfg := Config{HTTP: &HTTP{Path: "/"}, Interval: time.Millisecond, Timeout: time.Hour, Rise: 1, Fall: 1}
	changes, stop := watch(t, cfg, ln.Addr().String(), true)
	receive(t, "the endpoint is asked", asked)
	stop()
	if len(changes) != 0 {
		t.Errorf("the check that was cut short is reported: %+v", <-changes)
	}
	// And between two checks.
	cfg.Interval = time.Hour
	_, stop = watch(t, cfg, ln.Addr().String(), true)
	stop()
}
