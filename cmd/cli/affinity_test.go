package cli

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sluice/engine"
	"sluice/tune/host"
)

const affinityConfig = `listeners: [{name: a, address: "127.0.0.1:0", protocol: tcp, cluster: c}]
clusters: [{name: c, endpoints: [address: "127.0.0.1:9"]}]
engine: {affinity: %s}
`

// usableCPUs are those that the test may use; it is skipped if there are fewer than two.
func usableCPUs(t testing.TB) (all []int) {
	t.Helper()
	var s unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &s))
	for cpu := range 1024 {
		if s.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	if len(all) < 2 {
		t.Skip("one CPU")
	}
	return all
}

func TestAffinityPinsThreads(t *testing.T) {
	cpus := usableCPUs(t)
	each := []string{}
	for _, cpu := range cpus {
		each = append(each, fmt.Sprint(cpu))
	}
	one, other := each[0], each[1]
	for _, c := range []struct {
		affinity string
		want     []string // Cpus_allowed_list of the threads that are bound
	}{
		{"none", nil},
		{"auto", each},
		{"auto, loops: 1", each[:1]},
		{"[" + other + ", " + one + ", " + other + "]", []string{one, other, other}},
	} {
		t.Run(c.affinity, func(t *testing.T) {
			r := launch(t, "run", "-c", writeConfig(t, fmt.Sprintf(affinityConfig, c.affinity)))
			r.says("running")
			var bound []string
			statuses, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", r.Process.Pid))
			must(t, err)
			for _, name := range statuses {
				status, _ := os.ReadFile(name) // or it has ended
				for line := range strings.Lines(string(status)) {
					if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok && !strings.ContainsAny(list, ",-") {
						bound = append(bound, strings.TrimSpace(list))
					}
				}
			}
			slices.Sort(bound)
			want := slices.Sorted(slices.Values(c.want))
			if d := cmp.Diff(want, bound); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestBadAffinity(t *testing.T) {
	for value, want := range map[string]string{
		"atuo":                 `test.yaml:3:20: "atuo" is not auto, none or a list of CPUs, one for each loop, as in [0, 2]`,
		"3":                    `test.yaml:3:20: "3" is not auto, none or a list of CPUs`,
		"{cpu: 1}":             "test.yaml:3:20: expected a single value, found a mapping",
		"[0, one]":             `test.yaml:3:24: expected a whole number, found "one"`,
		"[0, -1]":              "test.yaml:3:24: CPU -1: 0 to 1023",
		"[0, 1, 1024]":         "test.yaml:3:27: CPU 1024: 0 to 1023",
		"[]":                   "test.yaml:3:20: an empty list: auto, none, or a CPU for each loop",
		"[0, 1, 0], loops: 2":  "test.yaml:3:20: 3 CPUs for 2 loops: one for each",
		"[0, 1], memory: 1KiB": "test.yaml:3:36: 1KiB for 2 loops",
	} {
		_, err := parseFile("test.yaml", fmt.Appendf(nil, affinityConfig, value), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", value, err, want)
		}
	}
}

// A file may name CPUs of another machine, for which it is good; here the edge does not start.
func TestAffinityBeyondTheCPUsFailsAtStart(t *testing.T) {
	file := writeConfig(t, fmt.Sprintf(affinityConfig, "[1000, 0, 1002, 1001]"))
	if r := launch(t, "check", "-c", file); r.exits() != 0 {
		t.Errorf("check: exit %d", r.ProcessState.ExitCode())
	}
	r := launch(t, "run", "-c", file)
	if code := r.exits(); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	r.says("engine.affinity: pin loops: the process may not use CPU 1000-1002, only ")
}

func TestAffinityThatIsDeniedIsSaid(t *testing.T) {
	cpus := usableCPUs(t)
	s := startServer(t, fmt.Sprintf(affinityConfig, "none, loops: 2"))
	denied := make(chan error, 1)
	s.engine.Loops()[0].Post(func() { denied <- denyPinning() })
	must(t, <-denied)
	var said bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&said, nil))
	must(t, s.pin(engine.Affinity{CPUs: cpus[:2]}))
	if got := said.String(); !strings.Contains(got, `level=WARN msg="loops are not pinned" error="pin loops: sched_setaffinity: operation not permitted"`) {
		t.Errorf("said %q", got)
	}
}

// denyPinning has the kernel deny sched_setaffinity to the calling thread, until the goroutine ends, and the thread with it.
func denyPinning() error {
	runtime.LockOSThread()
	code := []unix.SockFilter{ // seccomp(2); the number of the call is the first word
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_SCHED_SETAFFINITY},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

func TestAffinityTakesEffectAtTheNextStart(t *testing.T) {
	usableCPUs(t)
	s := startServer(t, fmt.Sprintf(affinityConfig, "auto"))
	var said bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&said, nil))
	for _, c := range []struct {
		affinity string
		changed  bool
	}{{"auto", false}, {"[0, 1]", true}} {
		f, err := parseFile("test.yaml", fmt.Appendf(nil, affinityConfig, c.affinity), nil)
		must(t, err)
		must(t, s.apply(f))
		if got := strings.Contains(said.String(), "take effect at the next start"); got != c.changed {
			t.Errorf("%s: said %q", c.affinity, said.String())
		}
	}
}

func TestLoopsThatAnInterfaceDoesNotReach(t *testing.T) {
	irq := func(on ...int) host.IRQ { return host.IRQ{Affinity: []int{0, 1, 2, 3}, On: on} }
	for _, c := range []struct {
		name string
		host.NIC
		loops, receives, idle []int
	}{
		{"a queue for each loop", host.NIC{RxQ: make([]host.RxQueue, 2), IRQs: []host.IRQ{irq(1), irq(0)}}, []int{0, 1}, []int{0, 1}, nil},
		{"one queue", host.NIC{RxQ: make([]host.RxQueue, 1), IRQs: []host.IRQ{irq(2)}}, []int{3, 1, 2, 1}, []int{2}, []int{1, 3}},
		{"one queue and RPS", host.NIC{RxQ: []host.RxQueue{{RPS: []int{1, 0}}}, IRQs: []host.IRQ{irq(2)}}, []int{0, 1}, []int{0, 1}, nil},
		{"an interrupt that may come to any", host.NIC{RxQ: make([]host.RxQueue, 1), IRQs: []host.IRQ{irq()}}, []int{0, 3}, []int{0, 1, 2, 3}, nil},
		{"interrupts that are not known", host.NIC{RxQ: make([]host.RxQueue, 2), IRQs: []host.IRQ{irq(1)}}, []int{0}, nil, []int{0}},
	} {
		got := receiving(&c.NIC)
		if idle := without(c.loops, got); !slices.Equal(got, c.receives) || !slices.Equal(idle, c.idle) {
			t.Errorf("%s: receives on %v, idle on %v", c.name, got, idle)
		}
	}
}
