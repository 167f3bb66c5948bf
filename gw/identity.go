package gw

import (
	"net/netip"

	"sluice/gw/forwarded"
	"sluice/gw/h1"
)

// identify finds out who the request in the worker is for: peer, whom the connection is for, or whom it names, if it is a
// proxy that is trusted.
func (x *exchange) identify(peer netip.AddrPort) {
	who := &x.w.who
	x.d.gw.trusted.Read(&x.w.req, peer.Addr(), who)
	x.w.peer, x.client = peer.Addr(), peer
	if len(who.Chain) > 0 {
		x.client = netip.AddrPortFrom(who.Client, 0)
	}
}

// appendIdentity tells the upstream.
func (x *exchange) appendIdentity(dst []byte) []byte {
	q, who := &x.w.req, &x.w.who
	if peer := x.w.peer; peer.IsValid() {
		dst = append(dst, "X-Forwarded-For: "...)
		dst = who.AppendFor(dst, peer)
		dst = append(dst, "\r\n"...)
	}
	proto, host := who.Proto, who.Host
	if proto == "" {
		proto = "http"
	}
	if len(host) == 0 {
		host = q.Authority
	}
	dst = append(dst, "X-Forwarded-Proto: "...)
	dst = append(dst, proto...)
	dst = append(dst, "\r\n"...)
	if len(host) > 0 {
		dst = h1.AppendField(dst, "X-Forwarded-Host", host)
	}
	if t := x.d.gw.trusted; t != nil && t.Header() == forwarded.Forwarded && x.w.peer.IsValid() {
		dst = append(dst, "Forwarded: "...)
		dst = who.AppendForwarded(dst, x.w.peer, "http", q.Authority)
		dst = append(dst, "\r\n"...)
	}
	return dst
}
