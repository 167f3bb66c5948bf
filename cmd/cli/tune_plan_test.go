package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	hostchange "sluice/tune/change"
	"sluice/tune/host"
)

// The way of the README on a copy of recorded hosts: audit, plan, apply, confirm. Then the audit finds nothing more that a plan
// could have set there, and the same way once more changes nothing.
func TestTuneAuditIsCleanAfterApply(t *testing.T) {
	t.Setenv(tuneEnv, "1")
	for _, name := range []string{"GOMAXPROCS", "GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "")
	}
	for _, name := range []string{"legacy", "virtio", "epyc-nps4", "raspberry-pi"} {
		t.Run(name, func(t *testing.T) {
			h, err := host.Open(recordedHosts + name + ".txtar")
			must(t, err)
			dir := t.TempDir()
			root, plan := filepath.Join(dir, "root"), filepath.Join(dir, "plan.yaml")
			must(t, os.CopyFS(root, host.Read(h).Files()))
			if name == "virtio" { // of processors that are offline the recording has nothing
				for _, cpu := range []string{"cpu4", "cpu5", "cpu6", "cpu7"} {
					at := filepath.Join(root, "sys/devices/system/cpu", cpu)
					must(t, os.MkdirAll(at, 0o755))
					must(t, os.WriteFile(filepath.Join(at, "online"), []byte("0\n"), 0o600))
				}
			}
			flags := []string{"--root", root, "--state", filepath.Join(dir, "state")}
			step := func(says string, args ...string) string {
				t.Helper()
				code, out := tuneChange("", append(args, flags...)...)
				if code != 0 || !strings.Contains(out, says) {
					t.Fatalf("%v: exit status %d, without %q:\n%s", args, code, says, out)
				}
				return out
			}
			step("", "plan", "-o", plan)
			step("it is reverted in 1m0s unless", "apply", plan)
			step("wrote ", "confirm")
			step("", "verify", plan)

			// What the kernel shows of it elsewhere.
			text, err := os.ReadFile(plan)
			must(t, err)
			if strings.Contains(string(text), "/online\"") {
				must(t, os.WriteFile(filepath.Join(root, "sys/devices/system/cpu/offline"), []byte("\n"), 0o600))
			}

			_, doc, _ := tuned(t, "audit", "--json", "--root", root)
			var a struct {
				Findings []struct {
					Knob, Of, Set, Wanted string
					Fix                   []hostchange.Setting
				}
			}
			must(t, json.Unmarshal([]byte(doc), &a))
			for _, f := range a.Findings {
				for _, s := range f.Fix {
					// A copy has no devices, and no systemd that would do to the cgroup what the unit says.
					if s.Kind == hostchange.Sysctl || s.Kind == hostchange.File || s.Kind == hostchange.Unit && s.Key != "CPUQuota" && s.Key != "MemoryMax" && s.Key != "TasksMax" {
						t.Errorf("%s of %q is %s after the apply, and wanted %s by %v", f.Knob, f.Of, f.Set, f.Wanted, s)
						break
					}
				}
			}

			step("nothing to change", "apply", plan)
			if out := step("", "plan", "-o", plan); strings.Contains(out, "has this value already") {
				t.Errorf("the audit wants what is there:\n%s", out)
			}
			again, err := os.ReadFile(plan)
			must(t, err)
			for _, kind := range []string{"kind: sysctl", "kind: file"} {
				if strings.Contains(string(again), kind) {
					t.Errorf("there is more to set:\n%s", again)
				}
			}
			step("restored ", "revert")
			step("nothing to revert", "revert")
		})
	}
}
