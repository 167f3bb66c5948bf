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

func TestApplyConfirmVerifyRevert(t *testing.T) {
	root := plant(t)
	before := contents(t, root)
	p := writePlan(t, root, everyKind...)
	c, said := listening(root)
	pending, err := c.Apply(p, ApplyOptions{Within: time.Hour})
	must(t, err)
	if !pending {
		t.Fatal("an applied plan does not wait for its confirmation")
	}
	for _, s := range p.Settings {
		if now, err := c.Host.Read(s); s.runtime() && (err != nil || !same(s, now, s.Value)) {
			t.Errorf("%s is %q, not %q: %v", s, now, s.Value, err)
		}
	}
	for _, name := range []string{sysctlFile, bootUnit, dropIn} {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s is there before the confirmation: a reboot would not undo the change", name)
		}
	}
	if drift, err := c.Verify(p); err != nil || len(drift) > 0 {
		t.Errorf("drift right after apply: %v, %v", drift, err)
	}
	must(t, c.Confirm())
	for name, want := range map[string][]string{
		sysctlFile: {"net.core.somaxconn = 65535\n", "net.ipv4.tcp_rmem = 4096 262144 16777216\n", "net.ipv4.conf.eth0/100.rp_filter = 0\n"},
		dropIn:     {"[Service]\nLimitNOFILE=1048576\n", "Environment=\"GOGC=400\"\n"},
		bootUnit:   {"Before=sluice.service\n", "ExecStart=/usr/bin/sluice tune apply --boot --state " + c.State + " --root " + root + "\n"},
	} {
		for _, w := range want {
			if got := value(t, root, name) + "\n"; !strings.HasPrefix(got, mark) || !strings.Contains(got, w) {
				t.Errorf("%s lacks %q:\n%s", name, w, got)
			}
		}
	}
	if drift, err := c.Verify(nil); err != nil || len(drift) > 0 {
		t.Errorf("drift after the confirmation: %v, %v", drift, err)
	}
	setValue(t, root, "proc/sys/net/core/somaxconn", "128")
	if drift, err := c.Verify(nil); err != nil || len(drift) != 1 || drift[0].Current != "128" {
		t.Errorf("a value that has drifted: %v, %v", drift, err)
	}
	setValue(t, root, "proc/sys/net/core/somaxconn", "65535")
	if !strings.Contains(said.String(), "by hand: mitigations=off") {
		t.Errorf("of the boot parameter nothing was said:\n%s", said)
	}
	if changed, err := c.Revert(false); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if after := contents(t, root); after != before {
		t.Errorf("reverted, the tree is\n%s\nand was\n%s", after, before)
	}
	if changed, err := c.Revert(false); err != nil || changed {
		t.Errorf("a second revert: %v, %v", changed, err)
	}
}

func TestApplyAgainChangesNothing(t *testing.T) {
	root := plant(t)
	p := writePlan(t, root, everyKind...)
	c, said := listening(root)
	for _, confirmed := range []bool{false, true} {
		if _, err := c.Apply(p, ApplyOptions{Within: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if confirmed {
			must(t, c.Confirm())
		}
		before := contents(t, root) + contents(t, c.State)
		said.Reset()
		pending, err := c.Apply(p, ApplyOptions{Watch: func(string) error { t.Error("a watcher for no change"); return nil }})
		if err != nil || pending == confirmed || !strings.Contains(said.String(), "nothing to change") {
			t.Errorf("confirmed %v: pending %v, %v, said %s", confirmed, pending, err, said)
		}
		if contents(t, root)+contents(t, c.State) != before {
			t.Errorf("confirmed %v: something has changed", confirmed)
		}
	}
}

func TestDryRunLeavesNoTrace(t *testing.T) {
	root := plant(t)
	p := writePlan(t, root, everyKind...)
	before := contents(t, root)
	c, said := listening(root)
	_, err := c.Apply(p, ApplyOptions{DryRun: true})
	must(t, err)
	if contents(t, root) != before {
		t.Error("a dry run has written")
	}
	if _, err := os.Stat(c.State); err == nil {
		t.Error("a dry run has made the state directory")
	}
	for _, want := range []string{"would set sysctl net.core.somaxconn: 4096 → 65535\n", "would write unit LimitNOFILE: nothing → 1048576"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("not said: %s\n%s", want, said)
		}
	}
}

// Whatever fails, and where: all is as before, and nothing waits.
func TestFailureRollsBack(t *testing.T) {
	first := []Setting{everyKind[0], everyKind[8], everyKind[9]}
	for name, x := range map[string]struct {
		last Setting
		want string
	}{
		"the kernel refuses":                    {Setting{Kind: Ethtool, Key: "eth0/rx-usecs", Value: "13"}, "invalid argument"},
		"the driver cuts it down":               {Setting{Kind: Ethtool, Key: "eth0/rx-ring", Value: "8192"}, "was set to 8192, and reads 4096"},
		"a later setting undoes an earlier one": {Setting{Kind: Ethtool, Key: "eth0/combined", Value: "4"}, "a later setting changes it"},
	} {
		t.Run(name, func(t *testing.T) {
			root := plant(t)
			before := contents(t, root)
			var settings []Setting
			for _, s := range first {
				if s.Key != x.last.Key {
					settings = append(settings, s)
				}
			}
			p := writePlan(t, root, append(settings, x.last)...)
			// NewPlan's order spares this; whoever edits the plan may have another.
			at := slices.IndexFunc(p.Settings, func(s Setting) bool { return s.Key == x.last.Key })
			p.Settings = append(slices.Delete(p.Settings, at, at+1), x.last)
			c, _ := listening(root)
			_, err := c.Apply(p, ApplyOptions{Within: time.Hour})
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, without %q", err, x.want)
			}
			if after := contents(t, root); after != before {
				t.Errorf("rolled back, the tree is\n%s\nand was\n%s", after, before)
			}
			if r, err := c.load(pendingName); r != nil || err != nil {
				t.Errorf("something waits: %v, %v", r, err)
			}
		})
	}
}

