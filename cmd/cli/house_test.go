package cli

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The house's rooms, from the top down: imports point down, and bench and tune stand apart.
var rooms = []string{"cmd", "gw", "lb", "engine"}

var apart = []string{"bench", "tune"}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Doc,Name", "sluice/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	room := func(path string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "sluice/"), "/")
		return name
	}
	packages := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); packages++ {
		var p struct {
			ImportPath, Doc, Name string
			Imports               []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		from := room(p.ImportPath)
		if !slices.Contains(rooms, from) && !slices.Contains(apart, from) {
			t.Errorf("%s stands in no room of the house", p.ImportPath)
		}
		if p.Doc == "" {
			t.Errorf("%s says nothing of itself: it needs a package comment", p.ImportPath)
		}
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers"}, p.Name) {
			t.Errorf("%s: the name says nothing", p.ImportPath)
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "sluice/") || room(imp) == from {
				continue
			}
			to := room(imp)
			if from == "cmd" {
				continue // the only one that sees all
			}
			if slices.Contains(apart, from) || slices.Contains(apart, to) ||
				slices.Index(rooms, to) < slices.Index(rooms, from) {
				t.Errorf("%s imports %s: imports point down, cmd → gw → lb → engine; bench and tune import none of them",
					p.ImportPath, imp)
			}
		}
	}
	if packages < 8 {
		t.Errorf("only %d packages were seen", packages)
	}
}
