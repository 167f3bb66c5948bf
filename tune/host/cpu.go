package host

import (
	"fmt"
	"slices"
	"strings"
)

// CPU is a logical processor.
type CPU struct {
	ID       int
	Package  int   // the socket; -1: unknown
	Core     int   // within its package; -1: unknown
	Node     int   // of memory; 0 if there is but one
	Siblings []int // the processors of its core, itself among them
	Cache    Cache // the last level that it has
}

// Cache is the last level of cache that processors share.
type Cache struct {
	Level  int    // 0: unknown
	Size   string // as the kernel says it: 32768K
	Shared string // a list of processors
}

// Node is a NUMA node.
type Node struct {
	ID       int
	CPUs     []int
	Memory   int64 // bytes; 0: unknown
	Distance []int // to the nodes, in their order; 10 is local
}

// CPU finds a processor by its number; false if it is not online.
func (f *Facts) CPU(id int) (CPU, bool) {
	i, ok := slices.BinarySearchFunc(f.CPUs, id, func(c CPU, id int) int { return c.ID - id })
	if !ok {
		return CPU{}, false
	}
	return f.CPUs[i], true
}

// NodeOf is the node of a processor; -1 if it is not known.
func (f *Facts) NodeOf(cpu int) int {
	if c, ok := f.CPU(cpu); ok {
		return c.Node
	}
	return -1
}

// Packages are the numbers of the sockets.
func (f *Facts) Packages() (all []int) {
	for _, c := range f.CPUs {
		if !slices.Contains(all, c.Package) {
			all = append(all, c.Package)
		}
	}
	slices.Sort(all)
	return all
}

const cpuDir = "sys/devices/system/cpu/"

func (f *Facts) readCPUs() {
	online, _ := ParseList(f.Text(cpuDir + "online").Text)
	f.Offline, _ = ParseList(f.Text(cpuDir + "offline").Text)
	info := f.Text("proc/cpuinfo").Text
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name", "Model":
			f.Model = strings.TrimSpace(value)
		}
	}
	if f.Arch == "" {
		switch {
		case strings.Contains(info, "CPU implementer"):
			f.Arch = "aarch64"
		case strings.Contains(info, "vendor_id"):
			f.Arch = "x86_64"
		}
	}
	nodeOf := map[int]int{}
	nodes, _ := ParseList(f.Text("sys/devices/system/node/online").Text)
	for _, id := range nodes {
		dir := fmt.Sprintf("sys/devices/system/node/node%d/", id)
		n := Node{ID: id, Memory: memory(f.Text(dir+"meminfo").Text, "MemTotal:")}
		n.CPUs, _ = ParseList(f.Text(dir + "cpulist").Text)
		distances, _ := f.Text(dir + "distance").Ints()
		for _, d := range distances {
			n.Distance = append(n.Distance, int(d))
		}
		for _, cpu := range n.CPUs {
			nodeOf[cpu] = id
		}
		f.Nodes = append(f.Nodes, n)
	}
	for _, id := range online {
		dir := fmt.Sprintf("%scpu%d/", cpuDir, id)
		c := CPU{ID: id, Package: -1, Core: -1, Node: nodeOf[id]}
		if n, ok := f.Int(dir + "topology/physical_package_id"); ok {
			c.Package = int(n)
		}
		if n, ok := f.Int(dir + "topology/core_id"); ok {
			c.Core = int(n)
		}
		if c.Siblings, _ = ParseList(f.Text(dir + "topology/thread_siblings_list").Text); len(c.Siblings) == 0 {
			c.Siblings = []int{id}
		}
		for _, index := range []string{"index3", "index2"} {
			at := dir + "cache/" + index + "/"
			if level, ok := f.Int(at + "level"); ok {
				c.Cache = Cache{Level: int(level), Size: f.Text(at + "size").Text, Shared: f.Text(at + "shared_cpu_list").Text}
				break
			}
		}
		f.CPUs = append(f.CPUs, c)
	}
	f.Allowed = online
	for line := range strings.Lines(f.Text("proc/self/status").Text) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			if allowed, ok := ParseList(list); ok && len(allowed) > 0 {
				f.Allowed = slices.DeleteFunc(allowed, func(cpu int) bool { return !slices.Contains(online, cpu) })
			}
		}
	}
}
