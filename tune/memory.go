package tune

import (
	"fmt"
	"strconv"

	"sluice/tune/host"
)

const (
	kernelVM  = "Linux Documentation/admin-guide/sysctl/vm.rst"
	kernelTHP = "Linux Documentation/admin-guide/mm/transhuge.rst"
	goGC      = "A Guide to the Go Garbage Collector, go.dev/doc/gc-guide"
)

const thpDir = "/sys/kernel/mm/transparent_hugepage/"

// memoryKnobs are about memory.
var memoryKnobs = []Knob{
	{
		Name: "vm.swappiness", Sets: "how readily anonymous memory is swapped out in place of the page cache",
		Advice: "0 to 10, where there is swap", Why: "a loop that waits for a page of its heap keeps all its connections waiting", Source: []string{kernelVM}, Cost: "less page cache", Sure: Certain, Weight: 6,
		check: when(func(f *host.Facts, _ Edge) string {
			if f.Swap == 0 {
				return "no swap"
			}
			return ""
		}, between(0, 10)),
	},
	{
		Name: "vm.overcommit_memory", Sets: "whether memory may be promised that is not there",
		Advice: "0 or 1", Why: "Go reserves address space that it never uses; 2 refuses that", Source: []string{kernelVM}, Cost: "none", Sure: Certain, Weight: 5,
		check: oneOf("0", "1"),
	},
	{
		Name: "vm.max_map_count", Sets: "the mappings that a process may have", Unit: "mappings",
		Advice: "≥ 65530", Why: "each thread's stack and each arena of the heap is some of them", Source: []string{kernelVM}, Cost: "none", Sure: Likely, Weight: 2,
		check: atLeast(constant(65530)),
	},
	{
		Name: "vm.min_free_kbytes", Sets: "the memory that is kept free for interrupts", Unit: "KiB",
		Advice: "0.1 % of the memory, 16 MiB to 256 MiB; no more than 5 %", Why: "packets are received into memory that must be there at once: else they are dropped (\"page allocation failure: order:0, mode: GFP_ATOMIC\")",
		Source: []string{kernelVM, rhNet}, Cost: "that memory", Sure: Likely, Weight: 3,
		check: integer(func(n int64, f *host.Facts, _ Edge) (string, int64, bool) {
			if f.Memory == 0 {
				return "", n, true
			}
			least := min(max(f.Memory/1000, 16<<20), 256<<20, f.Memory/50) >> 10
			highest := max(f.Memory/20>>10, least)
			return fmt.Sprintf("%d to %d", least, highest), min(max(n, least), highest), n >= least && n <= highest
		}),
	},
	{
		Name: "vm.zone_reclaim_mode", Sets: "whether a node's cache is reclaimed before another node's memory is used",
		Advice: "0", Why: "reclaim stalls the loop that asks for memory; a remote page costs some tens of ns", Source: []string{kernelVM}, Cost: "some remote pages", Sure: Certain, Weight: 5,
		check: when(oneNode, oneOf("0")),
	},
	{
		Name: "vm.stat_interval", Sets: "how often the counters of memory are gathered from the processors", Unit: "s",
		Advice: "1 to 120; ≥ 10 with nohz_full", Why: "it wakes processors that are to be left alone", Source: []string{kernelVM}, Cost: "/proc/vmstat is older", Sure: Depends, Weight: 1,
		check: integer(func(n int64, f *host.Facts, _ Edge) (string, int64, bool) {
			least := int64(1)
			if f.Boot["nohz_full"] != "" {
				least = 10
			}
			return fmt.Sprintf("%d to 120", least), min(max(n, least), 120), n >= least && n <= 120
		}),
	},
	{
		Name: "vm.compaction_proactiveness", Sets: "how hard the kernel works in the background to make large pages", Unit: "%",
		Advice: "0 to 20", Why: "compaction moves pages under the loops' feet, and they wait for it", Source: []string{kernelVM}, Cost: "fewer huge pages at hand", Sure: Depends, Weight: 1,
		check: between(0, 20),
	},
	{
		Name: "kernel.numa_balancing", Sets: "whether pages are unmapped to see which node uses them, and moved there",
		Advice: "0, where there is more than one node", Why: "each look is a page fault; loops that stay on their processors have their memory beside them from the start", Source: []string{kernelRun}, Cost: "other programs place their memory themselves", Sure: Likely, Weight: 5,
		check: when(oneNode, oneOf("0")),
	},
	{
		Name: "vm.transparent_hugepage", Sets: "for which memory the kernel uses huge pages by itself",
		Advice: "madvise, or always with max_ptes_none 0", Why: "huge pages save misses of the TLB; under always an unused heap is filled in again by khugepaged, which Go asks for itself where it helps", Source: []string{kernelTHP, goGC}, Cost: "programs that rely on always", Sure: Likely, Weight: 3,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			v := f.Text(thpDir[1:] + "enabled")
			if v.Chosen() == "always" && f.Text(thpDir[1:]+"khugepaged/max_ptes_none").Text == "0" {
				return good("always, max_ptes_none 0")
			}
			states := fileOneOf(thpDir+"enabled", "madvise")("", f, Edge{})
			if most := f.Text(thpDir[1:] + "khugepaged/max_ptes_none"); v.Chosen() == "never" && most.Known() && most.Text != "0" {
				states[0].Fix = append(states[0].Fix, fileTo(thpDir+"khugepaged/max_ptes_none", "0")...) // it matters from then on
			}
			return states
		},
	},
	{
		Name: "vm.transparent_hugepage.defrag", Sets: "whether a program waits while memory is moved to make a huge page",
		Advice: "madvise, defer, defer+madvise or never", Why: "always stalls a loop in a page fault, for milliseconds", Source: []string{kernelTHP}, Cost: "fewer huge pages at first", Sure: Certain, Weight: 4,
		check: fileOneOf(thpDir+"defrag", "madvise", "defer", "defer+madvise", "never"),
	},
	{
		Name: "vm.transparent_hugepage.max_ptes_none", Sets: "how many unused pages khugepaged fills in to make a huge one", Unit: "pages",
		Advice: "0, unless huge pages are off", Why: "511 (the default) brings back memory that Go has given to the kernel", Source: []string{goGC}, Cost: "fewer huge pages in sparse heaps of other programs", Sure: Likely, Weight: 2,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			if f.Text(thpDir[1:]+"enabled").Chosen() == "never" {
				return moot("huge pages are off")
			}
			path := thpDir + "khugepaged/max_ptes_none"
			return word(f.Text(path[1:]), []string{"0"}, fileTo(path, "0"))
		},
	},
	{
		Name: "cgroup.memory", Sets: "the memory that the cgroup may have", Unit: "bytes",
		Advice: "16 KiB for each connection with its sockets, and 64 MiB", Why: "above it the process is killed; socket buffers count", Source: []string{"Linux Documentation/admin-guide/cgroup-v2.rst"}, Cost: "that memory", Sure: Likely, Weight: 7,
		check: func(_ string, f *host.Facts, e Edge) []State {
			n, want := f.Cgroup.Memory, int64(e.Connections)<<14+64<<20
			switch {
			case f.Cgroup.Version == 0:
				return unseen("no cgroup is seen")
			case n == 0 || n >= want:
				return good(sizeOrNone(n))
			}
			return amiss(size(n), "≥ "+size(want), unitTo("MemoryMax", strconv.FormatInt(want, 10)))
		},
	},
	{
		Name: "cgroup.memory_high", Sets: "the memory above which the cgroup is slowed down", Unit: "bytes",
		Advice: "none, or as of cgroup.memory", Why: "above it each allocation sleeps while memory is reclaimed: a loop that stalls", Source: []string{"Linux Documentation/admin-guide/cgroup-v2.rst"}, Cost: "the cgroup is killed rather than slowed down", Sure: Certain, Weight: 5,
		check: func(_ string, f *host.Facts, e Edge) []State {
			n, want := f.Cgroup.High, int64(e.Connections)<<14+64<<20
			switch {
			case f.Cgroup.Version != 2:
				return unseen("no cgroup of version 2 is seen")
			case n == 0 || n >= want:
				return good(sizeOrNone(n))
			}
			return amiss(size(n), "none or ≥ "+size(want), unitTo("MemoryHigh", "infinity"))
		},
	},
}

func oneNode(f *host.Facts, _ Edge) string {
	if len(f.Nodes) < 2 {
		return "one node of memory"
	}
	return ""
}

func sizeOrNone(n int64) string {
	if n == 0 {
		return "no limit"
	}
	return size(n)
}
