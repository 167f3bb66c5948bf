package engine

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type dialled struct{ result chan error }

func (d *dialled) Ready(*Conn)   {}
func (d *dialled) Timeout(*Conn) {}
func (d *dialled) Connected(c *Conn, err error) {
	if err == nil {
		c.Close()
	}
	d.result <- err
}

func dialOn(l *Loop, timeout time.Duration, addrs ...Addr) error {
	d := &dialled{make(chan error, 2)}
	l.Post(func() {
		if _, err := l.Dial(addrs, timeout, d); err != nil {
			d.result <- err
		}
	})
	return <-d.result
}

// refusing is an address on which nobody listens.
func refusing(t *testing.T) Addr {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	return NewAddr(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port)))
}

// silent is an address whose backlog is full: connecting to it is answered by nothing at all.
func silent(t *testing.T) Addr {
	t.Helper()
	a := refusing(t)
	putRawPort(&a, 0)
	fd, err := listenSocket(&a, false, ListenOptions{})
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	putRawPort(&a, uint16(sa.(*unix.SockaddrInet4).Port))
	for range 4 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(c) })
		_ = connect(c, &a)
	}
	return a
}

func TestDial(t *testing.T) {
	e := newEngine(t, Config{Loops: 1})
	l := e.Loops()[0]
	good := newProxy(t, Config{Loops: 1}, upstream(t, echo), 0)
	ok := NewAddr(netip.MustParseAddrPort(good.Bound()))
	dead, mute := refusing(t), silent(t)
	fds := openFDs(t)
	for _, c := range []struct {
		name  string
		addrs []Addr
		want  error
	}{
		{"answers", []Addr{ok}, nil},
		{"refuses", []Addr{dead}, unix.ECONNREFUSED},
		{"refuses, and the next answers", []Addr{dead, dead, ok}, nil},
		{"is silent", []Addr{mute}, ErrDialTimeout},
		{"is silent, and the next answers", []Addr{mute, ok}, nil},
		{"none answers", []Addr{mute, dead}, unix.ECONNREFUSED},
	} {
		if err := dialOn(l, 8*tick, c.addrs...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := dialOn(l, time.Second); err == nil {
		t.Error("dialled no address")
	}
	if n := l.Counters().DialErrors.Load(); n != 3 {
		t.Errorf("%d dial errors counted", n)
	}
	drained(t, good.engine)
	eventually(t, "all descriptors are closed", func() bool { return openFDs(t) <= fds })
	on(l, func() {
		if l.wheel.linked != 0 {
			t.Errorf("%d timers linked", l.wheel.linked)
		}
	})
}

func TestCheckAddr(t *testing.T) {
	for _, c := range []struct {
		s                  string
		endpoint, listener bool
	}{
		{"127.0.0.1:80", true, true},
		{"[::1]:80", true, true},
		{"unix:/run/s", true, true},
		{"unix:@abstract", true, true},
		{"order.internal:8080", true, true},
		{":80", false, true},
		{"127.0.0.1:0", false, true},
		{"127.0.0.1", false, false},
		{"127.0.0.1:http", false, false},
		{"127.0.0.1:65536", false, false},
		{"300.0.0.1:80", false, false},
		{"::1:80", false, false},
		{"a b:80", false, false},
		{"-a:80", false, false},
		{"unix:relative", false, false},
		{"", false, false},
	} {
		if err := CheckAddr(c.s, false); (err == nil) != c.endpoint {
			t.Errorf("endpoint %q: %v", c.s, err)
		}
		if err := CheckAddr(c.s, true); (err == nil) != c.listener {
			t.Errorf("listener %q: %v", c.s, err)
		}
	}
}
