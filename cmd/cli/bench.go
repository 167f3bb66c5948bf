package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice/bench"
)

// benchFlags are what the measuring commands have in common.
type benchFlags struct {
	scenarios  []string
	rounds     int
	duration   time.Duration
	warm       time.Duration
	conns      int
	pipeline   int
	rates      []string
	cores      int
	generators int
	out        string
	history    string
	gofmt      bool
}

func (f *benchFlags) add(cmd *cobra.Command, rounds int, duration time.Duration) {
	fl := cmd.Flags()
	fl.StringSliceVarP(&f.scenarios, "scenario", "s", nil, "`names` of the scenarios, or all (see sluice bench run --list)")
	fl.IntVar(&f.rounds, "rounds", rounds, "rounds, in which the targets take turns")
	fl.DurationVar(&f.duration, "duration", duration, "of a round")
	fl.DurationVar(&f.warm, "warm", 200*time.Millisecond, "load before each round that does not count")
	fl.IntVar(&f.conns, "connections", 0, "connections; 0: the scenario's")
	fl.IntVar(&f.pipeline, "pipeline", 1, "requests under way on a connection at a time")
	fl.StringSliceVar(&f.rates, "rate", nil, "open loops after the closed one, at these `rates`: 20000, 20k, or 50% of the closed loop's")
	fl.IntVar(&f.cores, "cores", 1, "loops, threads or workers of each proxy that is started")
	fl.IntVar(&f.generators, "generators", 1, "event loops of the generator, and of the origin")
	fl.StringVarP(&f.out, "out", "o", "", "write the result to `file` (JSON)")
	fl.StringVar(&f.history, "history", "", "add a line with the medians to `file`")
	fl.BoolVar(&f.gofmt, "go", false, "print in Go's benchmark format, for benchstat")
}

// suite makes a suite of the flags, without targets.
func (f *benchFlags) suite(def []string) (*bench.Suite, error) {
	names := f.scenarios
	if len(names) == 0 {
		names = def
	}
	scenarios, err := bench.Find(names)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if f.rounds < 1 || f.duration <= 0 || f.cores < 1 || f.generators < 1 || f.pipeline < 1 || f.conns < 0 {
		return nil, &exitError{exitUsage, errors.New("rounds, duration, cores, generators and pipeline must be positive")}
	}
	s := &bench.Suite{Scenarios: scenarios, Rounds: f.rounds, Warm: f.warm, Duration: f.duration, Conns: f.conns,
		Pipeline: f.pipeline, Loops: f.generators, Cores: f.cores}
	for _, r := range f.rates {
		rate, err := bench.ParseRate(r)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		s.Rates = append(s.Rates, rate)
	}
	return s, nil
}

func benchCommand() *cobra.Command {
	root := &cobra.Command{Use: "bench", Short: "Measure proxies: this one, its peers, its past", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return &exitError{exitUsage, errors.New("which command?")}
		}}
	root.AddCommand(benchRun(), benchPeers(), benchCompare(), benchRegress(), benchReport(), benchOrigin(), benchFloor())
	return root
}

// interruptible is a context that ends with INT or TERM, so that what was measured so far is written.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; ok {
			cancel(bench.ErrInterrupted)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

