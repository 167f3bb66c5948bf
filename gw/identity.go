package gw

import (
	"encoding/hex"
	"net/netip"

	"sluice/gw/filter"
	"sluice/gw/forwarded"
	"sluice/gw/h1"
	"sluice/lb"
	"sluice/lb/certs"
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
		proto = x.d.gw.scheme
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
		dst = who.AppendForwarded(dst, x.w.peer, x.d.gw.scheme, q.Authority)
		dst = append(dst, "\r\n"...)
	}
	if s := x.d.secured(); s != nil && s.XFCC != nil {
		dst = h1.AppendField(dst, "X-Forwarded-Client-Cert", s.XFCC)
	}
	return dst
}

// secured is what the client's TLS handshake has told; nil: nothing that matters here.
func (d *downstream) secured() *lb.Secured {
	if d.gw.cfg.Secure && d.conn != nil { // there is none if it is only explained what would become of a request
		return lb.SecuredOf(d.conn)
	}
	return nil
}

// showCertificate has the filters know the client by its certificate, if it has shown one: until one of them finds another identity.
func (x *exchange) showCertificate() {
	s := x.d.secured()
	if s == nil || s.Peer == nil {
		return
	}
	if x.d.identity == nil {
		x.d.identity = identityOf(s.Peer)
	}
	filter.SetIdentity(x.ctx, x.d.identity)
}

// identityOf is a certificate as filters see it: the subject is what names it best, a SPIFFE id or another URI, a DNS name, an
// address of mail, or the distinguished name.
func identityOf(p *certs.Peer) *filter.Identity {
	list := func(names []string) []any {
		out := make([]any, len(names))
		for i, n := range names {
			out[i] = n
		}
		return out
	}
	subject := p.Subject
	for _, names := range [][]string{p.Emails, p.DNS, p.URIs} {
		if len(names) > 0 {
			subject = names[0]
		}
	}
	return &filter.Identity{Subject: subject, By: "client_cert", Claims: map[string]any{
		"subject": p.Subject, "issuer": p.Issuer, "serial": p.Serial, "fingerprint": hex.EncodeToString(p.Fingerprint[:]),
		"uris": list(p.URIs), "dns": list(p.DNS), "emails": list(p.Emails),
	}}
}
