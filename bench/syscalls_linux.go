package bench

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syscallTime is how long system calls are counted: after the figures were taken, because counting slows every system
// call of the host.
const syscallTime = 150 * time.Millisecond

// countSyscalls is how many system calls the processes make per answer, from the kernel's tracepoint; 0 where it does
// not tell, to anybody but root for one.
func countSyscalls(ctx context.Context, g *Generator, pids []int) float64 {
	id := uint64(0)
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		if id, _ = strconv.ParseUint(readFirst(dir+"/events/raw_syscalls/sys_enter/id"), 10, 64); id > 0 {
			break
		}
	}
	if id == 0 {
		return 0
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
		for _, task := range tasks {
			tid, _ := strconv.Atoi(filepath.Base(task))
			attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
			if fd, err := unix.PerfEventOpen(&attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC); err == nil {
				fds = append(fds, fd)
			}
		}
	}
	if len(fds) == 0 {
		return 0
	}
	calls := func() (n uint64) {
		var b [8]byte
		for _, fd := range fds {
			if k, err := unix.Read(fd, b[:]); err == nil && k == 8 {
				n += binary.NativeEndian.Uint64(b[:])
			}
		}
		return n
	}
	first, answers := calls(), g.sum().requests
	select {
	case <-ctx.Done():
		return 0
	case <-time.After(syscallTime):
	}
	if n := g.sum().requests - answers; n > 0 {
		return float64(calls()-first) / float64(n)
	}
	return 0
}

// OnTerminal says whether f is a terminal.
func OnTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