func benchRun() *cobra.Command {
	var f benchFlags
	var list bool
	var t bench.Target
	var origin, authority string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Measure one proxy",
		Long: "Measure one proxy: this one, or whatever listens at --http, --https, --tcp, --tls and --udp and passes on to\n" +
			"the origin, which this command starts at --origin:\n\n" +
			"  sluice bench run\n" +
			"  sluice bench run --http 127.0.0.1:80 --origin 127.0.0.1:9000 --scenario http-keepalive --rate 50%,90%",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				for _, s := range bench.Scenarios {
					about := s.About
					if s.Missing != "" {
						about += " (not yet: " + s.Missing + ")"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%-16s %s\n", s.Name, about)
				}
				return nil
			}
			s, err := f.suite([]string{"all"})
			if err != nil {
				return err
			}
			outside := t.HTTP != "" || t.TCP != "" || t.UDP != "" || t.HTTPS != "" || t.TLS != ""
			if outside && origin == "" {
				return &exitError{exitUsage, errors.New("where does the proxy expect its origin? --origin says where to start it")}
			}
			var trust *bench.Trust
			if address := cmp.Or(t.HTTPS, t.TLS); address != "" {
				host, _, err := net.SplitHostPort(address)
				if err != nil || authority == "" {
					return &exitError{exitUsage, errors.New("--https and --tls are host:port, and --ca the file of who signed that host's certificate")}
				}
				if trust, err = bench.ReadTrust(authority, host); err != nil {
					return &exitError{exitFailed, err}
				}
			}
			return measure(cmd, &f, s, origin, func(ctx context.Context, r *bench.Rig) error {
				if !outside {
					return r.Sluice(ctx, "sluice", self(), f.cores)
				}
				r.Trust = trust
				if warning := r.Outside(t); warning != "" {
					fmt.Fprintln(cmd.ErrOrStderr(), "sluice:", warning)
				}
				return nil
			})
		},
	}
	f.add(cmd, 1, 3*time.Second)
	fl := cmd.Flags()
	fl.BoolVar(&list, "list", false, "list the scenarios")
	fl.StringVar(&t.HTTP, "http", "", "`host:port` of the proxy's HTTP listener")
	fl.StringVar(&t.TCP, "tcp", "", "`host:port` of the proxy's TCP listener")
	fl.StringVar(&t.UDP, "udp", "", "`host:port` of the proxy's UDP listener")
	fl.StringVar(&t.HTTPS, "https", "", "`host:port` of the proxy's HTTPS listener")
	fl.StringVar(&t.TLS, "tls", "", "`host:port` at which TLS ends and bytes are relayed")
	fl.StringVar(&authority, "ca", "", "`file` (PEM) of the authority of the proxy's certificate, which is for the host of --https and --tls")
	fl.StringVar(&origin, "origin", "", "`host:port` where the proxy expects its origin")
	fl.StringVar(&t.Name, "name", "target", "what to call the proxy")
	fl.IntSliceVar(&t.PIDs, "pid", nil, "the proxy's processes, if its listener does not tell")
	return cmd
}

func benchPeers() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Measure this proxy beside HAProxy, nginx and the bare relay of four system calls",
		Long: "Measure this proxy beside HAProxy, nginx and the floor, a bare relay of four system calls, each with as many\n" +
			"cores, round by round. Ratios are to sluice.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.suite(bench.Main)
			if err != nil {
				return err
			}
			return measure(cmd, &f, s, "", func(ctx context.Context, r *bench.Rig) error {
				if err := r.Sluice(ctx, "sluice", self(), f.cores); err != nil {
					return err
				}
				for _, start := range []func(context.Context, int) error{r.HAProxy, r.Nginx, r.Floor} {
					if err := start(ctx, f.cores); err != nil {
						return err
					}
				}
				if absent := r.AbsentPeers(); absent != "" {
					fmt.Fprintln(cmd.ErrOrStderr(), "sluice: goes on without", absent)
				}
				return nil
			})
		},
	}
	f.add(cmd, 6, 2*time.Second)
	return cmd
}

// self is this binary.
func self() string {
	name, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return name
}

// measure runs a suite on the targets that start brings up, and shows and keeps what came of it.
func measure(cmd *cobra.Command, f *benchFlags, s *bench.Suite, origin string, start func(context.Context, *bench.Rig) error) error {
	ctx, done := interruptible()
	defer done()
	rig, err := bench.NewRig(ctx, self(), origin, f.generators)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	defer rig.Close()
	if err := start(ctx, rig); err != nil {
		return &exitError{exitFailed, err}
	}
	r := bench.NewResult(revision(), rig)
	s.Origin, s.Targets, s.Chain, s.Trust = rig.Origin, rig.Targets, rig.Chain, rig.Trust
	watch, clear := progressLine(os.Stderr)
	s.Watch = watch
	if err := s.Run(ctx, r); err != nil {
		r.Partial = err.Error()
	}
	clear()
	if f.gofmt {
		r.PrintGo(cmd.OutOrStdout())
	} else {
		r.Print(cmd.OutOrStdout())
	}
	if f.out != "" {
		if err := r.Write(f.out); err != nil {
			return &exitError{exitFailed, err}
		}
	}
	if f.history != "" && r.Partial == "" {
		if err := bench.AppendHistory(f.history, r); err != nil {
			return &exitError{exitFailed, err}
		}
	}
	if err := r.Failed(); err != nil {
		return &exitError{exitFailed, err}
	}
	return nil
}

// progressLine shows on a terminal what a suite is at, and nothing elsewhere.
func progressLine(w *os.File) (watch func(bench.Status), clear func()) {
	if !bench.OnTerminal(w) {
		return nil, func() {}
	}
	return func(s bench.Status) {
		fmt.Fprintf(w, "\r\x1b[K%3.0f %%  %s on %s: %.0f/s, p99 %v", s.Share*100, s.Scenario, s.Target, s.Throughput, s.P99.Round(time.Microsecond))
	}, func() { fmt.Fprint(w, "\r\x1b[K") }
}

