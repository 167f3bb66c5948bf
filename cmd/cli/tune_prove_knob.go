package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"sluice/cmd/config"
	"sluice/tune"
	hostchange "sluice/tune/change"
	"sluice/tune/host"
)

// knob is something that a trial turns on.
type knob struct {
	Name     string               `json:"knob"`
	Settings []hostchange.Setting `json:"settings,omitempty"` // what turns it on, and keeps it
	ByHand   string               `json:"by_hand,omitempty"`  // what keeps it where no setting does
	// Obstacle says why it cannot be tried here; empty if it can.
	Obstacle string `json:"obstacle,omitempty"`

	env    []string // of the process, NAME=VALUE
	loops  int      // of the engine; 0: as given
	engine []string // more of its configuration
}

// title names the knob with what it is set to.
func (k *knob) title() string {
	switch {
	case strings.Contains(k.Name, "="):
	case len(k.Settings) == 1:
		return k.Name + "=" + k.Settings[0].Value
	case len(k.Settings) > 1:
		return fmt.Sprintf("%s (%d settings)", k.Name, len(k.Settings))
	}
	return k.Name
}

// runtime are the settings that are made on the host for each turn.
func (k *knob) runtime() (out []hostchange.Setting) {
	for _, s := range k.Settings {
		if s.Kind != hostchange.Unit {
			out = append(out, s)
		}
	}
	return out
}

// add takes a setting in, or says what is in its way.
func (k *knob) add(s hostchange.Setting) {
	k.Settings = append(k.Settings, s)
	name, variable := strings.CutPrefix(s.Key, "Environment/")
	switch {
	case s.Kind == hostchange.Unit && variable:
		if os.Getenv(name) == s.Value {
			k.Obstacle = cmp.Or(k.Obstacle, "has this value already")
		}
		k.env = append(k.env, name+"="+s.Value)
	case s.Kind == hostchange.Unit:
		k.Obstacle = cmp.Or(k.Obstacle, s.Key+" is a line of the unit, and a trial's processes are not of it")
	case s.Kind == hostchange.Boot:
		k.Obstacle = cmp.Or(k.Obstacle, "a parameter of the kernel's command line needs a boot")
	case elsewhere(s):
		k.Obstacle = cmp.Or(k.Obstacle, "the trial's traffic goes over the loopback, and does not meet this device")
	}
}

// clashes says whether two knobs set the same thing.
func (k *knob) clashes(o *knob) bool {
	return k.loops > 0 && o.loops > 0 || slices.ContainsFunc(k.Settings, func(s hostchange.Setting) bool {
		return slices.ContainsFunc(o.Settings, func(t hostchange.Setting) bool { return s.String() == t.String() })
	}) || slices.ContainsFunc(k.engine, func(line string) bool {
		key, _, _ := strings.Cut(line, ":")
		return slices.ContainsFunc(o.engine, func(other string) bool { return strings.HasPrefix(other, key+":") })
	})
}

// elsewhere says of a setting that it is of a network device that is not the loopback.
func elsewhere(s hostchange.Setting) bool {
	nic, _, _ := strings.Cut(s.Key, "/")
	switch s.Kind {
	case hostchange.Ethtool, hostchange.Link:
		return nic != "lo"
	case hostchange.File:
		at, ok := strings.CutPrefix(s.Key, "/sys/class/net/")
		return ok && !strings.HasPrefix(at, "lo/") || strings.HasPrefix(s.Key, "/proc/irq/")
	}
	return false
}

// The variables of Go's runtime, by their knobs.
var runtimeKnobs = map[string]string{"process.gogc": "GOGC", "process.gomemlimit": "GOMEMLIMIT", "process.gomaxprocs": "GOMAXPROCS"}

// assign is a knob with a value that the command line gives it: a sysctl, a path under /sys, NIC/NAME, a variable of Go's runtime,
// process.loops, or engine.KEY for a key of the configuration's engine.
func assign(name, value string) (*knob, error) {
	k := &knob{Name: name}
	s := hostchange.Setting{Kind: hostchange.Sysctl, Key: name, Value: value}
	key, ofEngine := strings.CutPrefix(name, "engine.")
	variable := cmp.Or(runtimeKnobs[name], name)
	first, _, _ := strings.Cut(name, "/")
	switch {
	case name == "process.loops" || name == "engine.loops":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 1024 {
			return nil, fmt.Errorf("%s=%s: a number of loops, 1 to 1024", name, value)
		}
		k.loops = n
		fallthrough
	case ofEngine:
		if value == "" || strings.ContainsAny(value, "{},:#\n") || !plainKey(cmp.Or(key, "loops")) {
			return nil, fmt.Errorf("%s=%s: a key of the configuration's engine, and a plain value", name, value)
		}
		if k.loops == 0 {
			k.engine = []string{key + ": " + value}
		}
		k.Name += "=" + value
		k.ByHand = "engine: {" + strings.TrimPrefix(strings.TrimPrefix(name, "engine."), "process.") + ": " + value + "} in the configuration"
		return k, nil
	case strings.HasPrefix(variable, "GO"):
		s.Kind, s.Key = hostchange.Unit, "Environment/"+variable
	case strings.HasPrefix(name, "/"):
		s.Kind = hostchange.File
	case first != name && !strings.HasPrefix(name, "net."):
		s.Kind = hostchange.Ethtool
		if what := name[len(first)+1:]; what == "mtu" || what == "txqlen" || what == "qdisc" {
			s.Kind = hostchange.Link
		}
	}
	var err error
	s.Validate(func(_, message string) {
		if err == nil {
			err = fmt.Errorf("%s=%s: %s", name, value, message)
		}
	})
	k.add(s)
	return k, err
}

func plainKey(key string) bool {
	return key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// advised is a knob as the audit wants it.
func advised(f *host.Facts, e tune.Edge, name string) (*knob, error) {
	of := tune.Find(name)
	if of == nil {
		if near := config.Nearest(name, knobNames()); near != "" {
			return nil, fmt.Errorf("no knob named %q; did you mean %q?", name, near)
		}
		return nil, fmt.Errorf("no knob named %q: sluice tune explain lists them, and %s=VALUE tries a value of a sysctl", name, name)
	}
	k := &knob{Name: name}
	why := ""
	for _, s := range of.States(f, e.Fill(f)) {
		switch s.Verdict {
		case tune.Good:
			why = cmp.Or(why, "it is as wanted ("+s.Set+"); "+name+"=VALUE tries another value")
		case tune.Amiss:
			for _, fix := range s.Fix {
				fix.Why = of.Why
				k.add(fix)
			}
			if len(s.Fix) == 0 {
				why = cmp.Or(why, "no setting mends it: "+s.Do)
			}
		default:
			why = cmp.Or(why, s.Note)
		}
	}
	if len(k.Settings) == 0 {
		k.Obstacle = why
	}
	return k, nil
}

// knobsOf are the knobs of the command line: named, with their values or as the audit wants them, or all that it has something
// against.
func knobsOf(f *host.Facts, e tune.Edge, args []string, all bool) ([]*knob, error) {
	var out []*knob
	for _, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		var k *knob
		var err error
		if given {
			k, err = assign(name, value)
		} else {
			k, err = advised(f, e, name)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	if all {
		for _, finding := range tune.Run(f, e).Findings {
			if slices.ContainsFunc(out, func(k *knob) bool { return k.Name == finding.Name }) {
				continue
			}
			k, err := advised(f, e, finding.Name)
			if err != nil {
				return nil, err
			}
			out = append(out, k)
		}
	}
	return out, nil
}
