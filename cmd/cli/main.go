package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sluice/cmd/config"
	"sluice/gw/filter"
)

// Exit statuses are part of the contract.
const (
	exitFailed = 1 // the thing failed
	exitUsage  = 2 // wrong usage: of the command line, or of the configuration file
)

// exitError carries the exit status of a command.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Main runs the process's command line, and ends it. own are the filters that a configuration may name beyond gw/filter's; nil
// is the plain sluice.
func Main(own filter.Own) { os.Exit(execute(own, os.Args[1:], os.Stdout, os.Stderr)) }

// execute runs one command line and returns the exit status.
func execute(own filter.Own, args []string, stdout, stderr io.Writer) int {
	root := commands(own)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		printError(stderr, exit.err)
		return exit.code
	}
	fmt.Fprintf(stderr, "sluice: %v\nTry 'sluice --help'.\n", err)
	return exitUsage
}

func printError(w io.Writer, err error) {
	var all config.Errors
	if !errors.As(err, &all) {
		fmt.Fprintf(w, "sluice: %v\n", err)
		return
	}
	for _, e := range all {
		fmt.Fprintln(w, e.Detail())
	}
}

func commands(own filter.Own) *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "L4 load balancer and L7 API gateway on one event loop",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return &exitError{exitUsage, errors.New("which command?")}
		},
	}
	var file string
	withFile := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().StringVarP(&file, "config", "c", "", "the configuration `file`")
		_ = cmd.MarkFlagRequired("config")
		_ = cmd.MarkFlagFilename("config", "yaml", "yml")
		cmd.Args = cobra.NoArgs
		return cmd
	}
	root.AddCommand(
		withFile(&cobra.Command{
			Use:   "run -c FILE",
			Short: "Run the edge that FILE describes",
			Long: "Run the edge that FILE describes.\n\n" +
				"HUP reads FILE again, TERM finishes what is open and stops, INT stops at once.",
			RunE: func(cmd *cobra.Command, _ []string) error {
				return runFile(file, own, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			},
		}),
		withFile(&cobra.Command{
			Use:   "check -c FILE",
			Short: "Say what is wrong with FILE, by line and column",
			RunE: func(cmd *cobra.Command, _ []string) error {
				f, err := readFile(file, own)
				if err != nil {
					return &exitError{exitUsage, err}
				}
				for _, w := range f.warnings {
					w.Message = "warning: " + w.Message
					fmt.Fprintln(cmd.ErrOrStderr(), w.Detail())
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is good: %s\n", file, f.summary())
				return nil
			},
		}),
		&cobra.Command{
			Use:   "demo",
			Short: "Run the usual deployment in one process: load balancer, gateways and services",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return runDemo(cmd.OutOrStdout(), slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			},
		},
		&cobra.Command{
			Use:   "version",
			Short: "Say which build this is",
			Args:  cobra.NoArgs,
			Run: func(cmd *cobra.Command, _ []string) {
				fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			},
		},
		explainCommand(own),
		benchCommand(),
		tuneCommand(own),
	)
	return root
}

// versionLine names the build by what Go's linker noted of it.
func versionLine() string {
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	return strings.Join(strings.Fields(fmt.Sprintf("sluice %s %s %s %s/%s", version, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)), " ")
}

// gitRevision is set by the linker: -X sluice/cmd/cli.gitRevision=…
var gitRevision string

// revision is the git revision that the binary was built of, short; empty if the build does not know.
func revision() string {
	if gitRevision != "" {
		return gitRevision
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return ""
}

// runFile runs the edge of a file until a signal ends it.
func runFile(file string, own filter.Own, log *slog.Logger) error {
	read := func() (*File, error) {
		f, err := readFile(file, own)
		if err == nil {
			for _, w := range f.warnings {
				log.Warn(w.Error())
			}
		}
		return f, err
	}
	f, err := read()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	slog.SetDefault(log) // for what filters watch beside the loops
	// From here on: a signal that comes while the server starts is not lost.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	s, err := start(f, log)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	log.Info("running", "config", file, "edge", f.summary(), "pid", os.Getpid())
	for sig := range signals {
		switch sig {
		case syscall.SIGHUP:
			s.reload(read)
			continue
		case syscall.SIGTERM:
			drainUntil(s, signals)
		}
		break
	}
	log.Info("stopped")
	return nil
}

// drainUntil drains the server; another INT or TERM cuts it short.
func drainUntil(s *server, signals <-chan os.Signal) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for {
			select {
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					cancel()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	s.drain(ctx)
}
