package change

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Plan is what is to be set on one host, in this order: what a value depends on comes before it.
type Plan struct {
	Host     Identity  `yaml:"host"`
	Settings []Setting `yaml:"settings"`

	doc *document // where the settings stand in the file; nil if the plan was not read from one
}

// NewPlan makes a plan of this host: the settings with their present values, each after those that it depends on. What cannot be set here is left out and said by
// skipped, as is what has its value already unless that is a unit's.
func NewPlan(h *Host, settings []Setting, skipped func(s Setting, why error)) *Plan {
	p := &Plan{Host: h.Identity()}
	seen := map[string]bool{}
	for _, s := range inOrder(settings) {
		var err error
		s.Validate(func(path, message string) {
			if err == nil {
				err = fmt.Errorf("%s: %s", path, message)
			}
		})
		if err == nil && seen[s.place()] {
			err = errors.New("there already")
		}
		if err == nil {
			s.From, err = h.check(s)
		}
		if err == nil && s.Kind != Boot && same(s, s.From, s.Value) {
			err = errors.New("has this value already")
		}
		if err != nil {
			skipped(s, err)
			continue
		}
		seen[s.place()] = true
		p.Settings = append(p.Settings, s)
	}
	return p
}

// Write writes the plan as YAML with comments. ParsePlan reads it.
func (p *Plan) Write(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# A plan of sluice tune. Edit it: what is deleted is not set. The order matters, and is kept.\n" +
		"# sluice tune apply FILE sets the values, sluice tune revert brings the old ones back.\n")
	q := strconv.Quote
	fmt.Fprintf(&b, "host:\n  machine_id: %s\n  hostname: %s\n  kernel: %s\n", q(p.Host.MachineID), q(p.Host.Hostname), q(p.Host.Kernel))
	b.WriteString("  nics:")
	if len(p.Host.NICs) == 0 {
		b.WriteString(" []")
	}
	for _, n := range p.Host.NICs {
		b.WriteString("\n    - " + q(n))
	}
	b.WriteString("\nsettings:")
	if len(p.Settings) == 0 {
		b.WriteString(" []")
	}
	for _, s := range p.Settings {
		b.WriteString("\n")
		if s.Kind == Boot {
			b.WriteString("  # By hand: the kernel's command line is the boot loader's. It is never applied.\n")
		}
		fmt.Fprintf(&b, "  - kind: %s\n    key: %s\n    from: %s\n    to: %s\n", s.Kind, q(s.Key), q(s.From), q(s.Value))
		if s.Why != "" {
			fmt.Fprintf(&b, "    why: %s\n", q(s.Why))
		}
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// validate reports all that is wrong with the plan by itself.
func (p *Plan) validate(report func(path, message string)) {
	if len(p.Settings) == 0 {
		report("settings", "no settings")
	}
	seen := map[string]int{}
	for i, s := range p.Settings {
		at := "settings[" + strconv.Itoa(i) + "]"
		s.Validate(func(path, message string) { report(at+"."+path, message) })
		if first, twice := seen[s.place()]; twice {
			report(at+".key", fmt.Sprintf("%s is there twice, first as number %d", s, first+1))
		} else {
			seen[s.place()] = i
		}
	}
}

// ErrOtherHost is wrapped by the refusal of a plan of another host.
var ErrOtherHost = errors.New("the plan is of another host")

// match refuses a plan of another host, and says what else is not as when it was made. The machine id alone is not enough:
// clones of an image share it.
func (p *Plan) match(h *Host, warn func(string)) error {
	here := h.Identity()
	for _, x := range []struct{ what, plan, here string }{
		{"machine id", p.Host.MachineID, here.MachineID}, {"host name", p.Host.Hostname, here.Hostname}} {
		if x.plan != x.here {
			return fmt.Errorf("%w: its %s is %q, and here it is %q", ErrOtherHost, x.what, x.plan, x.here)
		}
	}
	if p.Host.Kernel != here.Kernel {
		warn(fmt.Sprintf("the plan was made under kernel %s, and this is %s", p.Host.Kernel, here.Kernel))
	}
	for _, n := range p.Host.NICs {
		if !slices.Contains(here.NICs, n) {
			warn(fmt.Sprintf("the plan knows a network device %s, which is not here", n))
		}
	}
	return nil
}

// errorAt is an error at a setting's key, with its place in the file if there is one.
func (p *Plan) errorAt(i int, key string, err error) error {
	if p.doc == nil {
		return fmt.Errorf("%s: %w", p.Settings[i], err)
	}
	return p.doc.errorf("settings["+strconv.Itoa(i)+"]."+key, "%s: %v", p.Settings[i], err)
}

// check asks the host about every setting: all that it would refuse, or the present values. It writes nothing.
func (p *Plan) check(h *Host) (current []string, err error) {
	var errs []error
	current = make([]string, len(p.Settings))
	for i, s := range p.Settings {
		if current[i], err = h.check(s); err != nil {
			key := "to"
			if errors.Is(err, fs.ErrPermission) || strings.HasPrefix(err.Error(), "this host has no") {
				key = "key"
			}
			errs = append(errs, p.errorAt(i, key, err))
		}
	}
	return current, join(errs)
}

// join makes Errors of errors that all have a place.
func join(errs []error) error {
	var all Errors
	for _, err := range errs {
		e, ok := err.(Error)
		if !ok {
			return errors.Join(errs...)
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}
