package tune

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sluice/tune/change"
	"sluice/tune/host"
)

const kernelPower = "Linux Documentation/admin-guide/pm/"

// powerKnobs are about what the processors do to save power.
var powerKnobs = []Knob{
	{
		Name: "cpu.governor", Sets: "who chooses the processors' frequency",
		Advice: "performance", Why: "an edge at half load has processors that are never busy for long: others leave them at a low frequency", Source: []string{kernelPower + "cpufreq.rst", amdGuide, intelNIC}, Cost: "power", Sure: Likely, Weight: 6,
		check: perCPUOneOf("cpufreq/scaling_governor", "the hypervisor or the firmware chooses", "performance"),
	},
	{
		Name: "cpu.epp", Sets: "what the processor prefers when it chooses by itself (intel_pstate, amd_pstate)",
		Advice: "performance or balance_performance", Why: "as of cpu.governor", Source: []string{kernelPower + "intel_pstate.rst", kernelPower + "amd-pstate.rst"}, Cost: "power", Sure: Likely, Weight: 4,
		check: func(name string, f *host.Facts, e Edge) []State {
			// Under the governor performance the kernel keeps it at performance, and says 0 on some processors.
			return perCPUOneOf("cpufreq/energy_performance_preference", "the processor has no such preference", "performance", "balance_performance", "0")(name, f, e)
		},
	},
	{
		Name: "cpu.max_frequency", Sets: "the highest frequency that the governor may choose", Unit: "kHz",
		Advice: "the processor's own highest", Why: "a cap that a power profile has left halves the rate of requests", Source: []string{kernelPower + "cpufreq.rst"}, Cost: "power", Sure: Certain, Weight: 5,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			caps, v := perCPU(f, "cpufreq/scaling_max_freq")
			if len(caps) == 0 {
				return unseen(v.Unknown)
			}
			var fix []Setting
			var low []int
			for text, cpus := range caps {
				for _, cpu := range cpus {
					most := f.Text(cpuFile(cpu, "cpufreq/cpuinfo_max_freq")[1:])
					is, ok1 := host.Value{Text: text}.Int()
					can, ok2 := most.Int()
					if ok1 && ok2 && is < can {
						low = append(low, cpu)
						fix = append(fix, setting(change.File, cpuFile(cpu, "cpufreq/scaling_max_freq"), most.Text))
					}
				}
			}
			if len(low) == 0 {
				return good("not capped")
			}
			slices.SortFunc(fix, byCPU)
			return amiss("capped on processors "+host.FormatList(low), "not capped", fix)
		},
	},
	{
		Name: "cpu.turbo", Sets: "whether the processor may go above its nominal frequency",
		Advice: "on", Why: "a loop is one thread: its rate is that of one core", Source: []string{kernelPower + "intel_pstate.rst", kernelPower + "cpufreq.rst"}, Cost: "power; a frequency that depends on the neighbours", Sure: Likely, Weight: 5,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			const intel, boost = "/sys/devices/system/cpu/intel_pstate/no_turbo", "/sys/devices/system/cpu/cpufreq/boost"
			if v := f.Text(intel[1:]); v.Known() {
				if v.Text == "0" {
					return good("on")
				}
				return amiss("off", "on", fileTo(intel, "0"))
			}
			v := f.Text(boost[1:])
			switch {
			case !v.Known():
				return unknown(v)
			case v.Text == "1":
				return good("on")
			}
			return amiss("off", "on", fileTo(boost, "1"))
		},
	},
	{
		Name: "cpu.cstates", Sets: "the deepest sleep of the processors, by the time that waking takes", Unit: "µs",
		Advice: "≤ 50 µs, for the processors of the loops", Why: "the first packet after a pause waits for the wake-up: 100 µs and more from C6", Source: []string{kernelPower + "cpuidle.rst", mlxGuide, amdGuide, lowLatency}, Cost: "power; less room for turbo", Sure: Likely, Weight: 4,
		check: cstates,
	},
	{
		Name: "cpu.driver", Sets: "the driver that sets frequencies",
		Advice: "the processor's own, where it has one: intel_pstate, amd-pstate", Why: "acpi-cpufreq knows three frequencies of a Zen, and boosts late", Source: []string{kernelPower + "amd-pstate.rst"}, Cost: "none", Sure: Likely, Weight: 2,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			by, v := perCPU(f, "cpufreq/scaling_driver")
			if len(by) == 0 {
				return unseen(v.Unknown)
			}
			driver := slices.Sorted(maps.Keys(by))[0]
			// CPPC is what amd-pstate stands on (since Zen 2, as the firmware has it).
			if driver == "acpi-cpufreq" && f.KernelAtLeast(6, 1) && f.Has("sys/devices/system/cpu/cpu0/acpi_cppc/highest_perf") {
				return amiss(driver, "amd-pstate", bootTo("amd_pstate", "active"))
			}
			return good(driver)
		},
	},
	{
		Name: "cpu.throttled", Sets: "how often the processors were slowed down because they were hot", Unit: "times since boot",
		Advice: "< 100", Why: "each time the rate falls for some ms, for all cores of the package", Source: []string{"Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, Thermal Monitoring"}, Cost: "cooling", Sure: Likely, Weight: 4,
		check: func(_ string, f *host.Facts, _ Edge) []State {
			by, v := perCPU(f, "thermal_throttle/package_throttle_count")
			if len(by) == 0 {
				return unseen(v.Unknown)
			}
			most := int64(0)
			for text := range by {
				n, _ := strconv.ParseInt(text, 10, 64)
				most = max(most, n)
			}
			if most < 100 {
				return good(strconv.FormatInt(most, 10))
			}
			s := amiss(strconv.FormatInt(most, 10), "< 100", nil)
			s[0].Do = "look at the fans, the intake's temperature and the firmware's power profile"
			return s
		},
	},
}

