package change

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// killedAtEvery kills a role at every step that it has, each time on a host prepared anew, and hands the host to after; rest says
// how many steps there were.
func killedAtEvery(t *testing.T, role string, prepare func(root string), after func(root string, step int), env ...string) (steps int) {
	t.Helper()
	for step := 1; ; step++ {
		root := plant(t)
		prepare(root)
		done, _ := run(t, root, role, step, env...)
		if done {
			return step - 1
		}
		after(root, step)
		if t.Failed() {
			t.Fatalf("after the end of %s at step %d", role, step)
		}
	}
}

func applyAll(t *testing.T, root string) {
	t.Helper()
	_, err := changerAt(root).Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: time.Hour})
	must(t, err)
}

// refusesWhatIsCutOff holds that what was killed while it was applied or reverted can be neither confirmed nor built upon.
func refusesWhatIsCutOff(t *testing.T, c *Changer) {
	t.Helper()
	r, err := c.load(pendingName)
	must(t, err)
	if r == nil || r.Phase == applied || r.Phase == confirming {
		return
	}
	if err := c.Confirm(); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("confirm: %v", err)
	}
	p := NewPlan(c.Host, []Setting{{Kind: Sysctl, Key: "net.core.default_qdisc", Value: "fq"}}, func(s Setting, why error) { t.Errorf("%s: %v", s, why) })
	if _, err := c.Apply(p, ApplyOptions{}); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("apply: %v", err)
	}
}

// Apply, confirm and revert are killed at every step there is, and a revert after it restores all that was, to the letter: files,
// values, and nothing left over of ours.
func TestKilledAtEveryStepRevertRestores(t *testing.T) {
	before := contents(t, plant(t))
	const service = "etc/systemd/system/sluice.service.d"
	restored := 0
	check := func(root string, _ int) {
		c, said := listening(root)
		refusesWhatIsCutOff(t, c)
		if _, err := c.Revert(false); err != nil {
			t.Errorf("revert: %v\n%s", err, said)
			return
		}
		if after := contents(t, root); after != before {
			t.Errorf("reverted, the tree is\n%s\nand was\n%s\nsaid %s", after, before, said)
			return
		}
		if _, err := os.Stat(filepath.Join(root, service)); err == nil {
			t.Errorf("%s is left", service)
			return
		}
		for _, name := range []string{pendingName, confirmedName, leftName} {
			if r, err := c.load(name); r != nil || err != nil {
				t.Errorf("%s is left: %v, %v", name, r, err)
				return
			}
		}
		restored++
	}
	plan := func(root string) { writePlan(t, root, everyKind...) }
	applied := func(root string) { applyAll(t, root) }
	confirmed := func(root string) {
		applied(root)
		must(t, changerAt(root).Confirm())
	}
	refused := func(root string) {
		writePlan(t, root, append(slices.Clone(everyKind[:10]), Setting{Kind: Ethtool, Key: "eth0/rx-usecs", Value: "13"})...)
	}
	all := 0
	for _, x := range []struct {
		name, role string
		prepare    func(string)
		least      int
		env        []string
	}{
		{"apply", "apply", plan, 2 + 3*18, nil}, {"rollback", "apply", refused, 5 * 10, []string{refuseEn + "=1"}},
		{"confirm", "confirm", applied, 8, nil}, {"revert of what waits", "revert", applied, 2*18 + 2, nil},
		{"revert of what is confirmed", "revert", confirmed, 2*18 + 5, nil},
	} {
		n := killedAtEvery(t, x.role, x.prepare, check, x.env...)
		if n < x.least {
			t.Errorf("%s has only %d steps", x.name, n)
		}
		t.Logf("%s: %d steps", x.name, n)
		all += n
	}
	t.Logf("restored in %d of %d", restored, all)
	if restored != all || all < 100 {
		t.Errorf("restored in %d of %d", restored, all)
	}
}

// An apply that was killed before its first write has changed nothing, so that nothing is ours to restore.
func TestKilledBeforeTheFirstWrite(t *testing.T) {
	root := plant(t)
	writePlan(t, root, everyKind...)
	if done, _ := run(t, root, "apply", 3); done {
		t.Fatal("not killed")
	}
	c, said := listening(root)
	if r, err := c.load(pendingName); err != nil || r == nil || r.begun() {
		t.Fatalf("killed elsewhere: %+v, %v", r, err)
	}
	setValue(t, root, "proc/sys/net/core/somaxconn", "777")
	if _, err := c.Revert(false); err != nil || value(t, root, "proc/sys/net/core/somaxconn") != "777" {
		t.Errorf("%v\n%s", err, said)
	}
}

// Of a confirmation that was killed when only the record of the waiting change was to be removed, the watcher undoes nothing.
func TestKilledAfterTheConfirmation(t *testing.T) {
	seen := false
	killedAtEvery(t, "confirm", func(root string) { applyAll(t, root) }, func(root string, _ int) {
		c, said := listening(root)
		r, err := c.load(pendingName)
		must(t, err)
		base, err := c.load(confirmedName)
		must(t, err)
		if r == nil || base == nil {
			return
		}
		seen = true
		before := contents(t, root)
		if _, err := c.revertWatched(r.ID); err != nil || contents(t, root) != before {
			t.Errorf("%v\n%s", err, said)
		}
		if !nothingWaits(root)() {
			t.Error("something waits")
		}
	})
	if !seen {
		t.Error("no step is between the two")
	}
}

// What was killed while it was confirmed can be confirmed again, and is then whole.
func TestConfirmAgainAfterKill(t *testing.T) {
	whole := plant(t)
	applyAll(t, whole)
	must(t, changerAt(whole).Confirm())
	killedAtEvery(t, "confirm", func(root string) { applyAll(t, root) }, func(root string, _ int) {
		c, said := listening(root)
		if err := c.Confirm(); err != nil && !errors.Is(err, ErrNothing) {
			t.Errorf("confirm again: %v\n%s", err, said)
		}
		if now, want := contents(t, root), contents(t, whole); now != want {
			t.Errorf("not whole:\n%s\nbut\n%s", now, want)
		}
		if r, err := c.load(pendingName); r != nil || err != nil {
			t.Errorf("something waits still: %v, %v", r, err)
		}
	})
}
