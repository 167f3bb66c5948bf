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
	keepAlive, err := Find([]string{"http-keepalive"})
	must(t, err)
	suite := func() *Suite {
		return &Suite{Scenarios: keepAlive, Rounds: 8, Warm: 200 * time.Millisecond, Duration: time.Second, Loops: 1, Cores: 1}
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
	pids, err = listeners(address)
	must(t, err)
	return address, pids
}

// The generator against nginx answering the same, each per second of its own CPU time.
func TestSelftestGeneratorOutrunsNginx(t *testing.T) {
	selftest(t)
	address, pids := nginxAnswering(t)
	keepAlive, err := Find([]string{"http-keepalive"})
	must(t, err)
	for _, depth := range []int{1, 16} {
		var ours, theirs []float64
		for range 5 {
			before, err := processUsage(pids)
			must(t, err)
			g, err := NewGenerator(t.Context(), Aim{Scenario: keepAlive[0], Address: address, Pipeline: depth})
			must(t, err)
			var own []time.Duration
			var at []usage
			sum, _, err := g.Measure(t.Context(), 200*time.Millisecond, time.Second, func() {
				own = append(own, ownUsage())
				u, err := processUsage(pids)
				must(t, err)
				at = append(at, u.minus(before))
			}, nil)
			g.Close()
			must(t, err)
			ours = append(ours, float64(sum.requests)/(own[1]-own[0]).Seconds())
			theirs = append(theirs, float64(sum.requests)/at[1].minus(at[0]).cpu.Seconds())
		}
		t.Logf("pipeline %d: the generator does %.0f requests per second of CPU, nginx %.0f: %.2f times", depth, median(ours), median(theirs), median(ours)/median(theirs))
	}
}

var wrkRate = regexp.MustCompile(`Requests/sec:\s*([0-9.]+)`)
var h2loadRate = regexp.MustCompile(`([0-9.]+) req/s`)

// wrk and h2load see the same throughput of the same target.
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
	keepAlive, err := Find([]string{"http-keepalive"})
	must(t, err)
	url := fmt.Sprintf("http://%s%s%d", address, answerPath, smallAnswer)
	other := func(re *regexp.Regexp, name string, args ...string) float64 {
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		must(t, err)
		m := re.FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s says %s", name, out)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		must(t, err)
		return v
	}
	var ours, wrk, h2load []float64
	for range 5 {
		v, _ := capacity(t, keepAlive[0], address, 1)
		ours = append(ours, v)
		wrk = append(wrk, other(wrkRate, "wrk", "-t1", "-c64", "-d2s", url))
		h2load = append(h2load, other(h2loadRate, "h2load", "--h1", "-t1", "-c64", "-D2", url))
	}
	a, b, c := median(ours), median(wrk), median(h2load)
	t.Logf("sluice bench %.0f/s, wrk %.0f/s (%+.1f %%), h2load %.0f/s (%+.1f %%)", a, b, (b/a-1)*100, c, (c/a-1)*100)
	if math.Abs(b/a-1) > 0.10 || math.Abs(c/a-1) > 0.10 {
		t.Error("they differ by more than 10 %")
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
	keepAlive, err := Find([]string{"http-keepalive"})
	must(t, err)
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