func benchOrigin() *cobra.Command {
	var listen string
	var loops int
	cmd := &cobra.Command{
		Use:   "origin",
		Short: "Run the origin alone: it answers /bytes/N with N bytes, and echoes what is no HTTP",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			o, err := bench.StartOrigin(listen, loops)
			if err != nil {
				return &exitError{exitFailed, err}
			}
			defer o.Stop()
			waitForSignal()
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9000", "`host:port` to listen on")
	cmd.Flags().IntVar(&loops, "loops", 1, "event loops")
	return cmd
}

func benchFloor() *cobra.Command {
	var listen, to string
	var loops int
	cmd := &cobra.Command{
		Use:   "floor",
		Short: "Run the bare relay alone, which proxies are compared with",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			o, err := bench.StartFloor(listen, to, loops)
			if err != nil {
				return &exitError{exitFailed, err}
			}
			defer o.Stop()
			waitForSignal()
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8999", "`host:port` to listen on")
	cmd.Flags().StringVar(&to, "to", "127.0.0.1:9000", "`host:port` to relay to")
	cmd.Flags().IntVar(&loops, "loops", 1, "threads")
	return cmd
}

func waitForSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
}

func benchCompare() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Say what got worse between two result files; exit status 1 if anything did",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := bench.ReadResult(args[0])
			if err != nil {
				return &exitError{exitFailed, err}
			}
			after, err := bench.ReadResult(args[1])
			if err != nil {
				return &exitError{exitFailed, err}
			}
			if diff := before.Host.Differs(&after.Host); diff != "" && !force {
				return &exitError{exitUsage, fmt.Errorf("the results are of different hosts (%s); --force compares them all the same", diff)}
			}
			return verdict(cmd.OutOrStdout(), bench.Compare(before, after))
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "compare results of different hosts")
	return cmd
}

// verdict prints a comparison; a regression is an error.
func verdict(w io.Writer, c *bench.Comparison) error {
	c.Print(w)
	if bad := c.Regressions(); len(bad) > 0 {
		return &exitError{exitFailed, fmt.Errorf("worse: %s", strings.Join(bad, "; "))}
	}
	return nil
}

func benchRegress() *cobra.Command {
	var f benchFlags
	var base, head string
	cmd := &cobra.Command{
		Use:   "regress --base REV",
		Short: "Build two revisions and measure them in turns; exit status 1 if the newer one is worse",
		Long: "Build two revisions of the git checkout that the command is run in, and measure them in turns. Without --head\n" +
			"the newer one is the working tree as it is.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.suite([]string{"http-keepalive", "tcp-pingpong"})
			if err != nil {
				return err
			}
			ctx, done := interruptible()
			defer done()
			dir, err := os.MkdirTemp("", "sluice-regress")
			if err != nil {
				return &exitError{exitFailed, err}
			}
			defer os.RemoveAll(dir)
			before, err := bench.BuildRevision(ctx, dir, "base", base)
			if err != nil {
				return &exitError{exitFailed, err}
			}
			after, err := bench.BuildRevision(ctx, dir, "head", head)
			if err != nil {
				return &exitError{exitFailed, err}
			}
			watch, clear := progressLine(os.Stderr)
			s.Watch = watch
			r, err := bench.Regress(ctx, s, self(), before, after, f.cores, f.generators)
			clear()
			if err != nil {
				return &exitError{exitFailed, err}
			}
			if f.out != "" {
				if err := r.Write(f.out); err != nil {
					return &exitError{exitFailed, err}
				}
			}
			if f.gofmt {
				r.PrintGo(cmd.OutOrStdout())
			}
			return verdict(cmd.OutOrStdout(), bench.CompareTargets(r, "base", "head"))
		},
	}
	f.add(cmd, 12, 700*time.Millisecond)
	cmd.Flags().StringVar(&base, "base", "", "the older `revision`")
	cmd.Flags().StringVar(&head, "head", "", "the newer `revision`; empty: the working tree")
	_ = cmd.MarkFlagRequired("base")
	return cmd
}

func benchReport() *cobra.Command {
	var out, history string
	cmd := &cobra.Command{
		Use:   "report FILE… -o report.html",
		Short: "Make one page to look at of result files",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var results []*bench.Result
			for _, name := range args {
				r, err := bench.ReadResult(name)
				if err != nil {
					return &exitError{exitFailed, err}
				}
				results = append(results, r)
			}
			var past []bench.HistoryLine
			if history != "" {
				var err error
				if past, err = bench.ReadHistory(history); err != nil {
					return &exitError{exitFailed, err}
				}
			}
			if err := bench.WriteReport(out, results, past); err != nil {
				return &exitError{exitFailed, err}
			}
			fmt.Fprintln(cmd.OutOrStdout(), out)
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "report.html", "the page's `file`")
	cmd.Flags().StringVar(&history, "history", "", "`file` with a line for each measured revision")
	return cmd
}
