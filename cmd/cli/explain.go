package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sluice/gw/filter"
	"sluice/lb"
)

// placementKeys is how many keys a change is tried with: a share of 1 % is then known to within a tenth of itself.
const placementKeys = 100_000

// change is what explain placement is asked to try.
type change struct {
	add, remove, weights []string
}

func explainCommand(own filter.Own) *cobra.Command {
	explain := &cobra.Command{
		Use:   "explain",
		Short: "Say what a configuration would do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return &exitError{exitUsage, errors.New("explain what?")}
		},
	}
	var file, cluster string
	var by change
	placement := &cobra.Command{
		Use:   "placement -c FILE --cluster NAME [--add ADDRESS | --remove ADDRESS | --weight ADDRESS=N]...",
		Short: "Say which endpoints keys belong to, and how many would move",
		Long: "Say which of a cluster's endpoints " + strconv.Itoa(placementKeys) + " keys belong to while all of them are up, and how many keys would move\n" +
			"if endpoints were added, removed or given another weight, beside the fewest that could.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readFile(file, own)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			cfg, err := f.clusterNamed(cluster)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if err := explainPlacement(cmd.OutOrStdout(), cfg, by); err != nil {
				return &exitError{exitUsage, err}
			}
			return nil
		},
	}
	flags := placement.Flags()
	flags.StringVarP(&file, "config", "c", "", "the configuration `file`")
	flags.StringVar(&cluster, "cluster", "", "the cluster's `name`")
	flags.StringArrayVar(&by.add, "add", nil, "an `address` more; address=N gives it a weight")
	flags.StringArrayVar(&by.remove, "remove", nil, "an `address` less")
	flags.StringArrayVar(&by.weights, "weight", nil, "another weight, `address=N`")
	for _, name := range []string{"config", "cluster"} {
		_ = placement.MarkFlagRequired(name)
	}
	_ = placement.MarkFlagFilename("config", "yaml", "yml")
	explain.AddCommand(placement, explainRequestCommand(own))
	return explain
}

func (f *File) clusterNamed(name string) (lb.Config, error) {
	names := []string{}
	for _, c := range f.Clusters {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return lb.Config{}, errors.New(unknown("cluster", name, names))
}

// after is cfg with the change made to it.
func (by change) after(cfg lb.Config) (lb.Config, error) {
	list := slices.Clone(cfg.Endpoints)
	find := func(address string) (int, error) {
		var known []string
		for i, e := range list {
			if e.Address == address {
				return i, nil
			}
			known = append(known, e.Address)
		}
		return 0, errors.New(unknown("endpoint", address, known))
	}
	for _, address := range by.remove {
		i, err := find(address)
		if err != nil {
			return cfg, err
		}
		list = slices.Delete(list, i, i+1)
	}
	for _, s := range by.weights {
		address, n, ok := cutWeight(s)
		if !ok {
			return cfg, fmt.Errorf("--weight %s: address=N is needed", s)
		}
		i, err := find(address)
		if err != nil {
			return cfg, err
		}
		list[i].Weight = &n
	}
	for _, s := range by.add {
		e := lb.EndpointConfig{Address: s}
		if address, n, ok := cutWeight(s); ok {
			e.Address, e.Weight = address, &n
		}
		list = append(list, e)
	}
	cfg.Endpoints = list
	var errs []error
	cfg.Validate(func(path, message string) { errs = append(errs, errors.New(message)) })
	if len(errs) > 0 {
		return cfg, errs[0]
	}
	return cfg, nil
}

func cutWeight(s string) (address string, weight int, ok bool) {
	i := strings.LastIndexByte(s, '=')
	if i < 0 {
		return s, 0, false
	}
	n, err := strconv.Atoi(s[i+1:])
	return s[:i], n, err == nil
}

// explainPlacement writes where keys belong before and after a change.
func explainPlacement(w io.Writer, cfg lb.Config, by change) error {
	if len(cfg.Endpoints) == 0 {
		return fmt.Errorf("cluster %s: its endpoints are discovered while it runs, and none is in the file", cfg.Name)
	}
	then, err := by.after(cfg)
	if err != nil {
		return err
	}
	before, err := lb.NewPlacement(cfg)
	if err != nil {
		return err
	}
	after, err := lb.NewPlacement(then)
	if err != nil {
		return err
	}
	type row struct{ before, after, in, out int }
	rows := map[string]*row{}
	at := func(address string) *row {
		if rows[address] == nil {
			rows[address] = &row{}
		}
		return rows[address]
	}
	moved := 0
	for n := range uint64(placementKeys) {
		a, b := before.Of(n), after.Of(n)
		at(a).before++
		at(b).after++
		if a != b {
			moved++
			at(a).out++
			at(b).in++
		}
	}
	order := []string{}
	for _, c := range []lb.Config{cfg, then} {
		for _, e := range c.Endpoints {
			if !slices.Contains(order, e.Address) {
				order = append(order, e.Address)
			}
		}
	}
	picker := cfg.Picker
	changes := len(by.add)+len(by.remove)+len(by.weights) > 0
	fmt.Fprintf(w, "cluster %s, picker %s, %d keys\n\n", cfg.Name, picker, placementKeys)
	wide, most := len("endpoint"), 1
	for _, address := range order {
		wide = max(wide, len(address))
		most = max(most, at(address).before, at(address).after)
	}
	shares := [2]map[string]float64{before.Share(), after.Share()}
	if !changes {
		fmt.Fprintf(w, "%-*s  %7s  %7s  %s\n", wide, "endpoint", "keys", "share", "")
		for _, address := range order {
			r := at(address)
			fmt.Fprintf(w, "%-*s  %7d  %6.2f%%  %s\n", wide, address, r.before, percent(r.before), bar(r.before, most, "█"))
		}
		fmt.Fprintf(w, "\nlargest deviation from a fair share: %.2f%%\n", 100*deviation(order, shares[0], func(a string) int { return at(a).before }))
		return nil
	}
	fmt.Fprintf(w, "%-*s  %7s  %7s  %7s  %7s\n", wide, "endpoint", "before", "after", "out", "in")
	least := 0.0
	for _, address := range order {
		r := at(address)
		fmt.Fprintf(w, "%-*s  %7d  %7d  %7d  %7d  %s%s\n", wide, address, r.before, r.after, r.out, r.in,
			bar(r.after-r.in, most, "█"), bar(r.in, most, "▒"))
		least += max(0, shares[0][address]-shares[1][address])
	}
	fmt.Fprintf(w, "\n█ stays  ▒ moves here\n")
	fmt.Fprintf(w, "%d keys move, %.2f%%; the fewest that could, by the weights: %.0f, %.2f%%\n", moved, percent(moved), least*placementKeys, 100*least)
	fmt.Fprintf(w, "largest deviation from a fair share: %.2f%% before, %.2f%% after\n",
		100*deviation(order, shares[0], func(a string) int { return at(a).before }),
		100*deviation(order, shares[1], func(a string) int { return at(a).after }))
	return nil
}

func percent(n int) float64 { return 100 * float64(n) / placementKeys }

// deviation is the largest distance of an endpoint's keys from its share, relative to the share.
func deviation(order []string, share map[string]float64, keys func(string) int) (most float64) {
	for _, address := range order {
		if s := share[address] * placementKeys; s > 0 {
			most = max(most, math.Abs(float64(keys(address))-s)/s)
		}
	}
	return most
}

// bar is n of most, of at most 40 characters.
func bar(n, most int, of string) string { return strings.Repeat(of, (n*40+most/2)/most) }
