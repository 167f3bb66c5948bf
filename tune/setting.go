package tune

import (
	"strings"

	"sluice/tune/change"
)

// Setting is a value to be set on a host. Of a finding's, From is what the host has now, if it is known, and Why the knob's reason
// once the setting stands for itself.
type Setting = change.Setting

func setting(kind change.Kind, key, value string) Setting {
	return Setting{Kind: kind, Key: key, Value: value}
}

func sysctlTo(key, value string) []Setting { return []Setting{setting(change.Sysctl, key, value)} }

func ethtoolTo(nic, name, value string) []Setting {
	return []Setting{setting(change.Ethtool, nic+"/"+name, value)}
}

func linkTo(nic, name, value string) []Setting {
	return []Setting{setting(change.Link, nic+"/"+name, value)}
}

func fileTo(path, value string) []Setting { return []Setting{setting(change.File, path, value)} }

func unitTo(key, value string) []Setting { return []Setting{setting(change.Unit, key, value)} }

func bootTo(key, value string) []Setting { return []Setting{setting(change.Boot, key, value)} }

// fileOf is the file that a setting writes; empty if it is none.
func fileOf(s Setting) string {
	switch s.Kind {
	case change.Sysctl:
		return "/proc/sys/" + strings.ReplaceAll(s.Key, ".", "/")
	case change.File:
		return s.Key
	}
	return ""
}

// assignment words a setting.
func assignment(s Setting) string {
	switch {
	case s.Kind == change.Boot && s.Value == "":
		return "boot without " + s.Key
	case s.Kind == change.File:
		return s.Key + " = " + s.Value
	}
	return s.String() + " = " + s.Value
}
