package bench

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// series are samples around a CPU time, with noise of a few percent.
func series(target string, cpu, noise float64, n int, r *rand.Rand) []Sample {
	var out []Sample
	for i := range n {
		f := 1 + noise*(2*r.Float64()-1)
		out = append(out, Sample{Scenario: "http-keepalive", Target: target, Round: i, Requests: 1000, Seconds: 1,
			CPUUser: cpu * f / 5, CPUSystem: cpu * f * 4 / 5, Throughput: 1e6 / (cpu * f),
			Latency: &Latency{P50: 10 * cpu * f, P99: 30 * cpu * f, Curve: []Point{{0, cpu}, {50, 10 * cpu * f}, {99, 30 * cpu * f}}}})
	}
	return out
}

func TestCompare(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name     string
		old, new float64
		noise    float64
		n        int
		worse    string
	}{
		{"the same", 14, 14, 0.05, 8, ""},
		{"3 µs more", 14, 17, 0.05, 8, "http-keepalive cpu-µs/req by"},
		{"better", 17, 14, 0.05, 8, ""},
		{"too little to count", 14, 14.4, 0.001, 8, ""},
		{"too few rounds", 14, 28, 0.01, 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := &Result{Samples: append(series("base", c.old, c.noise, c.n, r), series("head", c.new, c.noise, c.n, r)...)}
			cmp := CompareTargets(res, "base", "head")
			bad := strings.Join(cmp.Regressions(), "; ")
			if c.worse == "" && bad != "" || !strings.Contains(bad, c.worse) {
				t.Errorf("worse: %q, not %q", bad, c.worse)
			}
			var out strings.Builder
			cmp.Print(&out)
			if c.n < 7 && !strings.Contains(out.String(), "too few rounds") {
				t.Errorf("it is not said that there are too few rounds:\n%s", out.String())
			}
		})
	}
}

// Noise alone is flagged in hardly any of a thousand comparisons.
func TestNoiseIsNotFlagged(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	flagged := 0
	for range 1000 {
		res := &Result{Samples: append(series("base", 14, 0.15, 8, r), series("head", 14, 0.15, 8, r)...)}
		if len(CompareTargets(res, "base", "head").Regressions()) > 0 {
			flagged++
		}
	}
	if flagged > 5 {
		t.Errorf("%d of 1000", flagged)
	}
}

func TestLeastP(t *testing.T) {
	for _, c := range []struct {
		n, m int
		want float64
	}{{4, 4, 2.0 / 70}, {7, 7, 2.0 / 3432}, {8, 8, 2.0 / 12870}} {
		if got := leastP(c.n, c.m); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("leastP(%d, %d) = %v, not %v", c.n, c.m, got, c.want)
		}
	}
}

func TestHostsThatDiffer(t *testing.T) {
	a := Host{CPU: "x", Cores: 2, Kernel: "6.1", Mitigations: []string{"retbleed: on"}}
	b := a
	if d := a.Differs(&b); d != "" {
		t.Errorf("the same host differs in %s", d)
	}
	b.Kernel, b.Mitigations = "6.2", nil
	if d := a.Differs(&b); !strings.Contains(d, `kernel "6.1" and "6.2"`) || !strings.Contains(d, "mitigations") {
		t.Errorf("differs in %q", d)
	}
}

func TestFind(t *testing.T) {
	for in, want := range map[string]string{"http-keepalive": "", "http-keepaliv": "http-keepalive", "tcp-pingpon": "tcp-pingpong", "upload": "http-upload-1m"} {
		_, err := Find([]string{in})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]Rate{"20000": {20000, false}, "20k": {20000, false}, "50%": {50, true}, "1.5k": {1500, false}} {
		if got, err := ParseRate(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "fast", "-5", "0", "150%", "5k%"} {
		if got, err := ParseRate(in); err == nil {
			t.Errorf("%q is taken for %v", in, got)
		}
	}
}

func TestResultFile(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	res := &Result{Schema: schema, Started: time.Unix(1700000000, 0).UTC(), Host: Host{CPU: "x", Cores: 2, Versions: map[string]string{"go": "go1"}},
		Revision: "abc", Samples: series("sluice", 14, 0.1, 3, r)}
	name := filepath.Join(t.TempDir(), "r.json")
	must(t, res.Write(name))
	got, err := ReadResult(name)
	must(t, err)
	if d := cmp.Diff(res, got); d != "" {
		t.Error(d)
	}
	must(t, os.WriteFile(name, []byte(`{"schema": 99}`), 0o600))
	if _, err := ReadResult(name); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(name, []byte("listeners: []"), 0o600))
	if _, err := ReadResult(name); err == nil || !strings.Contains(err.Error(), "not a result") {
		t.Errorf("%v", err)
	}
}

