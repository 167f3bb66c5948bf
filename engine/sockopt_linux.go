package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SocketOptions are the options of TCP sockets that listeners and dials have in common. The zero value asks for
// nothing and costs nothing.
type SocketOptions struct {
	// Keepalive has the kernel ask a peer that is silent whether it is still there.
	Keepalive Keepalive `yaml:"keepalive"`
	// UserTimeout ends a connection whose peer has acknowledged nothing of what was sent for so long (RFC 5482),
	// where the kernel would try for a quarter of an hour; 0: the kernel's own.
	UserTimeout time.Duration `yaml:"user_timeout"`
	// DSCP marks what is sent, for the network's queues.
	DSCP DSCP `yaml:"dscp"`
	// FastOpen sends the first bytes in the SYN (RFC 7413), where net.ipv4.tcp_fastopen allows it: bit 1 for dials, bit
	// 2 for listeners. They can arrive twice. A dial reports success before the endpoint has answered, and nothing
	// leaves the host until something is written: not for protocols in which the server speaks first.
	FastOpen bool `yaml:"fast_open"`
	// Transparent (IP_TRANSPARENT) has a listener take connections to addresses that are not the host's, and a dial
	// come from the client's address. It takes CAP_NET_ADMIN or CAP_NET_RAW, and routes that bring the answers back.
	Transparent bool `yaml:"transparent"`
}

// Keepalive is on if anything of it is given; what is not given is the kernel's (2 h, 75 s, 9).
type Keepalive struct {
	// Idle is the silence before the first probe, Interval that between probes; both in whole seconds, rounded up.
	Idle     time.Duration `yaml:"idle"`
	Interval time.Duration `yaml:"interval"`
	// Count is how many probes may go unanswered.
	Count int `yaml:"count"`
}

// The kernel's bounds, MAX_TCP_KEEPIDLE and its like.
const (
	maxKeepSeconds = 32767
	maxKeepCount   = 127
	maxUserTimeout = (1<<31 - 1) * time.Millisecond
)

// fastOpenQueue bounds the connections whose SYN brought data and whose handshake is not complete. They hold the data,
// so the bound is far below the backlog's; those beyond shake hands as if there were no such thing.
const fastOpenQueue = 4096

// Validate reports what is wrong with o, by the path of the key.
func (o SocketOptions) Validate(report func(path, message string)) {
	seconds := func(key string, d time.Duration) {
		if d < 0 || d > maxKeepSeconds*time.Second {
			report(key, fmt.Sprintf("%v: up to %d s", d, maxKeepSeconds))
		}
	}
	seconds("keepalive.idle", o.Keepalive.Idle)
	seconds("keepalive.interval", o.Keepalive.Interval)
	if n := o.Keepalive.Count; n < 0 || n > maxKeepCount {
		report("keepalive.count", fmt.Sprintf("%d probes: up to %d", n, maxKeepCount))
	}
	if d := o.UserTimeout; d < 0 || d > maxUserTimeout {
		report("user_timeout", fmt.Sprintf("%v: up to %v", d, maxUserTimeout))
	}
	if o.DSCP > maxDSCP {
		report("dscp", fmt.Sprintf("%d: 0 to %d", o.DSCP, maxDSCP))
	}
}

// ForUNIX says which of the options a UNIX socket has not: an error that names them.
func (o SocketOptions) ForUNIX() error { return notForUNIX(o.given()) }

func notForUNIX(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	return fmt.Errorf("a UNIX socket has no %s", strings.Join(keys, ", "))
}

// given are the keys of the options that are not zero.
func (o SocketOptions) given() (keys []string) {
	for _, x := range []struct {
		key string
		is  bool
	}{
		{"keepalive", o.Keepalive != Keepalive{}},
		{"user_timeout", o.UserTimeout != 0},
		{"dscp", o.DSCP != 0},
		{"fast_open", o.FastOpen},
		{"transparent", o.Transparent},
	} {
		if x.is {
			keys = append(keys, x.key)
		}
	}
	return keys
}

// sockopt is one setsockopt(2) of an int.
type sockopt struct {
	level, name, value int
	key                string // of the configuration, for the error
}

