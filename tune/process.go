package tune

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"sluice/tune/host"
)

// processKnobs are about the process itself, and what its container leaves it.
var processKnobs = []Knob{
	{
		Name: "process.loops", Sets: "the event loops of the edge",
		Advice: "no more than processors that the process may use", Why: "two loops on one processor wait for each other", Source: []string{"sluice, engine.loops"}, Cost: "none", Sure: Certain, Weight: 7,
		check: func(_ string, f *host.Facts, e Edge) []State {
			n := len(f.Allowed) // a quota is cgroup.cpu's
			if n == 0 {
				return unseen("the processors are not known")
			}
			if e.Loops <= n {
				return good(strconv.Itoa(e.Loops))
			}
			s := amiss(strconv.Itoa(e.Loops), fmt.Sprintf("≤ %d", n), nil)
			s[0].Do = "engine: {loops: " + strconv.Itoa(n) + "} in the configuration"
			return s
		},
	},
	{
		Name: "process.gomaxprocs", Sets: "the threads that run Go code at a time (GOMAXPROCS)",
		Advice: "not set, or at least the loops and no more than the processors", Why: "Go takes it from the processors and the cgroup's quota; the edge raises it above its loops. A low one makes loops wait for each other, a high one is throttled", Source: []string{"Go package runtime, GOMAXPROCS; Go 1.25 release notes"}, Cost: "none", Sure: Certain, Weight: 6,
		check: func(_ string, f *host.Facts, e Edge) []State {
			text := variable("GOMAXPROCS", f, e)
			n, err := strconv.Atoi(text)
			most := max(len(f.Allowed), e.Loops)
			switch {
			case text == "":
				return good("not set")
			case err == nil && n >= e.Loops && (n <= most || len(f.Allowed) == 0):
				return good(text)
			}
			return amiss(text, fmt.Sprintf("not set, or %d to %d", e.Loops, most), unitTo("Environment/GOMAXPROCS", strconv.Itoa(e.Loops)))
		},
	},
	{
		Name: "process.gogc", Sets: "how much the heap grows before it is collected (GOGC)", Unit: "%",
		Advice: "not set, 100 to 1000, or off with GOMEMLIMIT", Why: "the edge's heap is small: collecting it more often costs CPU and saves little; off without a limit ends in the OOM killer", Source: []string{goGC}, Cost: "memory", Sure: Certain, Weight: 4,
		check: func(_ string, f *host.Facts, e Edge) []State {
			text := variable("GOGC", f, e)
			n, err := strconv.Atoi(text)
			switch {
			case text == "":
				return good("not set: 100")
			case text == "off" && variable("GOMEMLIMIT", f, e) != "", err == nil && n >= 100 && n <= 1000:
				return good(text)
			}
			return amiss(text, "100 to 1000, or off with GOMEMLIMIT", unitTo("Environment/GOGC", "200"))
		},
	},
	{
		Name: "process.gomemlimit", Sets: "the memory that Go tries to stay below (GOMEMLIMIT)",
		Advice: "half to nine tenths of the cgroup's limit, where there is one", Why: "Go does not know of the cgroup: without it the heap grows into the limit, and the process is killed", Source: []string{goGC, "Go package runtime, GOMEMLIMIT"}, Cost: "collections become more frequent near it", Sure: Likely, Weight: 5,
		check: when(func(f *host.Facts, _ Edge) string {
			if limit := f.Cgroup.Memory; limit == 0 || f.Memory > 0 && limit >= f.Memory {
				return "the cgroup has no limit below the machine's memory"
			}
			return ""
		}, func(_ string, f *host.Facts, e Edge) []State {
			text, limit := variable("GOMEMLIMIT", f, e), f.Cgroup.Memory
			n, ok := goBytes(text)
			if ok && n >= limit/2 && n <= limit/10*9 {
				return good(text)
			}
			return amiss(orWord(text, "not set"), fmt.Sprintf("%s to %s", size(limit/2), size(limit/10*9)), unitTo("Environment/GOMEMLIMIT", strconv.FormatInt(limit/5*4>>20, 10)+"MiB"))
		}),
	},
	{
		Name: "cgroup.cpu", Sets: "the processors' time that the cgroup may use (quota)", Unit: "processors",
		Advice: "none, or as much as there are loops", Why: "with less the loops are stopped together for the rest of each 100 ms: that is the p99", Source: []string{"Linux Documentation/scheduler/sched-bwc.rst"}, Cost: "the neighbours' share", Sure: Certain, Weight: 8,
		check: func(_ string, f *host.Facts, e Edge) []State {
			quota := f.Cgroup.CPU
			switch {
			case f.Cgroup.Version == 0:
				return unseen("no cgroup is seen")
			case quota == 0:
				return good("no quota")
			case quota >= float64(e.Loops):
				return good(strconv.FormatFloat(quota, 'f', -1, 64))
			}
			s := amiss(strconv.FormatFloat(quota, 'f', -1, 64)+fmt.Sprintf(" for %d loops", e.Loops), fmt.Sprintf("none, or ≥ %d", e.Loops), unitTo("CPUQuota", strconv.Itoa(100*e.Loops)+"%"))
			s[0].Do = fmt.Sprintf("or engine: {loops: %d} in the configuration", max(1, int(quota)))
			return s
		},
	},
	{
		Name: "cgroup.throttled", Sets: "the share of periods in which the quota was used up", Unit: "%",
		Advice: "< 1 %", Why: "in each of them every connection waited for up to 100 ms", Source: []string{"Linux Documentation/scheduler/sched-bwc.rst"}, Cost: "a larger quota", Sure: Certain, Weight: 7,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			switch share := 100 * f.Cgroup.Throttled; {
			case f.Cgroup.Version == 0:
				return unseen("no cgroup is seen")
			case share < 1:
				return good(fmt.Sprintf("%.1f %%", share))
			default:
				s := amiss(fmt.Sprintf("%.1f %%", share), "< 1 %", nil)
				s[0].Do = "raise the quota, or have fewer loops"
				return s
			}
		},
	},
	{
		Name: "cgroup.cpuset", Sets: "the processors that the process may run on",
		Advice: "whole cores: no thread whose sibling is somebody else's", Why: "a neighbour on the other thread of the core takes half of it, when he likes", Source: []string{"Linux Documentation/admin-guide/cgroup-v2.rst, cpuset"}, Cost: "none", Sure: Likely, Weight: 3,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			if len(f.CPUs) == 0 {
				return unseen("the processors are not known")
			}
			allowed := map[int]bool{}
			for _, cpu := range f.Allowed {
				allowed[cpu] = true
			}
			var split []int
			for _, c := range f.CPUs {
				if !allowed[c.ID] {
					continue
				}
				for _, sibling := range c.Siblings {
					if _, online := f.CPU(sibling); online && !allowed[sibling] {
						split = append(split, c.ID)
						break
					}
				}
			}
			set := host.FormatList(f.Allowed)
			if len(split) == 0 {
				return good(set)
			}
			s := amiss(set+": "+host.FormatList(split)+" share cores with others", "whole cores", nil)
			s[0].Do = "give the container or the unit both threads of each core"
			return s
		},
	},
	{
		Name: "process.swap", Sets: "whether the process may be swapped out",
		Advice: "no swap on the machine, vm.swappiness ≤ 10, or a memory.swap.max of 0", Why: "a loop that waits for the disk keeps all its connections waiting", Source: []string{"Linux Documentation/admin-guide/cgroup-v2.rst, memory.swap.max"}, Cost: "killed rather than slow, when memory is short", Sure: Certain, Weight: 3,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			swappiness, known := f.Sysctl("vm.swappiness").Int()
			switch {
			case f.Memory == 0:
				return unseen("/proc/meminfo is not there")
			case f.Swap == 0:
				return good("no swap")
			case f.Cgroup.Swap == 0:
				return good("memory.swap.max 0")
			case known && swappiness <= 10:
				return good(fmt.Sprintf("swappiness %d", swappiness))
			}
			return amiss("may be swapped out", "may not", sysctlTo("vm.swappiness", "1"))
		},
	},
	{
		Name: "process.oom_score", Sets: "how soon the process is killed when memory is short", Unit: "-1000 to 1000",
		Advice: "≤ 0", Why: "the edge is the last thing on the host that should go", Source: []string{"proc(5), oom_score_adj"}, Cost: "something else is killed", Sure: Likely, Weight: 3,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			v := f.Text("proc/self/oom_score_adj")
			if u, ok := readUnit(f); ok {
				v = host.Value{Text: orWord(u.value("OOMScoreAdjust"), "0")}
			}
			n, ok := v.Int()
			switch {
			case !v.Known():
				return unknown(v)
			case !ok || n <= 0:
				return good(v.Text)
			}
			return amiss(v.Text, "≤ 0", unitTo("OOMScoreAdjust", "-500"))
		},
	},
	{
		Name: "process.nice", Sets: "the priority of sluice.service",
		Advice: "≤ 0", Why: "a service that gives way to all others is late", Source: []string{systemd}, Cost: "none", Sure: Likely, Weight: 2,
		check: inUnit(func(u unit, _ *host.Facts, _ Edge) []State {
			text := orWord(u.value("Nice"), "0")
			if n, err := strconv.Atoi(text); err != nil || n <= 0 {
				return good(text)
			}
			return amiss(text, "≤ 0", unitTo("Nice", "0"))
		}),
	},
	{
		Name: "process.cpu_affinity", Sets: "the processors that sluice.service is bound to (CPUAffinity)",
		Advice: "none, or at least as many as loops", Why: "loops that share a processor wait for each other", Source: []string{systemd}, Cost: "none", Sure: Certain, Weight: 5,
		check: inUnit(func(u unit, f *host.Facts, e Edge) []State {
			cpus, ok := u.list("CPUAffinity")
			if !ok || len(cpus) >= min(e.Loops, len(f.CPUs)) {
				return good(orWord(host.FormatList(cpus), "none"))
			}
			want := Placement(f, e.Loops)
			if len(want) == 0 {
				return unseen("the processors are not known")
			}
			return amiss(fmt.Sprintf("%s, %d for %d loops", host.FormatList(cpus), len(cpus), e.Loops), "one for each loop", unitTo("CPUAffinity", host.FormatList(want)))
		}),
	},
}

// goBytes reads a size as Go's runtime does: a number of bytes, or with B, KiB, MiB, GiB or TiB.
func goBytes(text string) (int64, bool) {
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			text, shift = number, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "B"), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, false
	}
	return n << shift, true
}
