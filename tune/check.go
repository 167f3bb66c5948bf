package tune

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/tune/host"
)

func good(set string) []State   { return []State{{Verdict: Good, Set: set}} }
func moot(why string) []State   { return []State{{Verdict: Moot, Note: why}} }
func unseen(why string) []State { return []State{{Verdict: Unseen, Note: why}} }
func amiss(set, wanted string, fix []Setting) []State {
	return []State{{Verdict: Amiss, Set: set, Wanted: wanted, Fix: fix}}
}

// unknown is the state of a fact that is not known.
func unknown(v host.Value) []State {
	return []State{{Verdict: Unseen, Note: v.Unknown, Root: v.Denied}}
}

// when asks c only if no reason is given why the knob is moot.
func when(why func(f *host.Facts, e Edge) string, c check) check {
	return func(name string, f *host.Facts, e Edge) []State {
		if reason := why(f, e); reason != "" {
			return moot(reason)
		}
		return c(name, f, e)
	}
}

// integer reads the kernel setting of the knob's name, for f to judge.
func integer(judge func(n int64, f *host.Facts, e Edge) (wanted string, fix int64, ok bool)) check {
	return func(name string, f *host.Facts, e Edge) []State {
		v := f.Sysctl(name)
		n, ok := v.Int()
		if !v.Known() {
			return unknown(v)
		}
		if !ok {
			return unseen(fmt.Sprintf("%q is no number", v.Text))
		}
		wanted, fix, ok := judge(n, f, e)
		if ok {
			return good(v.Text)
		}
		return amiss(v.Text, wanted, sysctlTo(name, strconv.FormatInt(fix, 10)))
	}
}

// atLeast wants a kernel setting to be so high.
func atLeast(least func(f *host.Facts, e Edge) int64) check {
	return integer(func(n int64, f *host.Facts, e Edge) (string, int64, bool) {
		want := least(f, e)
		return fmt.Sprintf("≥ %d", want), want, n >= want
	})
}

// between wants a kernel setting within limits; the nearer one is the remedy.
func between(low, high int64) check {
	return integer(func(n int64, _ *host.Facts, _ Edge) (string, int64, bool) {
		wanted := fmt.Sprintf("%d to %d", low, high)
		if low == high {
			wanted = strconv.FormatInt(low, 10)
		}
		return wanted, min(max(n, low), high), n >= low && n <= high
	})
}

func constant(n int64) func(*host.Facts, Edge) int64 {
	return func(*host.Facts, Edge) int64 { return n }
}

// oneOf wants one of some words in a kernel setting; the first is the remedy.
func oneOf(words ...string) check {
	return func(name string, f *host.Facts, _ Edge) []State {
		return word(f.Sysctl(name), words, sysctlTo(name, words[0]))
	}
}

// fileOneOf wants one of some words in a file, or the one in brackets if it lists them.
func fileOneOf(path string, words ...string) check {
	return func(_ string, f *host.Facts, _ Edge) []State {
		return word(f.Text(strings.TrimPrefix(path, "/")), words, fileTo(path, words[0]))
	}
}

func word(v host.Value, words []string, fix []Setting) []State {
	switch {
	case !v.Known():
		return unknown(v)
	case slices.Contains(words, v.Chosen()):
		return good(v.Chosen())
	}
	return amiss(v.Chosen(), strings.Join(words, " or "), fix)
}

// nics asks of each interface that has a device and is up.
func nics(ask func(n *host.NIC, f *host.Facts, e Edge) []State) check {
	return func(_ string, f *host.Facts, e Edge) []State {
		var all []State
		virtual := ""
		for i := range f.NICs {
			n := &f.NICs[i]
			if !n.Up {
				continue
			}
			if !n.Device {
				virtual = n.Name
				continue
			}
			for _, s := range ask(n, f, e) {
				s.Of = n.Name
				all = append(all, s)
			}
		}
		switch {
		case len(all) > 0:
			return all
		case virtual != "":
			return unseen(virtual + " has no device here: the network interface is that of the machine around this container")
		}
		return unseen("no network interface that is up")
	}
}

// links asks of each interface what ethtool knows of it.
func links(ask func(n *host.NIC, f *host.Facts, e Edge) []State) check {
	return nics(func(n *host.NIC, f *host.Facts, e Edge) []State {
		if n.Link == nil {
			return unseen(n.Why)
		}
		return ask(n, f, e)
	})
}

// untold is the state of what a driver does not tell.
func untold(n *host.NIC, what string) []State {
	for _, why := range n.Link.Unknown {
		if strings.HasPrefix(why, what+":") {
			return unseen("the driver " + n.Link.Driver + " does not tell: " + why)
		}
	}
	return unseen("the driver " + n.Link.Driver + " does not tell: " + what)
}

// perCPU reads a file of each processor that is online and groups them by its text. The dir is below cpuN.
func perCPU(f *host.Facts, file string) (by map[string][]int, v host.Value) {
	by = map[string][]int{}
	v = host.Value{Unknown: "no processor is known"}
	for _, c := range f.CPUs {
		if v = f.Text(cpuFile(c.ID, file)[1:]); v.Known() {
			by[v.Text] = append(by[v.Text], c.ID)
		}
	}
	return by, v
}

func cpuFile(cpu int, file string) string {
	return fmt.Sprintf("/sys/devices/system/cpu/cpu%d/%s", cpu, file)
}

// size words a number of bytes.
func size(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.bytes {
			return strconv.FormatFloat(float64(n*10/unit.bytes)/10, 'f', -1, 64) + " " + unit.name
		}
	}
	return fmt.Sprintf("%d B", n)
}
