package engine

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowedCPUs are the CPUs that the test may use; it is skipped if there are fewer than n.
func allowedCPUs(t testing.TB, n int) []int {
	t.Helper()
	var s unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &s))
	if s.Count() < n {
		t.Skipf("%d CPUs of %d", s.Count(), n)
	}
	return members(&s)
}

// fromCPU runs f on a thread that is bound to cpu.
func fromCPU(t testing.TB, cpu int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var before unix.CPUSet
		err := errors.Join(unix.SchedGetaffinity(0, &before), unix.SchedSetaffinity(0, only(cpu)))
		if err == nil {
			f()
			err = unix.SchedSetaffinity(0, &before)
		}
		done <- err
	}()
	must(t, <-done)
}

// pinned is a running engine whose loops are on cpus.
func pinned(t testing.TB, cpus []int) *Engine {
	t.Helper()
	e := newEngine(t, Config{Loops: len(cpus)})
	must(t, e.Pin(cpus))
	return e
}

// tally counts connections by their loop, and closes them.
type tally struct{ by []int } // each loop's own, until the engine has stopped

func (n *tally) Accept(c *Conn) {
	n.by[c.Loop().ID()]++
	c.Reset()
}

// arrivals is how many of n connections that are made from cpu each loop accepts.
func arrivals(t testing.TB, e *Engine, address string, cpu, n int) []int {
	t.Helper()
	got := &tally{make([]int, len(e.loops))}
	ln, err := e.Listen(address, 0, got)
	must(t, err)
	to := NewAddr(netip.MustParseAddrPort(ln.Bound()))
	fromCPU(t, cpu, func() {
		for range n {
			fd, err := unix.Socket(to.Family(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if e := connect(fd, &to); e != 0 && e != unix.ECONNRESET { // the loop may be that quick
				t.Error(e)
			}
			closeFD(fd)
		}
	})
	ln.Close() // takes what still waits
	return got.by
}

func sum(all []int) (n int) {
	for _, v := range all {
		n += v
	}
	return n
}

func TestPinnedLoopsStayOnTheirCPU(t *testing.T) {
	cpus := allowedCPUs(t, 2)
	e := pinned(t, []int{cpus[1], cpus[0], cpus[1]})
	threads := make([]int, len(e.loops))
	for i, l := range e.loops {
		on(l, func() { threads[i] = unix.Gettid() })
	}
	for i, want := range []int{cpus[1], cpus[0], cpus[1]} {
		if got := cpusOf(t, threads[i]); got != fmt.Sprint(want) {
			t.Errorf("loop %d may run on %s, want %d", i, got, want)
		}
	}
	// No thread but theirs is bound, nor any that is made later.
	hold, held := make(chan struct{}), make(chan struct{})
	for range 8 {
		go func() { runtime.LockOSThread(); held <- struct{}{}; <-hold; runtime.UnlockOSThread() }()
		<-held
	}
	defer close(hold)
	if n := narrowThreads(t); n != len(threads) {
		t.Errorf("%d threads are bound, of %d loops", n, len(threads))
	}
}

func TestThreadsOfStoppedLoopsAreNotPinned(t *testing.T) {
	cpus := allowedCPUs(t, 2)
	e, err := New(Config{Loops: 2}, slog.New(slog.DiscardHandler))
	must(t, err)
	e.Start()
	must(t, e.Pin(cpus[:2]))
	if n := narrowThreads(t); n != 2 {
		t.Fatalf("%d threads are bound, of 2 loops", n)
	}
	e.Stop()
	if n := narrowThreads(t); n != 0 {
		t.Errorf("%d threads are bound, without a loop", n)
	}
}

// cpusOf is a thread's Cpus_allowed_list.
func cpusOf(t testing.TB, tid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", tid))
	if err != nil {
		return "" // it has ended
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return strings.TrimSpace(list)
		}
	}
	t.Fatalf("no Cpus_allowed_list: %s", status)
	return ""
}

// narrowThreads is how many of the process's threads are bound to one CPU.
func narrowThreads(t testing.TB) (n int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	for _, task := range tasks {
		var tid int
		_, err := fmt.Sscan(task.Name(), &tid)
		must(t, err)
		if list := cpusOf(t, tid); list != "" && !strings.ContainsAny(list, ",-") {
			n++
		}
	}
	return n
}

func TestConnectionsAreAcceptedOnTheCPUThatReceivesThem(t *testing.T) {
	cpus := allowedCPUs(t, 2)
	a, b := cpus[0], cpus[1]
	for _, c := range []struct {
		name  string
		loops []int // their CPUs
		from  int
		among []int // the loops that they are for
	}{
		{"the first CPU", []int{a, b}, a, []int{0}},
		{"the second CPU", []int{a, b}, b, []int{1}},
		{"loops in another order", []int{b, a}, a, []int{1}},
		{"a CPU with several loops", []int{b, a, b, a, b}, b, []int{0, 2, 4}},
		{"a CPU without a loop", []int{a, a}, b, []int{0, 1}},
	} {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			t.Run(c.name+" "+address, func(t *testing.T) {
				const n = 100
				by := arrivals(t, pinned(t, c.loops), address, c.from, n)
				there := 0
				for _, loop := range c.among {
					there += by[loop]
					if by[loop] == 0 {
						t.Errorf("loop %d has none: %v", loop, by)
					}
				}
				if sum(by) != n || there < 95 {
					t.Errorf("of %d connections loops %v took %d: %v", n, c.among, there, by)
				}
			})
		}
	}
}

