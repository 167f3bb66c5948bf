package engine

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAcceptWithoutDescriptorsRestsServesAndRecovers(t *testing.T) {
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	p := newProxy(t, Config{Loops: 1, MaxConn: 1 << 20}, upstream(t, echo), 0)
	first := client(t, p.Bound())
	ping := func(c net.Conn) error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	must(t, ping(first))

	// The clients' sockets come first, then the limit falls to what is open: accept(2) finds none free.
	clients := make([]*net.TCPConn, 0, 20)
	raw := make([]int, 20)
	for i := range raw {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		must(t, err)
		raw[i] = fd
	}
	low := old
	low.Cur = uint64(highestFD(t) + 1)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	restored := false
	restore := func() {
		if !restored {
			restored = true
			must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
		}
	}
	defer restore()
	addr := p.to[0]
	putRawPort(&addr, uint16(portOf(t, p.Bound())))
	for _, fd := range raw {
		if e := connect(fd, &addr); e != 0 {
			t.Fatal(e)
		}
	}
	l := p.engine.Loops()[0]
	eventually(t, "accept fails three times", func() bool { return l.Counters().AcceptErrors.Load() >= 3 })
	for range 10 {
		must(t, ping(first))
	}
	// It rests between attempts: ten a second, where spinning would make thousands.
	from, errs := time.Now(), l.Counters().AcceptErrors.Load()
	eventually(t, "three attempts more", func() bool { return l.Counters().AcceptErrors.Load() >= errs+3 })
	if d := time.Since(from); d < acceptRetry {
		t.Errorf("three attempts in %v", d)
	}
	restore()
	for _, fd := range raw {
		f := os.NewFile(uintptr(fd), "client")
		must(t, unix.SetNonblock(fd, true))
		c, err := net.FileConn(f)
		must(t, err)
		_ = f.Close()
		clients = append(clients, c.(*net.TCPConn))
		must(t, c.SetDeadline(time.Now().Add(patience)))
	}
	for _, c := range clients {
		must(t, ping(c))
		_ = c.Close()
	}
}

func highestFD(t *testing.T) (top int) {
	t.Helper()
	// Fill the gaps, so that no descriptor below the limit is free.
	for {
		n := openFDs(t)
		fd, err := unix.Dup(2)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		if fd >= n-1 { // ReadDir's own descriptor is counted in n
			return fd
		}
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	must(t, err)
	return a.Port
}

func TestMaxConnHoldsBackAndGoesOn(t *testing.T) {
	p := newProxy(t, Config{Loops: 1, MaxConn: 2}, upstream(t, echo), 0)
	var cs []*net.TCPConn
	for range 4 {
		cs = append(cs, client(t, p.Bound()))
	}
	l := p.engine.Loops()[0]
	eventually(t, "accepting pauses", func() bool { return l.Counters().AcceptPaused.Load() > 0 })
	if n := p.Open(); n != 2 {
		t.Errorf("%d open", n)
	}
	_ = cs[0].Close()
	_ = cs[1].Close()
	for _, c := range cs[2:] {
		_, err := c.Write([]byte("x"))
		must(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		must(t, err)
	}
	if n := l.Counters().Accepted.Load(); n != 4 {
		t.Errorf("%d accepted", n)
	}
}

func TestListenOnAnAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	e := newEngine(t, Config{Loops: 2})
	_, err = e.Listen(ln.Addr().String(), 0, nil)
	if err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("got %v", err)
	}
	// Nor may a second engine share the address by way of SO_REUSEPORT.
	own, err := e.Listen("127.0.0.1:0", 0, &proxy{})
	must(t, err)
	if _, err = newEngine(t, Config{Loops: 1}).Listen(own.Bound(), 0, nil); err == nil {
		t.Error("a second engine listens on the same address")
	}
}

func TestUNIXSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p := newProxy(t, Config{Loops: 2}, upstream(t, echo), 0)
	_, err := p.engine.Listen("unix:"+path, 0, p)
	must(t, err)
	for range 8 {
		c, err := net.Dial("unix", path)
		must(t, err)
		_, _ = c.Write([]byte("over a file"))
		_ = c.(*net.UnixConn).CloseWrite()
		got, err := io.ReadAll(c)
		must(t, err)
		if string(got) != "over a file" {
			t.Errorf("got %q", got)
		}
		_ = c.Close()
	}
	// A socket file that nobody answers on is taken over, one in use is not.
	if _, err := newEngine(t, Config{Loops: 1}).Listen("unix:"+path, 0, nil); err == nil {
		t.Error("took over a live socket")
	}
	stale := filepath.Join(t.TempDir(), "stale")
	ln, err := net.Listen("unix", stale)
	must(t, err)
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close()
	_, err = p.engine.Listen("unix:"+stale, 0, p)
	must(t, err)
}

func TestClosingAListenerServesItsBacklog(t *testing.T) {
	p := newProxy(t, Config{Loops: 1}, upstream(t, echo), 0)
	l := p.engine.Loops()[0]
	hold, held := make(chan struct{}), make(chan struct{})
	l.Post(func() { close(held); <-hold }) // the loop stands still while clients connect
	<-held
	var cs []*net.TCPConn
	for range 20 {
		cs = append(cs, client(t, p.Bound()))
	}
	closed := make(chan struct{})
	go func() { p.Close(); close(closed) }()
	close(hold)
	<-closed
	if _, err := net.Dial("tcp", p.Bound()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after Close: %v", err)
	}
	for _, c := range cs {
		_, _ = c.Write([]byte("x"))
		_, err := io.ReadFull(c, make([]byte, 1))
		must(t, err)
		_ = c.Close()
	}
	drained(t, p.engine)
}