// A plan that is refused is refused before anything is written.
func TestRefusedBeforeAnythingIsWritten(t *testing.T) {
	root := plant(t)
	good := writePlan(t, root, everyKind...)
	before := contents(t, root)
	edit := func(i int, key, v string) func(*Plan) {
		return func(p *Plan) {
			if key != "" {
				p.Settings[i].Key = key
			}
			p.Settings[i].Value = v
		}
	}
	for name, x := range map[string]struct {
		edit func(*Plan)
		want string
	}{
		"text for a number":    {edit(0, "", "lots"), `plan.yaml:13:9: sysctl net.core.somaxconn: "lots" is no whole number`},
		"octal":                {edit(0, "", "010"), `"010" is no whole number`},
		"out of range":         {edit(0, "", "-1"), "-1 is outside of the kernel's range, 0 to 2147483647"},
		"above an int":         {edit(0, "", "99999999999"), "outside of the kernel's range"},
		"too few numbers":      {edit(2, "", "4096 87380"), `"4096 87380" has 2 numbers, and the host 3 numbers`},
		"falling":              {edit(2, "", "4096 16777216 87380"), "falls"},
		"ports":                {edit(3, "", "1024 70000"), "70000 is outside of the kernel's range, 1 to 65535"},
		"no such sysctl":       {edit(0, "net.core.somaxcon", "1"), `this host has no sysctl net.core.somaxcon; did you mean "net.core.somaxconn"?`},
		"no such choice":       {edit(16, "", "nevr"), `"nevr" is not one of always, madvise, never; did you mean "never"?`},
		"no such governor":     {edit(7, "", "ondemand"), `"ondemand" is not one of performance, powersave, schedutil`},
		"a CPU that is not":    {edit(14, "", "100,00000000"), "is of CPU 40, and the last one here is 39"},
		"an interrupt nowhere": {edit(14, "", "0"), "an interrupt needs a CPU"},
		"no mask":              {edit(14, "", "0-3"), "is no mask"},
		"no such device":       {edit(9, "eth9/rx-ring", "1024"), "this host has no ethtool eth9/rx-ring"},
		"the driver's most":    {edit(13, "", "65536"), "above the driver's most"},
		"a limit of nothing":   {edit(18, "", "many"), "neither a whole number nor infinity"},
		"a machine of another": {func(p *Plan) { p.Host.MachineID = "x" }, "the plan is of another host: its machine id"},
		"a clone of the image": {func(p *Plan) { p.Host.Hostname = "edge-2" }, "the plan is of another host: its host name"},
	} {
		t.Run(name, func(t *testing.T) {
			p := *good
			p.Settings = append([]Setting{}, good.Settings...)
			x.edit(&p)
			c, _ := listening(root)
			_, err := c.Apply(&p, ApplyOptions{Within: time.Hour, Watch: func(string) error { t.Error("a watcher for a refused plan"); return nil }})
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, without %q", err, x.want)
			}
			if contents(t, root) != before {
				t.Error("something was written")
			}
			if _, err := os.Stat(filepath.Join(c.State, pendingName)); err == nil {
				t.Error("something waits")
			}
		})
	}
}

