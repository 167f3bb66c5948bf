package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/bench"
)

// The two sides of a trial take turns, the order changing, each turn with a process of its own that has the side's environment,
// loops and configuration.
func TestTrialTakesTurns(t *testing.T) {
	real, err := binary()
	must(t, err)
	dir := t.TempDir()
	script, log := filepath.Join(dir, "sluice"), filepath.Join(dir, "log")
	must(t, os.WriteFile(script, []byte(fmt.Sprintf(`#!/bin/sh
if [ "$1" = run ]; then
	echo "start ${SIDE:-off} $$" >> %s
	cp "$3" %s/${SIDE:-off}.yaml
fi
exec %s "$@"
`, log, dir, real)), 0o755))
	s, err := (&benchFlags{scenarios: []string{"https-keepalive"}, rounds: 3, duration: 300 * time.Millisecond, warm: 10 * time.Millisecond, cores: 1, generators: 1, pipeline: 1}).suite(nil)
	must(t, err)
	before := func(side string) func(context.Context) error {
		return func(context.Context) error {
			f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			fmt.Fprintln(f, "before", side)
			return f.Close()
		}
	}
	r, err := bench.Trial(t.Context(), s, real, script, bench.Side{Name: offSide, Loops: 1, Before: before("off")},
		bench.Side{Name: onSide, Loops: 2, Env: []string{"SIDE=on"}, Engine: []string{"maxconn: 5000"}, Before: before("on")})
	must(t, err)
	if len(r.Samples) != 6 {
		t.Errorf("%d samples", len(r.Samples))
	}
	said, err := os.ReadFile(log)
	must(t, err)
	var order []string
	processes := map[string]bool{}
	for line := range strings.Lines(string(said)) {
		f := strings.Fields(line)
		order = append(order, f[0]+" "+f[1])
		if len(f) > 2 {
			processes[f[2]] = true
		}
	}
	want := "start off, start on"
	for _, side := range []string{"off", "on", "on", "off", "off", "on"} {
		want += fmt.Sprintf(", before %s, start %s", side, side)
	}
	if got := strings.Join(order, ", "); got != want || len(processes) != 8 {
		t.Errorf("%s, in %d processes\nwant %s", got, len(processes), want)
	}
	for side, engine := range map[string]string{"off": "engine: {loops: 1}\n", "on": "engine: {loops: 2, maxconn: 5000}\n"} {
		text, err := os.ReadFile(filepath.Join(dir, side+".yaml"))
		must(t, err)
		if !strings.HasSuffix(string(text), engine) {
			t.Errorf("%s is not run with %s", side, engine)
		}
	}
}

// networkNamespace is one with a loopback, and the command that runs others in it.
func networkNamespace(t *testing.T) (by []string) {
	t.Helper()
	name := fmt.Sprintf("sluice-prove-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("no network namespace: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	by = []string{"ip", "netns", "exec", name}
	must(t, exec.Command(by[0], append(by[1:], "ip", "link", "set", "lo", "up")...).Run())
	return by
}

// The command, with a sysctl of the kernel and the suite as they are: to its end, and interrupted.
func TestProveInNetworkNamespace(t *testing.T) {
	by := networkNamespace(t)
	const at = "/proc/sys/net/ipv4/tcp_slow_start_after_idle"
	set := func() string {
		out, err := exec.Command(by[0], append(by[1:], "cat", at)...).Output()
		must(t, err)
		return strings.TrimSpace(string(out))
	}
	if set() != "1" {
		t.Skipf("%s is %s in a new namespace", at, set())
	}
	dir := t.TempDir()
	state, page := filepath.Join(dir, "state"), filepath.Join(dir, "report.html")
	args := []string{"tune", "prove", "net.ipv4.tcp_slow_start_after_idle=0", "net.core.somaxconn=4096", "GOGC=300", "-s", "http-close", "--warm", "20ms",
		"--duration", "300ms", "--state", state, "-o", page}
	r := launchBy(t, by, append(args, "--rounds", "2")...)
	if code := r.exits(); code != 0 {
		t.Fatalf("exit status %d: %s", code, r.output())
	}
	for _, want := range []string{"slow_start_after_idle=0: no difference shown: too few rounds", "somaxconn=4096: not tried: sysctl net.core.somaxconn: has this value already", "GOGC=300: no difference shown"} {
		if !strings.Contains(r.output(), want) {
			t.Errorf("no %q in\n%s", want, r.output())
		}
	}
	text, err := os.ReadFile(page)
	must(t, err)
	for _, want := range []string{"net.ipv4.tcp_slow_start_after_idle=0: http-close", "<svg", "not tried", "cpu-µs/req"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in the report", want)
		}
	}
	if set() != "1" {
		t.Errorf("it is %s after the trial", set())
	}

	r = launchBy(t, by, append(args, "--rounds", "100")...)
	eventually(t, "the knob is on", func() bool { return set() == "0" })
	must(t, r.Process.Signal(syscall.SIGINT))
	if code := r.exits(); code != exitFailed || !strings.Contains(r.output(), "interrupted") {
		t.Errorf("exit status %d: %s", code, r.output())
	}
	if left, _ := filepath.Glob(filepath.Join(state, "pending*")); set() != "1" || len(left) > 0 {
		t.Errorf("interrupted, it is %s, and %v is left", set(), left)
	}
}
