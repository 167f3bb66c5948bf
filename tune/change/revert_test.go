package change

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reboot gives the host another boot, in which the kernel has its own values; what is persistent is set by set.
func reboot(t *testing.T, root string, set func()) {
	t.Helper()
	for name, content := range aHost {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	setValue(t, root, "proc/sys/kernel/random/boot_id", "22222222-2222-2222-2222-222222222222")
	set()
}

func TestRevertAfterReboot(t *testing.T) {
	for name, x := range map[string]struct {
		confirm bool
		set     func(t *testing.T, c *Changer) // what happened after the boot
	}{
		"not confirmed":      {false, func(*testing.T, *Changer) {}},
		"set at boot":        {true, func(t *testing.T, c *Changer) { must(t, c.Boot()) }},
		"nothing set it yet": {true, func(*testing.T, *Changer) {}},
	} {
		t.Run(name, func(t *testing.T) {
			root := plant(t)
			c, said := listening(root)
			_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: time.Hour})
			must(t, err)
			if x.confirm {
				must(t, c.Confirm())
			}
			reboot(t, root, func() { x.set(t, c) })
			if now := value(t, root, "proc/sys/net/core/somaxconn"); now == "4096" && name == "set at boot" {
				t.Error("the boot has set nothing")
			}
			if drift, err := c.Verify(nil); name == "set at boot" && (err != nil || len(drift) > 0) {
				t.Errorf("drift after the boot: %v %v", drift, err)
			}
			if _, err := c.Revert(false); err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			other := plant(t)
			setValue(t, other, "proc/sys/kernel/random/boot_id", "22222222-2222-2222-2222-222222222222")
			if now, want := contents(t, root), contents(t, other); now != want {
				t.Errorf("reverted, the tree is\n%s\nand was\n%s", now, want)
			}
		})
	}
}

// What nobody confirmed is not in the way of the next change after a reboot, and values that happen to be the planned ones are not
// taken for ours.
func TestUnconfirmedIsForgottenAfterReboot(t *testing.T) {
	root := plant(t)
	c, said := listening(root)
	p := writePlan(t, root, everyKind[0])
	_, err := c.Apply(p, ApplyOptions{Within: time.Hour})
	must(t, err)
	reboot(t, root, func() { setValue(t, root, "proc/sys/net/core/somaxconn", "65535") })
	if err := c.Confirm(); err == nil || !strings.Contains(err.Error(), "last boot") {
		t.Errorf("confirmed: %v", err)
	}
	if _, err := c.Apply(writePlan(t, root, everyKind[1]), ApplyOptions{Within: time.Hour}); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if _, err := c.Revert(false); err != nil {
		t.Error(err)
	}
	if now := value(t, root, "proc/sys/net/core/somaxconn"); now != "65535" {
		t.Errorf("somebody else's value was reverted to %s", now)
	}
}

// Neither does a revert take them for ours.
func TestRevertOfUnconfirmedAfterReboot(t *testing.T) {
	root := plant(t)
	c, _ := listening(root)
	_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: time.Hour})
	must(t, err)
	reboot(t, root, func() { setValue(t, root, "proc/sys/net/core/somaxconn", "65535") })
	if _, err := c.Revert(false); err != nil {
		t.Error(err)
	}
	if now := value(t, root, "proc/sys/net/core/somaxconn"); now != "65535" || !nothingWaits(root)() {
		t.Errorf("somebody else's value was reverted to %s, or something waits", now)
	}
}

