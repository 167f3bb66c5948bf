package change

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestPlanIsReadAsItWasWritten(t *testing.T) {
	root := plant(t)
	h := changerAt(root).Host
	p := NewPlan(h, everyKind, func(s Setting, why error) { t.Errorf("%s: %v", s, why) })
	var b strings.Builder
	must(t, p.Write(&b))
	got, err := ParsePlan("plan.yaml", []byte(b.String()))
	must(t, err)
	if d := cmp.Diff(p, got, cmpopts.IgnoreUnexported(Plan{})); d != "" {
		t.Error(d)
	}
	if len(got.Settings) != len(everyKind) || got.Settings[0].From != "4096" || got.Settings[16].From != "madvise" {
		t.Errorf("%+v", got.Settings)
	}
}

func TestNewPlanSkipsWithAWord(t *testing.T) {
	root := plant(t)
	skipped := map[string]string{}
	p := NewPlan(changerAt(root).Host, []Setting{
		{Kind: Sysctl, Key: "net.core.somaxconn", Value: "4096"},
		{Kind: Sysctl, Key: "net.core.rmem_max", Value: "4194304"},
		{Kind: Sysctl, Key: "net/core/rmem_max", Value: "8388608"},
		{Kind: Sysctl, Key: "net.netfilter.nf_conntrack_max", Value: "1"},
		{Kind: File, Key: "/etc/passwd", Value: "x"},
		{Kind: File, Key: "/sys/../etc/passwd", Value: "x"},
		{Kind: Unit, Key: "ExecStartPre", Value: "/bin/sh"},
	}, func(s Setting, why error) { skipped[s.Key] = why.Error() })
	if len(p.Settings) != 1 || p.Settings[0].Key != "net.core.rmem_max" {
		t.Errorf("planned %v", p.Settings)
	}
	for key, want := range map[string]string{
		"net.core.somaxconn": "has this value already", "net/core/rmem_max": "there already",
		"net.netfilter.nf_conntrack_max": "this host has no", "/etc/passwd": "is no path under /sys",
		"/sys/../etc/passwd": "is no path under /sys", "ExecStartPre": "no unit setting named",
	} {
		if !strings.Contains(skipped[key], want) {
			t.Errorf("%s: %q, not %q", key, skipped[key], want)
		}
	}
}

const head = "host: {machine_id: m, hostname: h, kernel: k, nics: []}\nsettings:\n"

func TestPlanEditedIntoNonsense(t *testing.T) {
	for src, want := range map[string]string{
		"":          `f:1:1: one document is needed, with the keys host and settings`,
		"- a":       `f:1:1: expected a mapping`,
		"host: x":   "f:1:7: expected a mapping\nf:1:1: key \"settings\" is missing",
		head + "[]": "f:3:1: no settings",
		head + "  - {kind: sysctl, kee: net.core.somaxconn, to: 1}":                                                   "f:3:20: unknown key \"kee\"; did you mean \"key\"?\nf:3:5: key \"key\" is missing",
		head + "  - {kind: sysctl, key: net.core.somaxconn, to: [1]}":                                                 "f:3:49: expected a single value",
		head + "  - {kind: sysctl, key: net.core.somaxconn, to: }":                                                    "f:3:48: a value is missing",
		head + "  - {kind: sysctl, kind: sysctl, key: net.core.somaxconn, to: 1}":                                     `f:3:20: key "kind" is there twice`,
		head + "  - {kind: sysctrl, key: net.core.somaxconn, to: 1}":                                                  `f:3:12: no kind named "sysctrl"; did you mean "sysctl"?`,
		head + "  - {kind: sysctl, key: somaxconn, to: 1}":                                                            `f:3:25: "somaxconn" is no sysctl: net.core.somaxconn is one`,
		head + "  - {kind: sysctl, key: net../../etc/passwd, to: 1}":                                                  `f:3:25: "net../../etc/passwd" is no sysctl: net.core.somaxconn is one`,
		head + "  - {kind: sysctl, key: a.b, to: \"1\\n2\"}":                                                          "f:3:34: control characters in a value",
		head + "  - {kind: file, key: /etc/shadow, to: 1}":                                                            `f:3:23: "/etc/shadow" is no path under /sys or /proc/irq`,
		head + "  - {kind: ethtool, key: eth0/rxring, to: 1}":                                                         `f:3:26: no ethtool setting named "rxring"; did you mean "rx-ring"?`,
		head + "  - {kind: ethtool, key: eth0, to: 1}":                                                                `f:3:26: "eth0" is not NIC/NAME, as in eth0/rx-ring`,
		head + "  - {kind: ethtool, key: eth0/rx-ring, to: many}":                                                     `f:3:44: "many" is no whole number`,
		head + "  - {kind: ethtool, key: eth0/feature/lro, to: 1}":                                                    `f:3:48: "1" is not on or off`,
		head + "  - {kind: link, key: eth0/mtuu, to: 1}":                                                              `f:3:23: no link setting named "mtuu"; did you mean "mtu"?`,
		head + "  - {kind: link, key: eth0/qdisc, to: fq (default)}":                                                  `f:3:39: "fq (default)" is no qdisc`,
		head + "  - {kind: unit, key: LimitNOFIL, to: 1}":                                                             `f:3:23: no unit setting named "LimitNOFIL"; did you mean "LimitNOFILE"?`,
		head + "  - {kind: unit, key: Environment/GOGC, to: 'a\" \"LD_PRELOAD=x'}":                                    `f:3:45: none of "\%$ and tabs in a variable's value`,
		head + "  - {kind: sysctl, key: a.b.c, to: 1}\n  - {kind: sysctl, key: a/b/c, to: 2}":                         "f:4:25: sysctl a/b/c is there twice, first as number 1",
		head + "  - {kind: ethtool, key: e/feature/lro, to: on}\n  - {kind: ethtool, key: e/feature/rx-lro, to: off}": "f:4:26: ethtool e/feature/rx-lro is there twice, first as number 1",
	} {
		_, err := ParsePlan("f", []byte(src))
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", src, err, want)
		}
	}
	if _, err := ParsePlan("f", []byte("host: {machine_id: \"\nsettings: [")); !errors.As(err, new(Errors)) {
		t.Errorf("no YAML: %v", err)
	}
}