func TestFailed(t *testing.T) {
	good := series("sluice", 14, 0.1, 2, rand.New(rand.NewPCG(7, 8)))
	bad := series("sluice", 14, 0.1, 1, rand.New(rand.NewPCG(7, 8)))
	bad[0].Errors = map[string]uint64{"connection reset": 3}
	for _, c := range []struct {
		r    Result
		want string
	}{
		{Result{Samples: good}, ""},
		{Result{Samples: append(good, Sample{Scenario: "x", Target: "y", Unavailable: "no TLS"})}, ""},
		{Result{Samples: append(good, Sample{Scenario: "x", Target: "y"})}, "nothing was measured"},
		{Result{Samples: bad}, "3 × connection reset"},
		{Result{Samples: good, Partial: "interrupted"}, "interrupted"},
	} {
		if err := c.r.Failed(); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, not %q", err, c.want)
		}
	}
}

func TestHistoryAndReport(t *testing.T) {
	dir := t.TempDir()
	history, page := filepath.Join(dir, "h.jsonl"), filepath.Join(dir, "r.html")
	r := rand.New(rand.NewPCG(9, 10))
	var last *Result
	for i := range 3 {
		last = &Result{Schema: schema, Started: time.Unix(1700000000, 0), Revision: fmt.Sprintf("rev%d<&>", i),
			Samples: append(series("sluice", 14, 0.1, 6, r), series("nginx", 16, 0.1, 6, r)...)}
		last.Samples = append(last.Samples, Sample{Scenario: "http-idle", Target: "sluice", BytesPerConn: 500, Conns: 10},
			Sample{Scenario: "h2-keepalive", Target: "sluice", Unavailable: "it needs HTTP/2"})
		must(t, AppendHistory(history, last))
	}
	past, err := ReadHistory(history)
	must(t, err)
	if len(past) != 3 || past[2].Revision != "rev2<&>" || past[0].Medians["http-keepalive"]["nginx"]["cpu-µs/req"] < 12 {
		t.Errorf("history: %+v", past)
	}
	must(t, WriteReport(page, []*Result{last}, past))
	b, err := os.ReadFile(page)
	must(t, err)
	html := string(b)
	for _, want := range []string{"<svg", "CPU per request, µs", "Latency by percentile", "p99 against throughput", "Memory per idle connection",
		"it needs HTTP/2", "CPU per request by revision", "prefers-color-scheme: dark", "rev2&lt;&amp;&gt;"} {
		if !strings.Contains(html, want) {
			t.Errorf("the report has no %q", want)
		}
	}
	// One page, no network; and no figure that is none.
	for _, not := range []string{"http://", "https://", "<script", "NaN", "Inf", "rev2<&>"} {
		if strings.Contains(html, not) {
			t.Errorf("the report has %q", not)
		}
	}
}

func TestPrint(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	res := &Result{Host: Host{CPU: "x"}, Samples: append(series("sluice", 10, 0.01, 6, r), series("nginx", 15, 0.01, 6, r)...)}
	res.Samples = append(res.Samples, Sample{Scenario: "h2-keepalive", Target: "sluice", Unavailable: "it needs HTTP/2"})
	var out bytes.Buffer
	res.Print(&out)
	for _, want := range []string{"http-keepalive\n", "1.5", "not possible: it needs HTTP/2"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	out.Reset()
	res.PrintGo(&out)
	if n := strings.Count(out.String(), "Benchmark/http-keepalive/"); n != 12 || !strings.Contains(out.String(), " cpu-µs/req") {
		t.Errorf("%d lines of benchmarks in\n%s", n, out.String())
	}
}
