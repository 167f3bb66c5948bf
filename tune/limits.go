package tune

import (
	"fmt"
	"strconv"

	"sluice/tune/host"
)

const (
	kernelFS  = "Linux Documentation/admin-guide/sysctl/fs.rst"
	kernelRun = "Linux Documentation/admin-guide/sysctl/kernel.rst"
	systemd   = "systemd.exec(5), systemd.resource-control(5)"
)

// limitKnobs are about what a process may have open.
var limitKnobs = []Knob{
	{
		Name: "limits.nofile", Sets: "the file descriptors that the process may have open: of sluice.service, or of this shell if there is none (hard limit: Go raises the soft one to it)", Unit: "descriptors",
		Advice: "two for each connection, an eighth more for pipes, and the listening sockets",
		Why:    "at the limit accept fails with EMFILE and clients wait in the backlog; the edge takes seven eighths of it as its bound on connections",
		Source: []string{"getrlimit(2)", "accept(2), EMFILE"}, Cost: "about 1 KiB of kernel memory for each that is open", Sure: Certain, Weight: 10,
		check: rlimit("Max open files", "LimitNOFILE", Edge.descriptors),
	},
	{
		Name: "limits.nproc", Sets: "the threads that the user may have (hard limit)", Unit: "threads",
		Advice: "≥ 4096",
		Why:    "Go starts a thread where one blocks in a system call; at the limit the process dies with \"failed to create new OS thread\"",
		Source: []string{"getrlimit(2), RLIMIT_NPROC"}, Cost: "none", Sure: Certain, Weight: 6,
		check: rlimit("Max processes", "LimitNPROC", func(Edge) int64 { return 4096 }),
	},
	{
		Name: "limits.memlock", Sets: "the memory that may be locked (hard limit)", Unit: "bytes",
		Advice: "≥ 64 MiB before Linux 5.11; later kernels do not charge BPF maps to it",
		Why:    "BPF maps, by which connections are steered to loops, are charged to it and are refused with EPERM",
		Source: []string{"getrlimit(2), RLIMIT_MEMLOCK", "bpf(2)"}, Cost: "none", Sure: Certain, Weight: 2,
		check: when(func(f *host.Facts, _ Edge) string {
			if f.KernelAtLeast(5, 11) {
				return "since Linux 5.11 BPF maps are charged to the cgroup"
			}
			return ""
		}, rlimit("Max locked memory", "LimitMEMLOCK", func(Edge) int64 { return 64 << 20 })),
	},
	{
		Name: "fs.file-max", Sets: "the files that all processes together may have open", Unit: "files",
		Advice: "twice what the edge needs", Why: "above it open and accept fail with ENFILE for everybody but root",
		Source: []string{kernelFS}, Cost: "about 1 KiB of kernel memory for each that is open", Sure: Certain, Weight: 8,
		check: atLeast(func(_ *host.Facts, e Edge) int64 { return 2 * e.descriptors() }),
	},
	{
		Name: "fs.nr_open", Sets: "the most that limits.nofile can be raised to", Unit: "descriptors",
		Advice: "what the edge needs", Why: "a LimitNOFILE above it keeps the unit from starting",
		Source: []string{kernelFS}, Cost: "none", Sure: Certain, Weight: 7,
		check: atLeast(func(_ *host.Facts, e Edge) int64 { return e.descriptors() }),
	},
	{
		Name: "fs.pipe-user-pages-soft", Sets: "the pages that an ordinary user's pipes may hold before new ones get two pages only", Unit: "pages",
		Advice: "0 (no limit), or 64 (256 KiB) for each eighth connection and for 32 pipes of each loop",
		Why:    "relays in bulk splice through pipes; small ones take more system calls for the same bytes. Root is exempt",
		Source: []string{"pipe(7)", kernelFS}, Cost: "a user may hold that much kernel memory", Sure: Certain, Weight: 5,
		check: when(noSplice, integer(func(n int64, _ *host.Facts, e Edge) (string, int64, bool) {
			want := 64 * (int64(e.Connections)/8 + 32*int64(e.Loops))
			return fmt.Sprintf("0 or ≥ %d", want), want, n == 0 || n >= want
		})),
	},
	{
		Name: "fs.pipe-user-pages-hard", Sets: "the pages beyond which an ordinary user gets no pipe at all", Unit: "pages",
		Advice: "0 (no limit), or what fs.pipe-user-pages-soft should be",
		Why:    "a relay that gets no pipe copies, which costs more for bulk", Source: []string{"pipe(7)"}, Cost: "a user may hold that much kernel memory", Sure: Certain, Weight: 4,
		check: when(noSplice, integer(func(n int64, _ *host.Facts, e Edge) (string, int64, bool) {
			want := 64 * (int64(e.Connections)/8 + 32*int64(e.Loops))
			return fmt.Sprintf("0 or ≥ %d", want), want, n == 0 || n >= want
		})),
	},
	{
		Name: "fs.pipe-max-size", Sets: "the capacity that an ordinary user may give a pipe", Unit: "bytes",
		Advice: "≥ 256 KiB, which the edge asks for", Why: "a pipe's capacity bounds what one splice moves",
		Source: []string{"pipe(7)", "fcntl(2), F_SETPIPE_SZ"}, Cost: "none", Sure: Certain, Weight: 4,
		check: when(noSplice, atLeast(constant(256<<10))),
	},
	{
		Name: "fs.epoll.max_user_watches", Sets: "the descriptors that a user may watch by epoll", Unit: "watches",
		Advice: "the descriptors of the edge", Why: "above it a connection cannot be registered and is lost",
		Source: []string{"epoll(7)"}, Cost: "160 bytes of kernel memory for each", Sure: Certain, Weight: 6,
		check: atLeast(func(_ *host.Facts, e Edge) int64 { return e.descriptors() }),
	},
	{
		Name: "kernel.threads-max", Sets: "the threads that the machine may have", Unit: "threads",
		Advice: "≥ 16384", Why: "the process dies where no thread can be started", Source: []string{kernelRun}, Cost: "none", Sure: Certain, Weight: 3,
		check: atLeast(constant(16384)),
	},
	{
		Name: "cgroup.pids", Sets: "the threads that the cgroup may have", Unit: "threads",
		Advice: "16 for each loop, and 256", Why: "the process dies where no thread can be started",
		Source: []string{"Linux Documentation/admin-guide/cgroup-v2.rst", systemd}, Cost: "none", Sure: Certain, Weight: 6,
		check: func(_ string, f *host.Facts, e Edge) []State {
			want := int64(16*e.Loops + 256)
			switch n := f.Cgroup.Pids; {
			case f.Cgroup.Version == 0:
				return unseen("no cgroup is seen")
			case n == 0 || n >= want:
				return good(orNone(n))
			default:
				return amiss(strconv.FormatInt(n, 10), fmt.Sprintf("≥ %d", want), unitTo("TasksMax", strconv.FormatInt(want, 10)))
			}
		},
	},
}

