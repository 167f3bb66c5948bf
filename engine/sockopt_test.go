package engine

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// looker hands over what look finds on each accepted connection, and closes it when its client has.
type looker struct {
	look  func(c *Conn) any
	found chan any
}

func newLooker(look func(c *Conn) any) *looker { return &looker{look, make(chan any, 64)} }

func (k *looker) Accept(c *Conn) {
	c.SetHandler(k)
	k.found <- k.look(c)
}

func (k *looker) Ready(c *Conn) {
	if _, err := c.Read(c.Loop().Scratch()); err != nil && err != ErrAgain {
		c.Close()
	}
}
func (k *looker) Timeout(*Conn)          {}
func (k *looker) Connected(*Conn, error) {}

func (k *looker) next(t testing.TB) any {
	t.Helper()
	select {
	case v := <-k.found:
		return v
	case <-time.After(patience):
		t.Fatal("nothing was accepted")
		return nil
	}
}

// option is an option's value on fd; -1 if it has none.
func option(fd, level, name int) int {
	v, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		return -1
	}
	return v
}

// common reads the options that SocketOptions set. A traffic class is -1 on an IPv4 socket.
func common(fd int) map[string]int {
	return map[string]int{
		"nodelay":      option(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY),
		"keepalive":    option(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE),
		"idle":         option(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
		"interval":     option(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL),
		"count":        option(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT),
		"user_timeout": option(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT),
		"tos":          option(fd, unix.IPPROTO_IP, unix.IP_TOS),
		"tclass":       option(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS),
	}
}

var allOptions = SocketOptions{
	Keepalive:   Keepalive{Idle: 61 * time.Second, Interval: 6500 * time.Millisecond, Count: 4},
	UserTimeout: 12345 * time.Millisecond,
	DSCP:        46,
}

func allSet(tos, tclass int) map[string]int {
	return map[string]int{"nodelay": 1, "keepalive": 1, "idle": 61, "interval": 7, "count": 4, "user_timeout": 12345,
		"tos": tos, "tclass": tclass}
}

// The options are set on the listening socket alone: what an accepted one has, it has inherited.
func TestAcceptedSocketsInheritTheListenersOptions(t *testing.T) {
	e := newEngine(t, Config{Loops: 2})
	f := func(address, through string, tos, tclass int) {
		t.Helper()
		k := newLooker(func(c *Conn) any { return common(c.fd) })
		ln, err := e.ListenWith(address, ListenOptions{SocketOptions: allOptions}, Terms{Handler: k})
		must(t, err)
		_, port, _ := net.SplitHostPort(ln.Bound())
		client(t, net.JoinHostPort(through, port))
		if diff := cmp.Diff(allSet(tos, tclass), k.next(t)); diff != "" {
			t.Errorf("accepted by %s from %s (-want +got):\n%s", address, through, diff)
		}
	}
	f("127.0.0.1:0", "127.0.0.1", 46<<2, -1)
	f("[::1]:0", "::1", 0, 46<<2)
	f("[::]:0", "::1", 46<<2, 46<<2)
	f("[::]:0", "127.0.0.1", 46<<2, 46<<2)
}

func TestListenersWithoutOptionsSetNone(t *testing.T) {
	fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	defer closeFD(fresh)
	want := common(fresh)
	want["nodelay"] = 1
	k := newLooker(func(c *Conn) any { return common(c.fd) })
	ln, err := newEngine(t, Config{Loops: 1}).Listen("127.0.0.1:0", 0, k)
	must(t, err)
	client(t, ln.Bound())
	if diff := cmp.Diff(want, k.next(t)); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
	if n := len((ListenOptions{}).list(&Addr{})); n != 0 {
		t.Errorf("%d options would be set", n)
	}
	if (DialConfig{}).Options() != nil {
		t.Error("no options are dialled with some")
	}
}

// A reload changes the options of a listener that stays open, those that are given no more included.
func TestOptionsOfAnOpenListenerCanBeChanged(t *testing.T) {
	fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	defer closeFD(fresh)
	none := common(fresh)
	none["nodelay"] = 1
	k := newLooker(func(c *Conn) any { return common(c.fd) })
	ln, err := newEngine(t, Config{Loops: 2}).Listen("127.0.0.1:0", 0, k)
	must(t, err)
	f := func(o ListenOptions, want map[string]int, backlog, queue, deferred int) {
		t.Helper()
		must(t, ln.SetOptions(o))
		if ln.Options() != o {
			t.Errorf("options are %+v, want %+v", ln.Options(), o)
		}
		for _, a := range ln.acceptors {
			info, err := unix.GetsockoptTCPInfo(a.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			must(t, err)
			if backlog != 0 && int(info.Sacked) != backlog {
				t.Errorf("backlog %d, want %d", info.Sacked, backlog)
			}
			if n := option(a.fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN); n != min(queue, somaxconn(t)) {
				t.Errorf("fast open queue %d, want %d", n, queue)
			}
			if n := option(a.fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT); (n > 0) != (deferred > 0) {
				t.Errorf("accept deferred for %d s, want %d", n, deferred)
			}
		}
		for range 4 { // to come to either loop's socket
			c := client(t, ln.Bound())
			_, _ = c.Write([]byte("x"))
			if diff := cmp.Diff(want, k.next(t)); diff != "" {
				t.Errorf("accepted (-want +got):\n%s", diff)
			}
		}
	}
	all := ListenOptions{SocketOptions: allOptions, DeferAccept: 3 * time.Second, Backlog: 9}
	all.FastOpen = true
	part := ListenOptions{SocketOptions: SocketOptions{Keepalive: Keepalive{Count: 3}}}
	some := maps.Clone(none)
	some["keepalive"], some["count"] = 1, 3
	f(ListenOptions{}, none, 0, 0, 0)
	f(all, allSet(46<<2, -1), 9, fastOpenQueue, 3)
	f(part, some, 0, 0, 0)
	f(all, allSet(46<<2, -1), 9, fastOpenQueue, 3)
	f(ListenOptions{}, none, 0, 0, 0)
	if err := ln.SetOptions(ListenOptions{Mode: 0o600}); err == nil {
		t.Error("a TCP listener has a file mode")
	}
}

func TestPartOfKeepaliveLeavesTheRestToTheKernel(t *testing.T) {
	fresh, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	defer closeFD(fresh)
	want := common(fresh)
	want["keepalive"], want["interval"] = 1, 9
	o := SocketOptions{Keepalive: Keepalive{Interval: 9 * time.Second}}
	must(t, setAll(fresh, o.list(unix.AF_INET, false)))
	if diff := cmp.Diff(want, common(fresh)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBacklogAndFastOpenOfAListener(t *testing.T) {
	e := newEngine(t, Config{Loops: 2})
	f := func(o ListenOptions, backlog, queue int) {
		t.Helper()
		ln, err := e.ListenWith("127.0.0.1:0", o, Terms{Handler: newLooker(nil)})
		must(t, err)
		for _, a := range ln.acceptors {
			info, err := unix.GetsockoptTCPInfo(a.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			must(t, err)
			if int(info.Sacked) != backlog { // of a listening socket it is the backlog
				t.Errorf("%+v: backlog %d, want %d", o, info.Sacked, backlog)
			}
			if n := option(a.fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN); n != queue {
				t.Errorf("%+v: fast open queue %d, want %d", o, n, queue)
			}
		}
	}
	f(ListenOptions{}, min(somaxconn(t), maxBacklog), 0)
	f(ListenOptions{Backlog: 7}, 7, 0)
	f(ListenOptions{SocketOptions: SocketOptions{FastOpen: true}}, min(somaxconn(t), maxBacklog), min(somaxconn(t), fastOpenQueue))
}

// somaxconn is what the kernel allows as a backlog.
func somaxconn(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	return n
}

// A silent client comes first and is not accepted; one that has spoken is, and can be read from at once.
func TestDeferAcceptWaitsForTheFirstBytes(t *testing.T) {
	k := newLooker(func(c *Conn) any {
		b := make([]byte, 8)
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		return string(b[:n])
	})
	ln, err := newEngine(t, Config{Loops: 1}).ListenWith("127.0.0.1:0", ListenOptions{DeferAccept: time.Minute}, Terms{Handler: k})
	must(t, err)
	silent, speaks := client(t, ln.Bound()), client(t, ln.Bound())
	for _, c := range []struct {
		*net.TCPConn
		says string
	}{{speaks, "first"}, {silent, "second"}} {
		_, err := c.Write([]byte(c.says))
		must(t, err)
		if got := k.next(t); got != c.says {
			t.Errorf("accepted %v, want %q", got, c.says)
		}
	}
}

// permitted says why the process may not set IP_TRANSPARENT; nil if it may.
func permitted(t *testing.T) error {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	defer closeFD(fd)
	return setAll(fd, SocketOptions{Transparent: true}.list(unix.AF_INET, false))
}

func TestTransparentListenersTakeAddressesThatAreNotTheHosts(t *testing.T) {
	if err := permitted(t); err != nil {
		t.Skip(err)
	}
	e := newEngine(t, Config{Loops: 2})
	for _, address := range []string{"192.0.2.1:0", "[2001:db8::1]:0"} { // TEST-NET-1, RFC 5737; RFC 3849
		o := ListenOptions{}
		if _, err := e.ListenWith(address, o, Terms{Handler: newLooker(nil)}); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("%s, not transparent: %v", address, err)
		}
		o.Transparent = true
		_, err := e.ListenWith(address, o, Terms{Handler: newLooker(nil)})
		if err != nil {
			t.Errorf("%s, transparent: %v", address, err)
		}
	}
}

// The capabilities are taken from one thread, which ends with its goroutine.
func TestTransparentWithoutPermissionSaysWhatItTakes(t *testing.T) {
	errs := make(chan error, 3)
	go func() {
		runtime.LockOSThread()
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		errs <- unix.Capset(&hdr, &data[0])
		a := NewAddr(netip.MustParseAddrPort("127.0.0.1:0"))
		_, err := listenSocket(&a, true, ListenOptions{SocketOptions: SocketOptions{Transparent: true}})
		errs <- err
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
		if err == nil {
			err = DialConfig{SocketOptions: SocketOptions{Transparent: true}}.Options().prepare(fd, unix.AF_INET6, netip.AddrPort{})
			closeFD(fd)
		}
		errs <- err
	}()
	must(t, <-errs)
	for _, what := range []string{"listen", "dial"} {
		err := <-errs
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestUNIXSocketMode(t *testing.T) {
	k := newLooker(func(*Conn) any { return "here" })
	e := newEngine(t, Config{Loops: 2})
	for _, mode := range []FileMode{0o660, 0o622} {
		path := filepath.Join(t.TempDir(), "s")
		_, err := e.ListenWith("unix:"+path, ListenOptions{Mode: mode}, Terms{Handler: k})
		must(t, err)
		st, err := os.Stat(path)
		must(t, err)
		if st.Mode().Perm() != os.FileMode(mode) {
			t.Errorf("mode %v, want %v", st.Mode().Perm(), mode)
		}
		c, err := net.Dial("unix", path)
		must(t, err)
		k.next(t)
		_ = c.Close()
	}
}

// The endpoint is a UNIX socket: a dial leaves out what it has not.
func TestDialingAUNIXSocketLeavesOutTheOptionsOfTCP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	must(t, err)
	defer ln.Close()
	addrs, err := Resolve(t.Context(), "unix:"+path)
	must(t, err)
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	o := allOptions
	o.FastOpen, o.Transparent = true, true
	cfg := DialConfig{SocketOptions: o, BindAddress: bindTo(t, "127.0.0.2")}
	must(t, dialWith(l, cfg.Options(), netip.MustParseAddrPort("127.0.0.9:99"), addrs...).err)
}

func TestSuits(t *testing.T) {
	f := func(want string, err error) {
		t.Helper()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	all := allOptions
	all.FastOpen, all.Transparent = true, true
	const no = "a UNIX socket has no keepalive, user_timeout, dscp, fast_open, transparent"
	f(no, all.ForUNIX())
	f("", SocketOptions{}.ForUNIX())
	f("", ListenOptions{}.Suits("unix:/s"))
	f("", ListenOptions{Mode: 0o600, Backlog: 5}.Suits("unix:/s"))
	f("a UNIX socket has no mode if it is abstract", ListenOptions{Mode: 0o600}.Suits("unix:@s"))
	f(no+", defer_accept", ListenOptions{SocketOptions: all, DeferAccept: 1}.Suits("unix:/s"))
	f("127.0.0.1:80 has no mode: it is no UNIX socket", ListenOptions{Mode: 0o600}.Suits("127.0.0.1:80"))
	f("", ListenOptions{SocketOptions: all, DeferAccept: 1, Backlog: 1}.Suits("[::1]:80"))

	b4, b6, both := bindTo(t, "127.0.0.2"), bindTo(t, "::1"), bindTo(t, "127.0.0.2,::1")
	f("", DialConfig{SocketOptions: all, BindAddress: b4}.Suits("127.0.0.1:80"))
	f("", DialConfig{BindAddress: b4}.Suits("a.test:80"))
	f("", DialConfig{BindAddress: both}.Suits("[::1]:80"))
	f("[::1]:80: bind_address has no IPv6 address", DialConfig{BindAddress: b4}.Suits("[::1]:80"))
	f("127.0.0.1:80: bind_address has no IPv4 address", DialConfig{BindAddress: b6}.Suits("127.0.0.1:80"))
	f(no+", bind_address", DialConfig{SocketOptions: all, BindAddress: b4}.Suits("unix:/s"))
	f("", DialConfig{}.Suits("unix:/s"))

	_, err := newEngine(t, Config{Loops: 1}).ListenWith("unix:@x", ListenOptions{DeferAccept: 1}, Terms{})
	f("listen on unix:@x: a UNIX socket has no defer_accept", err)
}

func TestValidateOptions(t *testing.T) {
	f := func(validate func(func(string, string)), want ...string) {
		t.Helper()
		var got []string
		validate(func(path, message string) { got = append(got, path+": "+message) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	f(ListenOptions{SocketOptions: allOptions, DeferAccept: time.Second, Backlog: maxBacklog, Mode: 0o777}.Validate)
	f(ListenOptions{
		SocketOptions: SocketOptions{Keepalive: Keepalive{Idle: -1, Interval: 10 * time.Hour, Count: 128}, UserTimeout: -1, DSCP: 64},
		DeferAccept:   2 * time.Hour,
		Backlog:       maxBacklog + 1,
	}.Validate,
		"keepalive.idle: -1ns: up to 32767 s", "keepalive.interval: 10h0m0s: up to 32767 s",
		"keepalive.count: 128 probes: up to 127", "user_timeout: -1ns: up to 596h31m23.647s", "dscp: 64: 0 to 63",
		"defer_accept: 2h0m0s: up to 1h0m0s", "backlog: 65536 connections: 1 to 65535")
	f(DialConfig{SocketOptions: SocketOptions{DSCP: 99}, TransparentPort: true}.Validate,
		"dscp: 99: 0 to 63", "transparent_port: needs transparent: true")
	f(Limits{MaxConn: 1, AcceptRate: maxRate, MaxConnPerSource: maxPerSource}.Validate)
	f(Limits{MaxConn: -1, AcceptRate: 2e6, MaxConnPerSource: maxPerSource + 1}.Validate,
		"maxconn: must not be negative", "accept_rate: 2000000/s: up to 1000000/s",
		"maxconn_per_source: 65536 connections: up to 65535")
	// What is valid the kernel takes, at the bounds too.
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	must(t, err)
	defer closeFD(fd)
	must(t, setAll(fd, SocketOptions{UserTimeout: maxUserTimeout, DSCP: maxDSCP,
		Keepalive: Keepalive{maxKeepSeconds * time.Second, maxKeepSeconds * time.Second, maxKeepCount}}.list(unix.AF_INET6, true)))
}

func TestDSCPNames(t *testing.T) {
	f := func(want int, texts ...string) {
		t.Helper()
		for _, s := range texts {
			var d DSCP
			if err := d.UnmarshalText([]byte(s)); err != nil && want >= 0 || err == nil && int(d) != want {
				t.Errorf("%q: %d, %v; want %d", s, d, err, want)
			}
		}
	}
	f(46, "ef", "EF", "46", "0x2e")
	f(0, "df", "cs0", "0")
	f(1, "le")
	f(44, "va")
	f(8, "cs1")
	f(56, "cs7")
	f(10, "af11")
	f(22, "af23")
	f(38, "af43")
	f(63, "63")
	f(-1, "64", "-1", "cs8", "af44", "af51", "af10", "af1", "", "ef ", "1.5")
}

func TestFileModes(t *testing.T) {
	f := func(want FileMode, texts ...string) {
		t.Helper()
		for _, s := range texts {
			var m FileMode
			if err := m.UnmarshalText([]byte(s)); (err == nil) != (want != 0) || m != want {
				t.Errorf("%q: %v, %v; want %v", s, m, err, want)
			}
		}
	}
	f(0o660, "0660", "660", "0o660")
	f(0o777, "777")
	f(0, "", "0", "888", "1777", "rw-rw----", "-1", "0x1ff")
}

func TestBindAddresses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		var b BindAddress
		if err := b.UnmarshalText([]byte(text)); (err == nil) != (want != "") || b.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, b, err, want)
		}
	}
	f("10.0.0.5", "10.0.0.5")
	f("::ffff:10.0.0.5", "10.0.0.5")
	f("2001:db8::5", "2001:db8::5")
	f("2001:db8::5, 10.0.0.5", "10.0.0.5, 2001:db8::5")
	for _, bad := range []string{"", "10.0.0.5:80", "0.0.0.0", "::", "224.0.0.1", "10.0.0.5,", "10.0.0.5,10.0.0.6", "host"} {
		f(bad, "")
	}
}

func bindTo(t testing.TB, text string) (b BindAddress) {
	t.Helper()
	must(t, b.UnmarshalText([]byte(text)))
	return b
}

// dialledWith is how a dial went: its socket's options and own address, or the error.
type dialledWith struct {
	conn    *Conn // still open
	options map[string]int
	local   netip.AddrPort
	err     error
}

type optionsDial struct{ result chan dialledWith }

func (d *optionsDial) Ready(*Conn)   {}
func (d *optionsDial) Timeout(*Conn) {}
func (d *optionsDial) Connected(c *Conn, err error) {
	if err != nil {
		d.result <- dialledWith{err: err}
		return
	}
	o := common(c.fd)
	delete(o, "nodelay") // is set when it is needed
	o["fast_open"] = option(c.fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT)
	o["transparent"] = option(c.fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT)
	o["no_port"] = option(c.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT)
	d.result <- dialledWith{conn: c, options: o, local: c.LocalAddr()}
}

// dialWith dials and resets the connection, so that no TIME_WAIT is left.
func dialWith(l *Loop, o *DialOptions, from netip.AddrPort, addrs ...Addr) dialledWith {
	d := dialAndHold(l, o, from, addrs...)
	if d.err == nil {
		on(l, d.conn.Reset)
	}
	return d
}

func dialAndHold(l *Loop, o *DialOptions, from netip.AddrPort, addrs ...Addr) dialledWith {
	d := &optionsDial{make(chan dialledWith, 1)}
	l.Post(func() {
		if _, err := l.DialWith(addrs, patience, o, from, d); err != nil {
			d.result <- dialledWith{err: err}
		}
	})
	return <-d.result
}

// endpoint accepts connections and tells where they come from.
func endpoint(t testing.TB, address string) (Addr, <-chan netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	must(t, err)
	seen := make(chan netip.AddrPort, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			seen <- c.RemoteAddr().(*net.TCPAddr).AddrPort()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return NewAddr(netip.MustParseAddrPort(ln.Addr().String())), seen
}

func TestDialledSocketsHaveTheOptions(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	f := func(address string, tos, tclass int) {
		t.Helper()
		to, _ := endpoint(t, address)
		got := dialWith(l, DialConfig{SocketOptions: allOptions}.Options(), netip.AddrPort{}, to)
		must(t, got.err)
		want := allSet(tos, tclass)
		delete(want, "nodelay")
		want["fast_open"], want["transparent"], want["no_port"] = 0, 0, 0
		if diff := cmp.Diff(want, got.options); diff != "" {
			t.Errorf("dialled %s (-want +got):\n%s", address, diff)
		}
	}
	f("127.0.0.1:0", 46<<2, -1)
	f("[::1]:0", 0, 46<<2)
}

func TestBindAddressIsWhereConnectionsComeFrom(t *testing.T) {
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	v4, from4 := endpoint(t, "127.0.0.1:0")
	v6, from6 := endpoint(t, "[::1]:0")
	f := func(bind string, to Addr, seen <-chan netip.AddrPort, want string) {
		t.Helper()
		got := dialWith(l, DialConfig{BindAddress: bindTo(t, bind)}.Options(), netip.AddrPort{}, to)
		must(t, got.err)
		if ap := <-seen; ap.Addr().String() != want || ap != got.local {
			t.Errorf("bound to %s: came from %v, is %v", bind, ap, got.local)
		}
		if got.options["no_port"] != 1 {
			t.Error("the port was chosen at bind")
		}
	}
	f("127.0.0.2", v4, from4, "127.0.0.2")
	f("::1", v6, from6, "::1")
	f("127.0.0.3, ::1", v4, from4, "127.0.0.3")
	f("127.0.0.3, ::1", v6, from6, "::1")

	// Of the other family it is an error of that attempt alone.
	only4 := DialConfig{BindAddress: bindTo(t, "127.0.0.2")}.Options()
	if got := dialWith(l, only4, netip.AddrPort{}, v6); got.err == nil || !strings.Contains(got.err.Error(), "no IPv6 address") {
		t.Errorf("bound to IPv4, dialled IPv6: %v", got.err)
	}
	must(t, dialWith(l, only4, netip.AddrPort{}, v6, v4).err)
	if ap := <-from4; ap.Addr().String() != "127.0.0.2" {
		t.Errorf("second attempt came from %v", ap)
	}
	// So is an address that the host has not.
	gone := DialConfig{BindAddress: bindTo(t, "192.0.2.7")}.Options()
	got := dialWith(l, gone, netip.AddrPort{}, v4)
	if !errors.Is(got.err, unix.EADDRNOTAVAIL) || !strings.Contains(got.err.Error(), "192.0.2.7") {
		t.Errorf("bound to an address of nobody: %v", got.err)
	}
}

func TestTransparentDialsComeFromTheClient(t *testing.T) {
	if err := permitted(t); err != nil {
		t.Skip(err)
	}
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	v4, from4 := endpoint(t, "127.0.0.1:0")
	v6, from6 := endpoint(t, "[::1]:0")
	cfg := DialConfig{SocketOptions: SocketOptions{Transparent: true}}
	f := func(cfg DialConfig, client string, to Addr, seen <-chan netip.AddrPort, want string) {
		t.Helper()
		var from netip.AddrPort
		if client != "" {
			from = netip.MustParseAddrPort(client)
		}
		got := dialWith(l, cfg.Options(), from, to)
		must(t, got.err)
		ap := <-seen
		if s := ap.String(); s != want && ap.Addr().String() != want {
			t.Errorf("for %s: came from %v, want %s", client, ap, want)
		}
		if got.options["transparent"] != 1 {
			t.Error("the socket is not transparent")
		}
	}
	f(cfg, "127.0.0.9:4711", v4, from4, "127.0.0.9")
	f(cfg, "[::ffff:127.0.0.9]:4711", v4, from4, "127.0.0.9")
	f(cfg, "[::1]:4711", v6, from6, "::1")
	// A client without an address has none to be taken.
	f(cfg, "", v4, from4, "127.0.0.1")
	bound := cfg
	bound.BindAddress = bindTo(t, "127.0.0.8")
	f(bound, "127.0.0.9:4711", v4, from4, "127.0.0.9")
	f(bound, "", v4, from4, "127.0.0.8")
	// The port too, twice in a row: the kernel may still know the first.
	port := cfg
	port.TransparentPort = true
	f(port, "127.0.0.9:4711", v4, from4, "127.0.0.9:4711")
	f(port, "127.0.0.9:4711", v4, from4, "127.0.0.9:4711")
	// And to two endpoints at the same time.
	held := dialAndHold(l, port.Options(), netip.MustParseAddrPort("127.0.0.9:4711"), v4)
	must(t, held.err)
	<-from4
	other, fromOther := endpoint(t, "127.0.0.1:0")
	t.Cleanup(func() { on(l, held.conn.Reset) })
	f(port, "127.0.0.9:4711", other, fromOther, "127.0.0.9:4711")

	if got := dialWith(l, cfg.Options(), netip.MustParseAddrPort("127.0.0.9:1"), v6); got.err == nil ||
		!strings.Contains(got.err.Error(), "family") {
		t.Errorf("an IPv4 client, an IPv6 endpoint: %v", got.err)
	}
	// An address that is not the host's: bound, and not dialled, as the answers would leave the host.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	defer closeFD(fd)
	must(t, cfg.Options().prepare(fd, unix.AF_INET, netip.MustParseAddrPort("192.0.2.7:1")))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	if sa.(*unix.SockaddrInet4).Addr != [4]byte{192, 0, 2, 7} {
		t.Errorf("bound to %v", sa)
	}
}

// The first connection brings the cookie; the second sends its bytes in the SYN, where the host lets listeners do so.
func TestFastOpenPassesTheFirstBytes(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_fastopen")
	must(t, err)
	bits := int(text[0] - '0')
	if bits&1 == 0 {
		t.Skipf("net.ipv4.tcp_fastopen is %d: no dial may use it", bits)
	}
	e := newEngine(t, Config{Loops: 2})
	o := SocketOptions{FastOpen: true}
	k := newLooker(func(c *Conn) any { return c })
	ln, err := e.ListenWith("127.0.0.1:0", ListenOptions{SocketOptions: o}, Terms{Handler: k})
	must(t, err)
	l := e.Loops()[0]
	to := NewAddr(netip.MustParseAddrPort(ln.Bound()))
	for i := range 3 {
		d := &writer{done: make(chan error, 1)}
		l.Post(func() {
			_, err := l.DialWith([]Addr{to}, patience, DialConfig{SocketOptions: o}.Options(), netip.AddrPort{}, d)
			if err != nil {
				d.done <- err
			}
		})
		must(t, <-d.done)
		c := k.next(t).(*Conn)
		on(c.Loop(), func() {
			info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Error(err)
				return
			}
			const synData = 1 << 5 // TCPI_OPT_SYN_DATA: the SYN's data were taken
			if want := bits&2 != 0 && i > 0; info.Options&synData != 0 != want {
				t.Errorf("connection %d: options %#x, bytes in the SYN: want %v", i, info.Options, want)
			}
		})
		on(l, func() { d.c.Close() })
	}
}

// writer writes as soon as it may.
type writer struct {
	c    *Conn
	done chan error
}

func (w *writer) Ready(*Conn)   {}
func (w *writer) Timeout(*Conn) {}
func (w *writer) Connected(c *Conn, err error) {
	w.c = c
	if err == nil {
		_, err = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	}
	w.done <- err
}

func TestDiallingWithOptionsAllocatesNoMore(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, err)
	defer closeFD(fd)
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 4096))
	sa, err := unix.Getsockname(fd)
	must(t, err)
	to := []Addr{NewAddr(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port)))}
	l := newEngine(t, Config{Loops: 1}).Loops()[0]
	h := newLooker(nil)
	f := func(o *DialOptions, from netip.AddrPort) (n float64) {
		on(l, func() {
			n = testing.AllocsPerRun(100, func() {
				c, err := l.DialWith(to, time.Second, o, from, h)
				if err != nil {
					t.Error(err)
					return
				}
				c.Reset()
			})
		})
		return n
	}
	cfg := DialConfig{SocketOptions: allOptions, BindAddress: bindTo(t, "127.0.0.2")}
	cfg.FastOpen, cfg.Transparent = true, permitted(t) == nil
	without := f(nil, netip.AddrPort{})
	with := f(cfg.Options(), netip.MustParseAddrPort("127.0.0.9:4711"))
	if want := []float64{1, 1}; !slices.Equal([]float64{without, with}, want) { // the Conn; the rest is pooled
		t.Errorf("%v and %v allocations, want %v", without, with, want)
	}
}
