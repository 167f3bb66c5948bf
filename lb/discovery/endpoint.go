package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/engine"
)

// MaxEndpoints bounds a set: what is more is a mistake of whoever made it.
const MaxEndpoints = 65535

// maxPriority is the last tier before that of backup endpoints. SRV's priorities (RFC 2782) are ranked, so that their
// 65,536 values fit as well.
const maxPriority = 127

// Endpoint is one address of a cluster, as the configuration's list or a source describes it: plain values, comparable
// by reflect.DeepEqual.
type Endpoint struct {
	Address string `yaml:"address,required"` // host:port, [v6]:port or unix:/path
	// Weight is the endpoint's share relative to the others' of its tier, 1 to 65535; not given: 1. One that is to
	// have no share is drained.
	Weight *int   `yaml:"weight"`
	Zone   string `yaml:"zone"`
	// Priority is the endpoint's tier, 0 to 127: 0 is tried first, and the next where the ones before have nothing.
	Priority int `yaml:"priority"`
	// Backup is the tier after all others.
	Backup bool  `yaml:"backup"`
	State  State `yaml:"state"`
	// MaxConn bounds the connections that the endpoint has; 0: no bound.
	MaxConn int `yaml:"maxconn"`
}

// State is what an operator wants of an endpoint; empty: ready.
type State string

// The states.
const (
	Ready State = "ready"
	Drain State = "drain" // finishes what it has, takes nothing new
	Maint State = "maint" // is not there: not even checked
)

// Choices are the values that a file may have.
func (State) Choices() []string { return []string{string(Ready), string(Drain), string(Maint)} }

// Validate reports what is wrong with e, by the path of the key. A missing address is not reported: that is the
// decoder's to say.
func (e *Endpoint) Validate(report func(path, message string)) {
	if e.Address != "" {
		if err := engine.CheckAddr(e.Address, false); err != nil {
			report("address", "bad address "+err.Error())
		}
	}
	if e.Weight != nil && (*e.Weight < 1 || *e.Weight > 65535) {
		report("weight", fmt.Sprintf("weight %d: 1 to 65535", *e.Weight))
	}
	switch {
	case e.Priority < 0 || e.Priority > maxPriority:
		report("priority", fmt.Sprintf("priority %d: 0 to %d", e.Priority, maxPriority))
	case e.Backup && e.Priority != 0:
		report("priority", "a backup endpoint has none: it is tried after all others")
	}
	if e.State != "" && !slices.Contains(e.State.Choices(), string(e.State)) {
		report("state", fmt.Sprintf("%q is not one of %s", e.State, strings.Join(e.State.Choices(), ", ")))
	}
	if e.MaxConn < 0 {
		report("maxconn", "must not be negative")
	}
}

// ValidateAll reports what is wrong with a whole list, by paths as "[3].address".
func ValidateAll(list []Endpoint, report func(path, message string)) {
	if len(list) > MaxEndpoints {
		report("", fmt.Sprintf("%d endpoints: at most %d", len(list), MaxEndpoints))
		return
	}
	seen := make(map[string]bool, len(list))
	for i := range list {
		e := &list[i]
		at := "[" + strconv.Itoa(i) + "]."
		e.Validate(func(path, message string) { report(at+path, message) })
		if e.Address != "" && seen[e.Address] {
			report(at+"address", fmt.Sprintf("endpoint %s is there twice: give it a weight instead", e.Address))
		}
		seen[e.Address] = true
	}
}

// canonical brings list into the one form that equal sets have: by address, what is the default not given.
func canonical(list []Endpoint) []Endpoint {
	for i := range list {
		e := &list[i]
		if e.Weight != nil && *e.Weight == 1 {
			e.Weight = nil
		}
		if e.State == Ready {
			e.State = ""
		}
	}
	slices.SortFunc(list, func(a, b Endpoint) int { return strings.Compare(a.Address, b.Address) })
	return list
}

// unique leaves one endpoint of each address, that of the earliest tier and the greatest weight in it: a service that
// is registered twice, or two names of one host, are no mistake that a source could put right.
func unique(list []Endpoint) []Endpoint {
	weight := func(e Endpoint) int {
		if e.Weight == nil {
			return 1
		}
		return *e.Weight
	}
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(weight(b), weight(a)))
	})
	return slices.CompactFunc(list, func(a, b Endpoint) bool { return a.Address == b.Address })
}
