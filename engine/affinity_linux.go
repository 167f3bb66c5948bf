package engine

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Affinity says on which CPUs the loops run, in the configuration: auto, none or a list. The zero value is none: the kernel
// moves them as it sees fit. What it says is for [Engine.Pin], which New does not call.
type Affinity struct {
	// Auto leaves the CPUs to whoever starts the engine, and knows the machine.
	Auto bool
	// CPUs are those of the loops, by their ID, one for each; loops may share one.
	CPUs []int
}

// maxCPU is the highest number that a unix.CPUSet has room for.
const maxCPU = 1023

// UnmarshalText takes what is no list.
func (a *Affinity) UnmarshalText(text []byte) error {
	switch string(text) {
	case "auto":
		*a = Affinity{Auto: true}
	case "none":
		*a = Affinity{}
	default:
		return fmt.Errorf("%q is not auto, none or a list of CPUs, one for each loop, as in [0, 2]", text)
	}
	return nil
}

// List is what a list is decoded into.
func (a *Affinity) List() any { return &a.CPUs }

// String is a as the configuration has it.
func (a Affinity) String() string {
	switch {
	case a.Auto:
		return "auto"
	case a.CPUs == nil:
		return "none"
	}
	return fmt.Sprint(a.CPUs)
}

// validate reports what is wrong with a for so many loops; 0: as many as there are CPUs in the list.
func (a Affinity) validate(loops int, report func(path, message string)) {
	if a.CPUs == nil {
		return
	}
	switch n := len(a.CPUs); {
	case n == 0:
		report("affinity", "an empty list: auto, none, or a CPU for each loop")
	case n > maxLoops:
		report("affinity", fmt.Sprintf("%d CPUs: one for each loop, %d at most", n, maxLoops))
	case loops > 0 && n != loops:
		report("affinity", fmt.Sprintf("%d CPUs for %d loops: one for each", n, loops))
	}
	for i, cpu := range a.CPUs {
		if cpu < 0 || cpu > maxCPU {
			report("affinity["+strconv.Itoa(i)+"]", fmt.Sprintf("CPU %d: 0 to %d", cpu, maxCPU))
		}
	}
}

// Pin has each loop run on the CPU that cpus, which has one for each, gives it by its ID. Listeners that are opened from then
// on have it accept the connections whose first packet its CPU has received: what follows on them mostly comes in there too,
// and is found in its caches. Those that other CPUs receive are spread by hash. It is called once, between Start and the
// first listener.
//
// A CPU that the process may not use is an error that names it; to be denied the call is one that wraps os.ErrPermission.
// The loops run where they did then.
//
// Datagrams are not steered. The kernel's hash keeps a client on one loop, where its session is; the CPU does not: fragments
// come in on another one than whole datagrams (cards hash them without their ports), and an interrupt that moves would
// split every session.
func (e *Engine) Pin(cpus []int) error {
	if len(cpus) != len(e.loops) {
		return fmt.Errorf("pin loops: %d CPUs for %d loops", len(cpus), len(e.loops))
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("pin loops: %w", os.NewSyscallError("sched_getaffinity", err))
	}
	denied := slices.DeleteFunc(slices.Clone(cpus), func(cpu int) bool { return cpu >= 0 && cpu <= maxCPU && allowed.IsSet(cpu) })
	if len(denied) > 0 {
		return fmt.Errorf("pin loops: the process may not use CPU %s, only %s", ranges(denied), ranges(members(&allowed)))
	}
	if err := e.each(func(l *Loop) error { return l.pin(cpus[l.id]) }); err != nil {
		_ = e.each((*Loop).unpin)
		return fmt.Errorf("pin loops: %w", err)
	}
	e.cpus = slices.Clone(cpus)
	return nil
}

// each has every loop do f, waits for it, and returns what went wrong first.
func (e *Engine) each(f func(*Loop) error) error {
	moved := make(chan error, len(e.loops))
	for _, l := range e.loops {
		l.Post(func() { moved <- f(l) })
	}
	var first error
	for range e.loops {
		if err := <-moved; first == nil {
			first = err
		}
	}
	return first
}