func TestRevertLeavesWhatOthersHaveChanged(t *testing.T) {
	for _, confirm := range []bool{false, true} {
		root := plant(t)
		before := contents(t, root)
		c, said := listening(root)
		_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: time.Hour})
		must(t, err)
		if confirm {
			must(t, c.Confirm())
		}
		setValue(t, root, "proc/sys/net/core/somaxconn", "777")
		changed, err := c.Revert(false)
		if !changed || !errors.Is(err, ErrLeft) || !strings.Contains(said.String(), "left: sysctl net.core.somaxconn is 777; we set it to 65535, and it was 4096 before") {
			t.Errorf("%v, %v\n%s", changed, err, said)
		}
		if now := contents(t, root); now != strings.Replace(before, "somaxconn: 4096", "somaxconn: 777", 1) {
			t.Errorf("the tree is\n%s", now)
		}
		if changed, err := c.Revert(false); changed || err != nil {
			t.Errorf("again: %v, %v", changed, err)
		}
		if _, err := c.Revert(true); err != nil || contents(t, root) != before {
			t.Errorf("by force: %v\n%s", err, contents(t, root))
		}
	}
}

// A device that is gone holds up nothing.
func TestRevertWithoutADevice(t *testing.T) {
	root := plant(t)
	c, said := listening(root)
	_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: time.Hour})
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(root, "nic")))
	if _, err := c.Revert(false); err != nil {
		t.Error(err)
	}
	if !strings.Contains(said.String(), "gone, and not restored: ethtool eth0/rx-ring") || value(t, root, "proc/sys/net/core/somaxconn") != "4096" {
		t.Errorf("%s", said)
	}
}

// One that cannot be restored does not keep the others from it, and revert can be called again.
func TestRevertGoesOnAfterAnError(t *testing.T) {
	root := plant(t)
	before := contents(t, root)
	c, _ := listening(root)
	setValue(t, root, "nic/eth0/rx-usecs", "13")
	p := writePlan(t, root, everyKind...)
	_, err := c.Apply(p, ApplyOptions{Within: time.Hour})
	must(t, err)
	if _, err := c.Revert(false); err == nil || !strings.Contains(err.Error(), "eth0/rx-usecs") {
		t.Errorf("%v", err)
	}
	if now := value(t, root, "proc/sys/net/core/somaxconn"); now != "4096" {
		t.Errorf("the others were not restored: %s", now)
	}
	setValue(t, root, "nic/eth0/rx-usecs", "13") // by other means
	if _, err := c.Revert(false); err != nil {
		t.Error(err)
	}
	setValue(t, root, "nic/eth0/rx-usecs", "50")
	if contents(t, root) != before {
		t.Error("not all is restored")
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	root := plant(t)
	c, _ := listening(root)
	p := writePlan(t, root, everyKind...)
	must(t, os.MkdirAll(c.State, 0o700))
	for name, content := range map[string]string{"cut": `{"id": "x`, "another host": `{"id": "x", "root": "/elsewhere"}`} {
		must(t, os.WriteFile(c.in(pendingName), []byte(content), 0o600))
		if _, err := c.Apply(p, ApplyOptions{}); err == nil {
			t.Errorf("%s: applied", name)
		}
		if _, err := c.Revert(false); err == nil {
			t.Errorf("%s: reverted", name)
		}
	}
}

// Where nothing can be made persistent the change still waits, and can be undone.
func TestConfirmThatFails(t *testing.T) {
	root := plant(t)
	before := contents(t, root)
	c, _ := listening(root)
	_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: time.Hour})
	must(t, err)
	// The directory of the last of the files is none.
	const dir = "etc/systemd/system/multi-user.target.wants"
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, dir)), 0o755))
	setValue(t, root, dir, "no directory")
	if err := c.Confirm(); err == nil {
		t.Fatal("confirmed")
	}
	if _, err := os.Stat(filepath.Join(root, sysctlFile)); err == nil {
		t.Error("half of the persistent form is there")
	}
	if r, err := c.load(pendingName); err != nil || r.Phase != applied {
		t.Errorf("it does not wait: %+v, %v", r, err)
	}
	must(t, os.Remove(filepath.Join(root, dir)))
	must(t, c.Confirm())
	if _, err := c.Revert(false); err != nil || contents(t, root) != before {
		t.Errorf("%v\n%s", err, contents(t, root))
	}
}
