package engine

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// memoryLimit is how many bytes the process may have: the least of the machine's memory and of the limits of its cgroup and
// of those around it, of version 1 and 2. A group whose files are not there, as its path is the host's and the
// process sees the container's, has no say; the mount's root is the container then. MaxInt64: nothing is known. root is /.
func memoryLimit(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	meminfo, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(meminfo)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			if kib, err := strconv.ParseInt(f[1], 10, 53); err == nil {
				least = kib << 10
			}
		}
	}
	groups, _ := fs.ReadFile(root, "proc/self/cgroup") // lines of ID:controllers:path, cgroups(7)
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		mount, file := "", ""
		switch {
		case f[1] == "":
			mount, file = "sys/fs/cgroup", "memory.max"
		case f[1] == "memory":
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for at := path.Clean("/" + f[2]); ; at = path.Dir(at) {
			text, _ := fs.ReadFile(root, path.Join(mount, at, file))
			// "max" in version 2, and a number beyond all machines in version 1, are no limit.
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
				least = min(least, n)
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}
