package filter

import (
	"fmt"
	"regexp"
	"strings"

	"sluice/gw/h1"
)

// maxOrigin is the longest origin that is looked at, in bytes: a scheme, a host name (at most 253) and a port fit well.
const maxOrigin = 300

// origins are those that may read: of exact ones, of patterns and of regular expressions.
type origins struct {
	any      bool
	exact    map[string]struct{}
	patterns []originPattern
	regexps  []*regexp.Regexp
}

// originPattern is scheme://*.domain:port, of which the parts that are not any are here.
type originPattern struct {
	before, after    string // of the host's labels; with no star, before is the host and all that precedes it
	labels, anyPorts bool
}

func newOrigins(list, regexps []string) *origins {
	o := &origins{exact: map[string]struct{}{}}
	for _, s := range list {
		switch {
		case s == "*":
			o.any = true
		case strings.Contains(s, "*"):
			o.patterns = append(o.patterns, newOriginPattern(s))
		default:
			o.exact[s] = struct{}{}
		}
	}
	for _, s := range regexps {
		if re, err := whole(s); err == nil {
			o.regexps = append(o.regexps, re)
		}
	}
	return o
}

func newOriginPattern(s string) (p originPattern) {
	s, p.anyPorts = strings.CutSuffix(s, ":*")
	p.before, p.after, p.labels = strings.Cut(s, "*")
	return p
}

// allow compares by bytes: who sends an Origin has it in lower case and without a default port (RFC 6454, section 6.2).
func (o *origins) allow(origin []byte) bool {
	if len(origin) == 0 || len(origin) > maxOrigin {
		return false
	}
	if _, ok := o.exact[string(origin)]; ok || o.any {
		return true
	}
	for i := range o.patterns {
		if o.patterns[i].match(origin) {
			return true
		}
	}
	for _, re := range o.regexps {
		if re.Match(origin) {
			return true
		}
	}
	return false
}

func (p *originPattern) match(origin []byte) bool {
	if len(origin) < len(p.before) || string(origin[:len(p.before)]) != p.before {
		return false
	}
	rest := origin[len(p.before):]
	if p.anyPorts {
		end := len(rest)
		for end > 0 && rest[end-1] >= '0' && rest[end-1] <= '9' {
			end--
		}
		if end < len(rest) && end > 0 && rest[end-1] == ':' {
			rest = rest[:end-1]
		} else if end == 0 && len(rest) > 0 {
			return false
		}
	}
	if !p.labels {
		return len(rest) == 0
	}
	if len(rest) <= len(p.after) || string(rest[len(rest)-len(p.after):]) != p.after {
		return false
	}
	return labels(rest[:len(rest)-len(p.after)])
}

// labels says that b is one or more labels of a host name, with dots between them.
func labels(b []byte) bool {
	dot := true
	for _, c := range b {
		switch {
		case c == '.':
			if dot {
				return false
			}
			dot = true
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			dot = false
		default:
			return false
		}
	}
	return !dot
}

// checkOrigin says what is wrong with an origin, or pattern, that a configuration names.
func checkOrigin(s string) error {
	if s == "*" {
		return nil
	}
	if s == "null" {
		return fmt.Errorf("null is the origin of any page in a sandbox: it cannot be told from others")
	}
	scheme, host, ok := strings.Cut(s, "://")
	if !ok || scheme == "" || !h1.ValidName(scheme) {
		return fmt.Errorf("%q is not an origin: scheme://host or scheme://host:port, https://*.domain, or *", s)
	}
	if s != strings.ToLower(s) {
		return fmt.Errorf("%q: browsers send origins in lower case: %q", s, strings.ToLower(s))
	}
	host, ports := strings.CutSuffix(host, ":*")
	host, _ = strings.CutPrefix(host, "*.")
	name, port := splitHost([]byte(host))
	if strings.Contains(host, "*") || len(name) == 0 || !h1.ValidAuthority([]byte(host)) || ports && len(name) != len(host) ||
		len(name)+len(port) < len(host)-1 || len(port) == 0 && len(name) != len(host) {
		return fmt.Errorf("%q is not an origin: scheme://host or scheme://host:port, https://*.domain, or *", s)
	}
	if (scheme == "http" || scheme == "https") && string(port) == Scheme(scheme).defaultPort() {
		return fmt.Errorf("%q: browsers leave out a scheme's default port", s)
	}
	return nil
}
