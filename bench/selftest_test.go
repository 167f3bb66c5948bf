package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The self-tests judge figures and take minutes: make bench-selftest runs them.
func selftest(t *testing.T) {
	t.Helper()
	if os.Getenv("SLUICE_SELFTEST") == "" {
		t.Skip("takes minutes and judges figures: make bench-selftest runs it")
	}
}

// fault builds a sluice that spends 3 µs more on each request.
func fault(t *testing.T, dir string) string {
	t.Helper()
	top, err := output(t.Context(), "", "git", "rev-parse", "--show-toplevel")
	must(t, err)
	file := filepath.Join(top, "gw", "exchange.go")
	src, err := os.ReadFile(file)
	must(t, err)
	const at = "func (x *exchange) count(status int) {"
	if !strings.Contains(string(src), at) {
		t.Fatalf("%s has no %q any more: put the fault elsewhere", file, at)
	}
	slow := strings.Replace(string(src), at, at+"\n\tfor began := time.Now(); time.Since(began) < 3*time.Microsecond; {\n\t}\n", 1)
	changed := filepath.Join(dir, "exchange.go")
	must(t, os.WriteFile(changed, []byte(slow), 0o644))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{file: changed}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644))
	binary, err := buildRevision(t.Context(), dir, "slow", "", "-overlay", filepath.Join(dir, "overlay.json"))
	must(t, err)
	return binary
}

// Ten runs each: 3 µs more a request are always flagged, and the same build twice never is.
func TestSelftestFaultsShow(t *testing.T) {
	selftest(t)
	dir := t.TempDir()
	good, err := BuildRevision(t.Context(), dir, "good", "")
	must(t, err)
	slow := fault(t, dir)
	keepAlive := []Scenario{scenario(t, "http-keepalive")}
	suite := func() *Suite {
		return &Suite{Scenarios: keepAlive, Rounds: 12, Warm: 200 * time.Millisecond, Duration: 700 * time.Millisecond, Loops: 1, Cores: 1}
	}
	flagged := func(head string) []string {
		r, err := Regress(t.Context(), suite(), good, good, head, 1, 1)
		must(t, err)
		c := CompareTargets(r, "base", "head")
		var out strings.Builder
		c.Print(&out)
		t.Log("\n" + out.String())
		return c.Regressions()
	}
	const runs = 10
	found, false_ := 0, 0
	for range runs {
		if bad := flagged(slow); strings.Contains(strings.Join(bad, ";"), "cpu-µs/req") {
			found++
		}
		if bad := flagged(good); len(bad) > 0 {
			t.Logf("one build twice: %v", bad)
			false_++
		}
	}
	t.Logf("3 µs a request flagged in %d of %d runs, one build twice in %d of %d", found, runs, false_, runs)
	if found != runs || false_ != 0 {
		t.Fail()
	}
}

// capacity is what a generator reaches against an address: requests/s, and per second of its own CPU time.
func capacity(t *testing.T, sc Scenario, address string, pipeline int) (perSecond, perCore float64) {
	t.Helper()
	g, err := NewGenerator(t.Context(), Aim{Scenario: sc, Address: address, Pipeline: pipeline})
	must(t, err)
	defer g.Close()
	var own []time.Duration
	sum, elapsed, err := g.Measure(t.Context(), 300*time.Millisecond, 2*time.Second, func() { own = append(own, ownUsage()) }, nil)
	must(t, err)
	return float64(sum.requests) / elapsed.Seconds(), float64(sum.requests) / (own[1] - own[0]).Seconds()
}

// direct starts an nginx that answers by itself, with what the origin answers.
func nginxAnswering(t *testing.T) (address string, pids []int) {
	t.Helper()
	binary, err := look("nginx")
	must(t, err)
	address, err = freePort()
	must(t, err)
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	must(t, writeFile(conf, fmt.Sprintf(`worker_processes 1; daemon off; pid %s/pid; error_log %s/log crit;
events { worker_connections 4096; multi_accept on; }
http { access_log off; keepalive_requests 1000000000; default_type text/plain;
 server { listen %s reuseport backlog=4096; location / { return 200 "%s"; } } }
`, dir, dir, address, strings.Repeat("x", smallAnswer))))
	c, err := spawn(t.Context(), []string{address}, binary, "-c", conf, "-p", dir)
	must(t, err)
	t.Cleanup(c.stop)
	pids, err = listenersOf(TCP, address)
	must(t, err)
	return address, pids
}

// The generator against nginx answering the same, each per second of its own CPU time. With one request under way on a
// connection, both make the same two system calls for each, and the kernel's TCP, which is nine tenths of it, costs both
// the same: the generator cannot be much ahead. What it could do shows when several requests share a system call.
func TestSelftestGeneratorOutrunsNginx(t *testing.T) {
	selftest(t)
	keepAlive := scenario(t, "http-keepalive")
	address, pids := nginxAnswering(t)
	origin := testOriginProcess(t)
	var ours, theirs, piped []float64
	for range 5 {
		g, err := NewGenerator(t.Context(), Aim{Scenario: keepAlive, Address: address})
		must(t, err)
		var own []time.Duration
		var at []usage
		sum, _, err := g.Measure(t.Context(), 200*time.Millisecond, time.Second, func() {
			own = append(own, ownUsage())
			u, err := processUsage(pids)
			must(t, err)
			at = append(at, u)
		}, nil)
		g.Close()
		must(t, err)
		ours = append(ours, float64(sum.requests)/(own[1]-own[0]).Seconds())
		theirs = append(theirs, float64(sum.requests)/at[1].minus(at[0]).cpu.Seconds())
		_, perCore := capacity(t, keepAlive, origin, 16)
		piped = append(piped, perCore)
	}
	a, b, c := median(ours), median(theirs), median(piped)
	t.Logf("requests per second of CPU: nginx %.0f, the generator %.0f (%.2f times), with 16 under way on each connection %.0f (%.2f times)", b, a, a/b, c, c/b)
	if c < 1.5*b {
		t.Error("the generator cannot outrun nginx")
	}
}

