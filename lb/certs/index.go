package certs

import (
	"crypto/tls"
	"strings"
)

// index finds certificates by the name that a client asks for. Immutable.
type index struct {
	exact    map[string][]*tls.Certificate
	wildcard map[string][]*tls.Certificate // *.example.test by .example.test
	fallback []*tls.Certificate            // the first, and those with the same names by another kind of key
}

func newIndex(all []*tls.Certificate) *index {
	x := &index{exact: map[string][]*tls.Certificate{}, wildcard: map[string][]*tls.Certificate{}}
	for _, c := range all {
		for _, n := range names(c.Leaf) {
			if strings.HasPrefix(n, "*.") {
				x.wildcard[n[1:]] = append(x.wildcard[n[1:]], c)
			} else {
				x.exact[n] = append(x.exact[n], c)
			}
		}
	}
	if len(all) > 0 {
		x.fallback = all[:1]
		if n := names(all[0].Leaf); len(n) > 0 {
			if x.fallback = x.exact[n[0]]; strings.HasPrefix(n[0], "*.") {
				x.fallback = x.wildcard[n[0][1:]]
			}
		}
	}
	return x
}

// find are the certificates for a name, the exact ones before those whose wildcard stands for its first label (RFC 6125, section
// 6.4.3); nil: there are none.
func (x *index) find(name string) []*tls.Certificate {
	name = strings.ToLower(name)
	if c := x.exact[name]; c != nil {
		return c
	}
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		return x.wildcard[name[dot:]]
	}
	return nil
}

// suits chooses of the certificates for a name the first that the client can verify: one of them may be RSA, the other ECDSA. If it
// can none the first is as good as another.
func suits(hello *tls.ClientHelloInfo, some []*tls.Certificate) *tls.Certificate {
	if len(some) > 1 {
		for _, c := range some {
			if hello.SupportsCertificate(c) == nil {
				return c
			}
		}
	}
	return some[0]
}