func TestNumbersNeedNoQuotes(t *testing.T) {
	p, err := ParsePlan("f", []byte(head+"  - {kind: sysctl, key: net.core.somaxconn, to: 4096}\n  - kind: ethtool\n    key: e/adaptive-rx\n    to: on\n"))
	must(t, err)
	if p.Settings[0].Value != "4096" || p.Settings[1].Value != "on" {
		t.Errorf("%+v", p.Settings)
	}
}

func TestSameValues(t *testing.T) {
	for _, x := range []struct {
		kind Kind
		key  string
		a, b string
		want bool
	}{
		{Sysctl, "net.ipv4.tcp_rmem", "4096\t131072\t6291456\n", "4096 131072 6291456", true},
		{Sysctl, "net.core.somaxconn", "4096", "40960", false},
		{File, "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n", "madvise", true},
		{File, "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n", "never", false},
		{File, "/sys/block/vda/queue/scheduler", "[none] mq-deadline", "none", true},
		{File, "/proc/irq/1/smp_affinity", "00000000,0000000f", "f", true},
		{File, "/proc/irq/1/smp_affinity", "00000001,00000000", "1", false},
		{File, "/proc/irq/1/smp_affinity_list", "0-3,8", "8,0,1,2,3", true},
		{File, "/proc/irq/1/smp_affinity_list", "0-3", "0-2", false},
		{Link, "e/qdisc", "fq (default)", "fq", true},
		{Link, "e/qdisc", "fq_codel (default)", "fq", false},
	} {
		if got := same(Setting{Kind: x.kind, Key: x.key}, x.a, x.b); got != x.want {
			t.Errorf("%s: %q and %q are the same: %v", x.key, x.a, x.b, got)
		}
	}
}

// The kernel's bitmap_parse() takes at most 8 digits between commas.
func TestMasksAreWrittenInGroups(t *testing.T) {
	for v, want := range map[string]string{"f": "f", "ff,3": "ff,00000003", "0,1": "1", "1,00000000,00000000": "1,00000000,00000000"} {
		if got := wire(Setting{Kind: File, Key: "/proc/irq/1/smp_affinity"}, v); got != want {
			t.Errorf("%s is written %s, not %s", v, got, want)
		}
	}
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.core.somaxconn": "net/core/somaxconn", "net/core/somaxconn": "net/core/somaxconn",
		"net.ipv4.conf.eth0/100.rp_filter": "net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter": "net/ipv4/conf/eth0.100/rp_filter",
	} {
		if got := sysctlPath(key); got != want {
			t.Errorf("%s is %s, not %s", key, got, want)
		}
	}
}

func TestSettingsFromJSON(t *testing.T) {
	got, err := ReadSettings(strings.NewReader(`[{"kind": "sysctl", "key": "net.core.somaxconn", "value": "1", "why": "w"}]`))
	if want := []Setting{{Kind: Sysctl, Key: "net.core.somaxconn", Value: "1", Why: "w"}}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{``, `{}`, `[{"knd": "sysctl"}]`, `[] []`} {
		if _, err := ReadSettings(strings.NewReader(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add(head + "  - {kind: sysctl, key: net.core.somaxconn, to: 4096}")
	f.Add(head + "  - kind: file\n    key: /proc/irq/1/smp_affinity\n    to: |\n      ff\n")
	for _, s := range []string{"{", "host: &a [*a]", "settings: [{}]", "? a\n: b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlan("f", []byte(s))
		var all Errors
		if err != nil && !errors.As(err, &all) {
			t.Fatalf("an error without a place: %v", err)
		}
		for _, e := range all {
			if e.Line < 1 || e.Column < 1 || e.Line > strings.Count(s, "\n")+2 {
				t.Errorf("%v is not in the file", e)
			}
		}
		if err != nil {
			return
		}
		// What is read can be written, and read again.
		var b strings.Builder
		must(t, p.Write(&b))
		again, err := ParsePlan("f", []byte(b.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if d := cmp.Diff(p, again, cmpopts.IgnoreUnexported(Plan{}), cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	})
}
