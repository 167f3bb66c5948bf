package change

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlanHasWhatIsDependedOnFirst(t *testing.T) {
	root := plant(t)
	p := NewPlan(changerAt(root).Host, []Setting{
		{Kind: Boot, Key: "mitigations", Value: "off"},
		{Kind: File, Key: "/proc/irq/24/smp_affinity", Value: "01"},
		{Kind: Ethtool, Key: "eth0/rx-ring", Value: "4096"},
		{Kind: Link, Key: "eth0/qdisc", Value: "fq"},
		{Kind: Unit, Key: "CPUQuota", Value: "200%"},
		{Kind: Ethtool, Key: "eth0/combined", Value: "8"},
		{Kind: Sysctl, Key: "net.core.somaxconn", Value: "65535"},
		{Kind: Sysctl, Key: "net.core.default_qdisc", Value: "fq"},
	}, func(s Setting, why error) { t.Errorf("%s: %v", s, why) })
	var got []string
	for _, s := range p.Settings {
		got = append(got, s.Key)
	}
	want := "net.core.somaxconn net.core.default_qdisc eth0/combined eth0/rx-ring eth0/qdisc /proc/irq/24/smp_affinity CPUQuota mitigations"
	if strings.Join(got, " ") != want {
		t.Errorf("%v\nwant %s", got, want)
	}
}

// A percent sign begins a specifier in most lines of systemd, and is plain in those that take a share.
func TestShareInUnit(t *testing.T) {
	f := func(key, value string, good bool) {
		t.Helper()
		refused := ""
		Setting{Kind: Unit, Key: key, Value: value}.Validate(func(_, message string) { refused = message })
		if (refused == "") != good {
			t.Errorf("%s=%s: %q", key, value, refused)
		}
	}
	f("CPUQuota", "200%", true)
	f("CPUQuota", "12.5%", true)
	f("MemoryMax", "80%", true)
	f("CPUQuota", "%h", false)
	f("CPUQuota", "2%0%", false)
	f("CPUQuota", "20%%", false)
	f("Nice", "5%", false)
	f("Environment/GOGC", "5%", false)
}

// The lines of CPUAffinity add up: that of the unit itself is taken back first.
func TestAffinityReplacesTheUnits(t *testing.T) {
	root := plant(t)
	c, _ := listening(root)
	affinity := Setting{Kind: Unit, Key: "CPUAffinity", Value: "2-3"}
	p := writePlan(t, root, affinity)
	_, err := c.Apply(p, ApplyOptions{})
	must(t, err)
	must(t, c.Confirm())
	text, err := os.ReadFile(filepath.Join(root, dropIn))
	must(t, err)
	if !strings.Contains(string(text), "\nCPUAffinity=\nCPUAffinity=2-3\n") {
		t.Errorf("the unit has\n%s", text)
	}
	if now, err := c.Host.Read(affinity); now != "2-3" || err != nil {
		t.Errorf("it reads %q, %v", now, err)
	}
	if again, err := c.Apply(p, ApplyOptions{}); again || err != nil {
		t.Errorf("applied twice it waits: %v, %v", again, err)
	}
}
