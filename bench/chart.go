package bench

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strings"
)

// Charts are drawn as SVG that takes its colours from the page: class s0, s1 … for series, axis and label for the rest.

// line is a series of a chart.
type line struct {
	name   string
	points [][2]float64
	dots   bool // points only
}

// plot is a chart with two axes.
type plot struct {
	title, x, y string
	logX, logY  bool
	ticksX      []tick // instead of round numbers
	lines       []line
}

type tick struct {
	at   float64
	text string
}

const (
	plotW, plotH             = 400.0, 250.0
	left, right, top, bottom = 58.0, 12.0, 12.0, 40.0
)

// span is an axis's range.
type span struct {
	lo, hi float64
	log    bool
}

func (s span) share(v float64) float64 {
	if s.log {
		return (math.Log10(v) - math.Log10(s.lo)) / (math.Log10(s.hi) - math.Log10(s.lo))
	}
	return (v - s.lo) / (s.hi - s.lo)
}

// axis finds a range for values, and where to put its ticks.
func axis(values []float64, log bool) (span, []tick) {
	lo, hi := slices.Min(values), slices.Max(values)
	s := span{log: log}
	var at []tick
	if log {
		s.lo, s.hi = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi)))
		if s.hi <= s.lo {
			s.hi = s.lo * 10
		}
		for v := s.lo; v <= s.hi*1.001; v *= 10 {
			at = append(at, tick{v, number(v)})
		}
		return s, at
	}
	if hi <= 0 {
		hi = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(hi/4)))
	for _, m := range []float64{1, 2, 5, 10} {
		if hi/(step*m) <= 5 {
			step *= m
			break
		}
	}
	s.hi = math.Ceil(hi/step) * step
	for v := 0.0; v <= s.hi*1.001; v += step {
		at = append(at, tick{v, number(v)})
	}
	return s, at
}

// number is short: 1.5k, 20, 0.3.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1000:
		return fmt.Sprintf("%.3gk", v/1000)
	}
	return fmt.Sprintf("%.3g", v)
}

func (p plot) svg() template.HTML {
	var xs, ys []float64
	for _, l := range p.lines {
		for _, pt := range l.points {
			xs, ys = append(xs, pt[0]), append(ys, pt[1])
		}
	}
	if len(xs) == 0 {
		return ""
	}
	sx, tx := axis(xs, p.logX)
	if p.ticksX != nil {
		tx = p.ticksX
		sx = span{lo: tx[0].at, hi: tx[len(tx)-1].at, log: p.logX}
		if sx.hi == sx.lo {
			sx.hi++
		}
	}
	sy, ty := axis(ys, p.logY)
	px := func(v float64) float64 { return left + sx.share(v)*(plotW-left-right) }
	py := func(v float64) float64 { return plotH - bottom - sy.share(v)*(plotH-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, plotW, plotH, html.EscapeString(p.title))
	for _, t := range ty {
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="label" x="%g" y="%.1f" text-anchor="end">%s</text>`,
			left, plotW-right, py(t.at), py(t.at), left-6, py(t.at)+4, html.EscapeString(t.text))
	}
	for _, t := range tx {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/><text class="label" x="%.1f" y="%g" text-anchor="middle">%s</text>`,
			px(t.at), px(t.at), top, plotH-bottom, px(t.at), plotH-bottom+16, html.EscapeString(t.text))
	}
	fmt.Fprintf(&b, `<text class="label" x="%g" y="%g" text-anchor="end">%s</text>`, plotW-right, plotH-6, html.EscapeString(p.x))
	fmt.Fprintf(&b, `<text class="label" x="14" y="%g" text-anchor="middle" transform="rotate(-90 14 %g)">%s</text>`, plotH/2-10, plotH/2-10, html.EscapeString(p.y))
	for i, l := range p.lines {
		var d strings.Builder
		for j, pt := range l.points {
			if l.dots || len(l.points) == 1 {
				fmt.Fprintf(&b, `<circle class="s%d dot" cx="%.1f" cy="%.1f" r="4"><title>%s: %s, %s</title></circle>`, i%8, px(pt[0]), py(pt[1]),
					html.EscapeString(l.name), number(pt[0]), number(pt[1]))
				continue
			}
			cmd := "L"
			if j == 0 {
				cmd = "M"
			}
			fmt.Fprintf(&d, "%s%.1f %.1f", cmd, px(pt[0]), py(pt[1]))
		}
		if d.Len() > 0 {
			fmt.Fprintf(&b, `<path class="s%d" d="%s"><title>%s</title></path>`, i%8, d.String(), html.EscapeString(l.name))
		}
	}
	b.WriteString("</svg>")
	b.WriteString(string(legend(p.lines)))
	return template.HTML(b.String())
}

func legend(lines []line) template.HTML {
	var b strings.Builder
	b.WriteString(`<p class="legend">`)
	for i, l := range lines {
		fmt.Fprintf(&b, `<span><i class="s%d"></i>%s</span>`, i%8, html.EscapeString(l.name))
	}
	b.WriteString("</p>")
	return template.HTML(b.String())
}

// bar is one of a chart of bars, of two parts.
type bar struct {
	name        string
	first, rest float64
	lo, hi      float64 // of the sum, 95 %
}

// bars draws horizontal bars over one scale.
func bars(title, unit string, all []bar) template.HTML {
	const row, name = 30.0, 62.0
	most := 0.0
	for _, b := range all {
		most = max(most, b.first+b.rest, b.hi)
	}
	width := plotW - name - 84
	scale := width / max(most, 1e-9)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, plotW, row*float64(len(all))+4, html.EscapeString(title))
	for i, x := range all {
		y := row * float64(i)
		mid := y + row/2
		end := name + (x.first+x.rest)*scale
		fmt.Fprintf(&b, `<text class="label" x="%g" y="%.1f" text-anchor="end">%s</text>`, name-8, mid+4, html.EscapeString(x.name))
		fmt.Fprintf(&b, `<rect class="s%d bar dim" x="%g" y="%.1f" width="%.1f" height="%g"/>`, i%8, name, y+6, x.first*scale, row-12)
		fmt.Fprintf(&b, `<rect class="s%d bar" x="%.1f" y="%.1f" width="%.1f" height="%g"/>`, i%8, name+x.first*scale, y+6, x.rest*scale, row-12)
		fmt.Fprintf(&b, `<line class="error" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, name+x.lo*scale, name+x.hi*scale, mid, mid)
		fmt.Fprintf(&b, `<text class="label" x="%.1f" y="%.1f">%.2f %s</text>`, max(end, name+x.hi*scale)+6, mid+4, x.first+x.rest, html.EscapeString(unit))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
