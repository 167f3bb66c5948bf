package cli

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		panic(err)
	}
	binary = sync.OnceValues(func() (string, error) {
		name := filepath.Join(dir, "sluice")
		out, err := exec.Command("go", "build", "-o", name, "sluice/cmd/sluice").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return name, err
	})
	code := m.Run()
	_ = os.RemoveAll(dir)
	if code == 0 {
		// gnet, which the benchmark stands on, starts a pool of goroutines when it is imported.
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
			goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// binary is the built sluice.
var binary func() (string, error)

const patience = 20 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for cond, which must come true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not happen that %s", patience, what)
		}
	}
}

// freePort is an address that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// origin answers every request with its name and the request's path.
func origin(t testing.TB, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", name, r.URL.Path, body)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// running is the binary at work.
type running struct {
	*exec.Cmd
	t    testing.TB
	mu   sync.Mutex
	said strings.Builder
	done chan struct{} // closed when it has ended and all it said is here
}

// launch starts the binary; it is killed at the end of the test if it still runs.
func launch(t testing.TB, args ...string) *running {
	t.Helper()
	return launchBy(t, nil, args...)
}

// launchBy is launch by a command that runs another.
func launchBy(t testing.TB, by []string, args ...string) *running {
	t.Helper()
	name, err := binary()
	must(t, err)
	all := append(append(by[:len(by):len(by)], name), args...)
	r := &running{Cmd: exec.Command(all[0], all[1:]...), t: t, done: make(chan struct{})}
	r.Stdout, r.Stderr = r, r
	must(t, r.Start())
	go func() {
		_ = r.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Log(r.output())
		}
	})
	return r
}

// Write collects what the binary says.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(p)
}

func (r *running) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

func (r *running) says(what string) {
	r.t.Helper()
	eventually(r.t, "the binary says "+what, func() bool { return strings.Contains(r.output(), what) })
}

// exits waits for the end and returns the exit status.
func (r *running) exits() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatal("the binary does not end")
	}
	return r.ProcessState.ExitCode()
}

// get is one GET on a connection of its own.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := c.Get(url)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

// metric is a value on an admin endpoint's page.
func metric(t testing.TB, admin, name string) string {
	t.Helper()
	_, page := get(t, "http://"+admin+"/metrics")
	for line := range strings.Lines(page) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("no metric %s", name)
	return ""
}

// startServer runs a configuration in this process.
func startServer(t testing.TB, text string) *server {
	t.Helper()
	f, err := parseFile("test.yaml", []byte(text), nil)
	must(t, err)
	s, err := start(f, slog.New(slog.NewTextHandler(io.Discard, nil)))
	must(t, err)
	t.Cleanup(s.stop)
	return s
}

// bound is where a listener of the running configuration is.
func (s *server) bound(name string) string { return s.current.Load().named(name).socket.Bound() }

// keepAliveClient sends one request after the other, on one connection for as long as the server keeps it.
type keepAliveClient struct {
	address string
	conn    net.Conn
	r       *bufio.Reader
	dials   int
}

func (c *keepAliveClient) get(path string) (string, error) {
	if c.conn == nil {
		var err error
		if c.conn, err = net.Dial("tcp", c.address); err != nil {
			return "", err
		}
		_ = c.conn.SetDeadline(time.Now().Add(patience))
		c.r = bufio.NewReader(c.conn)
		c.dials++
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n", path); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.Close {
		c.close()
	}
	if resp.StatusCode != 200 {
		return "", fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), nil
}

func (c *keepAliveClient) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}