func noSplice(_ *host.Facts, e Edge) string {
	if !e.TCP && !e.HTTP {
		return "nothing is spliced"
	}
	return ""
}

func orNone(n int64) string {
	if n <= 0 {
		return "no limit"
	}
	return strconv.FormatInt(n, 10)
}

// systemdNofile is the hard limit that systemd gives to a service, if nothing else is said.
const systemdNofile = 512 << 10

// rlimit wants a hard limit to be so high: that of the service's unit if there is one, and else that of this process. The
// remedy is a line of the unit.
func rlimit(limit, unitKey string, least func(Edge) int64) check {
	return func(_ string, f *host.Facts, e Edge) []State {
		l, known := f.Limits[limit]
		if u, ok := readUnit(f); ok {
			if n, ok := hardLimit(u.value(unitKey)); ok {
				l.Hard, known = n, true
			} else if unitKey == "LimitNOFILE" {
				l.Hard, known = systemdNofile, true
			}
		}
		if !known {
			return unseen("/proc/self/limits does not tell")
		}
		want := least(e)
		if l.Hard < 0 || l.Hard >= want {
			return good(orNone(l.Hard))
		}
		return amiss(strconv.FormatInt(l.Hard, 10), fmt.Sprintf("≥ %d", want), unitTo(unitKey, strconv.FormatInt(want, 10)))
	}
}
