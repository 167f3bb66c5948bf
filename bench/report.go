package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"math"
	"os"
	"slices"
	"strings"
)

//go:embed report.html
var reportPage string

var reportTemplate = template.Must(template.New("report").Parse(reportPage))

// page is what the template shows.
type page struct {
	Title    string
	Facts    [][2]string
	Partial  []string
	Summary  [][]string
	Sections []section
	Trend    []chart
}

type section struct {
	Name, About string
	Changes     [][]string // of a trial
	Charts      []chart
	Rows        [][]string
	Notes       []string
}

type chart struct {
	Title string
	SVG   template.HTML
}

// WriteReport writes one self-contained page of results and the history.
func WriteReport(name string, results []*Result, history []HistoryLine) error {
	r := merge(results)
	p := page{Title: "Sluice benchmark", Facts: facts(results), Trend: trend(history)}
	for _, one := range results {
		if one.Partial != "" {
			p.Partial = append(p.Partial, one.Partial)
		}
	}
	targets := r.each(func(s *Sample) string { return s.Target })
	for _, scenario := range r.each(func(s *Sample) string { return s.Scenario }) {
		if s := r.section(scenario, targets); len(s.Charts) > 0 || len(s.Notes) > 0 {
			p.Sections = append(p.Sections, s)
		}
	}
	return p.write(name)
}

func (p *page) write(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(reportTemplate.Execute(f, p), f.Close())
}

// merge puts results together; targets of more than one result are told apart by their revision.
func merge(results []*Result) *Result {
	if len(results) == 1 {
		return results[0]
	}
	all := &Result{}
	for i, r := range results {
		for _, s := range r.Samples {
			mark := r.Revision
			if mark == "" {
				mark = fmt.Sprint(i + 1)
			}
			s.Target += " " + mark
			all.Samples = append(all.Samples, s)
		}
	}
	return all
}

func facts(results []*Result) [][2]string {
	r := results[0]
	h := r.Host
	out := [][2]string{{"measured", r.Started.Format("2006-01-02 15:04 MST")}, {"revision", r.Revision}, {"CPU", fmt.Sprintf("%s, %d cores", h.CPU, h.Cores)},
		{"memory", fmt.Sprintf("%d MiB", h.MemoryMiB)}, {"kernel", h.Kernel}, {"governor", h.Governor}, {"congestion control", h.Congestion}}
	var names []string
	for n := range h.Versions {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		out = append(out, [2]string{n, h.Versions[n]})
	}
	out = append(out, [2]string{"mitigations", strings.Join(h.Mitigations, "; ")})
	return slices.DeleteFunc(out, func(f [2]string) bool { return f[1] == "" })
}

