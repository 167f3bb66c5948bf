package bench

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

// alpha is the chance of a difference that is none, for each figure that is compared. It is stricter than the usual 5 %
// because a comparison makes some dozen of such tests, of which none should fail for nothing.
const alpha = 0.005

// Comparison is what changed between two series of samples.
type Comparison struct{ Rows []Change }

// Change is one metric under one load.
type Change struct {
	Load, Metric string
	Old, New     float64 // medians
	// OldWithin and NewWithin are the medians' intervals of 95 %; zero if there are too few samples for one.
	OldWithin, NewWithin [2]float64
	Delta                float64 // as a share of Old; positive is worse
	P                    float64 // that both come of one distribution (Mann–Whitney U)
	N                    int     // samples of the smaller series
	Gate                 float64 // the share from which on a change counts
	Worse                bool
	Better               bool
	// Undecided says that there are too few samples to decide at all.
	Undecided bool
}

// Compare compares two results, target by target.
func Compare(before, after *Result) *Comparison {
	c := &Comparison{}
	for _, target := range after.each(func(s *Sample) string { return s.Target }) {
		for _, load := range after.each((*Sample).load) {
			name := load
			if target != "sluice" {
				name += " " + target
			}
			c.add(name, before.series(load, target), after.series(load, target))
		}
	}
	return c
}

// CompareTargets compares two targets of one result.
func CompareTargets(r *Result, before, after string) *Comparison {
	c := &Comparison{}
	for _, load := range r.each((*Sample).load) {
		c.add(load, r.series(load, before), r.series(load, after))
	}
	return c
}

func (c *Comparison) add(load string, before, after []*Sample) {
	for _, m := range metrics {
		a, b := values(before, m), values(after, m)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		ch := Change{Load: load, Metric: m.name, Old: median(a), New: median(b), Gate: m.gate, N: min(len(a), len(b))}
		ch.Delta = ch.New/ch.Old - 1
		if m.up {
			ch.Delta = ch.Old/ch.New - 1
		}
		t := &benchmath.Thresholds{CompareAlpha: alpha}
		ch.P = benchmath.AssumeNothing.Compare(benchmath.NewSample(a, t), benchmath.NewSample(b, t)).P
		ch.OldWithin, ch.NewWithin = interval(a), interval(b)
		ch.Undecided = leastP(len(a), len(b)) > alpha
		if ch.P < alpha && math.Abs(ch.Delta) >= m.gate && math.Abs(ch.New-ch.Old) >= m.add {
			ch.Worse, ch.Better = ch.Delta > 0, ch.Delta < 0
		}
		c.Rows = append(c.Rows, ch)
	}
}

func interval(v []float64) (within [2]float64) {
	if s := summary(v); !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) {
		within = [2]float64{s.Lo, s.Hi}
	}
	return within
}

// leastP is the least p that the Mann–Whitney test can give for samples of these sizes: two of all the ways in which the
// ranks can be dealt out.
func leastP(n, m int) float64 {
	ways := 1.0
	for i := range n {
		ways = ways * float64(m+i+1) / float64(i+1)
	}
	return 2 / ways
}

// Regressions are what got worse, in words.
func (c *Comparison) Regressions() []string {
	var out []string
	for _, r := range c.Rows {
		if r.Worse {
			out = append(out, fmt.Sprintf("%s %s by %.0f %%", r.Load, r.Metric, r.Delta*100))
		}
	}
	return out
}

// Print writes the comparison as a table.
func (c *Comparison) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "load\tmetric\told\tnew\tchange\tp\tcounts from\t")
	undecided := false
	for i := range c.Rows {
		r := &c.Rows[i]
		undecided = undecided || r.Undecided
		fmt.Fprintf(t, "%s\t%s\t%.4g\t%.4g\t%+.1f %%\t%.4f\t%.0f %%\t%s\n", r.Load, r.Metric, r.Old, r.New, (r.New/r.Old-1)*100, r.P, r.Gate*100, r.Word())
	}
	_ = t.Flush()
	if undecided {
		fmt.Fprintf(w, "A difference counts at p < %g, which needs at least 6 rounds on either side.\n", alpha)
	}
}
