package tune

import "strings"

// Setting is a value to be set on a host.
//
//	sysctl   key net.core.somaxconn
//	file     an absolute path under /sys or /proc/irq
//	ethtool  NIC/rx-ring, tx-ring, combined, rx-usecs, adaptive-rx, feature/NAME
//	link     NIC/mtu, NIC/txqlen, NIC/qdisc
//	unit     a line of the [Service] section of sluice.service; Environment/NAME for a variable
//	boot     a parameter of the kernel's command line: advice, nothing applies it
type Setting struct {
	Kind  string `json:"kind"`
	Key   string `json:"key"`
	Value string `json:"value"`
	Why   string `json:"why,omitempty"` // of the finding, when it stands for itself
}

// The kinds of settings.
const (
	kindSysctl  = "sysctl"
	kindFile    = "file"
	kindEthtool = "ethtool"
	kindLink    = "link"
	kindUnit    = "unit"
	kindBoot    = "boot"
)

func setting(kind, key, value string) Setting { return Setting{Kind: kind, Key: key, Value: value} }

func sysctlTo(key, value string) []Setting { return []Setting{setting(kindSysctl, key, value)} }

func ethtoolTo(nic, name, value string) []Setting {
	return []Setting{setting(kindEthtool, nic+"/"+name, value)}
}

func linkTo(nic, name, value string) []Setting {
	return []Setting{setting(kindLink, nic+"/"+name, value)}
}

func fileTo(path, value string) []Setting { return []Setting{setting(kindFile, path, value)} }

func unitTo(key, value string) []Setting { return []Setting{setting(kindUnit, key, value)} }

func bootTo(key, value string) []Setting { return []Setting{setting(kindBoot, key, value)} }

// place is the file that a setting writes; empty if it is none.
func (s Setting) place() string {
	switch s.Kind {
	case kindSysctl:
		return "/proc/sys/" + strings.ReplaceAll(s.Key, ".", "/")
	case kindFile:
		return s.Key
	}
	return ""
}
