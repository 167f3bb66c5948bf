package change

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The files of the persistent form.
const (
	sysctlFile = "etc/sysctl.d/90-sluice.conf"
	bootUnit   = "etc/systemd/system/sluice-tune.service"
	bootLink   = "etc/systemd/system/multi-user.target.wants/sluice-tune.service" // as systemctl enable makes it
	dropIn     = "etc/systemd/system/sluice.service.d/90-sluice-tune.conf"
)

// mark is the first line of each: a file without it is somebody else's.
const mark = "# Written by sluice tune; sluice tune revert removes it.\n"

// persistable refuses to go on if a file of another would be in the way.
func (c *Changer) persistable() error {
	for _, name := range []string{sysctlFile, bootUnit, dropIn} {
		b, err := os.ReadFile(c.Host.path(name))
		if err == nil && !bytes.HasPrefix(b, []byte(mark)) {
			return fmt.Errorf("%s is there and not of sluice tune: move it away", c.Host.path(name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// persist makes the persistent form that of the record, and none of nil. It can be cut off and called again.
func (c *Changer) persist(r *record) error {
	if err := c.persistable(); err != nil {
		return err
	}
	sysctls, unit, env, boot := "", "", "", false
	if r != nil {
		for _, e := range r.Entries {
			s := e.Setting
			boot = boot || s.runtime()
			name, variable := strings.CutPrefix(s.Key, "Environment/")
			switch {
			case s.Kind == Sysctl:
				sysctls += s.Key + " = " + s.Value + "\n"
			case s.Kind == Unit && variable:
				env += "Environment=" + strconv.Quote(name+"="+s.Value) + "\n"
			case s.Kind == Unit && s.Key == "CPUAffinity":
				unit += "CPUAffinity=\nCPUAffinity=" + s.Value + "\n" // systemd adds up its lines; an empty one takes back those before
			case s.Kind == Unit:
				unit += s.Key + "=" + s.Value + "\n"
			}
		}
	}
	service := ""
	if unit += env; unit != "" {
		unit = "[Service]\n" + unit
	}
	if boot {
		service = c.service()
	}
	changed := false
	for _, f := range []struct{ name, content string }{{sysctlFile, sysctls}, {dropIn, unit}, {bootUnit, service}} {
		c.at("persist " + f.name)
		did, err := c.replace(f.name, f.content)
		if err != nil {
			return err
		}
		changed = changed || did
	}
	c.at("persist " + bootLink)
	if err := c.link(boot); err != nil {
		return err
	}
	c.at("persisted")
	if changed {
		c.reload()
	}
	return nil
}

// replace makes the file have the content below our mark, or be gone if that is empty.
func (c *Changer) replace(name, content string) (changed bool, err error) {
	p := c.Host.path(name)
	_ = os.Remove(tmpName(p)) // of a writer that was cut off
	if content == "" {
		err := os.Remove(p)
		if err == nil {
			c.say("removed %s", p)
			err = syncDir(filepath.Dir(p))
			changed = true
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if name == dropIn {
			_ = os.Remove(filepath.Dir(p)) // unless others have files there
		}
		return changed, err
	}
	content = mark + content
	if b, err := os.ReadFile(p); err == nil && string(b) == content {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return false, err
	}
	if err := c.writeDurably(p, []byte(content), 0o644); err != nil {
		return false, err
	}
	c.say("wrote %s", p)
	return true, nil
}

// service is the unit that sets the values at boot: after what sets others, before the edge.
func (c *Changer) service() string {
	words := []string{c.Binary, "tune", "apply", "--boot", "--state", c.State}
	if c.root() != "/" {
		words = append(words, "--root", c.root())
	}
	for i, w := range words {
		words[i] = systemdQuote(w)
	}
	return "[Unit]\nDescription=Host settings for sluice\n" +
		"After=systemd-sysctl.service systemd-modules-load.service network-pre.target network.target irqbalance.service\n" +
		"Before=sluice.service\n\n" +
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=" + strings.Join(words, " ") + "\n\n" +
		"[Install]\nWantedBy=multi-user.target\n"
}

// systemdQuote writes a word so that systemd.service(5) reads it back: specifiers and variables are not expanded.
func systemdQuote(w string) string {
	w = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(w)
	if strings.ContainsAny(w, " \t'\"\\;") {
		return `"` + w + `"`
	}
	return w
}

func (c *Changer) link(want bool) error {
	p := c.Host.path(bootLink)
	const target = "/" + bootUnit
	now, err := os.Readlink(p)
	switch {
	case want && err == nil && now == target:
		return nil
	case want:
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, p); err != nil {
			return err
		}
	case err != nil || now != target:
		return nil // none, or not ours
	default:
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(p))
}

// reload tells systemd of the files, if it runs this host. They are read at the next boot in any case.
func (c *Changer) reload() {
	if c.root() != "/" {
		return
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return
	}
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		c.say("note: systemctl daemon-reload: %v %s", err, bytes.TrimSpace(out))
	}
}