func (l *Loop) pin(cpu int) error {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	if err := unix.SchedSetaffinity(0, only(cpu)); err != nil {
		return os.NewSyscallError("sched_setaffinity", err)
	}
	l.unpinned = &before
	return nil
}

// unpin has the loop's thread run where it did before pin; nothing if it was not pinned.
func (l *Loop) unpin() error {
	if l.unpinned == nil {
		return nil
	}
	err := unix.SchedSetaffinity(0, l.unpinned)
	if err == nil {
		l.unpinned = nil
	}
	return err
}

// release lets go of the loop's thread at its end. One that stays pinned is not given to other goroutines: it ends with the
// loop's.
func (l *Loop) release() {
	if l.unpin() == nil {
		runtime.UnlockOSThread()
	}
}

// steer has the kernel choose among the listening sockets of fd's SO_REUSEPORT group, which began to listen in the order of
// their loops, by the CPU that a connection comes in on. It does nothing if the loops are not pinned.
//
// SO_INCOMING_CPU would say the same without a program, but is disregarded in such a group before Linux 6.2, silently. The
// program goes by the position in the group, and that holds: a listener has a group of its own, as its probing bind has
// made sure of, and closes all its sockets together.
func (e *Engine) steer(fd int) error {
	if e.cpus == nil {
		return nil
	}
	code := steering(e.cpus)
	return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET,
		unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}))
}

// steering is the program of classic BPF that chooses among sockets, the i-th of which is for what comes in on cpus[i]: of
// several at random, and of those that are on no CPU of theirs by hash. It has at most 3.5 instructions for each socket, of
// 4096 that the kernel takes, and runs once for a connection.
func steering(cpus []int) []unix.SockFilter {
	sockets := map[int][]uint32{}
	for i, cpu := range cpus {
		sockets[cpu] = append(sockets[cpu], uint32(i))
	}
	load := func(extension uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: extension}
	}
	answer := func(i uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: i} }
	unless := func(k uint32) unix.SockFilter { // passes over the next one if the accumulator is k
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: k}
	}
	code := []unix.SockFilter{load(adCPU)}
	for _, cpu := range slices.Sorted(maps.Keys(sockets)) {
		own := sockets[cpu]
		var choice []unix.SockFilter
		last := len(own) - 1
		if last > 0 {
			choice = append(choice, load(adRandom),
				unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(own))})
			for nth, i := range own[:last] {
				choice = append(choice, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(nth)}, answer(i))
			}
		}
		choice = append(choice, answer(own[last]))
		// Jumps on a condition reach no further than 255 instructions.
		code = append(code, unless(uint32(cpu)), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(choice))})
		code = append(code, choice...)
	}
	return append(code, answer(noSocket))
}

const (
	// adCPU and adRandom are where a program finds the CPU that it runs on, and a random number: SKF_AD_OFF, which is -0x1000,
	// and SKF_AD_CPU or SKF_AD_RANDOM of linux/filter.h.
	adCPU    = 1<<32 - 0x1000 + 36
	adRandom = 1<<32 - 0x1000 + 56
	// noSocket is beyond every group: the kernel goes by its hash then.
	noSocket = 1<<32 - 1
)

func only(cpu int) *unix.CPUSet {
	var s unix.CPUSet
	s.Set(cpu)
	return &s
}

func members(s *unix.CPUSet) (all []int) {
	for cpu := range maxCPU + 1 {
		if s.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	return all
}

// ranges writes CPUs as the kernel does: 0-3,8.
func ranges(cpus []int) string {
	all := slices.Compact(slices.Sorted(slices.Values(cpus)))
	var text []string
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n] == all[0]+n {
			n++
		}
		one := strconv.Itoa(all[0])
		if n > 1 {
			one += "-" + strconv.Itoa(all[n-1])
		}
		text, all = append(text, one), all[n:]
	}
	return strings.Join(text, ",")
}
