package lb

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sluice/engine"
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

var quiet = slog.New(slog.DiscardHandler)

// newEngine runs an engine for the time of the test.
func newEngine(t testing.TB, loops int) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Config{Loops: loops}, quiet)
	must(t, err)
	e.Start()
	t.Cleanup(e.Stop)
	return e
}

// on runs f on the loop and waits for it.
func on(l *engine.Loop, f func()) {
	done := make(chan struct{})
	l.Post(func() { f(); close(done) })
	<-done
}

// from is what f answers on the loop.
func from[T any](l *engine.Loop, f func() T) (v T) {
	on(l, func() { v = f() })
	return v
}

// newCluster puts a cluster in use for the time of the test.
func newCluster(t testing.TB, e *engine.Engine, cfg Config) *Cluster {
	t.Helper()
	c, err := NewCluster(cfg, e.Loops(), quiet, nil)
	must(t, err)
	c.Start()
	t.Cleanup(func() { c.Stop(nil) })
	return c
}

// lettered is a cluster's configuration with endpoints a, b, c… of these weights, which nobody dials.
func lettered(p Picker, weights ...int) Config {
	cfg := Config{Name: "c", Picker: p}
	for i := range weights {
		cfg.Endpoints = append(cfg.Endpoints, EndpointConfig{Address: "unix:@" + string(rune('a'+i)), Weight: &weights[i]})
	}
	return cfg
}

// of is a cluster's configuration with these endpoints.
func of(p Picker, addresses ...string) Config {
	cfg := Config{Name: "c", Picker: p}
	for _, a := range addresses {
		cfg.Endpoints = append(cfg.Endpoints, EndpointConfig{Address: a})
	}
	return cfg
}

// hashAddr hashes a client's address, and its port too if that is to count, as clusters do that do not say otherwise.
func hashAddr(a netip.AddrPort, withPort bool) uint64 {
	var k addrKey
	return xxhash.Sum64(k.of(a, withPort))
}

// letter is the name of one of lettered's endpoints; - for none.
func letter(ep *Endpoint) string {
	if ep == nil {
		return "-"
	}
	return ep.String()[len("unix:@"):]
}

// mark has endpoints be up or down, as a health check does.
func mark(t testing.TB, c *Cluster, up bool, endpoints ...*Endpoint) {
	t.Helper()
	for _, ep := range endpoints {
		ep.healthy.Store(up)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew(time.Now())
}

// edge is a cluster behind a listener of one loop.
type edge struct {
	t        testing.TB
	engine   *engine.Engine
	listener *engine.Listener
	cluster  *Cluster
	stats    *ProxyCounters
}

func newEdge(t testing.TB, cfg ProxyConfig, cluster Config) *edge {
	t.Helper()
	e := newEngine(t, 1)
	stats := &ProxyStats{Loops: make([]ProxyCounters, 1)}
	if cfg.Cluster == "" && cfg.SNI == nil {
		cfg.Cluster = "c"
	}
	c := newCluster(t, e, cluster)
	ln, err := e.Listen("127.0.0.1:0", 0, NewProxy(cfg, "", func(string) *Cluster { return c }, stats, quiet))
	must(t, err)
	return &edge{t, e, ln, c, &stats.Loops[0]}
}

// dial is a client, from the loopback address from or any.
func (e *edge) dial(from string) *net.TCPConn {
	e.t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", e.listener.Bound())
	must(e.t, err)
	e.t.Cleanup(func() { c.Close() })
	must(e.t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// ask says what as a whole session, and is the whole answer.
func (e *edge) ask(what string) (string, error) {
	e.t.Helper()
	c := e.dial("")
	defer c.Close()
	_, err := c.Write([]byte(what))
	must(e.t, err)
	must(e.t, c.CloseWrite())
	b, err := io.ReadAll(c)
	return string(b), err
}

// resets checks that a client is reset, having got nothing. It may be before its connect has returned.
func (e *edge) resets() {
	e.t.Helper()
	var b []byte
	c, err := net.Dial("tcp", e.listener.Bound())
	if err == nil {
		defer c.Close()
		must(e.t, c.SetDeadline(time.Now().Add(patience)))
		b, err = io.ReadAll(c)
	}
	if len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		e.t.Errorf("the client got %q, %v; want a reset", b, err)
	}
}

// counts waits until the listener's counters read so, in the order of ProxyCounters, and no endpoint has a session.
func (e *edge) counts(sessions, noEndpoint, retries, failed, idle, from, to uint64) {
	e.t.Helper()
	want := [...]uint64{sessions, noEndpoint, retries, failed, idle, from, to}
	var got [len(want)]uint64
	deadline := time.Now().Add(patience)
	for {
		n := e.stats
		got = [...]uint64{n.Sessions.Load(), n.NoEndpoint.Load(), n.Retries.Load(), n.Failed.Load(), n.IdleClosed.Load(),
			n.FromClients.Load(), n.ToClients.Load()}
		var inFlight int64
		for _, ep := range e.cluster.Endpoints() {
			inFlight += ep.InFlight()
		}
		if got == want && inFlight == 0 && e.engine.Open() == 0 {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("sessions, no endpoint, retries, failed, idle, from clients, to clients: %d, want %d; %d in flight, %d open",
				got, want, inFlight, e.engine.Open())
		}
		<-time.After(time.Millisecond)
	}
}

// endpoint checks what is counted of the i-th endpoint.
func (e *edge) endpoint(i int, requests, connectErrors, sent, received uint64) {
	e.t.Helper()
	n := e.cluster.Endpoints()[i].Local(e.engine.Loops()[0])
	got := [...]uint64{n.Requests.Load(), n.ConnectErrors.Load(), n.Sent.Load(), n.Received.Load()}
	if want := [...]uint64{requests, connectErrors, sent, received}; got != want {
		e.t.Errorf("endpoint %d: requests, connect errors, sent, received: %d, want %d", i, got, want)
	}
}

// serve accepts connections until the end of the test, and has f serve each on a goroutine.
func serve(t testing.TB, network, address string, f func(c net.Conn)) string {
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
	if network == "unix" {
		return "unix:" + address
	}
	return ln.Addr().String()
}

// named is an endpoint that answers its name and what it was told, once that has ended.
func named(t testing.TB, name string) string {
	return serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		if b, err := io.ReadAll(c); err == nil {
			_, _ = fmt.Fprintf(c, "%s: %s", name, b)
		}
	})
}

// refusing is an address on which nobody listens.
func refusing(t testing.TB) string {
	t.Helper()
	_, address := bound(t)
	return address
}

// silent is an address whose backlog is full: connecting to it is answered by nothing at all.
func silent(t testing.TB) string {
	t.Helper()
	fd, address := bound(t)
	must(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	for range 4 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(c) })
		if err := unix.Connect(c, sa); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
	}
	return address
}

// bound is a socket that has an address, and does not listen.
func bound(t testing.TB) (fd int, address string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	return fd, fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)
}