func TestConnectionsAreSteeredAfterListenersHaveClosed(t *testing.T) {
	cpus := allowedCPUs(t, 2)
	e := pinned(t, cpus[:2])
	ln, err := e.Listen("127.0.0.1:0", 0, &tally{make([]int, 2)})
	must(t, err)
	ln.Close()
	for i, cpu := range cpus[:2] {
		if by := arrivals(t, e, ln.Bound(), cpu, 100); by[i] < 95 || sum(by) != 100 {
			t.Errorf("of 100 connections from CPU %d: %v", cpu, by)
		}
	}
}

func TestConnectionsOfLoopsThatAreNotPinnedAreSpread(t *testing.T) {
	cpus := allowedCPUs(t, 2)
	if by := arrivals(t, newEngine(t, Config{Loops: 2}), "127.0.0.1:0", cpus[0], 100); by[0] < 5 || by[1] < 5 {
		t.Errorf("%v", by)
	}
}

// A client whose datagrams come in on different CPUs has one session: its loop is the same.
func TestDatagramsOfAClientAreNotSteered(t *testing.T) {
	cpus := allowedCPUs(t, 2)
	e := pinned(t, cpus[:2])
	got := &loopsOf{seen: make(chan int, 1)}
	ln, err := e.ListenPackets("127.0.0.1:0", got)
	must(t, err)
	defer ln.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer closeFD(fd)
	to := NewAddr(netip.MustParseAddrPort(ln.Bound()))
	if e := connect(fd, &to); e != 0 {
		t.Fatal(e)
	}
	first := -1
	for i := range 20 {
		fromCPU(t, cpus[i%2], func() { _, _ = send(fd, []byte("x")) })
		loop := <-got.seen
		if first < 0 {
			first = loop
		}
		if loop != first {
			t.Fatalf("datagram %d came to loop %d, the ones before to loop %d", i, loop, first)
		}
	}
}

type loopsOf struct{ seen chan int }

func (o *loopsOf) Datagram(s *PacketSocket, _ *Path, _ []byte, _ int) { o.seen <- s.Loop().ID() }
func (o *loopsOf) Lost(*PacketSocket, int)                            {}
func (o *loopsOf) Draining(s *PacketSocket)                           { s.Close() }

func TestPinNamesTheCPUsThatItMayNotUse(t *testing.T) {
	cpus := allowedCPUs(t, 1)
	e := newEngine(t, Config{Loops: 4})
	for _, c := range []struct {
		cpus []int
		want string
	}{
		{[]int{1023, cpus[0], 1022, 1023}, "pin loops: the process may not use CPU 1022-1023, only " + ranges(cpus)},
		{[]int{-1, cpus[0], cpus[0], 5000}, "pin loops: the process may not use CPU -1,5000, only " + ranges(cpus)},
		{cpus[:1], "pin loops: 1 CPUs for 4 loops"},
	} {
		if slices.Contains(cpus, 1022) || slices.Contains(cpus, 1023) {
			t.Skip("a very large machine")
		}
		if err := e.Pin(c.cpus); err == nil || err.Error() != c.want {
			t.Errorf("%v:\n got %v\nwant %s", c.cpus, err, c.want)
		}
	}
	for i, l := range e.loops {
		on(l, func() {
			if got := affinity(t); !slices.Equal(got, cpus) {
				t.Errorf("loop %d may run on %v after all", i, got)
			}
		})
	}
}

