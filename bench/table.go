package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

// metric is a figure of samples that is compared.
type metric struct {
	name string // as in Go's benchmark format, where it is the unit
	of   func(*Sample) float64
	up   bool    // more is better
	gate float64 // the change, as a share, from which on it counts
	add  float64 // and the least difference in its own unit
}

// metrics are what is printed and compared. Those that noise hardly touches gate at 5 %; the others at 15 %.
var metrics = []metric{
	{name: "cpu-µs/req", of: (*Sample).CPU, gate: 0.05},
	{name: "allocs/req", of: func(s *Sample) float64 { return value(s.Allocs) }, gate: 0.05, add: 0.01},
	{name: "alloc-B/req", of: func(s *Sample) float64 { return value(s.AllocBytes) }, gate: 0.05, add: 16},
	{name: "B/conn", of: func(s *Sample) float64 { return s.BytesPerConn }, gate: 0.05, add: 32},
	{name: "req/s", of: func(s *Sample) float64 { return s.Throughput }, up: true, gate: 0.15},
	{name: "p50-µs", of: func(s *Sample) float64 { return s.latency().P50 }, gate: 0.15},
	{name: "p99-µs", of: func(s *Sample) float64 { return s.latency().P99 }, gate: 0.15},
}

func value(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}

func (s *Sample) latency() *Latency {
	if s.Latency == nil {
		return &Latency{}
	}
	return s.Latency
}

// load names what a series of samples was taken under: a scenario, and the rate if it is an open loop.
func (s *Sample) load() string {
	if s.Rate > 0 {
		return fmt.Sprintf("%s@%.0f/s", s.Scenario, s.Rate)
	}
	return s.Scenario
}

// each lists the different values of key over the samples, in the order in which they come.
func (r *Result) each(key func(*Sample) string) []string {
	seen := map[string]bool{}
	var out []string
	for i := range r.Samples {
		if k := key(&r.Samples[i]); !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	return out
}

// series are the samples of a load on a target.
func (r *Result) series(load, target string) []*Sample {
	var out []*Sample
	for i := range r.Samples {
		if s := &r.Samples[i]; s.load() == load && s.Target == target {
			out = append(out, s)
		}
	}
	return out
}

func values(samples []*Sample, m metric) []float64 {
	var out []float64
	for _, s := range samples {
		if v := m.of(s); s.Measured() && v != 0 {
			out = append(out, v)
		}
	}
	return out
}

const confidence = 0.95

func summary(v []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(v, &benchmath.DefaultThresholds), confidence)
}

// Print writes medians as tables, one for each load; ratios are to the first target, of the CPU time or of the memory.
func (r *Result) Print(w io.Writer) {
	targets := r.each(func(s *Sample) string { return s.Target })
	for _, load := range r.each((*Sample).load) {
		fmt.Fprintf(w, "\n%s\n", load)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		var notes []string
		header := false
		base := []*Sample{}
		for _, target := range targets {
			all := r.series(load, target)
			if len(all) == 0 {
				continue
			}
			if all[0].Unavailable != "" {
				notes = append(notes, target+": not possible: "+all[0].Unavailable)
				continue
			}
			if all[0].BytesPerConn > 0 {
				if !header {
					fmt.Fprintln(t, "  target\tB/connection\t95 % within\tratio\tconnections\tRSS MiB")
					header, base = true, all
				}
				m := metrics[3]
				s := summary(values(all, m))
				fmt.Fprintf(t, "  %s\t%.0f\t%s\t%s\t%d\t%.1f\n", target, s.Center, within(s, "%.0f"), ratio(all, base, m), all[0].Conns, float64(all[0].RSS)/(1<<20))
				continue
			}
			if !header {
				fmt.Fprintln(t, "  target\tCPU µs/req\t95 % within\tuser\tratio\treq/s\tp50 µs\tp90\tp99\tp99.9\tmax\tswitches\tsyscalls\tRSS MiB\terrors")
				header, base = true, all
			}
			cpu, share := "-", "-"
			span := ""
			if v := values(all, metrics[0]); len(v) > 0 {
				s := summary(v)
				cpu, span, share = fmt.Sprintf("%.2f", s.Center), within(s, "%.2f"), ratio(all, base, metrics[0])
			}
			med := func(f func(*Sample) float64) float64 {
				var v []float64
				for _, s := range all {
					v = append(v, f(s))
				}
				return median(v)
			}
			errs := map[string]uint64{}
			for _, s := range all {
				for k, n := range s.Errors {
					errs[k] += n
				}
				for _, note := range s.Warnings {
					notes = append(notes, target+": "+note)
				}
			}
			bad := "0"
			if len(errs) > 0 {
				bad = errorList(errs)
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%.2f\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%s\t%.1f\t%s\n", target, cpu, span,
				med(func(s *Sample) float64 { return s.CPUUser }), share, med(func(s *Sample) float64 { return s.Throughput }),
				med(func(s *Sample) float64 { return s.latency().P50 }), med(func(s *Sample) float64 { return s.latency().P90 }),
				med(func(s *Sample) float64 { return s.latency().P99 }), med(func(s *Sample) float64 { return s.latency().P999 }),
				med(func(s *Sample) float64 { return s.latency().Max }), med(func(s *Sample) float64 { return s.Switches }),
				orDash(med(func(s *Sample) float64 { return s.Syscalls })), med(func(s *Sample) float64 { return float64(s.RSSPeak) })/(1<<20), bad)
		}
		_ = t.Flush()
		if len(base) > 0 && base[0].Direct > 0 {
			fmt.Fprintf(w, "  without a target: %.0f req/s\n", base[0].Direct)
		}
		if header {
			notes = append(notes, r.beside(load, targets)...)
		}
		for _, n := range distinct(notes) {
			fmt.Fprintln(w, "  "+n)
		}
	}
}