func (r *Result) section(scenario string, targets []string) section {
	out := section{Name: scenario}
	if sc, err := Find([]string{scenario}); err == nil {
		out.About = sc[0].About
	}
	var cpu, conn []bar
	var curves, against []line
	for _, target := range targets {
		closed := r.series(scenario, target)
		if len(closed) > 0 && closed[0].Unavailable != "" {
			out.Notes = append(out.Notes, target+": not possible: "+closed[0].Unavailable)
			continue
		}
		for _, s := range closed {
			for _, w := range s.Warnings {
				out.Notes = append(out.Notes, target+": "+w)
			}
			if len(s.Errors) > 0 {
				out.Notes = append(out.Notes, target+": errors: "+errorList(s.Errors))
			}
		}
		if v := values(closed, metrics[0]); len(v) > 0 {
			s := summary(v)
			user := median(values(closed, metric{of: func(s *Sample) float64 { return s.CPUUser }}))
			cpu = append(cpu, bar{target, user, max(0, s.Center-user), finite(s.Lo, s.Center), finite(s.Hi, s.Center)})
		}
		if v := values(closed, metrics[3]); len(v) > 0 {
			s := summary(v)
			conn = append(conn, bar{target, 0, s.Center, finite(s.Lo, s.Center), finite(s.Hi, s.Center)})
		}
		if c := curve(closed); len(c) > 0 {
			curves = append(curves, line{name: target, points: c})
		}
		var dots [][2]float64
		for i := range r.Samples {
			if s := &r.Samples[i]; s.Scenario == scenario && s.Target == target && s.Latency != nil {
				dots = append(dots, [2]float64{s.Throughput, s.Latency.P99})
			}
		}
		if len(dots) > 0 {
			against = append(against, line{name: target, points: dots, dots: true})
		}
		if len(closed) > 0 && closed[0].Latency != nil {
			med := func(f func(*Sample) float64) string {
				var v []float64
				for _, s := range closed {
					v = append(v, f(s))
				}
				return number(median(v))
			}
			out.Rows = append(out.Rows, []string{target, med((*Sample).CPU), med(func(s *Sample) float64 { return s.Throughput }),
				med(func(s *Sample) float64 { return s.latency().P50 }), med(func(s *Sample) float64 { return s.latency().P99 }),
				med(func(s *Sample) float64 { return s.latency().P999 }), med(func(s *Sample) float64 { return s.latency().Max })})
		}
	}
	add := func(title string, svg template.HTML) {
		if svg != "" {
			out.Charts = append(out.Charts, chart{title, svg})
		}
	}
	if len(cpu) > 0 {
		add("CPU per request, µs (paler: user)", bars("CPU per request by target", "µs", cpu))
	}
	if len(conn) > 0 {
		add("Memory per idle connection, bytes", bars("memory per idle connection by target", "B", conn))
	}
	if len(curves) > 0 {
		p := plot{title: "latency by percentile", x: "percentile", y: "latency, µs", logX: true, logY: true, lines: curves}
		for _, t := range []struct {
			p    float64
			text string
		}{{0, "0"}, {90, "90"}, {99, "99"}, {99.9, "99.9"}, {99.99, "99.99"}, {99.999, "99.999"}} {
			p.ticksX = append(p.ticksX, tick{tail(t.p), t.text})
		}
		add("Latency by percentile, closed loop", p.svg())
	}
	if len(against) > 0 {
		add("p99 against throughput, each measurement", plot{title: "p99 against throughput", x: "requests/s", y: "p99, µs", logY: true, lines: against}.svg())
	}
	out.Notes = distinct(append(out.Notes, r.beside(scenario, targets)...))
	return out
}

// finite is v, or the median where there are too few samples for an interval.
func finite(v, center float64) float64 {
	if math.IsInf(v, 0) {
		return center
	}
	return v
}

// tail spreads percentiles as their distance from 100 does: 90, 99 and 99.9 are equally far from each other.
func tail(p float64) float64 { return 100 / (100 - p) }

// curve is the median latency over rounds at each percentile.
func curve(samples []*Sample) [][2]float64 {
	var out [][2]float64
	if len(samples) == 0 || samples[0].Latency == nil {
		return nil
	}
	for i, pt := range samples[0].Latency.Curve {
		var v []float64
		for _, s := range samples {
			if s.Latency != nil && i < len(s.Latency.Curve) {
				v = append(v, s.Latency.Curve[i].Latency)
			}
		}
		if m := median(v); m > 0 && !math.IsInf(tail(pt.Percentile), 0) {
			out = append(out, [2]float64{tail(pt.Percentile), m})
		}
	}
	return out
}

// trend shows CPU per request over the measured revisions, a chart for each scenario.
func trend(history []HistoryLine) []chart {
	loads := map[string]map[string]*line{}
	var order []string
	var ticks []tick
	for i, h := range history {
		ticks = append(ticks, tick{float64(i), h.Revision[:min(7, len(h.Revision))]})
		for load, targets := range h.Medians {
			if loads[load] == nil {
				loads[load] = map[string]*line{}
				order = append(order, load)
			}
			for target, m := range targets {
				v, ok := m["cpu-µs/req"]
				if !ok {
					continue
				}
				if loads[load][target] == nil {
					loads[load][target] = &line{name: target}
				}
				loads[load][target].points = append(loads[load][target].points, [2]float64{float64(i), v})
			}
		}
	}
	slices.Sort(order)
	var out []chart
	for _, load := range order {
		p := plot{title: "CPU per request by revision", x: "revision", y: "µs/request", ticksX: thin(ticks)}
		var names []string
		for n := range loads[load] {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			p.lines = append(p.lines, *loads[load][n])
		}
		if svg := p.svg(); svg != "" {
			out = append(out, chart{load + ": CPU per request by revision", svg})
		}
	}
	return out
}

// thin keeps at most ten ticks, the first and the last among them.
func thin(all []tick) []tick {
	if len(all) <= 10 {
		return all
	}
	var out []tick
	for i := range 10 {
		out = append(out, all[i*(len(all)-1)/9])
	}
	return out
}