// list is what has to be set on a socket of the family before it is bound. A dual one is of IPv6 and takes IPv4 too.
func (o SocketOptions) list(family int, dual bool) (out []sockopt) {
	add := func(key string, level, name, value int) { out = append(out, sockopt{level, name, value, key}) }
	if k := o.Keepalive; k != (Keepalive{}) {
		add("keepalive", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		if k.Idle > 0 {
			add("keepalive.idle", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, wholeSeconds(k.Idle))
		}
		if k.Interval > 0 {
			add("keepalive.interval", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, wholeSeconds(k.Interval))
		}
		if k.Count > 0 {
			add("keepalive.count", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count)
		}
	}
	if o.UserTimeout > 0 {
		ms := (o.UserTimeout + time.Millisecond - 1) / time.Millisecond
		add("user_timeout", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
	}
	if o.DSCP > 0 {
		if family == unix.AF_INET || dual {
			add("dscp", unix.IPPROTO_IP, unix.IP_TOS, int(o.DSCP)<<2)
		}
		if family == unix.AF_INET6 {
			add("dscp", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(o.DSCP)<<2)
		}
	}
	if o.Transparent {
		if family == unix.AF_INET6 {
			add("transparent", unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 1)
		} else {
			add("transparent", unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1)
		}
	}
	return out
}

func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// set sets the options on fd.
func (o sockopt) set(fd int) error {
	switch e := setsockopt(fd, o.level, o.name, o.value); {
	case e == 0:
		return nil
	case e == unix.EPERM && o.key == "transparent":
		return fmt.Errorf("transparent: %w: it takes CAP_NET_ADMIN or CAP_NET_RAW", sysErr("setsockopt", e))
	case e == unix.EOPNOTSUPP && o.key == "fast_open":
		return nil // net.ipv4.tcp_fastopen is against it: the handshake is an ordinary one
	default:
		return fmt.Errorf("%s: %w", o.key, sysErr("setsockopt", e))
	}
}

func setAll(fd int, opts []sockopt) error {
	for i := range opts {
		if err := opts[i].set(fd); err != nil {
			return err
		}
	}
	return nil
}

// DSCP is a differentiated services code point (RFC 2474), 0 to 63: the upper six bits of IPv4's TOS and of IPv6's
// traffic class.
type DSCP uint8

const maxDSCP = 63

// UnmarshalText takes a number, or a name: df, le, ef, va, cs0 to cs7, af11 to af43.
func (d *DSCP) UnmarshalText(text []byte) error {
	s := strings.ToLower(string(text))
	if v, ok := dscpNamed(s); ok {
		*d = v
		return nil
	}
	n, err := strconv.ParseUint(s, 0, 8)
	if err != nil || n > maxDSCP {
		return fmt.Errorf("%q is no DSCP: a number from 0 to %d, or df, le, ef, va, cs0 to cs7, af11 to af43", text, maxDSCP)
	}
	*d = DSCP(n)
	return nil
}

// dscpNamed knows RFC 2474 (CS, DF), RFC 2597 (AF), RFC 3246 (EF), RFC 5865 (VA) and RFC 8622 (LE).
func dscpNamed(s string) (DSCP, bool) {
	switch s {
	case "df":
		return 0, true
	case "le":
		return 1, true
	case "va":
		return 44, true
	case "ef":
		return 46, true
	}
	switch {
	case len(s) == 3 && s[:2] == "cs" && s[2] >= '0' && s[2] <= '7':
		return DSCP(s[2]-'0') << 3, true
	case len(s) == 4 && s[:2] == "af" && s[2] >= '1' && s[2] <= '4' && s[3] >= '1' && s[3] <= '3':
		return DSCP(s[2]-'0')<<3 | DSCP(s[3]-'0')<<1, true
	}
	return 0, false
}

// FileMode is the permissions of a socket's file; 0: what the umask leaves.
type FileMode uint32

// UnmarshalText takes octal digits, as chmod(1) does: 660, 0660 or 0o660.
func (m *FileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is no file mode: three octal digits, as in 0660", text)
	}
	if n == 0 {
		return errors.New("a socket with mode 0 can be connected to by nobody")
	}
	*m = FileMode(n)
	return nil
}

// String is the mode in octal.
func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// setsockopt sets an option that is an int.
func setsockopt(fd, level, name, value int) unix.Errno {
	v := int32(value)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return e
}

// bind gives a socket its own address.
func bind(fd int, raw *unix.RawSockaddrAny, size uint32) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(raw)), uintptr(size))
	return e
}