// beside says what a scenario costs more than the one that it adds to, each target against itself, and what targets do
// otherwise than others. load is a closed loop: the scenario's name; nil for all others. The two scenarios were not measured in
// turns: what drifted on the host meanwhile is in the ratios.
func (r *Result) beside(load string, targets []string) (notes []string) {
	found, err := Find([]string{load})
	if err != nil || found[0].Beside == "" {
		return nil
	}
	sc, cpu := found[0], metrics[0]
	var more []string
	for _, target := range targets {
		with, without := r.series(load, target), r.series(sc.Beside, target)
		a, b := values(with, cpu), values(without, cpu)
		if len(a) > 0 && len(b) > 0 {
			more = append(more, fmt.Sprintf("%s %s, %+.2f µs", target, ratio(with, without, cpu), median(a)-median(b)))
		}
	}
	if len(more) > 0 {
		notes = append(notes, fmt.Sprintf("CPU over %s, each its own: %s", sc.Beside, strings.Join(more, "; ")))
	}
	for _, target := range targets {
		name, _, _ := strings.Cut(target, " ") // a revision may follow
		if how := sc.Unlike[name]; how != "" && len(values(r.series(load, target), cpu)) > 0 {
			notes = append(notes, target+": "+how)
		}
	}
	return notes
}

func within(s benchmath.Summary, format string) string {
	if math.IsInf(s.Lo, 0) {
		return "-" // too few samples
	}
	return fmt.Sprintf(format+"–"+format, s.Lo, s.Hi)
}

func orDash(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

// ratio is the median of the ratios round by round, which drift does not touch.
func ratio(all, base []*Sample, m metric) string {
	var v []float64
	for i := range min(len(all), len(base)) {
		if a, b := m.of(all[i]), m.of(base[i]); a > 0 && b > 0 {
			v = append(v, a/b)
		}
	}
	if len(v) == 0 {
		return "-"
	}
	if len(v) < 3 {
		return fmt.Sprintf("%.2f", median(v))
	}
	s := summary(v)
	if math.IsInf(s.Lo, 0) {
		return fmt.Sprintf("%.2f", s.Center)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Center, s.Lo, s.Hi)
}

// distinct keeps the first of lines that differ in their numbers only.
func distinct(lines []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, l := range lines {
		key := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, l)
		if !seen[key] {
			seen[key] = true
			out = append(out, l)
		}
	}
	return out
}

// PrintGo writes the samples in Go's benchmark format, which benchstat reads.
func (r *Result) PrintGo(w io.Writer) {
	fmt.Fprintf(w, "goos: linux\ncpu: %s\n", r.Host.CPU)
	if r.Revision != "" {
		fmt.Fprintf(w, "revision: %s\n", r.Revision)
	}
	for i := range r.Samples {
		s := &r.Samples[i]
		if !s.Measured() {
			continue
		}
		fmt.Fprintf(w, "Benchmark/%s/%s \t%d", strings.ReplaceAll(s.load(), "/s", "ps"), s.Target, max(s.Requests, 1))
		for _, m := range metrics {
			if v := m.of(s); v != 0 {
				fmt.Fprintf(w, "\t%.6g %s", v, m.name)
			}
		}
		fmt.Fprintln(w)
	}
}