func TestPinThatIsDeniedLeavesTheLoopsAsTheyWere(t *testing.T) {
	cpus := allowedCPUs(t, 2)
	e := newEngine(t, Config{Loops: 2})
	on(e.loops[1], func() { denyPinning(t) })
	if err := e.Pin(cpus[:2]); !errors.Is(err, os.ErrPermission) || err.Error() != "pin loops: sched_setaffinity: operation not permitted" {
		t.Errorf("got %v", err)
	}
	for i, l := range e.loops {
		on(l, func() {
			if got := affinity(t); !slices.Equal(got, cpus) {
				t.Errorf("loop %d may run on %v", i, got)
			}
		})
	}
	if by := arrivals(t, e, "127.0.0.1:0", cpus[0], 100); by[0] < 5 || by[1] < 5 {
		t.Errorf("connections are steered: %v", by)
	}
}

// affinity are the CPUs of the calling thread.
func affinity(t testing.TB) []int {
	t.Helper()
	var s unix.CPUSet
	if err := unix.SchedGetaffinity(0, &s); err != nil {
		t.Error(err)
	}
	return members(&s)
}

// denyPinning has the kernel deny sched_setaffinity to the calling thread, as a container's profile may, until the goroutine
// ends, and the thread with it.
func denyPinning(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	code := []unix.SockFilter{ // seccomp(2); the number of the call is the first word
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_SCHED_SETAFFINITY},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Error(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		t.Error(err)
	}
}

// Where the kernel does not take the program, the listener listens all the same, and says so.
func TestListenersWithoutSteeringSayIt(t *testing.T) {
	var said bytes.Buffer
	e, err := New(Config{Loops: 1}, slog.New(slog.NewTextHandler(&said, nil)))
	must(t, err)
	e.Start()
	defer e.Stop()
	e.cpus = make([]int, 5000) // a program too large
	ln, err := e.Listen("127.0.0.1:0", 0, &tally{make([]int, 1)})
	must(t, err)
	defer ln.Close()
	if got := said.String(); !strings.Contains(got, "level=WARN msg=\"connections are spread by hash, not by the CPU that receives them\" listener=127.0.0.1:0") {
		t.Errorf("said %q", got)
	}
	to := NewAddr(netip.MustParseAddrPort(ln.Bound()))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer closeFD(fd)
	_ = connect(fd, &to)
	eventually(t, "it accepts", func() bool { return e.loops[0].count.Accepted.Load() == 1 })
}

// The kernel takes the program of as many loops as there may be, however they share CPUs.
func TestSteeringOfManyLoopsFits(t *testing.T) {
	for _, shared := range []int{1, 2, 3, 512, maxLoops} {
		cpus := make([]int, maxLoops)
		for i := range cpus {
			cpus[i] = i / shared
		}
		e := newEngine(t, Config{Loops: 1})
		e.cpus = cpus
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		if err := e.steer(fd); err != nil {
			t.Errorf("%d loops on a CPU, %d instructions: %v", shared, len(steering(cpus)), err)
		}
		closeFD(fd)
	}
}

func TestAffinityIsValidated(t *testing.T) {
	for _, c := range []struct {
		Config
		want string
	}{
		{Config{Affinity: Affinity{Auto: true}, Loops: 3}, ""},
		{Config{Affinity: Affinity{CPUs: []int{0, 9}}}, ""},
		{Config{Affinity: Affinity{CPUs: []int{4, 4}}, Loops: 2}, ""},
		{Config{Affinity: Affinity{CPUs: []int{}}}, "affinity: an empty list: auto, none, or a CPU for each loop"},
		{Config{Affinity: Affinity{CPUs: []int{0, 1, 2}}, Loops: 2}, "affinity: 3 CPUs for 2 loops: one for each"},
		{Config{Affinity: Affinity{CPUs: make([]int, 1025)}}, "affinity: 1025 CPUs: one for each loop, 1024 at most"},
		{Config{Affinity: Affinity{CPUs: []int{0, -1, 1024}}}, "affinity[1]: CPU -1: 0 to 1023; affinity[2]: CPU 1024: 0 to 1023"},
	} {
		var said []string
		c.Validate(func(path, message string) { said = append(said, path+": "+message) })
		if got := strings.Join(said, "; "); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.Affinity, got, c.want)
		}
	}
	if n := (Config{Affinity: Affinity{CPUs: []int{4, 5, 6}}}).loops(); n != 3 {
		t.Errorf("%d loops for 3 CPUs", n)
	}
}
