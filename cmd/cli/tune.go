package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sluice/cmd/config"
	"sluice/gw/filter"
	"sluice/tune"
	"sluice/tune/host"
)

func tuneCommand(own filter.Own) *cobra.Command {
	root := &cobra.Command{
		Use:   "tune",
		Short: "Look at the host: what is set, what is wanted, and why; set it, prove it, and find the way back",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return &exitError{exitUsage, errors.New("which command?")}
		},
	}
	root.AddCommand(tuneAudit(own), tuneTopology(own), tuneExplain(), tuneRecord())
	root.AddCommand(tuneChangeCommands(own)...)
	return root
}

// tuneFlags say which host is looked at, and for which edge.
type tuneFlags struct{ config, root string }

func (t *tuneFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.config, "config", "c", "", "the configuration `file` of the edge; empty: one that relays TCP, with a loop for each processor")
	cmd.Flags().StringVar(&t.root, "root", "", "a recorded host: `directory` or .txtar file; empty: this one")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// facts reads the host and what its edge is for.
func (t *tuneFlags) facts(own filter.Own) (*host.Facts, tune.Edge, error) {
	e := tune.Edge{}
	if t.config != "" {
		f, err := readFile(t.config, own)
		if err != nil {
			return nil, e, &exitError{exitUsage, err}
		}
		e = f.edge()
	}
	h := host.Live()
	if t.root != "" {
		var err error
		if h, err = host.Open(t.root); err != nil {
			return nil, e, &exitError{exitUsage, err}
		}
	} else {
		e.Env = map[string]string{}
		for _, name := range []string{"GOMAXPROCS", "GOGC", "GOMEMLIMIT"} {
			e.Env[name] = os.Getenv(name)
		}
	}
	defer h.Close()
	facts := host.Read(h)
	if t.root != "" && len(facts.CPUs) == 0 && facts.Kernel == "" {
		return nil, e, &exitError{exitUsage, fmt.Errorf("%s holds no host: proc and sys are expected in it", t.root)}
	}
	return facts, e, nil
}

// edge is what of the configuration matters to the host.
func (f *File) edge() tune.Edge {
	e := tune.Edge{Loops: f.Engine.Loops, Connections: f.Engine.MaxConn, Forwards: len(f.Clusters) > 0}
	if e.Loops == 0 {
		e.Loops = len(f.Engine.Affinity.CPUs)
	}
	bounded := 0
	for i := range f.Listeners {
		l := &f.Listeners[i]
		e.TCP = e.TCP || !l.Protocol.http() && l.Protocol != UDP
		e.HTTP = e.HTTP || l.Protocol.http()
		e.UDP = e.UDP || l.Protocol == UDP
		e.FastOpen = e.FastOpen || l.Socket.FastOpen
		e.Backlog = max(e.Backlog, l.Socket.Backlog)
		if l.Limits.MaxConn > 0 && bounded >= 0 {
			bounded += l.Limits.MaxConn
		} else if l.Protocol != UDP {
			bounded = -1 // one without a bound: they have none in all
		}
		if _, port, err := net.SplitHostPort(l.Address); err == nil && !strings.HasPrefix(l.Address, "unix:") {
			e.Listeners++
			if n, err := strconv.Atoi(port); err == nil && n > 0 {
				e.Ports = append(e.Ports, n)
			}
		}
	}
	if bounded > 0 && (e.Connections == 0 || bounded < e.Connections) {
		e.Connections = bounded
	}
	slices.Sort(e.Ports)
	e.Ports = slices.Compact(e.Ports)
	return e
}

func tuneAudit(own filter.Own) *cobra.Command {
	var t tuneFlags
	var asJSON, asHTML, settings bool
	cmd := &cobra.Command{
		Use:   "audit [-c FILE]",
		Short: "Say what on this host is not as the edge wants it",
		Long: "Say what on this host is not as the edge of FILE wants it, by weight: what is set, what is wanted, why, what it costs,\n" +
			"how sure that is, and by what it is mended. It changes nothing and needs no privileges; what cannot be seen is named.\n\n" +
			"Exit status: 0 nothing was found, 1 something was, 2 wrong usage.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, e, err := t.facts(own)
			if err != nil {
				return err
			}
			a := tune.Run(facts, e)
			out := cmd.OutOrStdout()
			switch {
			case asJSON:
				err = writeIndented(out, a)
			case settings:
				return writeIndented(out, a.Settings())
			case asHTML:
				err = a.WriteHTML(out)
			default:
				err = a.WriteTable(out)
			}
			switch n := len(a.Findings); {
			case err != nil:
				return &exitError{exitFailed, err}
			case n == 1:
				return &exitError{exitFailed, errors.New("1 finding")}
			case n > 1:
				return &exitError{exitFailed, fmt.Errorf("%d findings", n)}
			}
			return nil
		},
	}
	t.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&asHTML, "html", false, "as a page")
	cmd.Flags().BoolVar(&settings, "settings", false, "only the settings that mend what was found, as JSON; exit status 0")
	cmd.MarkFlagsMutuallyExclusive("json", "html", "settings")
	return cmd
}

func writeIndented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func tuneTopology(own filter.Own) *cobra.Command {
	var t tuneFlags
	cmd := &cobra.Command{
		Use:   "topology [-c FILE]",
		Short: "Draw the host: packages, caches, nodes, queues, interrupts and loops, and where a packet crosses a node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, e, err := t.facts(own)
			if err != nil {
				return err
			}
			if err := tune.WriteTopology(cmd.OutOrStdout(), facts, e); err != nil {
				return &exitError{exitFailed, err}
			}
			return nil
		},
	}
	t.add(cmd)
	return cmd
}

func tuneExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [KNOB]",
		Short: "Say all about a knob, or which ones there are",
		Args:  cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return knobNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				for _, k := range tune.Knobs {
					fmt.Fprintf(cmd.OutOrStdout(), "%-52s %s\n", k.Name, k.Sets)
				}
				return nil
			}
			k := tune.Find(args[0])
			if k == nil {
				if near := config.Nearest(args[0], knobNames()); near != "" {
					return &exitError{exitUsage, fmt.Errorf("no knob named %q; did you mean %q?", args[0], near)}
				}
				return &exitError{exitUsage, fmt.Errorf("no knob named %q: sluice tune explain lists them", args[0])}
			}
			return k.WritePage(cmd.OutOrStdout())
		},
	}
}

func knobNames() (names []string) {
	for _, k := range tune.Knobs {
		names = append(names, k.Name)
	}
	return names
}

func tuneRecord() *cobra.Command {
	return &cobra.Command{
		Use:   "record DIR",
		Short: "Write what the audit reads of this host to a directory or a .txtar file, to be looked at elsewhere",
		Long: "Write what the audit reads of this host to a directory, or to a file whose name ends in .txtar, to be looked at\n" +
			"elsewhere by --root. The host's name and addresses are in it; hardware addresses, keys and other processes are not.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			live := host.Live()
			defer live.Close()
			r := host.Record(live)
			facts := host.Read(r.Host)
			// An edge for everything, so that no knob is left out.
			e := tune.Edge{TCP: true, HTTP: true, UDP: true, Forwards: true, FastOpen: true, KTLS: true}
			tune.Run(facts, e)
			if err := tune.WriteTopology(io.Discard, facts, e); err != nil {
				return &exitError{exitFailed, err}
			}
			if err := r.Write(args[0]); err != nil {
				return &exitError{exitFailed, err}
			}
			return nil
		},
	}
}
