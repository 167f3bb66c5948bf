package bench

import "fmt"

// Chapter is one trial in a report.
type Chapter struct {
	Name, About string   // what was tried, and what came of it
	Summary     []string // its line in the table at the top
	Result      *Result  // nil: it was not tried
	Comparison  *Comparison
}

// WriteTrials writes one self-contained page of trials.
func WriteTrials(name, title string, chapters []Chapter) error {
	p := page{Title: title}
	for _, c := range chapters {
		p.Summary = append(p.Summary, c.Summary)
		if c.Result == nil {
			continue
		}
		if p.Facts == nil {
			p.Facts = facts([]*Result{c.Result})
		}
		if c.Result.Partial != "" {
			p.Partial = append(p.Partial, c.Name+": "+c.Result.Partial)
		}
		targets := c.Result.each(func(s *Sample) string { return s.Target })
		for i, scenario := range c.Result.each(func(s *Sample) string { return s.Scenario }) {
			s := c.Result.section(scenario, targets)
			s.Name = c.Name + ": " + scenario
			if i == 0 {
				s.About = c.About + ". " + s.About
			}
			for _, row := range c.Comparison.Rows {
				if row.Load == scenario {
					s.Changes = append(s.Changes, row.cells())
				}
			}
			p.Sections = append(p.Sections, s)
		}
	}
	return p.write(name)
}

// cells are the change as a row: metric, old, its interval, new, its interval, change, p, gate, verdict.
func (c *Change) cells() []string {
	span := func(v [2]float64) string {
		if v == [2]float64{} {
			return "-"
		}
		return fmt.Sprintf("%.4g–%.4g", v[0], v[1])
	}
	return []string{c.Metric, fmt.Sprintf("%.4g", c.Old), span(c.OldWithin), fmt.Sprintf("%.4g", c.New), span(c.NewWithin),
		fmt.Sprintf("%+.1f %%", (c.New/c.Old-1)*100), fmt.Sprintf("%.4f", c.P), fmt.Sprintf("%.0f %%", c.Gate*100), c.Word()}
}

// Word is the verdict in a word or two; empty if the change does not count.
func (c *Change) Word() string {
	switch {
	case c.Worse:
		return "WORSE"
	case c.Better:
		return "better"
	case c.Undecided:
		return "too few rounds"
	}
	return ""
}
