package change

import "errors"

// Drift is a setting that is not as planned.
type Drift struct {
	Setting Setting
	Current string
	Err     error // it could not be read
}

// Verify compares the host with a plan, or with what was applied and confirmed if that is nil. It takes no lock and writes nothing.
// Lines of the unit that wait for a confirmation are no drift, and neither are boot parameters, which are never applied.
func (c *Changer) Verify(p *Plan) ([]Drift, error) {
	pending, err := c.load(pendingName)
	if err != nil {
		return nil, err
	}
	base, err := c.load(confirmedName)
	if err != nil {
		return nil, err
	}
	if p == nil {
		if p, err = known(base, pending); err != nil {
			return nil, err
		}
	} else if err := p.match(c.Host, func(w string) { c.say("note: %s", w) }); err != nil {
		return nil, err
	}
	var out []Drift
	for _, s := range p.Settings {
		if s.Kind == Boot || s.Kind == Unit && pending.has(s) {
			continue
		}
		now, err := c.Host.Read(s)
		if err != nil || !same(s, now, s.Value) {
			out = append(out, Drift{s, now, err})
		}
	}
	return out, nil
}

// known is all that is applied, as a plan.
func known(base, pending *record) (*Plan, error) {
	all := base
	switch {
	case base == nil && pending == nil:
		return nil, errors.New("nothing was applied: which plan?")
	case base.cutOff() != nil:
		return nil, base.cutOff()
	case pending != nil && pending.Phase != applied:
		return nil, pending.cutOff()
	case pending != nil:
		all = merge(base, pending)
	}
	p := &Plan{}
	for _, e := range all.Entries {
		p.Settings = append(p.Settings, e.Setting)
	}
	return p, nil
}
