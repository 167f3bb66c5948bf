package change

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kind says how a setting is read and written.
type Kind string

const (
	Sysctl  Kind = "sysctl"  // key net.core.somaxconn; a dot within a name is written as a slash, see sysctl.d(5)
	File    Kind = "file"    // key is a path under /sys or /proc/irq
	Ethtool Kind = "ethtool" // key NIC/NAME: eth0/rx-ring, eth0/feature/lro
	Link    Kind = "link"    // key NIC/mtu, NIC/txqlen, NIC/qdisc
	Unit    Kind = "unit"    // key is a line of the [Service] section of sluice.service; Environment/NAME for a variable
	Boot    Kind = "boot"    // key is a parameter of the kernel's command line: a remark, never applied
)

var kinds = []string{string(Sysctl), string(File), string(Ethtool), string(Link), string(Unit), string(Boot)}

// Names of ethtool and link settings. feature/NAME and flag/NAME (private flags) are on or off.
var (
	ethtoolNames = []string{"rx-ring", "tx-ring", "combined", "rx-queues", "tx-queues", "rx-usecs", "tx-usecs", "rx-frames",
		"tx-frames", "adaptive-rx", "adaptive-tx"}
	linkNames = []string{"mtu", "txqlen", "qdisc"}
)

// unitNames are the lines that a plan may set: limits and placement. None of them runs anything.
var unitNames = []string{"LimitNOFILE", "LimitNPROC", "LimitMEMLOCK", "LimitCORE", "LimitSTACK", "LimitRTPRIO", "CPUAffinity",
	"CPUQuota", "CPUWeight", "CPUSchedulingPolicy", "CPUSchedulingPriority", "NUMAPolicy", "NUMAMask", "Nice", "OOMScoreAdjust",
	"MemoryHigh", "MemoryMax", "TasksMax"}

// Setting is one value of a host.
type Setting struct {
	Kind  Kind   `yaml:"kind" json:"kind"`
	Key   string `yaml:"key" json:"key"`
	From  string `yaml:"from" json:"from,omitempty"` // when the plan was made; apply takes its own snapshot
	Value string `yaml:"to" json:"value"`
	Why   string `yaml:"why" json:"why,omitempty"`
}

func (s Setting) String() string { return string(s.Kind) + " " + s.Key }

// runtime says whether the value is written at apply, and gone after a reboot.
func (s Setting) runtime() bool { return s.Kind != Unit && s.Kind != Boot }

var (
	sysctlKey = regexp.MustCompile(`^[A-Za-z0-9_-]+([./][A-Za-z0-9_:@-]+)+$`)
	nicName   = regexp.MustCompile(`^[^/:\s\x00-\x1f]{1,15}$`) // dev_valid_name() of the kernel
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate reports what is wrong with the setting by itself, whatever the host; path is that of the key in the plan.
func (s Setting) Validate(report func(path, message string)) {
	if strings.ContainsFunc(s.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		report("to", "control characters in a value")
	}
	if strings.TrimSpace(s.Value) == "" && s.Kind != Sysctl && s.Kind != Boot {
		report("to", "no value")
	}
	switch s.Kind {
	case Sysctl:
		if !sysctlKey.MatchString(s.Key) {
			report("key", fmt.Sprintf("%q is no sysctl: net.core.somaxconn is one", s.Key))
		}
	case File:
		if path.Clean(s.Key) != s.Key || !strings.HasPrefix(s.Key, "/sys/") && !strings.HasPrefix(s.Key, "/proc/irq/") {
			report("key", fmt.Sprintf("%q is no path under /sys or /proc/irq", s.Key))
		}
	case Ethtool, Link:
		s.validateDevice(report)
	case Unit:
		if name, ok := strings.CutPrefix(s.Key, "Environment/"); ok {
			if !envName.MatchString(name) {
				report("key", fmt.Sprintf("%q is no name of a variable", name))
			}
			if strings.ContainsAny(s.Value, "\"\\%$\t") {
				report("to", `none of "\%$ and tabs in a variable's value`)
			}
		} else if !slices.Contains(unitNames, s.Key) {
			report("key", unknown("unit setting", s.Key, unitNames))
		} else if strings.ContainsAny(s.Value, "\"\\%$\t") && !s.isShare() {
			report("to", `none of "\%$ and tabs in a unit's value; of CPUQuota, MemoryHigh, MemoryMax and TasksMax a share, as in 200%`)
		}
	case Boot:
	default:
		report("kind", unknown("kind", string(s.Kind), kinds))
	}
}

// share is a value in percent. systemd expands no specifiers in the lines that take one, so that its % is plain there.
var share = regexp.MustCompile(`^[0-9]+(\.[0-9]{1,2})?%$`)

func (s Setting) isShare() bool {
	return slices.Contains([]string{"CPUQuota", "MemoryHigh", "MemoryMax", "TasksMax"}, s.Key) && share.MatchString(s.Value)
}

func (s Setting) validateDevice(report func(path, message string)) {
	nic, name := s.device()
	if !nicName.MatchString(nic) || nic == "." || nic == ".." || name == "" {
		report("key", fmt.Sprintf("%q is not NIC/NAME, as in eth0/%s", s.Key, map[Kind]string{Ethtool: "rx-ring", Link: "mtu"}[s.Kind]))
		return
	}
	what, _, named := strings.Cut(name, "/")
	switch {
	case s.Kind == Ethtool && named && (what == "feature" || what == "flag"), name == "adaptive-rx", name == "adaptive-tx":
		if s.Value != "on" && s.Value != "off" {
			report("to", fmt.Sprintf("%q is not on or off", s.Value))
		}
	case s.Kind == Ethtool && !slices.Contains(ethtoolNames, name):
		report("key", unknown("ethtool setting", name, append([]string{"feature/NAME", "flag/NAME"}, ethtoolNames...)))
	case s.Kind == Link && !slices.Contains(linkNames, name):
		report("key", unknown("link setting", name, linkNames))
	case name == "qdisc":
		if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(s.Value) {
			report("to", fmt.Sprintf("%q is no qdisc", s.Value))
		}
	default:
		if _, err := strconv.ParseUint(s.Value, 10, 32); err != nil || decimal(s.Value) != s.Value {
			report("to", fmt.Sprintf("%q is no whole number", s.Value))
		}
	}
}

// device splits the key of an ethtool or link setting.
func (s Setting) device() (nic, name string) {
	nic, name, _ = strings.Cut(s.Key, "/")
	return nic, name
}

// place is what two settings may not have in common.
func (s Setting) place() string {
	if s.Kind == Sysctl {
		return "sysctl " + sysctlPath(s.Key)
	}
	if nic, name := s.device(); s.Kind == Ethtool {
		if f, ok := strings.CutPrefix(name, "feature/"); ok {
			return "ethtool " + nic + "/feature/" + feature(f)
		}
	}
	return s.String()
}

// sysctlPath is a key's path under /proc/sys. Of dots and slashes, that which comes first separates; after a dot the two
// change their roles (sysctl.d(5)): net.ipv4.conf.eth0/100.rp_filter is of the device eth0.100.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

// Feature names of ethtool(8) that stand for exactly one of the kernel's.
var featureAlias = map[string]string{"gro": "rx-gro", "lro": "rx-lro", "gso": "tx-generic-segmentation",
	"ntuple": "rx-ntuple-filter", "rxhash": "rx-hashing"}

func feature(name string) string {
	if k, ok := featureAlias[name]; ok {
		return k
	}
	return name
}
