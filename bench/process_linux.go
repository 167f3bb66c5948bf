package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// userHz is the unit of the times in /proc/PID/stat: the same on every Linux that Go runs on.
const userHz = 100

// usage is what processes have used since they began.
type usage struct {
	cpu                    time.Duration // of all threads, from the scheduler's own accounts
	user, system           time.Duration // from /proc/PID/stat, in ticks of 10 ms
	voluntary, involuntary uint64        // context switches
}

func (u usage) minus(v usage) usage {
	return usage{u.cpu - v.cpu, u.user - v.user, u.system - v.system, u.voluntary - v.voluntary, u.involuntary - v.involuntary}
}

// split is the CPU time by user and system: as exact as the scheduler's accounts, in the proportion of the ticks.
func (u usage) split() (user, system time.Duration) {
	if ticks := u.user + u.system; ticks > 0 && u.cpu > 0 {
		user = time.Duration(float64(u.cpu) * float64(u.user) / float64(ticks))
		return user, u.cpu - user
	}
	return u.user, u.system
}

// processUsage sums the usage of processes. One that is gone is an error.
func processUsage(pids []int) (usage, error) {
	var sum usage
	for _, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			return sum, fmt.Errorf("process %d has ended", pid)
		}
		st, err := p.Stat()
		if err != nil || st.State == "Z" {
			return sum, fmt.Errorf("process %d has ended", pid)
		}
		sum.user += time.Duration(st.UTime) * time.Second / userHz
		sum.system += time.Duration(st.STime) * time.Second / userHz
		threads, err := procfs.AllThreads(pid)
		if err != nil {
			return sum, fmt.Errorf("threads of process %d: %w", pid, err)
		}
		for _, t := range threads {
			// A thread may end between the listing and the look.
			if s, err := t.Schedstat(); err == nil {
				sum.cpu += time.Duration(s.RunningNanoseconds)
			}
			if s, err := t.NewStatus(); err == nil {
				sum.voluntary += s.VoluntaryCtxtSwitches
				sum.involuntary += s.NonVoluntaryCtxtSwitches
			}
		}
	}
	return sum, nil
}

// ownUsage is the CPU time of this process.
func ownUsage() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// memory is what processes hold now, and the most they held, in bytes.
func memory(pids []int) (rss, peak uint64) {
	for _, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue
		}
		if s, err := p.NewStatus(); err == nil {
			rss += s.VmRSS
			peak += s.VmHWM
		}
	}
	return rss, peak
}

// listenersOf are the processes that listen on an address of this host, of TCP or UDP: a proxy's master and its workers.
func listenersOf(p Protocol, address string) ([]int, error) {
	ap, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	listen := "0A"
	if p == UDP {
		listen = "07" // TCP_CLOSE, which is what unconnected sockets of UDP are in
	}
	for _, v := range []string{"", "6"} {
		// /proc/net is of the first thread's network namespace, which need not be this one's.
		b, _ := os.ReadFile("/proc/thread-self/net/" + string(p) + v)
		for line := range strings.Lines(string(b)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode (proc_net_tcp in the kernel's documents)
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listen && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", ap.Port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return nil, errors.New("nobody on this host listens there")
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	var out []int
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || !inodes[to] {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
		if !seen[pid] {
			seen[pid] = true
			out = append(out, pid)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("its process belongs to somebody else: run as root, or name it with --pid")
	}
	return out, nil
}

// readFirst is a small file's first line, empty if there is none.
func readFirst(name string) string {
	b, _ := os.ReadFile(name)
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.TrimSpace(string(line))
}
