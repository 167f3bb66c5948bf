package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sluice/tune"
)

const recordedHosts = "../../tune/testdata/hosts/"

// tuned runs a tune command.
func tuned(t testing.TB, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = execute(nil, append([]string{"tune"}, args...), &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

// The exit status is the contract: 0 clean, 1 findings, 2 wrong usage.
func TestTuneExitStatus(t *testing.T) {
	dir := t.TempDir()
	empty, broken, torn := filepath.Join(dir, "empty"), filepath.Join(dir, "broken.yaml"), filepath.Join(dir, "torn.txtar")
	must(t, os.Mkdir(empty, 0o755))
	must(t, os.WriteFile(broken, []byte("listeners: 7\n"), 0o600))
	must(t, os.WriteFile(torn, []byte("-- proc/{x}/a --\n"), 0o600))
	// What the recorded host's edge is for.
	good := filepath.Join(dir, "good.yaml")
	must(t, os.WriteFile(good, []byte(`listeners: [{name: l, address: "0.0.0.0:80", protocol: tcp, cluster: web, maxconn: 1000}]
clusters: [{name: web, endpoints: [address: "10.0.0.1:80"]}]
engine: {loops: 16}
`), 0o600))
	f := func(want int, wantErr string, args ...string) {
		t.Helper()
		status, _, errs := tuned(t, args...)
		if status != want || !strings.Contains(errs, wantErr) || (errs == "") != (wantErr == "") {
			t.Errorf("%v: status %d, %q; want %d, %q", args, status, errs, want, wantErr)
		}
	}
	f(0, "", "audit", "--root", recordedHosts+"tuned.txtar", "-c", good)
	f(0, "", "audit", "--json", "--root", recordedHosts+"tuned.txtar", "-c", good)
	f(1, "findings", "audit", "--root", recordedHosts+"legacy.txtar", "-c", good)
	f(0, "", "audit", "--settings", "--root", recordedHosts+"legacy.txtar")
	f(0, "", "topology", "--root", recordedHosts+"legacy.txtar")
	f(2, "holds no host", "audit", "--root", empty)
	f(2, "no such file", "audit", "--root", filepath.Join(dir, "nowhere"))
	f(2, "a range like", "topology", "--root", torn)
	f(2, "neither a directory nor", "audit", "--root", good)
	f(2, "broken.yaml:1:", "audit", "-c", broken)
	f(2, "none of the others can be", "audit", "--json", "--html")
	f(2, "which command")
	f(0, "", "explain", "net.core.somaxconn")
	f(2, `did you mean "net.core.somaxconn"?`, "explain", "net.core.somaxcon")
	f(1, "is not empty", "record", recordedHosts)
}

// The three forms of an audit tell the same findings.
func TestTuneAuditForms(t *testing.T) {
	_, table, _ := tuned(t, "audit", "--root", recordedHosts+"virtio.txtar")
	_, doc, _ := tuned(t, "audit", "--json", "--root", recordedHosts+"virtio.txtar")
	_, page, _ := tuned(t, "audit", "--html", "--root", recordedHosts+"virtio.txtar")
	var a struct {
		Findings []struct {
			Knob, Set, Wanted, Why, Cost, Confidence string
			Source                                   []string
			Weight                                   int
		}
		Unseen []struct{ Knob, Why string }
	}
	must(t, json.Unmarshal([]byte(doc), &a))
	if len(a.Findings) < 10 || len(a.Unseen) == 0 {
		t.Fatalf("%d findings, %d unseen in\n%s", len(a.Findings), len(a.Unseen), doc)
	}
	last := 10
	for _, f := range a.Findings {
		if f.Set == "" || f.Wanted == "" || f.Why == "" || f.Cost == "" || f.Confidence == "" || len(f.Source) == 0 || f.Weight > last {
			t.Errorf("%+v", f)
		}
		last = f.Weight
		if !strings.Contains(table, f.Knob) || !strings.Contains(page, "<b>"+f.Knob) {
			t.Errorf("%s is not in every form", f.Knob)
		}
	}
	for _, bad := range []string{"http://", "https://", "<script", "src="} {
		if strings.Contains(page, bad) {
			t.Errorf("the page needs something else: %s", bad)
		}
	}
}

// The edge is judged by its configuration.
func TestTuneEdgeOfConfiguration(t *testing.T) {
	f := func(src string, want tune.Edge) {
		t.Helper()
		file, err := parseFile("edge.yaml", []byte(src), nil)
		must(t, err)
		if got := file.edge(); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
	const cluster = "\nclusters: [{name: web, endpoints: [address: \"10.0.0.1:80\"]}]\n"
	f(`listeners: [{name: a, address: "0.0.0.0:80", protocol: tcp, cluster: web}]`+cluster,
		tune.Edge{Listeners: 1, Ports: []int{80}, TCP: true, Forwards: true})
	f(`listeners:
  - {name: a, address: "0.0.0.0:443", protocol: tcp, cluster: web, maxconn: 1000, backlog: 9000, fast_open: true}
  - {name: b, address: "[::]:80", protocol: http, routes: r, maxconn: 500}
  - {name: c, address: "0.0.0.0:53", protocol: udp, cluster: web}
  - {name: d, address: "unix:/run/x", protocol: http, routes: r, maxconn: 10}
routes: {r: [{cluster: web}]}
engine: {loops: 3, maxconn: 5000}`+cluster,
		tune.Edge{Loops: 3, Connections: 1510, Listeners: 3, Ports: []int{53, 80, 443}, Backlog: 9000, FastOpen: true, TCP: true, HTTP: true, UDP: true, Forwards: true})
	f(`listeners:
  - {name: a, address: "127.0.0.1:1", protocol: tcp, cluster: web, maxconn: 1000}
  - {name: b, address: "127.0.0.1:2", protocol: tcp, cluster: web}
engine: {maxconn: 5000}`+cluster,
		tune.Edge{Connections: 5000, Listeners: 2, Ports: []int{1, 2}, TCP: true, Forwards: true})
	f(`listeners: [{name: a, address: "127.0.0.1:1", protocol: http, routes: r}]
routes: {r: [{filters: [{respond: {status: 204}}]}]}`,
		tune.Edge{Listeners: 1, Ports: []int{1}, HTTP: true})
}

// What was recorded of this machine gives the audit and the picture that it gives itself.
func TestTuneRecordAndReplay(t *testing.T) {
	for _, name := range []string{"GOMAXPROCS", "GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "") // of the environment nothing is recorded
	}
	for _, into := range []string{"host", "host.txtar"} {
		into = filepath.Join(t.TempDir(), into)
		if status, _, errs := tuned(t, "record", into); status != 0 {
			t.Fatalf("status %d: %s", status, errs)
		}
		names := func(args ...string) (out []string) {
			_, doc, errs := tuned(t, append([]string{"audit", "--json"}, args...)...)
			var a struct {
				Findings []struct{ Knob, Of, Wanted string }
			}
			if err := json.Unmarshal([]byte(doc), &a); err != nil {
				t.Fatalf("%v: %s", err, errs)
			}
			for _, f := range a.Findings {
				out = append(out, f.Knob+" "+f.Of+" "+f.Wanted)
			}
			return out
		}
		if live, again := names(), names("--root", into); !reflect.DeepEqual(live, again) || len(live) == 0 {
			t.Errorf("%v\nrecorded %v", live, again)
		}
		_, live, _ := tuned(t, "topology")
		if _, again, _ := tuned(t, "topology", "--root", into); live != again {
			t.Errorf("%s\nrecorded:\n%s", live, again)
		}
	}
}

func TestTuneExplain(t *testing.T) {
	_, list, _ := tuned(t, "explain")
	for _, k := range tune.Knobs {
		if !strings.Contains(list, k.Name+" ") {
			t.Errorf("%s is not listed", k.Name)
		}
		_, page, _ := tuned(t, "explain", k.Name)
		for _, part := range []string{k.Name + "\n", "\n    sets ", "\n    wanted ", "\n    why ", "\n    cost ", "\n    sure ", "\n    source "} {
			if !strings.Contains(page, part) {
				t.Errorf("no %q in\n%s", part, page)
			}
		}
	}
}
