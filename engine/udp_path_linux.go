package engine

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Path is between whom a datagram goes: the client, and the address of ours that it asked. It is comparable, has no
// pointers and no padding, and tells the flows of a listener apart.
type Path struct {
	client [16]byte // IPv4 as ::ffff:a.b.c.d
	local  [16]byte // zero if the listener has but one address
	scope  uint32   // the interface of a link-local client
	port   uint32   // the client's
}

// Client is the address that the datagram came from.
func (p *Path) Client() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(p.client).Unmap(), uint16(p.port))
}

// Local is the address that the client asked; the zero value if the listener is bound to a single one.
func (p *Path) Local() netip.Addr {
	if p.local == [16]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom16(p.local).Unmap()
}

// sockaddr is what sockets of datagrams are named by: a sockaddr_in6, or a sockaddr_in in its first bytes.
type sockaddr = unix.RawSockaddrInet6

// mapped makes the IPv6 form of an IPv4 address (RFC 4291, section 2.5.5.2).
func mapped(a *[16]byte, v4 [4]byte) {
	*a = [16]byte{10: 0xff, 11: 0xff, 12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
}

// from reads who sent a datagram, and to which address if its control messages tell; segment is the size of the
// datagrams that it was put together from, 0 if it is one.
func (p *Path) from(name *sockaddr, control []byte) (segment int) {
	*p = Path{}
	switch name.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		mapped(&p.client, sa.Addr)
		p.port = hostPort(sa.Port)
	case unix.AF_INET6:
		p.client, p.port = name.Addr, hostPort(name.Port)
		if netip.AddrFrom16(p.client).IsLinkLocalUnicast() {
			p.scope = name.Scope_id
		}
	}
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(control) {
			break
		}
		data := control[unix.SizeofCmsghdr:n]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// Of a broadcast, Spec_dst is the address that an answer comes from.
			mapped(&p.local, (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Spec_dst)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			if a := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr; !netip.AddrFrom16(a).Unmap().IsMulticast() {
				p.local = a
			}
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			segment = int(*(*int32)(unsafe.Pointer(&data[0])))
		}
		control = control[min(cmsgAlign(n), len(control)):]
	}
	return segment
}

// name writes the client's address as a socket of the family takes it, and returns its size.
func (p *Path) name(sa *sockaddr, family uint16) uint32 {
	port := netPort(p.port)
	if family == unix.AF_INET {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: [4]byte(p.client[12:])}
		return unix.SizeofSockaddrInet4
	}
	*sa = sockaddr{Family: unix.AF_INET6, Port: port, Addr: p.client, Scope_id: p.scope}
	return unix.SizeofSockaddrInet6
}

// hostPort and netPort turn a port between network and host byte order.
func hostPort(p uint16) uint32 {
	return uint32(binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&p))[:]))
}

func netPort(p uint32) (q uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&q))[:], uint16(p))
	return q
}

// control has room for the control messages of a datagram: an address and a segment size, either way.
type control [10]uint64

func cmsgAlign(n int) int { return (n + 7) &^ 7 }

// cmsg appends a control message at byte at, and returns where the next one begins.
func cmsg[T any](c *control, at int, level, kind int32, v T) int {
	b := (*[unsafe.Sizeof(control{})]byte)(unsafe.Pointer(c))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[at]))
	h.Level, h.Type, h.Len = level, kind, uint64(unix.SizeofCmsghdr+unsafe.Sizeof(v))
	*(*T)(unsafe.Pointer(&b[at+unix.SizeofCmsghdr])) = v
	return at + unix.SizeofCmsghdr + cmsgAlign(int(unsafe.Sizeof(v)))
}

// source has a datagram sent from the address that the client asked.
func (p *Path) source(c *control, at int, family uint16) int {
	switch {
	case p.local == [16]byte{}:
		return at
	case family == unix.AF_INET:
		return cmsg(c, at, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.Inet4Pktinfo{Spec_dst: [4]byte(p.local[12:])})
	}
	return cmsg(c, at, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.Inet6Pktinfo{Addr: p.local, Ifindex: p.scope})
}

// segmented has the kernel cut what is sent into datagrams of so many bytes (UDP_SEGMENT, Linux 4.18).
func segmented(c *control, at, size int) int {
	return cmsg(c, at, unix.IPPROTO_UDP, unix.UDP_SEGMENT, uint16(size))
}
