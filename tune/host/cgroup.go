package host

import (
	"path"
	"strconv"
	"strings"
)

// Cgroup is what of the machine this process may use, by the strictest of its cgroups, version 1 or 2.
type Cgroup struct {
	CPU       float64 // processors' worth of time; 0: no quota
	Memory    int64   // bytes; 0: no limit
	High      int64   // bytes above which it is slowed down; 0: none
	Swap      int64   // bytes of swap; -1: no limit
	Pids      int64   // 0: no limit
	Throttled float64 // the share of its periods in which the quota was used up
	Version   int     // 0: no cgroup could be seen
}

// cgroupUnlimited is what version 1 says for none, and all above: the largest multiple of a page.
const cgroupUnlimited = 1 << 62

func (f *Facts) readCgroup() {
	c := &f.Cgroup
	c.Swap = -1
	least := func(at *int64, n int64, ok bool) {
		if ok && n < cgroupUnlimited && (*at <= 0 || n < *at) {
			*at = n
		}
	}
	for line := range strings.Lines(f.Text("proc/self/cgroup").Text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			f.upwards("sys/fs/cgroup", parts[2], func(dir string) {
				if f.Has(dir + "/cgroup.controllers") {
					c.Version = 2
				}
				if fields := strings.Fields(f.Text(dir + "/cpu.max").Text); len(fields) == 2 {
					quota, err1 := strconv.ParseFloat(fields[0], 64)
					period, err2 := strconv.ParseFloat(fields[1], 64)
					if err1 == nil && err2 == nil && period > 0 {
						c.quota(quota/period, f.Text(dir+"/cpu.stat").Text)
					}
				}
				n, ok := f.Int(dir + "/memory.max")
				least(&c.Memory, n, ok)
				n, ok = f.Int(dir + "/memory.high")
				least(&c.High, n, ok)
				if n, ok = f.Int(dir + "/memory.swap.max"); ok && (c.Swap < 0 || n < c.Swap) {
					c.Swap = n
				}
				n, ok = f.Int(dir + "/pids.max")
				least(&c.Pids, n, ok)
			})
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			f.upwards("sys/fs/cgroup/"+controller, parts[2], func(dir string) {
				switch controller {
				case "cpu":
					quota, ok1 := f.Int(dir + "/cpu.cfs_quota_us")
					period, ok2 := f.Int(dir + "/cpu.cfs_period_us")
					if ok1 && c.Version == 0 {
						c.Version = 1
					}
					if ok1 && ok2 && quota > 0 && period > 0 {
						c.quota(float64(quota)/float64(period), f.Text(dir+"/cpu.stat").Text)
					}
				case "memory":
					n, ok := f.Int(dir + "/memory.limit_in_bytes")
					if ok && c.Version == 0 {
						c.Version = 1
					}
					least(&c.Memory, n, ok)
				case "pids":
					n, ok := f.Int(dir + "/pids.max")
					least(&c.Pids, n, ok)
				}
			})
		}
	}
}

// quota notes a quota of so many processors, and how often it was used up.
func (c *Cgroup) quota(cpus float64, stat string) {
	if c.CPU == 0 || cpus < c.CPU {
		c.CPU = cpus
	}
	var periods, throttled float64
	for line := range strings.Lines(stat) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseFloat(value, 64)
		switch key {
		case "nr_periods":
			periods = n
		case "nr_throttled":
			throttled = n
		}
	}
	if periods > 0 {
		c.Throttled = max(c.Throttled, throttled/periods)
	}
}

// upwards calls f for a cgroup's directory and for those above it, as far as they are seen: in a container the path is
// often that of the machine, and only the mount's root is there.
func (f *Facts) upwards(mount, at string, visit func(dir string)) {
	at = path.Clean("/" + at)
	for ; at != "/"; at = path.Dir(at) {
		if f.Has(mount + at) {
			visit(mount + at)
		}
	}
	visit(mount)
}
