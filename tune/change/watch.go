package change

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// look is how often a watcher sees whether its change still waits.
const look = 200 * time.Millisecond

// Watch waits until the change is confirmed or reverted, or else reverts it: at once if the apply ended without an end, after the
// change's own time otherwise, and when ctx ends. ready is called once nothing can be missed any more.
func (c *Changer) Watch(ctx context.Context, id string, ready func()) (reverted bool, err error) {
	ready()
	// The apply holds the lock until it ends, in whichever way.
	unlock, err := c.lock(math.MaxInt64)
	if err != nil {
		return false, err
	}
	r, err := c.load(pendingName)
	if err == nil && r != nil && r.ID == id && r.Phase == applying {
		defer unlock()
		c.say("the apply was cut off")
		return c.revertWatched(id)
	}
	unlock()
	if err != nil || r == nil || r.ID != id {
		return false, err
	}
	if !c.waits(ctx, id, r.Within) {
		return false, nil
	}
	if unlock, err = c.lock(math.MaxInt64); err != nil {
		return false, err
	}
	defer unlock()
	return c.revertWatched(id)
}

// waits says, when the time is over, that nobody has decided. The clock does not stop or jump with the wall's.
func (c *Changer) waits(ctx context.Context, id string, within time.Duration) bool {
	over := time.NewTimer(within)
	defer over.Stop()
	every := time.NewTicker(look)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			c.say("told to end before the confirmation came")
			return true
		case <-over.C:
			c.say("no confirmation within %v", within)
			return true
		case <-every.C:
			// A file that cannot be read is no decision.
			if r, err := c.load(pendingName); err == nil && (r == nil || r.ID != id) {
				return false
			}
		}
	}
}

// revertWatched undoes the change if it still waits. The caller holds the lock.
func (c *Changer) revertWatched(id string) (bool, error) {
	r, err := c.load(pendingName)
	if err != nil || r == nil || r.ID != id {
		return false, err
	}
	changed, err := c.revertPending(false)
	if err == nil {
		err = c.errLeft(changed)
	}
	return changed, err
}

// readyFD is the end of a pipe that a watcher is given.
const readyFD = 3

// Spawn starts a watcher in a session of its own, so that the loss of a terminal does not reach it, and returns when it has
// called Ready. log is where it writes.
func Spawn(log string, name string, args ...string) error {
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", out, out, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	_ = r.SetReadDeadline(time.Now().Add(patience))
	if n, err := r.Read(make([]byte, 1)); n != 1 {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return errors.Join(fmt.Errorf("it did not come up, see %s", log), err)
	}
	go func() { _ = cmd.Wait() }() // lest a caller that lives on collects those that have ended
	return nil
}

// Ready tells Spawn, from within the watcher, that it is at work.
func Ready() {
	w := os.NewFile(readyFD, "ready")
	_, _ = w.Write([]byte{1})
	_ = w.Close()
}
