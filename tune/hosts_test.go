package tune

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/tune/host"
)

var update = flag.Bool("update", false, "write the golden files anew")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// recorded are the recorded hosts, with what their edges are for.
func recorded(t testing.TB) map[string]func() (*host.Facts, Edge) {
	t.Helper()
	files, err := filepath.Glob("testdata/hosts/*.txtar")
	must(t, err)
	if len(files) < 7 {
		t.Fatalf("only %d recorded hosts", len(files))
	}
	all := map[string]func() (*host.Facts, Edge){}
	for _, file := range files {
		h, err := host.Open(file)
		must(t, err)
		var e Edge
		must(t, json.Unmarshal([]byte(h.Text("edge.json").Text), &e))
		all[strings.TrimSuffix(filepath.Base(file), ".txtar")] = func() (*host.Facts, Edge) { return host.Read(h), e }
	}
	return all
}

// golden compares got with a file of testdata/hosts.
func golden(t testing.TB, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata/hosts", name)
	if *update {
		must(t, os.WriteFile(file, got, 0o644))
		return
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", file, diff)
	}
}

func TestFindingsOfRecordedHosts(t *testing.T) {
	for name, read := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			f, e := read()
			var b bytes.Buffer
			must(t, Run(f, e).WriteTable(&b))
			golden(t, name+".findings", b.Bytes())
		})
	}
}

// A host that follows the advice gets none.
func TestTunedHostIsClean(t *testing.T) {
	f, e := recorded(t)["tuned"]()
	a := Run(f, e)
	for _, finding := range a.Findings {
		t.Errorf("%s of %s: set %s, wanted %s", finding.Name, finding.Of, finding.Set, finding.Wanted)
	}
	if a.Good < 100 {
		t.Errorf("only %d knobs were looked at", a.Good)
	}
}

// Each knob has been seen to find something, and to find nothing.
func TestEachKnobBothWays(t *testing.T) {
	seen := map[string]map[Verdict]bool{}
	for _, read := range recorded(t) {
		f, e := read()
		e = e.Fill(f)
		for _, k := range Knobs {
			states := k.States(f, e)
			if len(states) == 0 {
				t.Errorf("%s says nothing", k.Name)
			}
			for _, s := range states {
				if seen[k.Name] == nil {
					seen[k.Name] = map[Verdict]bool{}
				}
				seen[k.Name][s.Verdict] = true
				switch {
				case s.Verdict == Amiss && (s.Set == s.Wanted || s.Wanted == "" || len(s.Fix) == 0 && s.Do == ""):
					t.Errorf("%s: what is to be done? %+v", k.Name, s)
				case (s.Verdict == Unseen || s.Verdict == Moot) && s.Note == "":
					t.Errorf("%s: why? %+v", k.Name, s)
				}
			}
		}
	}
	for _, k := range Knobs {
		for _, v := range []Verdict{Good, Amiss} {
			if !seen[k.Name][v] {
				t.Errorf("no recorded host has %s %s: %v", k.Name, v, slices.Sorted(maps.Keys(seen[k.Name])))
			}
		}
	}
	if len(Knobs) < 60 {
		t.Errorf("%d knobs", len(Knobs))
	}
}

// An entry reads like one of a reference.
func TestKnobsAreComplete(t *testing.T) {
	names := map[string]bool{}
	for _, k := range Knobs {
		if names[k.Name] {
			t.Errorf("two knobs named %s", k.Name)
		}
		names[k.Name] = true
		if k.Sets == "" || k.Advice == "" || k.Why == "" || len(k.Source) == 0 || k.Cost == "" || k.Weight < 1 || k.Weight > 10 ||
			!slices.Contains([]Confidence{Certain, Likely, Depends}, k.Sure) {
			t.Errorf("%s is not complete: %+v", k.Name, k)
		}
		if Find(k.Name) != k {
			t.Errorf("%s is not found", k.Name)
		}
	}
	if Find("nic.nothing") != nil {
		t.Error("what is not there is found")
	}
}

// Of a host of which nothing is known nothing is found, and each knob says why.
func TestNothingKnownNothingFound(t *testing.T) {
	fsys, err := host.Archive(nil)
	must(t, err)
	a := Run(host.Read(host.Recorded(fsys)), Edge{Loops: 4, Connections: 1000, TCP: true, HTTP: true, UDP: true, Forwards: true, KTLS: true, FastOpen: true})
	for _, f := range a.Findings {
		t.Errorf("%s: set %q, wanted %s", f.Name, f.Set, f.Wanted)
	}
	if len(a.Unseen) < 80 {
		t.Errorf("only %d are said to be unseen", len(a.Unseen))
	}
}

func TestTopologyOfRecordedHosts(t *testing.T) {
	for name, read := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			f, e := read()
			var b bytes.Buffer
			must(t, WriteTopology(&b, f, e))
			golden(t, name+".topology", b.Bytes())
		})
	}
}

// With fewer loops than processors the interrupts of the other node are far from any.
func TestTopologyOfFewLoops(t *testing.T) {
	f, e := recorded(t)["mlx5"]()
	e.Loops = 8
	var b bytes.Buffer
	must(t, WriteTopology(&b, f, e))
	for _, want := range []string{
		"  queue 0  irq 100  cpu 0 of node 0  no loop on node 0  ✗ crosses to read  ✗ crosses from node 1 to node 0\n",
		"  queue 8  irq 108  cpu 16 of node 1  loop 0\n",
		"      without loop or interrupt: 24-31,56-63\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestPlacement(t *testing.T) {
	hosts := recorded(t)
	f := func(name string, loops int, want string) {
		t.Helper()
		facts, _ := hosts[name]()
		places := Placement(facts, loops)
		if got := host.FormatList(places); got != want || len(places) != loops {
			t.Errorf("%d loops on %s: %v, want %s", loops, name, places, want)
		}
	}
	f("mlx5", 16, "16-31")       // the interface's node, a thread of each core
	f("mlx5", 20, "16-31,48-51") // then the other threads
	f("mlx5", 34, "0-1,16-31,48-63")
	f("epyc-nps4", 4, "8-11") // isolated
	f("epyc-nps4", 8, "16-23")
	f("legacy", 20, "0-7") // shared
	f("container", 6, "0-5")
}
