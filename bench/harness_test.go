package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func scenario(t testing.TB, name string) Scenario {
	t.Helper()
	s, err := Find([]string{name})
	must(t, err)
	return s[0]
}

// testOrigin runs an origin for the time of the test.
func testOrigin(t testing.TB) string {
	t.Helper()
	address, err := freePort()
	must(t, err)
	o, err := StartOrigin(address, 1)
	must(t, err)
	t.Cleanup(o.Stop)
	return address
}

// testRig is a rig whose origin is in this process, for the time of the test.
func testRig(t testing.TB) *Rig {
	t.Helper()
	r := &Rig{Origin: testOrigin(t), dir: t.TempDir(), Versions: map[string]string{}, Absent: map[string]string{}}
	t.Cleanup(r.Close)
	must(t, os.Chmod(r.dir, 0o755)) // nginx's workers are somebody else
	var err error
	r.Chain, err = newChain()
	must(t, err)
	must(t, r.certify())
	return r
}

// serve runs a server for the time of the test, a goroutine a connection.
func serve(t testing.TB, f func(c *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			running.Go(func() {
				f(c.(*net.TCPConn))
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr().String()
}

// answering answers each request with what answer says of it; an empty answer resets the connection.
func answering(t testing.TB, answer func(n int) string) string {
	var mu sync.Mutex
	n := 0
	return serve(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			mu.Lock()
			out := answer(n)
			n++
			mu.Unlock()
			if out == "" {
				_ = c.SetLinger(0)
				return
			}
			if _, err := io.WriteString(c, out); err != nil {
				return
			}
		}
	})
}

func response(status, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// measuredSome is a measurement that goes on until something was answered.
func measuredSome(t testing.TB, name, address string, aim Aim) (*tally, error) {
	t.Helper()
	aim.Scenario, aim.Address = scenario(t, name), address
	g, err := NewGenerator(context.Background(), aim)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	sum, _, err := g.Measure(ctx, 0, patience, func() {}, func(_ float64, sum *tally) {
		if sum.requests > 0 || aim.Scenario.Load == Idle {
			cancel(enough)
		}
	})
	if err == enough {
		err = nil
	}
	return sum, err
}

// measured is one measurement of a target that the test serves.
func measured(t testing.TB, name, address string, aim Aim, d time.Duration) (*tally, error) {
	t.Helper()
	aim.Scenario, aim.Address = scenario(t, name), address
	g, err := NewGenerator(context.Background(), aim)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	sum, _, err := g.Measure(t.Context(), 0, d, func() {}, nil)
	return sum, err
}
