package change

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// moment is how long an apply waits for the lock: a watcher that looks, or comes to its end, has it for as long as a few writes to
// the disk take. Another apply that has it is not waited for.
const moment = time.Second

// ApplyOptions are the choices of Apply.
type ApplyOptions struct {
	OtherHost bool          // take a plan of another host
	DryRun    bool          // only say what would be set; takes no lock and leaves no trace
	Within    time.Duration // in which the confirmation must come
	// Watch starts the process that calls Changer.Watch for this change, and returns when that runs. nil: nobody watches.
	Watch func(id string) error
}

// Apply sets what the plan says: all of it, or after an error nothing. It then waits for Confirm, as pending says; a plan of
// which all is set and persistent changes nothing and waits for nothing.
//
// The order is what makes it safe: the snapshot of all old values is on the disk, and the watcher at work, before the first
// value is written. An end of the process at any point leaves a state that Revert, and the watcher by itself, undoes.
func (c *Changer) Apply(p *Plan, o ApplyOptions) (pending bool, err error) {
	if err := p.match(c.Host, func(w string) { c.say("note: %s", w) }); err != nil && !(o.OtherHost && errors.Is(err, ErrOtherHost)) {
		return false, err
	}
	if !o.DryRun {
		unlock, err := c.lock(moment)
		if err != nil {
			return false, err
		}
		defer unlock()
	}
	current, err := p.check(c.Host)
	if err != nil {
		return false, err
	}
	base, err := c.load(confirmedName)
	if err != nil {
		return false, err
	}
	if err := base.cutOff(); err != nil {
		return false, err
	}
	r := &record{ID: rand.Text(), Root: c.root(), Boot: c.Host.boot(), Phase: applying, Within: o.Within}
	var todo []int
	persistent := true
	for i, s := range p.Settings {
		if s.Kind == Boot {
			c.say("by hand: %s=%s on the kernel's command line", s.Key, s.Value)
			continue
		}
		persistent = persistent && base.has(s)
		if s.runtime() && !same(s, current[i], s.Value) {
			if err := c.Host.writable(s); err != nil {
				return false, p.errorAt(i, "key", err)
			}
			todo = append(todo, len(r.Entries))
		}
		if from := s.From; from != "" && !same(s, from, current[i]) && !same(s, s.Value, current[i]) {
			c.say("note: %s is %q, and was %q when the plan was made", s, current[i], from)
		}
		r.Entries = append(r.Entries, entry{Setting: s, Old: current[i]})
	}
	if o.DryRun {
		c.dryRun(r, todo)
		return false, nil
	}
	if waiting, err := c.clearForApply(); err != nil {
		return false, err
	} else if waiting != nil {
		if len(todo) == 0 && waiting.covers(r) {
			c.say("nothing to change: it is applied, and waits for its confirmation")
			return true, nil
		}
		return false, errors.New("a change waits for its confirmation: confirm or revert it first")
	}
	if len(todo) == 0 && persistent {
		c.say("nothing to change")
		return false, nil
	}
	if err := c.persistable(); err != nil {
		return false, err
	}
	if err := c.save(pendingName, r); err != nil {
		return false, err
	}
	if o.Watch != nil {
		if err := o.Watch(r.ID); err != nil {
			return false, errors.Join(fmt.Errorf("start the watcher: %w", err), c.dropPending())
		}
	}
	c.at("watched")
	if err := c.set(r, todo); err != nil {
		c.say("failed: %v; rolling back", err)
		if undone := c.undo(r); undone != nil {
			return false, fmt.Errorf("%w; and not all could be rolled back, try sluice tune revert: %w", err, undone)
		}
		return false, errors.Join(err, c.dropPending())
	}
	r.Phase = applied
	if err := c.save(pendingName, r); err != nil {
		return false, errors.Join(err, c.undo(r))
	}
	return true, nil
}

// clearForApply returns the change that waits, and forgets one that a reboot has undone.
func (c *Changer) clearForApply() (*record, error) {
	old, err := c.load(pendingName)
	switch {
	case err != nil || old == nil:
		return nil, err
	case old.Phase != confirming && old.Boot != c.Host.boot():
		c.say("a change that nobody confirmed went with the last boot")
		return nil, c.dropPending()
	}
	return old, old.cutOff()
}

// set writes the settings in their order, reads each back, and then all of them once more.
func (c *Changer) set(r *record, todo []int) error {
	j, err := c.newJournal(r.ID)
	if err != nil {
		return err
	}
	defer j.Close()
	for _, i := range todo {
		e := &r.Entries[i]
		c.at("before " + e.Setting.Key)
		if err := j.note(i); err != nil {
			return err
		}
		e.Written = true
		c.at("noted " + e.Setting.Key)
		if err := c.write(e.Setting, e.Setting.Value); err != nil {
			return err
		}
		c.at("written " + e.Setting.Key)
		c.say("set %s: %s → %s", e.Setting, quote(e.Old), quote(e.Setting.Value))
	}
	for _, e := range r.Entries {
		if !e.Setting.runtime() {
			continue
		}
		if now, err := c.Host.Read(e.Setting); err != nil || !same(e.Setting, now, e.Setting.Value) {
			return errors.Join(fmt.Errorf("%s was set to %s and is %s at the end: a later setting changes it, and must come before it",
				e.Setting, quote(e.Setting.Value), quote(now)), err)
		}
	}
	return nil
}

// write sets one value and reads it back.
func (c *Changer) write(s Setting, value string) error {
	if err := c.Host.write(s, value); err != nil {
		return fmt.Errorf("set %s to %s: %w", s, quote(value), err)
	}
	now, err := c.Host.Read(s)
	if err != nil {
		return fmt.Errorf("read back %s: %w", s, err)
	}
	if !same(s, now, value) {
		return fmt.Errorf("%s was set to %s, and reads %s", s, quote(value), quote(now))
	}
	return nil
}

// writable asks about the file without writing to it: EROFS, EACCES.
func (h *Host) writable(s Setting) error {
	if s.Kind != Sysctl && s.Kind != File {
		return nil
	}
	if err := unix.Faccessat(unix.AT_FDCWD, h.file(s), unix.W_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%s cannot be written: %w", h.file(s), err)
	}
	return nil
}

func (c *Changer) dryRun(r *record, todo []int) {
	for _, i := range todo {
		e := r.Entries[i]
		c.say("would set %s: %s → %s", e.Setting, quote(e.Old), quote(e.Setting.Value))
	}
	for _, e := range r.Entries {
		if e.Setting.Kind == Unit && !same(e.Setting, e.Old, e.Setting.Value) {
			c.say("would write %s: %s → %s, when confirmed", e.Setting, quote(e.Old), quote(e.Setting.Value))
		}
	}
	if len(todo) == 0 {
		c.say("no value is other than planned")
	}
}

// has says whether the setting is in the record with this value.
func (r *record) has(s Setting) bool {
	if r == nil {
		return false
	}
	for _, e := range r.Entries {
		if e.Setting.place() == s.place() {
			return same(s, e.Setting.Value, s.Value)
		}
	}
	return false
}

// covers says whether all of another record is in this one.
func (r *record) covers(other *record) bool {
	for _, e := range other.Entries {
		if !r.has(e.Setting) {
			return false
		}
	}
	return true
}

// dropPending forgets the change that waits; the journal goes last, for it means nothing without it.
func (c *Changer) dropPending() error {
	if err := c.drop(pendingName); err != nil {
		return err
	}
	return c.drop(journalName)
}

func quote(v string) string {
	if v == "" {
		return "nothing"
	}
	return v
}
