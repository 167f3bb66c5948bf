package engine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Addr is a socket address in the form that the kernel takes it: IPv4, IPv6 or a UNIX socket's path. It is immutable.
type Addr struct {
	raw  unix.RawSockaddrAny
	size uint32
	text string
}

// String is host:port, [v6]:port or unix:/path.
func (a *Addr) String() string { return a.text }

// Family is AF_INET, AF_INET6 or AF_UNIX.
func (a *Addr) Family() int { return int(a.raw.Addr.Family) }

// AddrPort is the address as netip knows it; the zero value for a UNIX socket.
func (a *Addr) AddrPort() netip.AddrPort { return addrPort(&a.raw) }

// NewAddr makes an Addr of an IP address and port.
func NewAddr(ap netip.AddrPort) Addr {
	a := Addr{text: ap.String()}
	a.size = putAddrPort(&a.raw, ap)
	return a
}

// putAddrPort writes an IP address and port as the kernel takes them, and returns the size.
func putAddrPort(raw *unix.RawSockaddrAny, ap netip.AddrPort) uint32 {
	if ip := ap.Addr().Unmap(); ip.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		sa.Family, sa.Addr = unix.AF_INET, ip.As4()
		putPort(&sa.Port, ap.Port())
		return unix.SizeofSockaddrInet4
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(raw))
	sa.Family, sa.Addr = unix.AF_INET6, ap.Addr().As16()
	if zone := ap.Addr().Zone(); zone != "" {
		if ifi, err := net.InterfaceByName(zone); err == nil {
			sa.Scope_id = uint32(ifi.Index)
		}
	}
	putPort(&sa.Port, ap.Port())
	return unix.SizeofSockaddrInet6
}

// CheckAddr says whether s has the form of an address without resolving it: host:port, [v6]:port or unix:/path. A
// listener's host may be empty (every address) and its port 0 (any); an endpoint's may not.
func CheckAddr(s string, listener bool) error {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@"):
			return fmt.Errorf("%q: a UNIX socket's path starts with / (or @ for an abstract one)", s)
		case len(path) > len(unix.RawSockaddrUnix{}.Path)-1:
			return fmt.Errorf("%q: a UNIX socket's path has at most %d bytes", s, len(unix.RawSockaddrUnix{}.Path)-1)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port, [v6]:port or unix:/path", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%q: port %q is not a number from 0 to 65535", s, port)
	}
	if !listener && host == "" {
		return fmt.Errorf("%q has no host", s)
	}
	if !listener && n == 0 {
		return fmt.Errorf("%q: port 0 cannot be connected to", s)
	}
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.Trim(host, "0123456789.") == "" || strings.Contains(host, ":") || !isHostname(host) {
		return fmt.Errorf("%q: %q is neither an IP address nor a host name", s, host)
	}
	return nil
}

func isHostname(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

// Resolve turns a configured address into socket addresses, all that its name has, in the resolver's order. It may
// ask DNS and block: never call it on a loop.
func Resolve(ctx context.Context, s string) ([]Addr, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if err := CheckAddr(s, true); err != nil {
			return nil, err
		}
		a := Addr{text: s}
		sa := (*unix.RawSockaddrUnix)(unsafe.Pointer(&a.raw))
		sa.Family = unix.AF_UNIX
		for i := range len(path) {
			sa.Path[i] = int8(path[i])
		}
		a.size = uint32(unsafe.Offsetof(sa.Path)) + uint32(len(path))
		if path[0] == '@' {
			sa.Path[0] = 0
		} else {
			a.size++
		}
		return []Addr{a}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", s, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address %q: bad port: %w", s, err)
	}
	if host == "" {
		return []Addr{NewAddr(netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)))}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	out := make([]Addr, 0, len(ips))
	for _, ip := range ips {
		out = append(out, NewAddr(netip.AddrPortFrom(ip.Unmap(), uint16(n))))
	}
	return out, nil
}

// putPort stores p in network byte order.
func putPort(at *uint16, p uint16) {
	b := (*[2]byte)(unsafe.Pointer(at))
	b[0], b[1] = byte(p>>8), byte(p)
}

func addrPort(raw *unix.RawSockaddrAny) netip.AddrPort {
	switch raw.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		p := (*[2]byte)(unsafe.Pointer(&sa.Port))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(p[0])<<8|uint16(p[1]))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(raw))
		p := (*[2]byte)(unsafe.Pointer(&sa.Port))
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(p[0])<<8|uint16(p[1]))
	}
	return netip.AddrPort{}
}

// path is a UNIX socket's.
func (a *Addr) path() string { return strings.TrimPrefix(a.text, "unix:") }

// dual says that a socket bound to a takes connections of IPv4 too.
func (a *Addr) dual() bool { return a.Family() == unix.AF_INET6 && a.AddrPort().Addr().IsUnspecified() }

func putRawPort(a *Addr, port uint16) {
	*a = NewAddr(netip.AddrPortFrom(a.AddrPort().Addr(), port))
}
