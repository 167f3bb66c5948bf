package route

import (
	"net/netip"
	"regexp"
	"strings"
	"unsafe"
)

// maxHost is the length of the longest host name there can be (RFC 1035, section 2.3.4) and more. A longer one is of
// any host.
const maxHost = 256

// normalHost is a host in the one form that is compared, appended to room: in lower case, without the dot of a fully
// qualified name, an IPv6 address as RFC 5952 writes it.
func normalHost(room, host []byte) []byte {
	out := append(room, host...)
	for i, c := range out {
		if c-'A' <= 'Z'-'A' {
			out[i] = c | 0x20
		}
	}
	n := len(out)
	if n > 2 && out[0] == '[' && out[n-1] == ']' {
		// The address keeps nothing of the text without a zone, and validHost and h1 refuse zones.
		if ip, err := netip.ParseAddr(unsafe.String(&out[1], n-2)); err == nil && ip.Is6() && ip.Zone() == "" {
			return append(ip.AppendTo(append(out[:0], '[')), ']')
		}
	} else if n > 0 && out[n-1] == '.' {
		return out[:n-1] // a.test. is a.test, fully qualified
	}
	return out
}

func validHost(s string) bool {
	if s == "." || len(s) > maxHost { // which Find would not tell from no host, or not look for
		return false
	}
	if in, ok := strings.CutPrefix(s, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(in, "]"))
		return err == nil && ip.Is6() && ip.Zone() == "" && strings.HasSuffix(s, "]")
	}
	if suffix, ok := strings.CutPrefix(s, "*."); ok {
		s = suffix
		if last := s[strings.LastIndexByte(strings.TrimSuffix(s, "."), '.')+1:]; strings.Trim(last, "0123456789.") == "" {
			return false // empty, or the end of an IPv4 address, which has no subdomains
		}
	}
	for _, c := range []byte(s) {
		if c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// hosts leads from a request's host to the paths of its routes.
type hosts struct {
	exact    map[string]*paths
	wildcard map[string]*paths // by what follows "*."
	longest  int               // of wildcard
	regexps  []hostRegexp      // in the order of the file
	any      *paths
}

type hostRegexp struct {
	matches *regexp.Regexp
	paths   *paths
}

// find is the first rule that holds: among those of the host, the most specific first, and then those of any host.
func (h *hosts) find(l *lookup, host []byte) *rule {
	if len(host) > 0 && len(host) <= maxHost {
		// Most clients send the normal form: then it need not be made to find an exact host.
		if p := h.exact[string(host)]; p != nil {
			if r := p.find(l); r != nil {
				return r
			}
		}
		if len(h.exact) > 0 || h.longest > 0 || len(h.regexps) > 0 {
			if r := h.named(l, host); r != nil {
				return r
			}
		}
	}
	if h.any == nil {
		return nil
	}
	return h.any.find(l)
}

// named goes on with what host means, once exact hosts have been looked through for what it is.
func (h *hosts) named(l *lookup, written []byte) *rule {
	host := normalHost(l.c.host[:0], written)
	if string(host) != string(written) {
		if p := h.exact[string(host)]; p != nil {
			if r := p.find(l); r != nil {
				return r
			}
		}
	}
	if h.longest > 0 {
		for i := 1; i < len(host); i++ {
			if host[i] != '.' || len(host)-i-1 > h.longest {
				continue
			}
			if p := h.wildcard[string(host[i+1:])]; p != nil {
				if r := p.find(l); r != nil {
					return r
				}
			}
		}
	}
	if len(host) == 0 {
		return nil // "." is no host
	}
	for i := range h.regexps {
		if x := &h.regexps[i]; x.matches.Match(host) {
			if r := x.paths.find(l); r != nil {
				return r
			}
		}
	}
	return nil
}