func byCPU(a, b Setting) int {
	return cpuIn(a.Key) - cpuIn(b.Key)
}

// cpuIn is the number in …/cpuN/….
func cpuIn(path string) int {
	_, rest, _ := strings.Cut(path, "/cpu/cpu")
	number, _, _ := strings.Cut(rest, "/")
	n, _ := strconv.Atoi(number)
	return n
}

// perCPUOneOf wants one of some words in a file of each processor.
func perCPUOneOf(file, without string, words ...string) check {
	return func(_ string, f *host.Facts, _ Edge) []State {
		by, v := perCPU(f, file)
		if len(by) == 0 {
			return unseen(v.Unknown + ": " + without)
		}
		var set []string
		var fix []Setting
		for _, text := range slices.Sorted(maps.Keys(by)) {
			about := text
			if len(by) > 1 {
				about += " (processors " + host.FormatList(by[text]) + ")"
			}
			set = append(set, about)
			if !slices.Contains(words, text) {
				for _, cpu := range by[text] {
					fix = append(fix, setting(change.File, cpuFile(cpu, file), words[0]))
				}
			}
		}
		if len(fix) == 0 {
			return good(strings.Join(set, ", "))
		}
		slices.SortFunc(fix, byCPU)
		shown := words[:min(2, len(words))]
		return amiss(strings.Join(set, ", "), strings.Join(shown, " or "), fix)
	}
}

// cstates finds the deepest state that is not disabled, on any processor.
func cstates(_ string, f *host.Facts, e Edge) []State {
	const most = 50 // µs
	deepest, name := int64(-1), ""
	var fix []Setting
	for _, cpu := range slices.Compact(slices.Sorted(slices.Values(Placement(f, e.Loops)))) {
		dir := cpuFile(cpu, "cpuidle")
		for _, state := range f.Names(dir[1:]) {
			at := dir + "/" + state + "/"
			latency, ok := f.Int(at[1:] + "latency")
			if !ok || f.Text(at[1:]+"disable").Text == "1" {
				continue
			}
			if latency > deepest {
				deepest, name = latency, f.Text(at[1:]+"name").Text
			}
			if latency > most {
				fix = append(fix, setting(change.File, at+"disable", "1"))
			}
		}
	}
	switch set := fmt.Sprintf("%s, %d µs", name, deepest); {
	case deepest < 0:
		return unseen("no idle states are shown: the hypervisor or the firmware chooses")
	case deepest <= most:
		return good(set)
	default:
		return amiss(set, fmt.Sprintf("≤ %d µs", most), fix)
	}
}
