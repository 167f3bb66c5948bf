package engine

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// DialConfig says how sockets towards endpoints are opened. The zero value asks for nothing.
type DialConfig struct {
	SocketOptions `yaml:",inline"`
	// BindAddress is where connections come from; its port is chosen at connect, so that connections to different
	// endpoints share the host's ports.
	BindAddress BindAddress `yaml:"bind_address"`
	// TransparentPort has transparent connections come from the client's port too, not from its address alone.
	TransparentPort bool `yaml:"transparent_port"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c DialConfig) Validate(report func(path, message string)) {
	c.SocketOptions.Validate(report)
	if c.TransparentPort && !c.Transparent {
		report("transparent_port", "needs transparent: true")
	}
}

// Suits says what address, an endpoint's as CheckAddr knows it, cannot have of c. Dials to it go without.
func (c DialConfig) Suits(address string) error {
	if strings.HasPrefix(address, "unix:") {
		keys := c.given()
		if c.BindAddress != (BindAddress{}) {
			keys = append(keys, "bind_address")
		}
		return notForUNIX(keys)
	}
	host := strings.Trim(address[:max(strings.LastIndexByte(address, ':'), 0)], "[]")
	ip, err := netip.ParseAddr(host)
	b := c.BindAddress
	if err != nil || b == (BindAddress{}) || b.of(familyOf(ip.Unmap())).IsValid() {
		return nil
	}
	return fmt.Errorf("%s: %w", address, errNoBindAddress(familyOf(ip.Unmap())))
}

// Options prepares c for dialling; nil if it asks for nothing.
func (c DialConfig) Options() *DialOptions {
	if c == (DialConfig{}) {
		return nil
	}
	return &DialOptions{transparent: c.Transparent, port: c.TransparentPort, bind: c.BindAddress,
		v4: c.list(unix.AF_INET), v6: c.list(unix.AF_INET6)}
}

func (c DialConfig) list(family int) []sockopt {
	out := c.SocketOptions.list(family, false)
	if c.FastOpen {
		out = append(out, sockopt{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1, "fast_open"})
	}
	if c.BindAddress.of(family).IsValid() || c.Transparent {
		// Without it a port is taken at bind for whatever endpoint: some 28,000 connections would be all.
		out = append(out, sockopt{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1, "bind_address"})
	}
	if c.TransparentPort {
		// The client's port may be bound already: by its connection to another endpoint, or one just ended.
		out = append(out, sockopt{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "transparent_port"})
	}
	return out
}

// DialOptions are a DialConfig in the form that dialling takes: immutable, shared by all dials to a cluster.
type DialOptions struct {
	v4, v6            []sockopt
	bind              BindAddress
	transparent, port bool
}

// prepare makes fd, a new socket, ready to connect on behalf of from.
func (o *DialOptions) prepare(fd, family int, from netip.AddrPort) error {
	switch family {
	case unix.AF_INET:
		if err := setAll(fd, o.v4); err != nil {
			return err
		}
	case unix.AF_INET6:
		if err := setAll(fd, o.v6); err != nil {
			return err
		}
	default:
		return nil
	}
	var ip netip.Addr
	port := uint16(0)
	switch {
	case o.transparent && from.IsValid():
		ip = from.Addr().Unmap()
		if familyOf(ip) != family {
			return fmt.Errorf("transparent: the client's address %s is not of the endpoint's family", ip)
		}
		if o.port {
			port = from.Port()
		}
	case o.bind != BindAddress{}:
		if ip = o.bind.of(family); !ip.IsValid() {
			return errNoBindAddress(family)
		}
	default:
		return nil // a transparent dial for nobody, or for a UNIX socket's client: from the host's own address
	}
	var raw unix.RawSockaddrAny
	size := putAddrPort(&raw, netip.AddrPortFrom(ip, port))
	if e := bind(fd, &raw, size); e != 0 {
		return fmt.Errorf("bind to %s: %w", ip, sysErr("bind", e))
	}
	return nil
}

func errNoBindAddress(family int) error {
	if family == unix.AF_INET {
		return fmt.Errorf("bind_address has no IPv4 address")
	}
	return fmt.Errorf("bind_address has no IPv6 address")
}

func familyOf(ip netip.Addr) int {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// BindAddress is a host's own address to connect from, or one of either family.
type BindAddress struct{ v4, v6 netip.Addr }

// UnmarshalText takes an IP address, or an IPv4 and an IPv6 address with a comma between them.
func (b *BindAddress) UnmarshalText(text []byte) error {
	var out BindAddress
	for s := range strings.SplitSeq(string(text), ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("%q is not an IP address, nor an IPv4 and an IPv6 address with a comma between them", text)
		}
		ip = ip.Unmap()
		if ip.IsUnspecified() || ip.IsMulticast() {
			return fmt.Errorf("%s is no address to connect from", ip)
		}
		at := &out.v6
		if ip.Is4() {
			at = &out.v4
		}
		if at.IsValid() {
			return fmt.Errorf("%q: two addresses of one family", text)
		}
		*at = ip
	}
	*b = out
	return nil
}

// String is the address, or both.
func (b BindAddress) String() string {
	switch {
	case !b.v4.IsValid() && !b.v6.IsValid():
		return ""
	case !b.v6.IsValid():
		return b.v4.String()
	case !b.v4.IsValid():
		return b.v6.String()
	}
	return b.v4.String() + ", " + b.v6.String()
}

// of is the address of a family; invalid if there is none.
func (b BindAddress) of(family int) netip.Addr {
	if family == unix.AF_INET {
		return b.v4
	}
	return b.v6
}
