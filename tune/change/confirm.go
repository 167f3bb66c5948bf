package change

import (
	"errors"
	"fmt"
)

// ErrNothing is what Confirm and Verify answer if there is no change.
var ErrNothing = errors.New("no change waits for a confirmation")

// Confirm keeps the change that waits, and writes its persistent form. After an error the change still waits. A confirmation
// that was cut off can be given again.
func (c *Changer) Confirm() error {
	unlock, err := c.lock(patience)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := c.load(pendingName)
	if err != nil {
		return err
	}
	base, err := c.load(confirmedName)
	switch {
	case err != nil:
		return err
	case r == nil:
		return ErrNothing
	case base != nil && base.Phase == reverting:
		return base.cutOff()
	case base != nil && base.ID == r.ID:
		return c.dropPending()
	case r.Phase == applying || r.Phase == reverting:
		return r.cutOff()
	case r.Boot != c.Host.boot():
		return errors.New("the change went with the last boot: apply it again")
	}
	r.Phase = confirming
	if err := c.save(pendingName, r); err != nil {
		return err
	}
	all := merge(base, r)
	if err := c.persist(all); err != nil {
		r.Phase = applied
		return errors.Join(fmt.Errorf("write the persistent form: %w", err), c.persist(base), c.save(pendingName, r))
	}
	if err := c.save(confirmedName, all); err != nil {
		return err
	}
	return c.dropPending()
}

// merge adds a change to what was confirmed before it. The oldest value is the one to go back to.
func merge(base, r *record) *record {
	all := *r
	all.Phase, all.Entries = confirmed, nil
	if base != nil {
		all.Entries = append(all.Entries, base.Entries...)
	}
	at := map[string]int{}
	for i, e := range all.Entries {
		at[e.Setting.place()] = i
	}
	for _, e := range r.Entries {
		if i, has := at[e.Setting.place()]; has {
			e.Old, e.Written = all.Entries[i].Old, e.Written || all.Entries[i].Written
			all.Entries[i] = e
		} else {
			all.Entries = append(all.Entries, e)
		}
	}
	return &all
}

// Boot sets again all that is confirmed, as the unit does at boot. A setting that fails is said and does not hold up the others:
// nobody is there to be asked, and the change has proved itself.
func (c *Changer) Boot() error {
	unlock, err := c.lock(patience)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := c.load(confirmedName)
	if err != nil || r == nil || r.Phase == reverting {
		return err
	}
	var errs []error
	for _, e := range r.Entries {
		if !e.Setting.runtime() {
			continue
		}
		now, err := c.Host.Read(e.Setting)
		if err == nil && !same(e.Setting, now, e.Setting.Value) {
			if err = c.write(e.Setting, e.Setting.Value); err == nil {
				c.say("set %s: %s → %s", e.Setting, quote(now), quote(e.Setting.Value))
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Setting, err))
		}
	}
	return errors.Join(errs...)
}
