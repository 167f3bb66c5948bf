package health

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// eventually waits for cond, which must come true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not happen that %s", patience, what)
		}
	}
}

// receive is the next of what comes on ch, which must.
func receive[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("in %v it did not happen that %s", patience, what)
	}
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// often is a configuration whose checks follow each other fast, and never time out.
func often(h *HTTP) Config { return Config{HTTP: h, Interval: time.Millisecond, Timeout: patience} }

// asking is one of which only single checks are made.
func asking(kind any) Config {
	cfg := Config{Interval: time.Hour, Timeout: patience}
	switch k := kind.(type) {
	case *HTTP:
		cfg.HTTP = k
	case *GRPC:
		cfg.GRPC = k
	case *Expect:
		cfg.Expect = k
	}
	return cfg
}

// checker is a valid configuration's.
func checker(t testing.TB, cfg Config) *Checker {
	t.Helper()
	ch, err := New(cfg)
	must(t, err)
	return ch
}

// check is a single check.
func check(t testing.TB, cfg Config, address string) error {
	t.Helper()
	return checker(t, cfg).check(t.Context(), Target{Address: address})
}

// said is what a check found, "up" or why not.
func said(err error) string {
	if err == nil {
		return "up"
	}
	return err.Error()
}

// change is one call of Run's report.
type change struct {
	up  bool
	why error
}

// watch runs checks until the end of the test, or of the returned stop.
func watch(t testing.TB, cfg Config, address string, healthy bool) (changes <-chan change, stop func()) {
	t.Helper()
	ch := checker(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan change, 100), make(chan struct{})
	go func() {
		defer close(done)
		ch.Run(ctx, Target{Address: address}, healthy, func(up bool, why error) { out <- change{up, why} })
	}()
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Run goes on after its context has ended")
		}
	}
	t.Cleanup(stop)
	return out, stop
}

// next is the next change, which must come.
func next(t testing.TB, changes <-chan change) change {
	t.Helper()
	return receive(t, "a change is reported", changes)
}

// serve accepts connections on network's address until the end of the test, and has f serve each on a goroutine.
func serve(t testing.TB, network, address string, f func(c net.Conn)) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	must(t, err)
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			running.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln
}

// says is an endpoint that answers raw bytes to whatever it is asked, once it has been asked, and closes.
func says(t testing.TB, raw string) string {
	return serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err == nil {
			_, _ = c.Write([]byte(raw))
		}
	}).Addr().String()
}

// app is an HTTP server with a status that can be changed, which counts what it is asked.
type app struct {
	address string
	status  atomic.Int64
	asked   atomic.Int64
}

func newApp(t testing.TB, status int) *app {
	t.Helper()
	a := &app{}
	a.status.Store(int64(status))
	a.address = a.listen(t, func(int64, *http.Request) int { return int(a.status.Load()) })
	return a
}

// listen serves what status makes of each request's number, from 1.
func (a *app) listen(t testing.TB, status func(n int64, r *http.Request) int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status(a.asked.Add(1), r))
	})}
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		srv.Close()
		running.Wait()
	})
	return ln.Addr().String()
}

// h2 is an HTTP/2 server, in clear.
func h2(t testing.TB, f http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := &http.Server{Handler: f, Protocols: new(http.Protocols), MaxHeaderBytes: 1 << 20}
	srv.Protocols.SetUnencryptedHTTP2(true)
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		srv.Close()
		running.Wait()
	})
	return ln.Addr().String()
}
