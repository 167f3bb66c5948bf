package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	s, err := (&benchFlags{scenarios: []string{"tcp-close"}, rounds: 3, duration: 50 * time.Millisecond, warm: 10 * time.Millisecond, cores: 1, generators: 1, pipeline: 1}).suite(nil)
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
