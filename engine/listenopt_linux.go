package engine

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ListenOptions say how a listener's sockets are opened. The zero value asks for nothing.
type ListenOptions struct {
	SocketOptions `yaml:",inline"`
	// DeferAccept has the kernel keep a connection to itself until its first bytes are there, so long at most; in whole
	// seconds, rounded up. It is not for protocols in which the server speaks first.
	DeferAccept time.Duration `yaml:"defer_accept"`
	// Backlog bounds the connections that wait to be accepted, on each loop's socket; 0: as the kernel allows,
	// net.core.somaxconn.
	Backlog int `yaml:"backlog"`
	// Mode is a UNIX socket's file mode.
	Mode FileMode `yaml:"mode"`
}

// Validate reports what is wrong with o, by the path of the key.
func (o ListenOptions) Validate(report func(path, message string)) {
	o.SocketOptions.Validate(report)
	if d := o.DeferAccept; d < 0 || d > maxDeferAccept {
		report("defer_accept", fmt.Sprintf("%v: up to %v", d, maxDeferAccept))
	}
	if o.Backlog < 0 || o.Backlog > maxBacklog {
		report("backlog", fmt.Sprintf("%d connections: 1 to %d", o.Backlog, maxBacklog))
	}
}

// maxDeferAccept is what the kernel makes of it: it counts SYN-ACKs, 255 at most, and they come ever later up to 2 min
// apart; that far nobody wants to go.
const maxDeferAccept = time.Hour

// Suits says what address, as CheckAddr knows it, cannot have of o: a file mode, or the options of TCP.
func (o ListenOptions) Suits(address string) error {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		if o.Mode != 0 {
			return fmt.Errorf("%s has no mode: it is no UNIX socket", address)
		}
		return nil
	}
	keys := o.given()
	if o.DeferAccept != 0 {
		keys = append(keys, "defer_accept")
	}
	if o.Mode != 0 && strings.HasPrefix(path, "@") {
		keys = append(keys, "mode if it is abstract")
	}
	return notForUNIX(keys)
}

// list is what has to be set on a socket for a before it is bound.
func (o ListenOptions) list(a *Addr) []sockopt {
	if a.Family() == unix.AF_UNIX {
		return nil
	}
	out := o.SocketOptions.list(a.Family(), a.dual())
	if o.DeferAccept > 0 {
		out = append(out, sockopt{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, wholeSeconds(o.DeferAccept), "defer_accept"})
	}
	if o.FastOpen {
		out = append(out, sockopt{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, fastOpenQueue, "fast_open"})
	}
	return out
}

// Options are what the listener's sockets have.
func (ln *Listener) Options() ListenOptions { return ln.options }

// SetOptions changes them for the connections that are accepted from now on; the sockets stay open and lose nobody.
// A file mode that is not given any more stays as it was. One goroutine at a time may call it, and not after Close.
func (ln *Listener) SetOptions(o ListenOptions) error {
	if o == ln.options {
		return nil
	}
	if err := ln.reset(o); err != nil {
		return fmt.Errorf("options of listener %s: %w", ln.address, err)
	}
	ln.options = o
	ln.deferred.Store(o.DeferAccept > 0)
	return nil
}

func (ln *Listener) reset(o ListenOptions) error {
	if err := o.Suits(ln.address); err != nil {
		return err
	}
	a := &ln.addr
	opts, err := ln.options.dropped(o, a)
	if err != nil {
		return err
	}
	opts = append(opts, o.list(a)...)
	for _, x := range ln.acceptors {
		if err := setAll(x.fd, opts); err != nil {
			return err
		}
		if err := unix.Listen(x.fd, cmp.Or(o.Backlog, maxBacklog)); err != nil {
			return os.NewSyscallError("listen", err)
		}
	}
	if o.Mode != 0 {
		return os.Chmod(a.path(), os.FileMode(o.Mode))
	}
	return nil
}

// dropped is what o sets and next does not, with the values of a socket that nothing was set on.
func (o ListenOptions) dropped(next ListenOptions, a *Addr) ([]sockopt, error) {
	keep := next.list(a)
	out := slices.DeleteFunc(o.list(a), func(x sockopt) bool {
		return slices.ContainsFunc(keep, func(y sockopt) bool { return x.level == y.level && x.name == y.name })
	})
	if len(out) == 0 {
		return nil, nil
	}
	fresh, err := unix.Socket(a.Family(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer closeFD(fresh)
	for i := range out {
		x := &out[i]
		if x.value, err = unix.GetsockoptInt(fresh, x.level, x.name); err != nil {
			return nil, fmt.Errorf("%s: %w", x.key, os.NewSyscallError("getsockopt", err))
		}
	}
	return out, nil
}
