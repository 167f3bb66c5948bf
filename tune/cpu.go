package tune

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/tune/change"
	"sluice/tune/host"
)

const kernelParams = "Linux Documentation/admin-guide/kernel-parameters.txt"

// cpuKnobs are about the processors that the loops run on.
var cpuKnobs = []Knob{
	{
		Name: "cpu.isolated", Sets: "processors that the scheduler leaves alone (isolcpus)",
		Advice: "none, or at least one for each loop", Why: "threads that are not pinned are never moved to them, and pile up on the rest; pinned loops have them for themselves", Source: []string{kernelParams}, Cost: "the rest of the machine has fewer processors", Sure: Certain, Weight: 5,
		check: func(_ string, f *host.Facts, e Edge) []State {
			v := f.Text("sys/devices/system/cpu/isolated")
			isolated, ok := host.ParseList(v.Text)
			switch {
			case !v.Known():
				return unknown(v)
			case !ok:
				return unseen(fmt.Sprintf("%q is no list", v.Text))
			case len(isolated) == 0 || len(isolated) >= e.Loops:
				return good(orWord(v.Text, "none"))
			}
			return amiss(fmt.Sprintf("%s, %d for %d loops", v.Text, len(isolated), e.Loops), "none, or one for each loop", bootTo("isolcpus", ""))
		},
	},
	{
		Name: "cpu.nohz_full", Sets: "processors without a timer tick while one thread runs",
		Advice: "none, or the isolated ones", Why: "on others the tick comes back as soon as a second thread runs, and each system call pays for the accounting", Source: []string{"Linux Documentation/timers/no_hz.rst"}, Cost: "one processor keeps the time for all", Sure: Likely, Weight: 3,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			text := f.Boot["nohz_full"]
			isolated, _ := host.ParseList(f.Text("sys/devices/system/cpu/isolated").Text)
			tickless, ok := host.ParseList(text)
			switch {
			case !f.Text("proc/cmdline").Known():
				return unknown(f.Text("proc/cmdline"))
			case text == "":
				return good("none")
			case ok && !slices.ContainsFunc(tickless, func(cpu int) bool { return !slices.Contains(isolated, cpu) }):
				return good(text)
			}
			return amiss(text, "only isolated processors: "+orWord(host.FormatList(isolated), "there are none"), bootTo("nohz_full", host.FormatList(isolated)))
		},
	},
	{
		Name: "cpu.rcu_nocbs", Sets: "processors whose RCU callbacks run elsewhere",
		Advice: "the processors of nohz_full, if there are any", Why: "callbacks would bring the tick back", Source: []string{kernelParams}, Cost: "wake-ups of the threads that run them", Sure: Likely, Weight: 2,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			text := f.Boot["nohz_full"]
			offloaded, given := f.Boot["rcu_nocbs"]
			tickless, _ := host.ParseList(text)
			has, _ := host.ParseList(offloaded)
			switch {
			case !f.Text("proc/cmdline").Known():
				return unknown(f.Text("proc/cmdline"))
			case text == "":
				return good(orWord(offloaded, "none"))
			case offloaded == "all" || !given || !slices.ContainsFunc(tickless, func(cpu int) bool { return !slices.Contains(has, cpu) }):
				return good(orWord(offloaded, "by nohz_full")) // which implies it
			}
			return amiss(offloaded, "with "+text, bootTo("rcu_nocbs", text))
		},
	},
	{
		Name: "cpu.offline", Sets: "processors that are switched off",
		Advice: "none, but for the second threads of cores", Why: "half a machine is sometimes left off by a test, or by nosmt", Source: []string{"Linux Documentation/core-api/cpu_hotplug.rst"}, Cost: "power", Sure: Likely, Weight: 3,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			v := f.Text("sys/devices/system/cpu/smt/control")
			switch {
			case !f.Text("sys/devices/system/cpu/online").Known():
				return unknown(f.Text("sys/devices/system/cpu/online"))
			case len(f.Offline) == 0 || v.Text == "off" || v.Text == "forceoff":
				return good(orWord(host.FormatList(f.Offline), "none"))
			}
			var fix []Setting
			for _, cpu := range f.Offline {
				fix = append(fix, setting(change.File, cpuFile(cpu, "online"), "1"))
			}
			return amiss(host.FormatList(f.Offline), "none", fix)
		},
	},
	{
		Name: "cpu.smt", Sets: "whether cores run two threads",
		Advice: "on, unless a vulnerability of this processor asks for off", Why: "a loop waits for memory most of the time, and the second thread uses that: about a quarter more requests", Source: []string{"Linux Documentation/admin-guide/hw-vuln/core-scheduling.rst"}, Cost: "the slowest requests are a little slower", Sure: Depends, Weight: 3,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			v := f.Text("sys/devices/system/cpu/smt/control")
			switch v.Text {
			case "on", "notsupported", "notimplemented":
				return good(v.Text)
			case "":
				return unknown(v)
			}
			if leaks := leaksBySMT(f); leaks != "" {
				return good(v.Text + ", for " + leaks)
			}
			return amiss(v.Text, "on", fileTo("/sys/devices/system/cpu/smt/control", "on"))
		},
	},
	{
		Name: "cpu.mitigations", Sets: "how the kernel defends against the processor's speculation, where it costs most",
		Advice: "no IBRS on each system call (Skylake: retbleed=stuff since Linux 6.2)", Why: "an edge lives on system calls; IBRS costs 10 to 30 % of them, call depth tracking about half of that, and both defend", Source: []string{"Linux Documentation/admin-guide/hw-vuln/", "Gleixner, Call depth tracking, LWN 2022"}, Cost: "none known", Sure: Likely, Weight: 5,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			retbleed := f.Text("sys/devices/system/cpu/vulnerabilities/retbleed")
			spectre := f.Text("sys/devices/system/cpu/vulnerabilities/spectre_v2")
			switch {
			case !retbleed.Known() && !spectre.Known():
				return unknown(spectre)
			case retbleed.Text != "Mitigation: IBRS":
				return good(orWord(retbleed.Text, spectre.Text))
			case !f.KernelAtLeast(6, 2):
				return moot("IBRS on each system call; the kernel is older than Linux 6.2 and has nothing cheaper")
			}
			return amiss("IBRS on each system call", "call depth tracking", bootTo("retbleed", "stuff"))
		},
	},
	{
		Name: "cpu.clocksource", Sets: "what the time is read from",
		Advice: "tsc, arch_sys_counter, kvm-clock, hyperv_clocksource_tsc_page", Why: "others are no memory to be read but a device (hpet: about 1 µs) or a system call; the edge reads the time for each event", Source: []string{"Linux Documentation/timers/timekeeping.rst", "vdso(7)", enaGuide}, Cost: "none, if the kernel has not found the tsc unstable", Sure: Certain, Weight: 7,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			const dir = "/sys/devices/system/clocksource/clocksource0/"
			v, has := f.Text(dir[1:]+"current_clocksource"), strings.Fields(f.Text(dir[1:]+"available_clocksource").Text)
			fast := []string{"tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"}
			if !v.Known() {
				return unknown(v)
			}
			if slices.Contains(fast, v.Text) {
				return good(v.Text)
			}
			for _, name := range fast {
				if slices.Contains(has, name) {
					return amiss(v.Text, name, fileTo(dir+"current_clocksource", name))
				}
			}
			s := amiss(v.Text, "tsc", bootTo("tsc", "reliable"))
			s[0].Do = "find why the kernel gave the tsc up (dmesg | grep -i tsc) before it is called reliable"
			return s
		},
	},
	{
		Name: "kernel.nmi_watchdog", Sets: "whether hard lock-ups are looked for by a performance counter",
		Advice: "0", Why: "it takes a counter and interrupts each processor", Source: []string{"Linux Documentation/admin-guide/lockup-watchdogs.rst"}, Cost: "a processor that hangs with interrupts off is not told", Sure: Likely, Weight: 1,
		check: oneOf("0"),
	},
	{
		Name: "kernel.sched_autogroup_enabled", Sets: "whether each session has its share of the processor",
		Advice: "0", Why: "an edge that was started from a terminal shares with it as one; for services it makes no difference", Source: []string{"sched(7)"}, Cost: "desktops", Sure: Depends, Weight: 1,
		check: oneOf("0"),
	},
	{
		Name: "cpu.steal", Sets: "the time in which the hypervisor ran somebody else, since boot", Unit: "% of the time that was used",
		Advice: "< 2 %", Why: "a loop that is not run keeps all its connections waiting", Source: []string{"proc(5), /proc/stat"}, Cost: "dedicated processors", Sure: Certain, Weight: 5,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			v := f.Text("proc/stat")
			line, _, _ := strings.Cut(v.Text, "\n")
			n, ok := host.Value{Text: strings.TrimPrefix(line, "cpu ")}.Ints()
			if !v.Known() {
				return unknown(v)
			}
			if !ok || len(n) < 8 {
				return unseen("/proc/stat is not understood")
			}
			used := n[0] + n[1] + n[2] + n[5] + n[6] + n[7]
			if used < 100_000 { // ticks of 10 ms
				return good("too little time to tell")
			}
			percent := 100 * float64(n[7]) / float64(used)
			if set := fmt.Sprintf("%.1f %%", percent); percent >= 2 {
				s := amiss(set, "< 2 %", nil)
				s[0].Do = "take an instance whose processors are its own (not burstable), or fewer neighbours"
				return s
			} else {
				return good(set)
			}
		},
	},
	{
		Name: "cpu.numa_placement", Sets: "whether the loops have room on the interface's node",
		Advice: "as many loops as processors on the node that packets come in on, or an interface on each node", Why: "a packet that is received on one node and read on another crosses between the packages, and so does each byte", Source: []string{amdGuide, mlxGuide}, Cost: "the other node's processors are for other work", Sure: Depends, Weight: 4,
		check: when(oneNode, func(_ string, f *host.Facts, e Edge) []State {
			node := nicNode(f)
			if node < 0 {
				return unseen("no interface tells its node")
			}
			nodes := map[int]bool{}
			for _, n := range f.NICs {
				if n.Up && n.Device && n.Node >= 0 {
					nodes[n.Node] = true
				}
			}
			away := 0
			for _, cpu := range Placement(f, e.Loops) {
				if !nodes[f.NodeOf(cpu)] {
					away++
				}
			}
			set := fmt.Sprintf("%d of %d loops on nodes without an interface", away, e.Loops)
			if away == 0 {
				return good(set)
			}
			room := 0
			for _, cpu := range f.Allowed {
				if nodes[f.NodeOf(cpu)] {
					room++
				}
			}
			s := amiss(set, fmt.Sprintf("%d loops, on node %d", room, node), nil)
			if room > 0 {
				there := slices.DeleteFunc(slices.Clone(f.Allowed), func(cpu int) bool { return !nodes[f.NodeOf(cpu)] })
				s[0].Do = fmt.Sprintf("engine: {loops: %d} in the configuration, and CPUAffinity=%s in the unit", room, host.FormatList(there))
			} else {
				s[0].Do = "let the process use processors of node " + strconv.Itoa(node)
			}
			return s
		}),
	},
}

// leaksBySMT is the vulnerability for which the second threads would have to be off; empty if there is none.
func leaksBySMT(f *host.Facts) string {
	const dir = "sys/devices/system/cpu/vulnerabilities/"
	for _, name := range f.Names(dir[:len(dir)-1]) {
		if text := f.Text(dir + name).Text; strings.Contains(text, "SMT disabled") || strings.Contains(text, "SMT vulnerable") {
			return name
		}
	}
	return ""
}
