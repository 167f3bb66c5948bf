package tune

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// WriteTable writes the audit as text: a heading, the findings with what is to be known of each, and what cannot be seen.
func (a *Audit) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "host  %s\nedge  %s\n", a.Host, a.Edge)
	fmt.Fprintf(&b, "%s; %d good, %d do not matter here, %d cannot be seen\n", count(len(a.Findings), "finding"), a.Good, a.Moot, len(a.Unseen))
	for _, f := range a.Findings {
		fmt.Fprintf(&b, "\n%2d  %s\n", f.Weight, f.title())
		line := func(key, text string) {
			if text != "" {
				wrap(&b, fmt.Sprintf("    %-8s", key), text, 116)
			}
		}
		line("set", cmp.Or(f.Set, "nothing"))
		line("wanted", withUnit(f.Wanted, f.Unit))
		line("why", f.Why)
		line("cost", f.Cost)
		line("sure", string(f.Sure)+": "+strings.Join(f.Source, "; "))
		line("fix", fixes(f.Fix))
		line("do", f.Do)
		line("but", f.Note)
	}
	if len(a.Unseen) > 0 {
		b.WriteString("\nCannot be seen from here:\n")
		for _, u := range grouped(a.Unseen) {
			wrap(&b, "    ", u, 116)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s Summary) String() string {
	parts := []string{cmp.Or(s.Name, "?")}
	for _, text := range []string{s.Model, s.Arch} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if s.Kernel != "" {
		parts = append(parts, "Linux "+s.Kernel)
	}
	parts = append(parts, count(s.CPUs, "processor"))
	if s.Nodes > 1 {
		parts = append(parts, count(s.Nodes, "NUMA node"))
	}
	parts = append(parts, size(s.Memory))
	if s.Container {
		parts = append(parts, "seen from a container")
	}
	return strings.Join(parts, ", ")
}

func (p Purpose) String() string {
	var protocols []string
	for _, x := range []struct {
		on   bool
		name string
	}{{p.TCP, "tcp"}, {p.HTTP, "http"}, {p.UDP, "udp"}} {
		if x.on {
			protocols = append(protocols, x.name)
		}
	}
	return fmt.Sprintf("%s, %s, %s, %s, %s", strings.Join(protocols, " and "), count(p.Listeners, "listener"), count(p.Loops, "loop"),
		count(p.Connections, "connection"), size(p.Memory))
}

// title is the knob and what it is of.
func (f Finding) title() string {
	if f.Of != "" {
		return f.Name + " of " + f.Of
	}
	return f.Name
}

func withUnit(text, unit string) string {
	if unit == "" || strings.Contains(text, unit) {
		return text
	}
	return text + " (" + unit + ")"
}

// fixes words settings; of a long list the first ones.
func fixes(all []Setting) string {
	const shown = 4
	var b strings.Builder
	for i, s := range all {
		if i == shown && len(all) > shown+1 {
			fmt.Fprintf(&b, ", and %d more", len(all)-shown)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(assignment(s))
	}
	return b.String()
}

// grouped has a line for each reason, with the knobs that it holds for.
func grouped(all []Unknown) (lines []string) {
	by := map[string][]string{}
	var order []string
	for _, u := range all {
		why := u.Why
		if u.Root {
			why += " (as root it can)"
		}
		if by[why] == nil {
			order = append(order, why)
		}
		if !slices.Contains(by[why], u.Name) {
			by[why] = append(by[why], u.Name)
		}
	}
	for _, why := range order {
		lines = append(lines, strings.Join(by[why], ", ")+": "+why)
	}
	return lines
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// wrap writes text in lines of at most width characters, behind a label and below itself.
func wrap(b *strings.Builder, label, text string, width int) {
	indent := utf8.RuneCountInString(label)
	b.WriteString(label)
	at := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}

// WritePage writes a knob as a page of the reference.
func (k *Knob) WritePage(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", k.Name)
	for _, line := range [][2]string{
		{"sets", k.Sets}, {"unit", k.Unit}, {"wanted", k.Advice}, {"why", k.Why}, {"cost", k.Cost},
		{"sure", map[Confidence]string{Certain: "certain: it follows from how the kernel works", Likely: "likely: measured by many, on most hosts",
			Depends: "depends on the traffic or the hardware: prove it on this host"}[k.Sure]},
		{"weight", fmt.Sprintf("%d of 10", k.Weight)},
		{"source", strings.Join(k.Source, "; ")},
	} {
		if line[1] != "" {
			wrap(&b, fmt.Sprintf("    %-8s", line[0]), line[1], 116)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
