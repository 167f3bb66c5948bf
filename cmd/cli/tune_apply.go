package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/config"
	"sluice/gw/filter"
	"sluice/tune"
	hostchange "sluice/tune/change"
)

// defaultState is where the tuner keeps its snapshot, below --root.
const defaultState = "/var/lib/sluice/tune"

// confirmWithin is long enough to open a second session and try it, and short enough to wait for when the first is lost.
const confirmWithin = time.Minute

// tunedHost are the flags that say which host is changed, and where its records are.
type tunedHost struct{ root, state string }

func (h *tunedHost) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.root, "root", "/", "`directory` with the host's tree: a copy, to try it on")
	cmd.Flags().StringVar(&h.state, "state", "", "`directory` of the snapshot and the records; empty: ROOT"+defaultState)
}

// changer makes the paths absolute: the watcher and the unit have other working directories.
func (h *tunedHost) changer(say io.Writer) (*hostchange.Changer, error) {
	root, err := filepath.Abs(h.root)
	if err != nil {
		return nil, err
	}
	state := h.state
	if state == "" {
		state = filepath.Join(root, defaultState)
	}
	if state, err = filepath.Abs(state); err != nil {
		return nil, err
	}
	c := &hostchange.Changer{Host: &hostchange.Host{Root: root}, State: state, Binary: self(), Say: func(line string) { fmt.Fprintln(say, line) }}
	if root == "/" {
		c.Host.Device = hostchange.Devices{}
	}
	return c, nil
}

// tuneError gives an error of the tuner its exit status, and its places those of the configuration's errors, to be shown alike.
func tuneError(code int, err error) error {
	if err == nil {
		return nil
	}
	var places hostchange.Errors
	if errors.As(err, &places) {
		all := make(config.Errors, len(places))
		for i, e := range places {
			all[i] = config.Error(e)
		}
		err = all
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit
	}
	return &exitError{code, err}
}

// tuneChangeCommands are those that plan, make and undo changes of the host.
func tuneChangeCommands(own filter.Own) []*cobra.Command {
	return []*cobra.Command{tunePlan(own), tuneApply(), tuneVerify(), tuneRevert(), tuneConfirm(), tuneWatch(), tuneProve(own)}
}

func tunePlan(own filter.Own) *cobra.Command {
	var h tunedHost
	var config, out string
	cmd := &cobra.Command{
		Use:   "plan [-c FILE] [SETTINGS]",
		Short: "Make a plan of what the audit wants here, or of a list of settings, to be read, edited and applied",
		Long: "Make a plan of what the audit of this host for the edge of FILE wants set, or of a list of settings, to be read, edited\n" +
			"and applied.\n\n" +
			"SETTINGS, - for standard input, is a JSON list: [{\"kind\": \"sysctl\", \"key\": \"net.core.somaxconn\", \"value\": \"65535\",\n" +
			"\"why\": \"…\"}]. Kinds are sysctl, file, ethtool, link, unit and boot. What is as wanted already, or cannot be set here,\n" +
			"is left out and said.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := h.wanted(cmd.InOrStdin(), config, own, args)
			if err != nil {
				return tuneError(exitUsage, err)
			}
			c, err := h.changer(cmd.ErrOrStderr())
			if err != nil {
				return tuneError(exitUsage, err)
			}
			p := hostchange.NewPlan(c.Host, settings, func(s hostchange.Setting, why error) {
				fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s: %v\n", s, why)
			})
			if out == "" {
				return tuneError(exitFailed, p.Write(cmd.OutOrStdout()))
			}
			f, err := os.Create(out)
			if err != nil {
				return tuneError(exitFailed, err)
			}
			return tuneError(exitFailed, errors.Join(p.Write(f), f.Close()))
		},
	}
	h.add(cmd)
	cmd.Flags().StringVarP(&config, "config", "c", "", "the configuration `file` of the edge; empty: one that relays TCP, with a loop for each processor")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write the plan to `file`; empty: standard output")
	return cmd
}

// wanted are the settings of a list, or without one those of the audit.
func (h *tunedHost) wanted(in io.Reader, config string, own filter.Own, args []string) ([]hostchange.Setting, error) {
	if len(args) == 0 {
		t := tuneFlags{config: config, root: h.root}
		if h.root == "/" {
			t.root = ""
		}
		facts, e, err := t.facts(own)
		if err != nil {
			return nil, err
		}
		return tune.Run(facts, e).Settings(), nil
	}
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return hostchange.ReadSettings(in)
}

func readPlan(name string) (*hostchange.Plan, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return hostchange.ParsePlan(name, src)
}

