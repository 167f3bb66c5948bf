package change

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names in the state directory.
const (
	lockName      = "lock"
	pendingName   = "pending.json"    // the change that waits for its confirmation
	journalName   = "pending.journal" // which of its settings were written
	confirmedName = "confirmed.json"  // all that was confirmed
	leftName      = "left.json"       // what a revert has left, because somebody else had changed it since
)

// ErrLocked is wrapped if another process changes this host at the moment.
var ErrLocked = errors.New("another sluice tune is at work")

// phase is how far a change has come.
type phase string

const (
	applying   phase = "applying"   // the snapshot is on the disk; values may have been written
	applied    phase = "applied"    // all are written
	confirming phase = "confirming" // the persistent form may be there
	confirmed  phase = "confirmed"
	reverting  phase = "reverting" // the entries that are left in the record are to be restored, whatever their values
)

// record is a change as it is on the disk.
type record struct {
	ID      string        `json:"id"` // of the last change in it
	Root    string        `json:"root"`
	Boot    string        `json:"boot"` // of the kernel that it was applied to
	Phase   phase         `json:"phase"`
	Within  time.Duration `json:"within_ns"`
	Entries []entry       `json:"entries"`
}

// cutOff says what was cut off and must be ended first; nil if nothing was.
func (r *record) cutOff() error {
	switch {
	case r == nil:
	case r.Phase == applying:
		return errors.New("an apply was cut off: revert it first")
	case r.Phase == confirming:
		return errors.New("a confirmation was cut off: confirm it again, or revert it")
	case r.Phase == reverting:
		return errors.New("a revert was cut off: revert again")
	}
	return nil
}

// begun says whether anything was written.
func (r *record) begun() bool {
	return slices.ContainsFunc(r.Entries, func(e entry) bool { return e.Written })
}

// entry is one setting with its way back.
type entry struct {
	Setting Setting `json:"setting"`
	Old     string  `json:"old"`     // before us; of a unit's line: of the record before
	Written bool    `json:"written"` // by us, or about to be when the process ended
}

// Changer changes one host. Its methods take the state's lock, between processes too; a Changer is for one goroutine.
type Changer struct {
	Host   *Host
	State  string       // directory
	Binary string       // the absolute path of sluice, for the unit that sets the values at boot
	Say    func(string) // hears what is done, a line each

	step func(point string) // tests end the process there
}

func (c *Changer) at(point string) {
	if c.step != nil {
		c.step(point)
	}
}

func (c *Changer) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

func (c *Changer) in(name string) string { return filepath.Join(c.State, name) }

// lock takes the state's lock, for which it waits so long. It goes with the process.
func (c *Changer) lock(wait time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(c.in(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || !time.Now().Before(deadline) {
			_ = f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w: it has the lock %s", ErrLocked, c.in(lockName))
			}
			return nil, os.NewSyscallError("flock", err)
		}
	}
}

// load reads a record; nil if there is none. That of the pending change comes with its journal.
func (c *Changer) load(name string) (*record, error) {
	b, err := os.ReadFile(c.in(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", c.in(name), err)
	}
	if r.Root != c.root() {
		return nil, fmt.Errorf("%s is of the host under %s, not %s", c.in(name), r.Root, c.root())
	}
	if name == pendingName && (r.Phase == applying || r.Phase == applied) {
		err = c.readJournal(r)
	}
	return r, err
}

func (c *Changer) root() string { return filepath.Clean("/" + c.Host.Root) }

// save puts a record on the disk, whole or not at all.
func (c *Changer) save(name string, r *record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	c.at("save " + name)
	err = c.writeDurably(c.in(name), append(b, '\n'), 0o600)
	c.at("saved " + name)
	return err
}

func (c *Changer) drop(name string) error {
	c.at("drop " + name)
	if err := os.Remove(c.in(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := syncDir(c.State)
	c.at("dropped " + name)
	return err
}

// writeDurably replaces a file so that after a crash, of the process or the machine, it has its old or its new content.
func (c *Changer) writeDurably(name string, content []byte, mode os.FileMode) error {
	tmp := tmpName(name)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	c.at("rename " + name)
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func tmpName(name string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".new")
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// journal is written ahead: a line "ID N" is on the disk before setting N is written.
type journal struct {
	*os.File
	id string
}

func (c *Changer) newJournal(id string) (*journal, error) {
	f, err := os.OpenFile(c.in(journalName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{f, id}, syncDir(c.State)
}

func (j *journal) note(n int) error {
	_, err := fmt.Fprintf(j, "%s %d\n", j.id, n)
	return errors.Join(err, j.Sync())
}

// readJournal notes in the record what was begun. A last line that was cut off was not yet acted on.
func (c *Changer) readJournal(r *record) error {
	b, err := os.ReadFile(c.in(journalName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 2 || f[0] != r.ID {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil || n < 0 || n >= len(r.Entries) {
			return fmt.Errorf("read %s: %q is of no setting", c.in(journalName), strings.TrimSpace(line))
		}
		r.Entries[n].Written = true
	}
	return nil
}
