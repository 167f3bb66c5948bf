package host

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Facts are what is known of a host. They are read once; Text, Int and Sysctl of the host read more when asked.
type Facts struct {
	*Host

	Name   string // of the machine
	Kernel string // its release: 6.1.0-18-amd64
	Arch   string // x86_64, aarch64; empty if it is not known
	Model  string // of the processor or the board

	CPUs    []CPU // those that are online, by number
	Offline []int
	Allowed []int // those that this process may use; all that are online, if it is not known
	Nodes   []Node

	Memory int64 // bytes; 0: unknown
	Swap   int64 // bytes

	NICs []NIC

	Boot     map[string]string // the kernel's command line, by key; flags have an empty text
	Limits   map[string]Limit  // of this process, by the names of /proc/self/limits: "Max open files"
	Cgroup   Cgroup
	readOnly []string // mount points
	Mounted  bool     // whether the mounts are known
	Uptime   float64  // seconds; 0: unknown
}

// Limit is a resource limit; -1: unlimited.
type Limit struct{ Soft, Hard int64 }

// Read reads the facts of h. What is not there is left unknown.
func Read(h *Host) *Facts {
	f := &Facts{Host: h}
	f.Name = h.Text("proc/sys/kernel/hostname").Text
	f.Kernel = h.Text("proc/sys/kernel/osrelease").Text
	f.Arch = h.Text("proc/sys/kernel/arch").Text // since Linux 6.1
	f.readMounts()
	f.readCPUs()
	f.Memory, f.Swap = memory(h.Text("proc/meminfo").Text, "MemTotal:"), memory(h.Text("proc/meminfo").Text, "SwapTotal:")
	f.Boot = map[string]string{}
	for _, word := range strings.Fields(h.Text("proc/cmdline").Text) {
		key, value, _ := strings.Cut(word, "=")
		if key == "--" {
			break // the rest is for init
		}
		f.Boot[key] = value
	}
	if first, _, ok := strings.Cut(h.Text("proc/uptime").Text, " "); ok {
		f.Uptime, _ = strconv.ParseFloat(first, 64)
	}
	f.readLimits()
	f.readCgroup()
	f.readNICs()
	return f
}

// KernelAtLeast compares the release; false if it is not known.
func (f *Facts) KernelAtLeast(major, minor int) bool {
	a, rest, _ := strings.Cut(f.Kernel, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(rest[:end])
	return errX == nil && errY == nil && (x > major || x == major && y >= minor)
}

// ReadOnly is the mount point through which path (with its leading slash) cannot be written; empty if it can, or if the
// mounts are not known.
func (f *Facts) ReadOnly(path string) string {
	for _, at := range f.readOnly {
		if path == at || strings.HasPrefix(path, strings.TrimSuffix(at, "/")+"/") {
			return at
		}
	}
	return ""
}

// Container says whether this process sees a part of the machine only: its /proc/sys or /sys may not be written, or the
// cgroup that it is in is shown as the root.
func (f *Facts) Container() bool {
	return f.ReadOnly("/proc/sys") != "" || f.ReadOnly("/sys") != ""
}

// readMounts keeps what of /proc and /sys is mounted read-only: the last mount at a place is the one that is seen.
func (f *Facts) readMounts() {
	text := f.Text("proc/self/mounts")
	f.Mounted = text.Known()
	only := map[string]bool{}
	for line := range strings.Lines(text.Text) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		at := fields[1]
		if at == "/proc" || at == "/sys" || strings.HasPrefix(at, "/proc/") || strings.HasPrefix(at, "/sys/") {
			only[at] = slices.Contains(strings.Split(fields[3], ","), "ro")
		}
	}
	for _, at := range slices.Sorted(maps.Keys(only)) {
		if only[at] {
			f.readOnly = append(f.readOnly, at)
		}
	}
}

// readLimits reads the columns of /proc/self/limits, which are at fixed places: the names have spaces.
func (f *Facts) readLimits() {
	f.Limits = map[string]Limit{}
	for line := range strings.Lines(f.Text("proc/self/limits").Text) {
		if len(line) < 66 || strings.HasPrefix(line, "Limit ") {
			continue
		}
		fields := strings.Fields(line[26:])
		if len(fields) < 2 {
			continue
		}
		soft, ok1 := limit(fields[0])
		hard, ok2 := limit(fields[1])
		if ok1 && ok2 {
			f.Limits[strings.TrimSpace(line[:26])] = Limit{soft, hard}
		}
	}
}

func limit(text string) (int64, bool) {
	if text == "unlimited" {
		return -1, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// memory is a line of /proc/meminfo, or of a node's, in bytes; 0 if it is not there.
func memory(text, key string) int64 {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if i := slices.Index(fields, key); i >= 0 && i+1 < len(fields) {
			n, _ := strconv.ParseInt(fields[i+1], 10, 64)
			return n << 10
		}
	}
	return 0
}
