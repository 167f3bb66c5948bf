package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench"
	"sluice/gw/filter"
	hostchange "sluice/tune/change"
)

// tuneProve measures knobs.
func tuneProve(own filter.Own) *cobra.Command {
	var t tuneFlags
	var f benchFlags
	h := tunedHost{root: "/"}
	var all, keep bool
	cmd := &cobra.Command{
		Use:   "prove KNOB… | --all",
		Short: "Measure what a knob does for the edge on this host, on and off in turns",
		Long: "Measure what a knob does for the edge on this host: on and off in turns, each turn with a process of its own, judged as\n" +
			"sluice bench compare judges. The host is left as it was, also after Ctrl-C; after a kill the watcher sees to it.\n\n" +
			"KNOB is one of sluice tune explain, on as the audit wants it, or with a value: a sysctl, a path under /sys, a variable of\n" +
			"Go's runtime, process.loops, or a key of the configuration's engine:\n\n" +
			"  sluice tune prove net.core.somaxconn net.ipv4.tcp_congestion_control=bbr GOGC=400 engine.loops=2\n\n" +
			"The traffic is the loopback's, without loss and delay: what a knob does on a network does not show.\n\n" +
			"With --keep all that help are measured once more, together; if they help again, and nothing is worse, they are kept and\n" +
			"made persistent. sluice tune revert brings back what was.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !all {
				return &exitError{exitUsage, errors.New("which knob? --all is all that the audit has something against")}
			}
			if ext := filepath.Ext(f.out); f.out != "" && ext != ".html" && ext != ".json" {
				return &exitError{exitUsage, fmt.Errorf("%s: the report is a .html or a .json file", f.out)}
			}
			if _, err := f.suite(proveScenarios); err != nil {
				return err
			}
			facts, e, err := t.facts(own)
			if err != nil {
				return err
			}
			knobs, err := knobsOf(facts, e, args, all)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			c, err := h.changer(io.Discard)
			if err != nil {
				return tuneError(exitUsage, err)
			}
			ctx, done := interruptible()
			defer done()
			p := &prover{changer: c, loops: f.cores, within: f.warm + f.duration + turnMargin}
			p.watch = func(id string) error {
				return hostchange.Spawn(filepath.Join(c.State, "watch.log"), self(), "tune", "watch", "--root", c.Host.Root, "--state", c.State, id)
			}
			p.measure = func(ctx context.Context, off, on bench.Side) (*bench.Result, error) {
				s, err := f.suite(proveScenarios)
				if err != nil {
					return nil, err
				}
				watch, clear := progressLine(os.Stderr)
				s.Watch = watch
				defer clear()
				return bench.Trial(ctx, s, self(), self(), off, on)
			}
			return proveAll(ctx, cmd.OutOrStdout(), p, knobs, keep, f.out)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&t.config, "config", "c", "", "the configuration `file` of the edge, for what the audit wants")
	fl.BoolVar(&all, "all", false, "all knobs that the audit has something against, ranked")
	fl.BoolVar(&keep, "keep", false, "keep what helps and makes nothing worse")
	fl.StringSliceVarP(&f.scenarios, "scenario", "s", nil, "`names` of the scenarios (see sluice bench run --list); none: "+strings.Join(proveScenarios, ", "))
	fl.IntVar(&f.rounds, "rounds", 12, "rounds, in each of which the knob is on once and off once")
	fl.DurationVar(&f.duration, "duration", 700*time.Millisecond, "of a turn")
	fl.DurationVar(&f.warm, "warm", 200*time.Millisecond, "load before each turn that does not count")
	fl.IntVar(&f.conns, "connections", 0, "connections; 0: the scenario's")
	fl.IntVar(&f.cores, "cores", 1, "loops of the edge")
	fl.IntVar(&f.generators, "generators", 1, "event loops of the generator, and of the origin")
	fl.StringVarP(&f.out, "out", "o", "", "write the evidence to `file`: a page (.html), or all samples (.json)")
	fl.StringVar(&h.state, "state", "", "`directory` of the snapshot and the records; empty: "+defaultState)
	f.pipeline = 1
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// proveScenarios are what most edges do: requests on connections that are there, and connections that come and go.
var proveScenarios = []string{"http-keepalive", "http-close"}

// turnMargin is what a turn takes beside its load, at most: the end of one process and the start of another.
const turnMargin = 20 * time.Second

// proveAll tries knobs one after the other, shows each, and ranks them.
func proveAll(ctx context.Context, w io.Writer, p *prover, knobs []*knob, keep bool, out string) error {
	var proofs []*proof
	var stopped error
	for _, k := range knobs {
		one, err := p.prove(ctx, k)
		proofs = append(proofs, one)
		one.print(w)
		if stopped = err; err != nil {
			break
		}
	}
	if len(knobs) == 0 {
		fmt.Fprintln(w, "Nothing to try: the audit has nothing against this host.")
		return nil
	}
	rank(proofs)
	if len(proofs) > 1 {
		printRanking(w, proofs)
	}
	if keep && stopped == nil {
		var kept *proof
		kept, stopped = p.keep(ctx, proofs)
		switch {
		case kept == nil:
			fmt.Fprintln(w, "\nNothing is kept: nothing helps.")
		case stopped == nil && kept.Verdict == helps:
			proofs = append([]*proof{kept}, proofs...)
			kept.print(w)
			if len(kept.Settings) > 0 {
				fmt.Fprintln(w, "Kept, and made persistent. sluice tune revert brings back what was.")
			}
			if kept.ByHand != "" {
				fmt.Fprintln(w, "By hand:", kept.ByHand)
			}
		default:
			proofs = append([]*proof{kept}, proofs...)
			kept.print(w)
			fmt.Fprintln(w, "Nothing is kept.")
		}
	}
	if out != "" {
		if err := writeProofs(out, proofs); err != nil {
			stopped = errors.Join(stopped, err)
		}
	}
	if stopped != nil {
		return tuneError(exitFailed, stopped)
	}
	for _, one := range proofs {
		if one.Verdict == failed {
			return &exitError{exitFailed, fmt.Errorf("%s: %s", one.title(), one.Why)}
		}
	}
	return nil
}

func (p *proof) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", p.title(), strings.TrimSuffix(string(p.Verdict)+": "+p.figures(), ": "))
	if len(p.Rows) > 0 {
		(&bench.Comparison{Rows: p.Rows}).Print(w)
	}
}

func printRanking(w io.Writer, proofs []*proof) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range proofs {
		fmt.Fprintf(t, "%s\t%s\t%s\n", p.title(), p.Verdict, p.figures())
	}
	_ = t.Flush()
}

// writeProofs writes the evidence as a page or, with every sample, as JSON.
func writeProofs(name string, proofs []*proof) error {
	if filepath.Ext(name) == ".json" {
		b, err := json.MarshalIndent(proofs, "", " ")
		if err != nil {
			return err
		}
		return os.WriteFile(name, append(b, '\n'), 0o644)
	}
	var chapters []bench.Chapter
	for _, p := range proofs {
		chapters = append(chapters, bench.Chapter{Name: p.title(), About: strings.TrimSuffix(string(p.Verdict)+": "+p.figures(), ": "),
			Summary: []string{p.title(), string(p.Verdict), p.figures()}, Result: p.Result, Comparison: &bench.Comparison{Rows: p.Rows}})
	}
	return bench.WriteTrials(name, "What the host's knobs do for the edge", chapters)
}
