package change

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// patience is how long a command waits for the lock of one that works: the watcher holds it for moments, a revert of network
// devices for seconds.
const patience = 15 * time.Second

// ErrLeft is wrapped if values were left because somebody else has changed them since; a forced revert restores them too.
var ErrLeft = errors.New("not all is as it was")

// Revert restores what was before the changes that wait or are confirmed, and removes their persistent form. A value that is
// neither ours nor the old one is left and said, unless force. It is safe to be cut off and called again, and does nothing
// (changed is false) if there is nothing to revert.
func (c *Changer) Revert(force bool) (changed bool, err error) {
	unlock, err := c.lock(patience)
	if err != nil {
		return false, err
	}
	defer unlock()
	for _, back := range []func(bool) (bool, error){c.revertPending, c.revertConfirmed, c.revertLeft} {
		did, err := back(force)
		changed = changed || did
		if err != nil {
			return changed, err
		}
	}
	return changed, c.errLeft(changed)
}

// Cancel undoes the change that waits, and leaves what was confirmed before it. It returns whether any did.
func (c *Changer) Cancel() (changed bool, err error) {
	unlock, err := c.lock(patience)
	if err != nil {
		return false, err
	}
	defer unlock()
	if changed, err = c.revertPending(false); err != nil {
		return changed, err
	}
	return changed, c.errLeft(changed)
}

// errLeft is ErrLeft if a revert that did something has left values; of an earlier one's only a word.
func (c *Changer) errLeft(changed bool) error {
	r, err := c.load(leftName)
	if err != nil || r == nil {
		return err
	}
	n := plural(len(r.Entries), "value")
	if !changed {
		c.say("note: an earlier revert has left %s that others had changed, which a revert by force restores", n)
		return nil
	}
	return fmt.Errorf("%w: %s that others had changed is left, which a revert by force restores", ErrLeft, n)
}

// revertPending undoes the change that waits, at whatever point it was cut off.
func (c *Changer) revertPending(force bool) (changed bool, err error) {
	r, err := c.load(pendingName)
	if err != nil || r == nil {
		return false, err
	}
	base, err := c.load(confirmedName)
	if err != nil {
		return false, err
	}
	if base != nil && base.ID == r.ID {
		return true, c.dropPending() // only this was missing of its confirmation
	}
	switch {
	case r.Phase == confirming:
		if err := c.persist(base); err != nil {
			return false, err
		}
	case r.Boot != c.Host.boot():
		c.say("the change went with the last boot: nothing is left of it")
		return true, c.dropPending()
	}
	if err := c.goBack(pendingName, r, force); err != nil {
		return true, err
	}
	return true, c.dropPending()
}

// revertConfirmed removes the persistent form, then restores the values. In another boot they are ours if they are what we set
// at boot.
func (c *Changer) revertConfirmed(force bool) (changed bool, err error) {
	r, err := c.load(confirmedName)
	if err != nil || r == nil {
		return false, err
	}
	if err := c.persist(nil); err != nil {
		return false, err
	}
	// A revert that a reboot has cut off: the persistent form was gone by then, and so nothing was set.
	if r.Phase != reverting || r.Boot == c.Host.boot() {
		if err := c.goBack(confirmedName, r, force); err != nil {
			return true, err
		}
	}
	return true, c.drop(confirmedName)
}

// revertLeft restores by force what earlier reverts have left.
func (c *Changer) revertLeft(force bool) (changed bool, err error) {
	if !force {
		return false, nil
	}
	r, err := c.load(leftName)
	if err != nil || r == nil {
		return false, err
	}
	if err := c.undo(r); err != nil {
		return true, err
	}
	return true, c.drop(leftName)
}

// goBack decides which values are to be restored, puts that on the disk, and restores them. The decision must come first, and
// last: restoring one value can change another (a number of queues resets the rings), which would look like somebody else's to a
// revert that starts again.
func (c *Changer) goBack(name string, r *record, force bool) error {
	if r.Phase != reverting {
		// A change that was cut off after its first write is undone as a whole: what is neither old nor ours may come of that, as
		// when a driver resets one value with another, or of a value that was written and not yet checked.
		keep, left := c.triage(r, force || r.Phase == applying && r.begun())
		if err := c.keepLeft(left); err != nil {
			return err
		}
		r.Phase, r.Boot, r.Entries = reverting, c.Host.boot(), keep
		if err := c.save(name, r); err != nil {
			return err
		}
	}
	return c.undo(r)
}

// triage sorts a record's entries into those to restore, and those that somebody else has changed since. Of what we have not
// written, that is to be restored which still is as it was, lest restoring another changes it; whole takes all.
func (c *Changer) triage(r *record, whole bool) (keep, left []entry) {
	for _, e := range r.Entries {
		if !e.Setting.runtime() {
			continue
		}
		now, err := c.Host.Read(e.Setting)
		switch {
		case err != nil, whole, now == normal(e.Setting, e.Old), e.Written && same(e.Setting, now, e.Setting.Value):
			keep = append(keep, e)
		case e.Written:
			c.say("left: %s is %s; we set it to %s, and it was %s before", e.Setting, quote(now), quote(e.Setting.Value), quote(e.Old))
			left = append(left, e)
		}
	}
	return keep, left
}

// keepLeft remembers what was left. The oldest value of a setting is the one to restore.
func (c *Changer) keepLeft(left []entry) error {
	if len(left) == 0 {
		return nil
	}
	r, err := c.load(leftName)
	if err != nil {
		return err
	}
	if r == nil {
		r = &record{Root: c.root(), Boot: c.Host.boot(), Phase: confirmed}
	}
	known := map[string]bool{}
	for _, e := range r.Entries {
		known[e.Setting.place()] = true
	}
	for _, e := range left {
		if !known[e.Setting.place()] {
			r.Entries = append(r.Entries, e)
		}
	}
	return c.save(leftName, r)
}

// undo restores the old values, last written first. Then it looks at all again, for one may have changed another. It goes on after
// an error: what can be restored is.
func (c *Changer) undo(r *record) error {
	var errs []error
	for range 2 {
		errs = errs[:0]
		for i := len(r.Entries) - 1; i >= 0; i-- {
			e := r.Entries[i]
			if !e.Setting.runtime() {
				continue
			}
			now, err := c.Host.Read(e.Setting)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				c.say("gone, and not restored: %s", e.Setting)
				continue
			case err != nil:
				errs = append(errs, fmt.Errorf("read %s: %w", e.Setting, err))
				continue
			case now == normal(e.Setting, e.Old):
				continue
			}
			c.at("restore " + e.Setting.Key)
			if err := c.write(e.Setting, e.Old); err != nil {
				errs = append(errs, err)
				continue
			}
			c.at("restored " + e.Setting.Key)
			c.say("restored %s: %s → %s", e.Setting, quote(now), quote(e.Old))
		}
	}
	return errors.Join(errs...)
}
