package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUnixSocketWithoutListenerIsDown(t *testing.T) {
	if err := check(t, asking(nil), "unix:"+filepath.Join(t.TempDir(), "s")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("checked with %v", err)
	}
}

// What a check says to an endpoint before it waits for an answer, of each kind.
var openings = []struct {
	name   string
	kind   any
	begins string
}{
	{"tcp", nil, ""},
	{"http", &HTTP{Path: "/"}, "GET / HTTP/1.1\r\n"},
	{"expect", &Expect{Send: "PING", Receive: "PONG"}, "PING"},
	{"a banner", &Expect{Receive: "220"}, ""},
	{"grpc", &GRPC{}, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
}

// A check of thousands of endpoints every other second would fill the table of ports with TIME_WAITs. None is left by
// who ends the connection with a reset.
func TestCheckLeavesNoTimeWait(t *testing.T) {
	saw := make(chan error, 1)
	f := func(name string, kind any, answer string) {
		t.Helper()
		// All of the answer is read: what is left unread at the close would be a reset's cause by itself.
		ln := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			if answer != "" {
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, answer)
			}
			_, err := c.Read(make([]byte, 1))
			saw <- err
		})
		must(t, check(t, asking(kind), ln.Addr().String()))
		if err := receive(t, "the connection ends", saw); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the endpoint saw %v, want a reset", name, err)
		}
	}
	f("tcp", nil, "")
	f("http", &HTTP{Path: "/"}, "HTTP/1.1 200 OK\r\n\r\n")
	f("expect", &Expect{Send: "PING", Receive: "PONG"}, "PONG")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	healthService(t, overheard{ln, saw})
	must(t, check(t, asking(&GRPC{}), ln.Addr().String()))
	if err := receive(t, "the connection ends", saw); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("grpc: the endpoint saw %v, want a reset", err)
	}
}

// overheard tells how reading from its connections ends.
type overheard struct {
	net.Listener
	saw chan<- error
}

func (l overheard) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return overheardConn{c, l.saw}, err
}

type overheardConn struct {
	net.Conn
	saw chan<- error
}

func (c overheardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		select {
		case c.saw <- err:
		default:
		}
	}
	return n, err
}

func TestPrefaceComesFirst(t *testing.T) {
	const preface = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	for _, o := range openings {
		got := make(chan string, 1)
		ln := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			b := make([]byte, len(preface)+len(o.begins))
			n, _ := io.ReadFull(c, b)
			got <- string(b[:n])
		})
		_ = checker(t, asking(o.kind)).check(t.Context(), Target{Address: ln.Addr().String(), Preface: []byte(preface)})
		if s := receive(t, "the endpoint is spoken to", got); s != preface+o.begins {
			t.Errorf("%s: began with %q, want %q", o.name, s, preface+o.begins)
		}
	}
}

func TestWhereIsChecked(t *testing.T) {
	f := func(endpoint string, port int, want ...string) {
		t.Helper()
		network, address, authority := Target{Address: endpoint}.where(port)
		if got := fmt.Sprint(network, " ", address, " ", authority); got != strings.Join(want, " ") {
			t.Errorf("%s, port %d: %s, want %s", endpoint, port, got, strings.Join(want, " "))
		}
	}
	f("192.0.2.1:80", 0, "tcp", "192.0.2.1:80", "192.0.2.1:80")
	f("192.0.2.1:80", 8080, "tcp", "192.0.2.1:8080", "192.0.2.1:8080")
	f("app.test:80", 8080, "tcp", "app.test:8080", "app.test:8080")
	f("[2001:db8::1]:80", 0, "tcp", "[2001:db8::1]:80", "[2001:db8::1]:80")
	f("[2001:db8::1]:80", 8080, "tcp", "[2001:db8::1]:8080", "[2001:db8::1]:8080")
	f("[fe80::1%eth0]:80", 0, "tcp", "[fe80::1%eth0]:80", "[fe80::1]:80")
	f("unix:/run/app", 8080, "unix", "/run/app", "localhost")
	f("unix:@app", 0, "unix", "@app", "localhost")
}

func TestAnotherPort(t *testing.T) {
	a := newApp(t, 200)
	var port int
	_, err := fmt.Sscanf(a.address, "127.0.0.1:%d", &port)
	must(t, err)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed.Close()
	cfg := asking(&HTTP{Path: "/"})
	if err := check(t, cfg, closed.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) || err.Error() != "connect: connection refused" {
		t.Errorf("the endpoint's own: %v", err)
	}
	cfg.Port = port
	must(t, check(t, cfg, closed.Addr().String()))
}

// Of thousands of checks nothing is left over: no file, no goroutine, no connection, whether they found something or not.
func TestChecksLeaveNothing(t *testing.T) {
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(list)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed.Close()
	hanging := serve(t, "tcp", "127.0.0.1:0", hang).Addr().String()
	up := map[string]string{
		"tcp":      hanging,
		"http":     newApp(t, 200).address,
		"expect":   banner(t, "PONG"),
		"a banner": banner(t, "220"),
		"grpc":     healthServer(t, nil),
	}
	// The servers' own come first.
	for _, o := range openings {
		must(t, check(t, asking(o.kind), up[o.name]))
	}
	filesBefore, goroutinesBefore := files(), runtime.NumGoroutine()
	for _, o := range openings {
		ch := checker(t, asking(o.kind))
		for range 20 {
			must(t, ch.check(t.Context(), Target{Address: up[o.name]}))
			if ch.check(t.Context(), Target{Address: closed.Addr().String()}) == nil {
				t.Fatal("nobody listens, and it is up")
			}
		}
		cfg := asking(o.kind)
		cfg.Timeout = time.Millisecond
		ch = checker(t, cfg)
		for range 5 {
			_ = ch.check(t.Context(), Target{Address: hanging})
		}
		if n := len(ch.gate); n != 0 {
			t.Errorf("%s: %d places are still held", o.name, n)
		}
	}
	eventually(t, "what the checks had open is closed", func() bool {
		return files() <= filesBefore && runtime.NumGoroutine() <= goroutinesBefore
	})
}

// A reason is read in a log or on a page: it is one line, not a long one, and says what was seen.
func TestReasons(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if got := brief(err).Error(); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	op := func(err error) error {
		return &net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{Port: 80}, Err: err}
	}
	f(op(os.NewSyscallError("read", syscall.ECONNRESET)), "read: connection reset by peer")
	f(fmt.Errorf("wrapped: %w", op(os.NewSyscallError("read", syscall.ECONNRESET))), "read: connection reset by peer")
	f(op(os.ErrDeadlineExceeded), "i/o timeout")
	f(context.DeadlineExceeded, "i/o timeout")
	f(io.ErrUnexpectedEOF, "unexpected EOF")
	f(errors.New("a\r\nb\x00c"), "a  b c")
	f(errors.New(strings.Repeat("x", 200)), strings.Repeat("x", 200))
	f(errors.New(strings.Repeat("x", 201)), strings.Repeat("x", 200)+"…")
	f(errors.New(strings.Repeat("x", 199)+"é"), strings.Repeat("x", 199)+"…")
}
