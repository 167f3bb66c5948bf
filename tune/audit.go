package tune

import (
	"cmp"
	"slices"

	"sluice/tune/change"
	"sluice/tune/host"
)

// Audit is what all knobs say of a host.
type Audit struct {
	Host     Summary   `json:"host"`
	Edge     Purpose   `json:"edge"`
	Findings []Finding `json:"findings"` // the weightiest first
	Unseen   []Unknown `json:"unseen"`   // what cannot be seen from here
	Good     int       `json:"good"`     // how many knobs, counted once for each interface, are as wanted
	Moot     int       `json:"moot"`     // how many do not matter here
}

// Summary names the host.
type Summary struct {
	Name      string `json:"name"`
	Kernel    string `json:"kernel"`
	Arch      string `json:"arch"`
	Model     string `json:"model,omitempty"`
	CPUs      int    `json:"cpus"`
	Nodes     int    `json:"nodes"`
	Memory    int64  `json:"memory_bytes"`
	Container bool   `json:"container,omitempty"`
}

// Purpose is what of the edge was judged by.
type Purpose struct {
	Loops       int   `json:"loops"`
	Connections int   `json:"connections"`
	Listeners   int   `json:"listeners"`
	Memory      int64 `json:"memory_bytes"`
	TCP         bool  `json:"tcp"`
	HTTP        bool  `json:"http"`
	UDP         bool  `json:"udp"`
}

// Finding is a knob that is not as wanted.
type Finding struct {
	*Knob
	State
}

// Unknown is a knob that cannot be seen.
type Unknown struct {
	Name string `json:"knob"`
	Of   string `json:"of,omitempty"`
	Why  string `json:"why"`
	Root bool   `json:"root,omitempty"` // root would see it
}

// Run asks all knobs of a host for an edge.
func Run(f *host.Facts, e Edge) *Audit {
	e = e.Fill(f)
	a := &Audit{
		Host: Summary{Name: f.Name, Kernel: f.Kernel, Arch: f.Arch, Model: f.Model, CPUs: len(f.CPUs), Nodes: len(f.Nodes), Memory: f.Memory,
			Container: f.Container()},
		Edge:     Purpose{Loops: e.Loops, Connections: e.Connections, Listeners: e.Listeners, Memory: e.MemoryBytes, TCP: e.TCP, HTTP: e.HTTP, UDP: e.UDP},
		Findings: []Finding{}, Unseen: []Unknown{},
	}
	for _, k := range Knobs {
		for _, s := range k.States(f, e) {
			switch s.Verdict {
			case Good:
				a.Good++
			case Moot:
				a.Moot++
			case Unseen:
				a.Unseen = append(a.Unseen, Unknown{k.Name, s.Of, s.Note, s.Root})
			case Amiss:
				s.Note = cmp.Or(s.Note, obstacle(f, s.Fix))
				a.Findings = append(a.Findings, Finding{k, s})
			}
		}
	}
	slices.SortStableFunc(a.Findings, func(x, y Finding) int { return y.Weight - x.Weight })
	return a
}

// Settings are the remedies of all findings, the weightiest first; of several for one place the first.
func (a *Audit) Settings() []Setting {
	all, seen := []Setting{}, map[string]bool{}
	for _, f := range a.Findings {
		for _, s := range f.Fix {
			s.Why = f.Why
			if at := s.String(); !seen[at] {
				seen[at] = true
				all = append(all, s)
			}
		}
	}
	return all
}

// obstacle says why settings cannot be made from here; empty if they can, as far as is known.
func obstacle(f *host.Facts, fix []Setting) string {
	for _, s := range fix {
		if at := f.ReadOnly(fileOf(s)); at != "" && fileOf(s) != "" {
			return at + " is read-only here: it is set by the container's runtime, or on the machine around it"
		}
		if (s.Kind == change.Unit || s.Kind == change.Boot) && f.Container() {
			return "this is a container: by its runtime, or on the machine around it"
		}
	}
	return ""
}
