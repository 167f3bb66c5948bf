package gw

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/cespare/xxhash/v2"

	"sluice/gw/h1"
	"sluice/lb"
)

// What places a request among the endpoints of a cluster, and among the clusters of a route.

// place is the request's hash among its cluster's endpoints; peer made the connection.
func (x *exchange) place(peer netip.AddrPort) uint64 {
	by := x.cl.HashKey()
	if by.OfRequest() {
		if v := valueOf(&x.w.req, by); len(v) > 0 {
			return x.cl.HashBytes(v)
		}
	}
	return x.cl.Hash(x.client, peer, nil)
}

// splitHash is the request's hash among its route's clusters.
func (x *exchange) splitHash() uint64 {
	by := x.target.splitBy
	switch {
	case by == nil:
		return x.w.rand.Uint64()
	case by.OfRequest():
		if v := valueOf(&x.w.req, *by); len(v) > 0 {
			return xxhash.Sum64(v)
		}
	}
	ip := x.client.Addr().As16()
	return xxhash.Sum64(ip[:])
}

// findSticky finds the endpoint that the client's cookie names.
func (x *exchange) findSticky() {
	s := x.cl.Sticky()
	if s == nil {
		return
	}
	q := &x.w.req
	for i := range q.Fields {
		if f := &q.Fields[i]; f.Kind == h1.Cookie && x.kept == nil {
			x.kept = s.Endpoint(s.Find(q.Value(f)), time.Now())
		}
	}
}

// valueOf is what a request has under a key: the first header, cookie or query parameter of that name, as it stands in
// the request; nil if there is none.
func valueOf(q *h1.Request, by lb.HashBy) []byte {
	switch by.Kind {
	case lb.HashPath:
		return q.Path
	case lb.HashHeader:
		return q.Get(by.Name)
	case lb.HashQuery:
		for list := bytes.TrimPrefix(q.Query, []byte("?")); len(list) > 0; {
			var pair []byte
			pair, list, _ = bytes.Cut(list, []byte("&"))
			if name, value, _ := bytes.Cut(pair, []byte("=")); string(name) == by.Name {
				return value
			}
		}
	case lb.HashCookie:
		for i := range q.Fields {
			f := &q.Fields[i]
			if f.Kind != h1.Cookie {
				continue
			}
			for list := q.Value(f); len(list) > 0; {
				var pair []byte
				pair, list, _ = bytes.Cut(list, []byte(";"))
				if name, value, _ := bytes.Cut(bytes.Trim(pair, " \t"), []byte("=")); string(name) == by.Name {
					return value
				}
			}
		}
	}
	return nil
}
