package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// tuneEnv makes this binary the sluice that apply leaves behind as a watcher.
const tuneEnv = "SLUICE_TEST_TUNE"

func init() {
	if os.Getenv(tuneEnv) != "" && len(os.Args) > 2 && os.Args[1] == "tune" {
		code, out := tuneChange("", os.Args[2:]...)
		_, _ = os.Stdout.WriteString(out)
		os.Exit(code)
	}
}

// tuneChange runs one command of the tuner, as execute does.
func tuneChange(stdin string, args ...string) (code int, said string) {
	root := &cobra.Command{Use: "tune", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(tuneChangeCommands(nil)...)
	var out bytes.Buffer
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.Execute()
	var exit *exitError
	if errors.As(err, &exit) {
		printError(&out, exit.err)
		return exit.code, out.String()
	}
	if err != nil {
		return exitUsage, err.Error()
	}
	return 0, out.String()
}

// tunedTree is the tree of a host with two sysctls, and the flags for it.
func tunedTree(t *testing.T) (root string, flags []string) {
	t.Helper()
	root = t.TempDir()
	for name, content := range map[string]string{
		"etc/machine-id": "m\n", "proc/sys/kernel/hostname": "edge-1\n", "proc/sys/kernel/osrelease": "6.18.1\n",
		"proc/sys/kernel/random/boot_id": "b\n", "proc/sys/net/core/somaxconn": "4096\n", "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
	} {
		p := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, []byte(content), 0o600))
	}
	return root, []string{"--root", root, "--state", filepath.Join(t.TempDir(), "state")}
}

const tunedSettings = `[{"kind": "sysctl", "key": "net.core.somaxconn", "value": "65535", "why": "bursts"},
	{"kind": "sysctl", "key": "net.ipv4.tcp_rmem", "value": "4096 262144 16777216"},
	{"kind": "unit", "key": "LimitNOFILE", "value": "1048576"},
	{"kind": "sysctl", "key": "net.core.nothing", "value": "1"}]`

func TestTuneFromPlanToRevert(t *testing.T) {
	t.Setenv(tuneEnv, "1")
	root, flags := tunedTree(t)
	somaxconn := func() string {
		b, err := os.ReadFile(filepath.Join(root, "proc/sys/net/core/somaxconn"))
		must(t, err)
		return strings.TrimSpace(string(b))
	}
	step := func(want int, says string, args ...string) {
		t.Helper()
		if code, out := tuneChange("", append(args, flags...)...); code != want || !strings.Contains(out, says) {
			t.Fatalf("%v: exit %d, not %d, and without %q:\n%s", args, code, want, says, out)
		}
	}
	plan := filepath.Join(t.TempDir(), "plan.yaml")
	code, out := tuneChange(tunedSettings, append([]string{"plan", "-o", plan, "-"}, flags...)...)
	if code != 0 || !strings.Contains(out, "left out: sysctl net.core.nothing: this host has no") {
		t.Fatalf("exit %d: %s", code, out)
	}
	step(1, "sysctl net.core.somaxconn: wanted 65535, is 4096\n", "verify", plan)
	step(0, "would set sysctl net.core.somaxconn: 4096 → 65535\n", "apply", "--dry-run", plan)
	step(1, "no change waits", "confirm")
	step(0, "nothing to revert", "revert")

	// Nobody confirms.
	step(0, "it is reverted in 100ms unless you say: sluice tune confirm --root "+root, "apply", "--confirm-within", "100ms", plan)
	eventually(t, "the watcher reverts", func() bool { return somaxconn() == "4096" })
	eventually(t, "the watcher is done", func() bool { _, err := os.Stat(filepath.Join(flags[3], "pending.journal")); return err != nil })

	step(0, "set sysctl net.core.somaxconn: 4096 → 65535\n", "apply", plan)
	step(0, "", "verify", plan)
	step(0, "wrote ", "confirm")
	step(0, "", "verify")
	must(t, os.WriteFile(filepath.Join(root, "proc/sys/net/core/somaxconn"), []byte("4096\n"), 0o600))
	step(1, "drifted settings: 1", "verify")
	step(0, "set sysctl net.core.somaxconn: 4096 → 65535\n", "apply", "--boot")
	must(t, os.WriteFile(filepath.Join(root, "proc/sys/net/core/somaxconn"), []byte("777\n"), 0o600))
	step(1, "--force", "revert")
	step(0, "restored sysctl net.core.somaxconn: 777 → 4096\n", "revert", "--force")
	if left, _ := filepath.Glob(filepath.Join(root, "etc/*/*")); len(left) > 2 || somaxconn() != "4096" {
		t.Errorf("left over: %v", left)
	}
}

func TestTuneRefuses(t *testing.T) {
	_, flags := tunedTree(t)
	head := "host: {machine_id: m, hostname: edge-1, kernel: 6.18.1, nics: []}\nsettings:\n"
	for name, x := range map[string]struct{ plan, want string }{
		"unknown key":  {head + "  - {kind: sysctl, key: net.core.somaxconn, too: 1}\n", "plan.yaml:3:45: unknown key \"too\"; did you mean \"to\"?\n      - {kind"},
		"out of range": {head + "  - {kind: sysctl, key: net.core.somaxconn, to: -5}\n", "plan.yaml:3:49: sysctl net.core.somaxconn: -5 is outside of the kernel's range"},
		"another host": {strings.Replace(head, "edge-1", "edge-2", 1) + "  - {kind: sysctl, key: net.core.somaxconn, to: 5}\n", "--other-host applies it all the same"},
		"a device":     {head + "  - {kind: ethtool, key: eth0/rx-ring, to: 5}\n", "only within reach on the live host"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := filepath.Join(t.TempDir(), "plan.yaml")
			must(t, os.WriteFile(plan, []byte(x.plan), 0o600))
			if code, out := tuneChange("", append([]string{"apply", plan}, flags...)...); code != exitUsage || !strings.Contains(out, x.want) {
				t.Errorf("exit %d, without %q:\n%s", code, x.want, out)
			}
		})
	}
	for _, args := range [][]string{{"apply"}, {"apply", "--boot", "x"}, {"apply", "nothing.yaml"}, {"plan", "nothing.json"}, {"verify"}} {
		if code, out := tuneChange("", append(args, flags...)...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
}
