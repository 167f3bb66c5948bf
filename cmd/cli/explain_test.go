package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// explained runs explain placement on a cluster of four endpoints.
func explained(t testing.TB, picker string, args ...string) (status int, out, errs string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edge.yaml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `listeners: [{name: l, address: "127.0.0.1:80", protocol: tcp, cluster: web}]
clusters:
  - {name: web, picker: %s, endpoints: [address: "10.0.0.1:80", address: "10.0.0.2:80", address: "10.0.0.3:80", address: "10.0.0.4:80"]}
  - {name: found, picker: maglev, discovery: {file: {path: /nowhere}}}
`, picker), 0o600))
	var stdout, stderr bytes.Buffer
	status = execute(nil, append([]string{"explain", "placement", "-c", file}, args...), &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

var movedLine = regexp.MustCompile(`(?m)^(\d+) keys move, [\d.]+%; the fewest that could, by the weights: (\d+),`)

// What moves is near the fewest that could, by as much as the picker is known for.
func TestExplainPlacement(t *testing.T) {
	f := func(picker string, least, most float64, args ...string) {
		t.Helper()
		status, out, errs := explained(t, picker, append([]string{"--cluster", "web"}, args...)...)
		if status != 0 {
			t.Fatalf("%s %v: status %d, %s", picker, args, status, errs)
		}
		m := movedLine.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("%s %v does not say what moves:\n%s", picker, args, out)
		}
		moved, _ := strconv.ParseFloat(m[1], 64)
		if fewest, _ := strconv.ParseFloat(m[2], 64); moved < least*fewest || moved > most*fewest {
			t.Errorf("%s %v: %v keys move, and %v could do; want %v to %v times that", picker, args, moved, fewest, least, most)
		}
	}
	for _, args := range [][]string{
		{"--add", "10.0.0.5:80"}, {"--add", "10.0.0.5:80=2"}, {"--remove", "10.0.0.2:80"}, {"--weight", "10.0.0.3:80=3"},
	} {
		f("hrw", 0.9, 1.1, args...)
		f("maglev", 0.9, 1.25, args...)
		f("ring", 0.7, 1.6, args...)
	}
	// The keys of one that is exchanged go to all others, and the new one's come from all.
	f("hrw", 1.4, 1.8, "--remove", "10.0.0.2:80", "--add", "10.0.0.5:80")
	f("source_hash", 3, 5, "--add", "10.0.0.5:80")
	f("maglev", 0, 0, "--weight", "10.0.0.3:80=1")
}

func TestExplainPlacementShowsEachEndpoint(t *testing.T) {
	_, out, _ := explained(t, "hrw", "--cluster", "web", "--remove", "10.0.0.4:80", "--add", "10.0.0.5:80")
	for _, want := range []string{
		`(?m)^cluster web, picker hrw, 100000 keys$`,
		`(?m)^10\.0\.0\.1:80 +2[45]\d\d\d +2[45]\d\d\d +\d+ +\d+  █+▒*$`,
		`(?m)^10\.0\.0\.4:80 +2[45]\d\d\d +0 +2[45]\d\d\d +0  $`,
		`(?m)^10\.0\.0\.5:80 +0 +2[45]\d\d\d +0 +2[45]\d\d\d  ▒+$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	_, out, _ = explained(t, "hrw", "--cluster", "web")
	if !regexp.MustCompile(`(?m)^10\.0\.0\.4:80 +2[45]\d\d\d +2[45]\.\d\d%  █+$`).MatchString(out) || strings.Contains(out, "move") {
		t.Errorf("without a change:\n%s", out)
	}
}

func TestExplainPlacementMistakes(t *testing.T) {
	f := func(picker, want string, args ...string) {
		t.Helper()
		if status, _, errs := explained(t, picker, args...); status != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s %v: status %d, %s; want %s", picker, args, status, errs, want)
		}
	}
	f("round_robin", "round_robin does not place by keys", "--cluster", "web")
	f("maglev", `did you mean "web"?`, "--cluster", "wep")
	f("maglev", "discovered", "--cluster", "found")
	f("maglev", `did you mean "10.0.0.1:80"?`, "--cluster", "web", "--remove", "10.0.0.1:8")
	f("maglev", "address=N", "--cluster", "web", "--weight", "10.0.0.1:80")
	f("maglev", "1 to 65535", "--cluster", "web", "--weight", "10.0.0.1:80=0")
	f("maglev", "there twice", "--cluster", "web", "--add", "10.0.0.1:80")
	f("maglev", "bad address", "--cluster", "web", "--add", "10.0.0.9")
	f("maglev", "no endpoints", "--cluster", "web", "--remove", "10.0.0.1:80", "--remove", "10.0.0.2:80", "--remove", "10.0.0.3:80", "--remove", "10.0.0.4:80")
	f("maglev", "required flag", "--add", "10.0.0.5:80")
}
