package change

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ownChoice follows a qdisc that nobody has set: the way back to it is to delete what was set.
const ownChoice = " (default)"

// Device reads and writes ethtool and link settings. Values are as in a plan. The error wraps fs.ErrNotExist if there is no
// such device or setting.
type Device interface {
	Get(s Setting) (string, error)
	Set(s Setting, value string) error
	// Check says why the value of s could not be set, or current not be set again.
	Check(s Setting, current string) error
}

// Host is where settings are read and written. No lock: whoever writes holds the state's.
type Host struct {
	Root   string // a prefix of all paths: "/", or a copy of a host's tree
	Device Device // nil: ethtool and link settings are refused
}

// Identity tells hosts apart. All of it is read from the tree.
type Identity struct {
	MachineID string   `yaml:"machine_id" json:"machine_id"`
	Hostname  string   `yaml:"hostname" json:"hostname"`
	Kernel    string   `yaml:"kernel" json:"kernel"`
	NICs      []string `yaml:"nics" json:"nics"` // "eth0 02:fc:00:00:00:01", by name; without the loopback
}

func (h *Host) path(p string) string { return filepath.Join(h.Root, p) }

func (h *Host) line(p string) string {
	b, err := os.ReadFile(h.path(p))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Identity is the host's; what cannot be read is empty.
func (h *Host) Identity() Identity {
	id := Identity{MachineID: h.line("etc/machine-id"), Hostname: h.line("proc/sys/kernel/hostname"), Kernel: h.line("proc/sys/kernel/osrelease")}
	nics, _ := os.ReadDir(h.path("sys/class/net"))
	for _, n := range nics {
		if n.Name() != "lo" {
			id.NICs = append(id.NICs, strings.TrimSpace(n.Name()+" "+h.line("sys/class/net/"+n.Name()+"/address")))
		}
	}
	return id
}

// boot names the time since the last boot.
func (h *Host) boot() string { return h.line("proc/sys/kernel/random/boot_id") }

// file is the path of a sysctl or file setting under the root.
func (h *Host) file(s Setting) string {
	if s.Kind == Sysctl {
		return h.path("proc/sys/" + sysctlPath(s.Key))
	}
	return h.path(s.Key)
}

// raw is what the kernel shows. The error wraps fs.ErrNotExist if the host has no such setting.
func (h *Host) raw(s Setting) (string, error) {
	switch s.Kind {
	case Sysctl, File:
		b, err := os.ReadFile(h.file(s))
		if err != nil {
			return "", err
		}
		if len(b) > 64<<10 {
			return "", fmt.Errorf("read %s: %d bytes are no setting", h.file(s), len(b))
		}
		return string(b), nil
	case Ethtool, Link:
		if h.Device == nil {
			return "", errors.New("network devices are only within reach on the live host, without --root")
		}
		return h.Device.Get(s)
	case Unit:
		return h.unitLine(s.Key)
	default:
		return h.parameter(s.Key), nil
	}
}

// Read is the setting's present value. A unit's line that is not there is empty.
func (h *Host) Read(s Setting) (string, error) {
	raw, err := h.raw(s)
	return normal(s, raw), err
}

// write sets a runtime value. That the kernel has taken it is for the caller to read back.
func (h *Host) write(s Setting, value string) error {
	if s.Kind == Ethtool || s.Kind == Link {
		if h.Device == nil {
			return errors.New("network devices are only within reach on the live host, without --root")
		}
		return h.Device.Set(s, value)
	}
	// In one write(2), as the kernel's parsers want it. O_TRUNC is for copies of a tree; proc and sysfs ignore it.
	f, err := os.OpenFile(h.file(s), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(wire(s, value) + "\n")
	return errors.Join(err, f.Close())
}

// unitLine is a line of the drop-in that we write, empty if it has none.
func (h *Host) unitLine(key string) (string, error) {
	f, err := os.Open(h.path(dropIn))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	last := ""
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return last, lines.Err()
		}
		name, v, ok := strings.Cut(lines.Text(), "=")
		if ok && name == "Environment" {
			name, v, ok = strings.Cut(strings.Trim(v, `"`), "=")
			name = "Environment/" + name
		}
		if ok && name == key {
			last = v
		}
	}
}

// parameter is one of the kernel's command line; "on" if it stands there without a value.
func (h *Host) parameter(key string) string {
	last := ""
	for _, p := range strings.Fields(h.line("proc/cmdline")) {
		if k, v, has := strings.Cut(p, "="); k == key && has {
			last = v
		} else if k == key {
			last = "on"
		}
	}
	return last
}

// near is the name beside a missing path that is most like it, with the path; empty if there is none.
func (h *Host) near(s Setting) string {
	if s.Kind != Sysctl && s.Kind != File {
		return ""
	}
	p := h.file(s)
	entries, err := os.ReadDir(filepath.Dir(p))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	name := nearest(filepath.Base(p), names)
	if name == "" {
		return ""
	}
	if s.Kind == File {
		return path.Join(path.Dir(s.Key), name)
	}
	return strings.TrimSuffix(s.Key, filepath.Base(p)) + name
}