// testOriginProcess is an origin in a process of its own, as in a rig.
func testOriginProcess(t *testing.T) string {
	t.Helper()
	binary, err := BuildRevision(t.Context(), t.TempDir(), "sluice", "")
	must(t, err)
	rig, err := NewRig(t.Context(), binary, "", 1)
	must(t, err)
	t.Cleanup(rig.Close)
	return rig.Origin
}

var wrkRate = regexp.MustCompile(`Requests/sec:\s*([0-9.]+)`)
var h2loadRate = regexp.MustCompile(`([0-9.]+) req/s`)

// wrk and h2load see the same throughput of the same target, as long as it is the target that bounds it: h2load needs
// more CPU for a small request than the proxy does, so they are compared where bytes are most of the work, and the small
// request is shown beside it.
func TestSelftestOtherGeneratorsAgree(t *testing.T) {
	selftest(t)
	dir := t.TempDir()
	binary, err := BuildRevision(t.Context(), dir, "sluice", "")
	must(t, err)
	rig, err := NewRig(t.Context(), binary, "", 1)
	must(t, err)
	defer rig.Close()
	must(t, rig.Sluice(t.Context(), "sluice", binary, 1))
	address := rig.Targets[0].HTTP
	// other runs a generator: its throughput, and its CPU time per request in µs.
	other := func(re *regexp.Regexp, seconds float64, name string, args ...string) (rate, cpu float64) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		out, err := cmd.CombinedOutput()
		must(t, err)
		m := re.FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s says %s", name, out)
		}
		rate, err = strconv.ParseFloat(string(m[1]), 64)
		must(t, err)
		return rate, float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Microseconds()) / (rate * seconds)
	}
	for _, c := range []struct {
		name string
		gate float64
	}{{"http-keepalive", 0}, {"http-64k", 0.10}} {
		sc := scenario(t, c.name)
		url := fmt.Sprintf("http://%s%s%d", address, answerPath, sc.Answer)
		conns := strconv.Itoa(sc.Conns)
		var ours, wrk, h2load, cpu, wrkCPU, h2loadCPU []float64
		for range 5 {
			v, perCore := capacity(t, sc, address, 1)
			ours, cpu = append(ours, v), append(cpu, 1e6/perCore)
			v, us := other(wrkRate, 2, "wrk", "-t1", "-c"+conns, "-d2s", url)
			wrk, wrkCPU = append(wrk, v), append(wrkCPU, us)
			v, us = other(h2loadRate, 2, "h2load", "--h1", "-t1", "-c"+conns, "-D2", url)
			h2load, h2loadCPU = append(h2load, v), append(h2loadCPU, us)
		}
		a, b, h := median(ours), median(wrk), median(h2load)
		t.Logf("%s: sluice bench %.0f/s (its own CPU %.1f µs/request), wrk %.0f/s, %+.1f %% (%.1f µs), h2load %.0f/s, %+.1f %% (%.1f µs)", c.name,
			a, median(cpu), b, (b/a-1)*100, median(wrkCPU), h, (h/a-1)*100, median(h2loadCPU))
		if c.gate > 0 && (math.Abs(b/a-1) > c.gate || math.Abs(h/a-1) > c.gate) {
			t.Errorf("they differ by more than %.0f %%", c.gate*100)
		}
	}
}

// At half of what the target can do, the open loop sends when it should.
func TestSelftestScheduleHolds(t *testing.T) {
	selftest(t)
	dir := t.TempDir()
	binary, err := BuildRevision(t.Context(), dir, "sluice", "")
	must(t, err)
	rig, err := NewRig(t.Context(), binary, "", 1)
	must(t, err)
	defer rig.Close()
	must(t, rig.Sluice(t.Context(), "sluice", binary, 1))
	keepAlive := []Scenario{scenario(t, "http-keepalive")}
	most, _ := capacity(t, keepAlive[0], rig.Targets[0].HTTP, 1)
	var slips []float64
	for range 5 {
		g, err := NewGenerator(context.Background(), Aim{Scenario: keepAlive[0], Address: rig.Targets[0].HTTP, Rate: most / 2})
		must(t, err)
		sum, elapsed, err := g.Measure(t.Context(), 300*time.Millisecond, 2*time.Second, func() {}, nil)
		g.Close()
		must(t, err)
		slips = append(slips, float64(sum.slip.ValueAtQuantile(99))/1e3)
		t.Logf("asked for %.0f/s, sent %.0f/s; slip p50 %.0f µs, p99 %.0f µs; latency p50 %.0f µs, p99 %.0f µs", most/2, float64(sum.requests)/elapsed.Seconds(),
			float64(sum.slip.ValueAtQuantile(50))/1e3, slips[len(slips)-1], float64(sum.latency.ValueAtQuantile(50))/1e3, float64(sum.latency.ValueAtQuantile(99))/1e3)
	}
	if m := median(slips); m > 100 {
		t.Errorf("the schedule slips %.0f µs at p99", m)
	}
}
