package tune

import (
	"cmp"
	"slices"

	"sluice/tune/host"
)

// Knob is something on a host that matters to an edge. It reads like an entry of a reference.
type Knob struct {
	Name   string     `json:"knob"` // net.core.somaxconn, nic.rx_ring
	Sets   string     `json:"sets"` // what it is
	Unit   string     `json:"unit,omitempty"`
	Advice string     `json:"advice"` // what is wanted, in words
	Why    string     `json:"why"`
	Source []string   `json:"source"` // kernel document, RFC, paper, vendor's guide
	Cost   string     `json:"cost"`   // of having it as wanted
	Sure   Confidence `json:"confidence"`
	Weight int        `json:"weight"` // 1 (a nuance) to 10 (the edge fails under load without it)

	check check
}

// Confidence is how sure it is that what is wanted is better.
type Confidence string

// The degrees of confidence.
const (
	Certain Confidence = "certain" // follows from how the kernel works, or a limit is met
	Likely  Confidence = "likely"  // measured by many, on most hosts
	Depends Confidence = "depends" // on the traffic or the hardware: prove it on this host
)

// check looks at a host for the knob of a name. There is a state for each thing that has the knob (an interface, say), at
// least one.
type check func(name string, f *host.Facts, e Edge) []State

// Verdict is what comes of looking.
type Verdict string

// The verdicts.
const (
	Good   Verdict = "good"
	Amiss  Verdict = "amiss"  // a finding
	Unseen Verdict = "unseen" // it cannot be seen from here
	Moot   Verdict = "moot"   // it does not matter to this edge on this host
)

// State is what a knob says of a host, or of one part of it.
type State struct {
	Of      string    `json:"of,omitempty"` // the part: an interface; empty: the host
	Verdict Verdict   `json:"-"`
	Set     string    `json:"set"`
	Wanted  string    `json:"wanted"`
	Note    string    `json:"note,omitempty"` // why it is unseen or moot; of a finding what else is to be known
	Root    bool      `json:"-"`              // unseen for want of privileges
	Fix     []Setting `json:"fix,omitempty"`
	Do      string    `json:"do,omitempty"` // what to do about a finding that no setting mends, or beside the settings
}

// States looks at a host. e is filled.
func (k *Knob) States(f *host.Facts, e Edge) []State { return k.check(k.Name, f, e) }

// Knobs are all knobs, by name.
var Knobs = table(limitKnobs, coreKnobs, portKnobs, tcpKnobs, memoryKnobs, queueKnobs, steeringKnobs, offloadKnobs, linkKnobs, cpuKnobs, powerKnobs, processKnobs)

func table(families ...[]Knob) (all []*Knob) {
	for _, family := range families {
		for i := range family {
			all = append(all, &family[i])
		}
	}
	slices.SortFunc(all, func(a, b *Knob) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Find is the knob of a name; nil if there is none.
func Find(name string) *Knob {
	i := slices.IndexFunc(Knobs, func(k *Knob) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return Knobs[i]
}