func TestPlanOfAnotherHostByOverride(t *testing.T) {
	root := plant(t)
	p := writePlan(t, root, everyKind[0])
	p.Host = Identity{MachineID: "x", Kernel: "5.10.0", NICs: []string{"ens1 02:00:00:00:00:09"}}
	c, said := listening(root)
	if _, err := c.Apply(p, ApplyOptions{}); !errors.Is(err, ErrOtherHost) {
		t.Errorf("not refused: %v", err)
	}
	_, err := c.Apply(p, ApplyOptions{OtherHost: true})
	must(t, err)
	p.Host = c.Host.Identity()
	p.Host.Kernel = "5.10.0"
	p.Host.NICs = []string{"ens1 02:00:00:00:00:09"}
	said.Reset()
	_, err = c.Apply(p, ApplyOptions{})
	must(t, err)
	for _, want := range []string{"made under kernel 5.10.0, and this is 6.18.1", "ens1 02:00:00:00:00:09, which is not here"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no word of it: %s\n%s", want, said)
		}
	}
}

func TestTwoApplysAtOnce(t *testing.T) {
	root := plant(t)
	p := writePlan(t, root, everyKind...)
	inside, goOn := make(chan bool), make(chan bool)
	first, second := changerAt(root), changerAt(root)
	once := false
	first.step = func(point string) {
		if point == "noted net.core.somaxconn" && !once {
			once = true
			close(inside)
			<-goOn
		}
	}
	end := make(chan error)
	go func() {
		_, err := first.Apply(p, ApplyOptions{Within: time.Hour})
		end <- err
	}()
	<-inside
	if _, err := second.Apply(p, ApplyOptions{Within: time.Hour}); !errors.Is(err, ErrLocked) {
		t.Errorf("the second is not refused by the lock: %v", err)
	}
	close(goOn)
	must(t, <-end)
}

// A second change on top of a confirmed one: undone by itself, or both to what was before the first.
func TestChangeOnTopOfAnother(t *testing.T) {
	root := plant(t)
	before := contents(t, root)
	c, _ := listening(root)
	apply := func(settings ...Setting) {
		t.Helper()
		_, err := c.Apply(writePlan(t, root, settings...), ApplyOptions{Within: time.Hour})
		must(t, err)
	}
	apply(everyKind[0], everyKind[18])
	must(t, c.Confirm())
	once := contents(t, root)
	more := everyKind[0]
	more.Value = "32768"
	apply(more, everyKind[1])
	if _, err := c.Apply(writePlan(t, root, everyKind[2]), ApplyOptions{}); err == nil || !strings.Contains(err.Error(), "waits for its confirmation") {
		t.Errorf("a third while the second waits: %v", err)
	}
	r, err := c.load(pendingName)
	must(t, err)
	if reverted, err := c.revertWatched(r.ID); err != nil || !reverted {
		t.Fatal(reverted, err)
	}
	if after := contents(t, root); after != once {
		t.Errorf("the second undone, the tree is\n%s\nand was\n%s", after, once)
	}
	apply(more, everyKind[1])
	must(t, c.Confirm())
	if got := value(t, root, sysctlFile); !strings.Contains(got, "somaxconn = 32768") || strings.Contains(got, "65535") || !strings.Contains(got, "rmem_max") {
		t.Errorf("the persistent form of both:\n%s", got)
	}
	if _, err := c.Revert(false); err != nil {
		t.Fatal(err)
	}
	if after := contents(t, root); after != before {
		t.Errorf("reverted, the tree is\n%s\nand was\n%s", after, before)
	}
}

func TestForeignFileIsInTheWay(t *testing.T) {
	root := plant(t)
	p := writePlan(t, root, everyKind...)
	must(t, os.MkdirAll(filepath.Join(root, "etc/sysctl.d"), 0o755))
	setValue(t, root, sysctlFile, "net.core.somaxconn = 1")
	before := contents(t, root)
	c, _ := listening(root)
	if _, err := c.Apply(p, ApplyOptions{}); err == nil || !strings.Contains(err.Error(), "not of sluice tune") {
		t.Errorf("%v", err)
	}
	if contents(t, root) != before {
		t.Error("something was written")
	}
}
