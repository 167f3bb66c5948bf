// Package route finds the route of a request: match → route. A Table is immutable and safe for all loops.
package route

import (
	"fmt"
	"net/netip"
	"strings"

	"sluice/gw/h1"
)

// Match is what a request must be like. What is not given matches anything.
type Match struct {
	// Host is compared with the request's host without its port, in any case.
	Host string `yaml:"host"`
	// PathPrefix matches whole segments: /a matches /a and /a/b, not /ab. A slash at its end does not matter.
	PathPrefix string `yaml:"path_prefix"`
}

// Validate reports what is wrong with m, by the path of the key.
func (m Match) Validate(report func(path, message string)) {
	if m.Host != "" && !validHost(m.Host) {
		report("host", fmt.Sprintf("%q is not a host name or IP address without a port", m.Host))
	}
	if p := m.PathPrefix; p != "" {
		if c, err := h1.CanonicalPath(p); err != nil {
			report("path_prefix", fmt.Sprintf("%q: %v", p, err))
		} else if c != p {
			report("path_prefix", fmt.Sprintf("%q is never matched: requests are brought into the form %q first", p, c))
		} else if strings.Contains(p, ";") {
			report("path_prefix", fmt.Sprintf("%q is never matched: parameters are cut off first", p))
		}
	}
}

func validHost(s string) bool {
	if s == "." || len(s) > maxHost { // which Find would not tell from no host, or not look for
		return false
	}
	if in, ok := strings.CutPrefix(s, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(in, "]"))
		return err == nil && ip.Is6() && ip.Zone() == "" && strings.HasSuffix(s, "]")
	}
	for _, c := range []byte(s) {
		if c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

func (m Match) String() string {
	host, path := m.Host, m.PathPrefix
	if host == "" {
		host = "any host"
	}
	if path == "" {
		path = "/"
	}
	return host + " " + path
}

// Table maps requests to values of type T, which are a gateway's routes.
type Table[T any] struct {
	hosts   map[string]*prefixes[T]
	anyHost *prefixes[T]
}

// prefixes holds one host's routes by path prefix without the slash at its end.
type prefixes[T any] struct {
	byPath  map[string]T
	longest int
}

// New is an empty table.
func New[T any]() *Table[T] { return &Table[T]{hosts: map[string]*prefixes[T]{}} }

// Add files a value; false if an earlier one has the same match, which would then always win. Not safe once the table
// is in use.
func (t *Table[T]) Add(m Match, v T) bool {
	at := &t.anyHost
	if m.Host != "" {
		host := strings.TrimSuffix(strings.ToLower(m.Host), ".") // as Find does
		p := t.hosts[host]
		if p == nil {
			p = &prefixes[T]{byPath: map[string]T{}}
			t.hosts[host] = p
		}
		at = &p
	} else if *at == nil {
		*at = &prefixes[T]{byPath: map[string]T{}}
	}
	key := strings.TrimSuffix(m.PathPrefix, "/")
	if _, dup := (*at).byPath[key]; dup {
		return false
	}
	(*at).byPath[key] = v
	(*at).longest = max((*at).longest, len(key))
	return true
}

// maxHost is the length of the longest host name there can be (RFC 1035, section 2.3.4) and more.
const maxHost = 256

// Find is the route of a request: among those of its host, and then among those of any host, the one with the longest
// path prefix. host is without port, path canonical. It allocates nothing.
func (t *Table[T]) Find(host, path []byte) (v T, ok bool) {
	if len(t.hosts) > 0 && len(host) <= maxHost {
		var room [maxHost]byte
		lower := room[:len(host)]
		for i, c := range host {
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			lower[i] = c
		}
		if n := len(lower); n > 0 && lower[n-1] == '.' {
			lower = lower[:n-1] // a.test. is a.test, fully qualified
		}
		if p := t.hosts[string(lower)]; p != nil {
			if v, ok = p.find(path); ok {
				return v, true
			}
		}
	}
	if t.anyHost == nil {
		return v, false
	}
	return t.anyHost.find(path)
}

func (p *prefixes[T]) find(path []byte) (v T, ok bool) {
	end := len(path)
	// A key ends where a segment ends: at the end of the path or before one of its slashes.
	for {
		if end <= p.longest {
			if v, ok = p.byPath[string(path[:end])]; ok {
				return v, true
			}
		}
		if end == 0 {
			return v, false
		}
		for end--; end > 0 && path[end] != '/'; end-- {
		}
	}
}