func tuneApply() *cobra.Command {
	var h tunedHost
	var o hostchange.ApplyOptions
	var boot bool
	cmd := &cobra.Command{
		Use:   "apply PLAN",
		Short: "Set what PLAN says, all or nothing; it is reverted unless sluice tune confirm comes in time",
		Long: "Set what PLAN says: all of it, or after an error nothing (exit status 2).\n\n" +
			"Unless sluice tune confirm comes in time a process in the background reverts the change: a session that it has cut off is\n" +
			"not lost for good. The persistent form (sysctl.d, and units of systemd) is written when it is confirmed.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := h.changer(cmd.OutOrStdout())
			if err != nil {
				return tuneError(exitUsage, err)
			}
			switch {
			case boot && len(args) == 0:
				return tuneError(exitFailed, c.Boot())
			case boot || len(args) == 0:
				return &exitError{exitUsage, errors.New("either a plan is needed, or --boot for what is confirmed")}
			case o.Within <= 0:
				return &exitError{exitUsage, errors.New("--confirm-within must be positive")}
			}
			p, err := readPlan(args[0])
			if err != nil {
				return tuneError(exitUsage, err)
			}
			o.Watch = func(id string) error {
				return hostchange.Spawn(filepath.Join(c.State, "watch.log"), self(), "tune", "watch", "--root", c.Host.Root, "--state", c.State, id)
			}
			pending, err := c.Apply(p, o)
			if errors.Is(err, hostchange.ErrOtherHost) {
				err = fmt.Errorf("%w; --other-host applies it all the same", err)
			}
			if err == nil && pending {
				fmt.Fprintf(cmd.OutOrStdout(), "applied; it is reverted in %v unless you say: sluice tune confirm%s\n", o.Within, h.again())
			}
			return tuneError(exitUsage, err)
		},
	}
	h.add(cmd)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would be set")
	cmd.Flags().BoolVar(&o.OtherHost, "other-host", false, "take a plan that was made for another host")
	cmd.Flags().DurationVar(&o.Within, "confirm-within", confirmWithin, "how long the change waits for its confirmation")
	cmd.Flags().BoolVar(&boot, "boot", false, "set again all that is confirmed, as the unit does at boot")
	return cmd
}

// again repeats the flags for the next command.
func (h *tunedHost) again() (flags string) {
	if h.root != "/" {
		flags += " --root " + h.root
	}
	if h.state != "" {
		flags += " --state " + h.state
	}
	return flags
}

func tuneVerify() *cobra.Command {
	var h tunedHost
	cmd := &cobra.Command{
		Use:   "verify [PLAN]",
		Short: "Say what is not as PLAN, or as what was applied, has it; exit status 1 if anything is",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := h.changer(cmd.ErrOrStderr())
			if err != nil {
				return tuneError(exitUsage, err)
			}
			var p *hostchange.Plan
			if len(args) == 1 {
				if p, err = readPlan(args[0]); err != nil {
					return tuneError(exitUsage, err)
				}
			}
			drift, err := c.Verify(p)
			if err != nil {
				return tuneError(exitUsage, err)
			}
			for _, d := range drift {
				if d.Err != nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: wanted %s: %v\n", d.Setting, d.Setting.Value, d.Err)
				} else {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: wanted %s, is %s\n", d.Setting, d.Setting.Value, d.Current)
				}
			}
			if len(drift) > 0 {
				return &exitError{exitFailed, fmt.Errorf("drifted settings: %d", len(drift))}
			}
			return nil
		},
	}
	h.add(cmd)
	return cmd
}

func tuneRevert() *cobra.Command {
	var h tunedHost
	var force bool
	cmd := &cobra.Command{
		Use:   "revert",
		Short: "Restore what was before sluice tune apply, and remove its persistent form",
		Long: "Restore what was before sluice tune apply, and remove its persistent form. It is safe after an apply that was cut off,\n" +
			"and after a reboot. Values that others have changed since are left, and said (exit status 1).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := h.changer(cmd.OutOrStdout())
			if err != nil {
				return tuneError(exitUsage, err)
			}
			changed, err := c.Revert(force)
			if errors.Is(err, hostchange.ErrLeft) {
				err = fmt.Errorf("%w: --force", err)
			}
			if err == nil && !changed {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to revert")
			}
			return tuneError(exitFailed, err)
		},
	}
	h.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "restore values that others have changed since, too")
	return cmd
}

func tuneConfirm() *cobra.Command {
	var h tunedHost
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Keep what was applied, and make it persistent",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := h.changer(cmd.OutOrStdout())
			if err != nil {
				return tuneError(exitUsage, err)
			}
			return tuneError(exitFailed, c.Confirm())
		},
	}
	h.add(cmd)
	return cmd
}

// tuneWatch is the process that apply leaves behind. HUP does not end it; TERM, as at the end of a session whose processes are
// killed, makes it revert at once.
func tuneWatch() *cobra.Command {
	var h tunedHost
	cmd := &cobra.Command{
		Use:    "watch ID",
		Short:  "Revert a change unless it is confirmed",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			c, err := h.changer(cmd.OutOrStdout())
			if err != nil {
				return tuneError(exitUsage, err)
			}
			_, err = c.Watch(ctx, args[0], hostchange.Ready)
			return tuneError(exitFailed, err)
		},
	}
	h.add(cmd)
	return cmd
}
