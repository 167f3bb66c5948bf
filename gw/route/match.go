package route

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"sluice/gw/h1"
)

// Match is what a request must be like. What is not given matches anything; everything that is given must hold.
type Match struct {
	// Host is compared with the request's host without its port, in any case: a name, an IPv4 address, an IPv6 address in
	// brackets, or a wildcard, where the * of *.api.test stands for one or more labels.
	Host string `yaml:"host"`
	// HostRegexp (RE2) matches the whole of a host without its port, in any case.
	HostRegexp string `yaml:"host_regexp"`

	// Path is the whole path. A slash at its end matters.
	Path string `yaml:"path"`
	// PathTemplate is the whole path with variables for segments, as in /users/{id}/orders/{n}: each takes one that is
	// not empty. A last {rest...} takes what follows its slash, which may be several segments or nothing. Captured.
	PathTemplate string `yaml:"path_template"`
	// PathPrefix matches whole segments: /a matches /a and /a/b, not /ab. A slash at its end does not matter.
	PathPrefix string `yaml:"path_prefix"`
	// PathRegexp (RE2) matches the whole path. Its named groups are captured.
	PathRegexp string `yaml:"path_regexp"`

	// Methods are alternatives; case matters, and HEAD is not GET (RFC 9110, section 9.1).
	Methods []string `yaml:"methods"`
	// Headers are compared as the client sent them, names in any case. Each line of a header is an occurrence.
	Headers []Condition `yaml:"headers"`
	// Query parameters are what stands between "&", percent-decoded and with "+" for a space, names too; an escape that is
	// none stands for itself. "a" and "a=" are both an empty a. Case matters.
	Query []Condition `yaml:"query"`
	// Cookies are compared as they stand, quotes included; one without "=" has no name and is none (RFC 6265, section
	// 5.4). Case matters.
	Cookies []Condition `yaml:"cookies"`
	// Sources are prefixes that the client's address must be in one of.
	Sources []netip.Prefix `yaml:"sources"`
}

// Condition is what a header, query parameter or cookie must be like: present, if there is nothing but its name. Of what
// occurs several times, one occurrence that is so suffices: other servers may look at another of them, so that
// this chooses a route and is no access control.
type Condition struct {
	Name string `yaml:"name,required"`
	// Value is all of the value.
	Value *string `yaml:"value"`
	// Regexp (RE2) matches all of the value.
	Regexp *string `yaml:"regexp"`
	// Present: false wants that there is no occurrence.
	Present *bool `yaml:"present"`
}

// MaxCaptures bounds the variables of a template and the named groups of a regexp.
const MaxCaptures = 16

// Validate reports what is wrong with m, by the path of the key.
func (m Match) Validate(report func(path, message string)) {
	if m.Host != "" && !validHost(m.Host) {
		report("host", fmt.Sprintf("%q is not a host name or IP address without a port", m.Host))
	}
	if m.HostRegexp != "" {
		if m.Host != "" {
			report("host_regexp", "host is given too: one of them can be")
		}
		checkRegexp("host_regexp", m.HostRegexp, report)
	}
	m.validatePath(report)
	for i, s := range m.Methods {
		at := "methods[" + strconv.Itoa(i) + "]"
		if !h1.ValidName(s) { // a method is a token, as a field's name is
			report(at, fmt.Sprintf("%q is not a method", s))
		} else if up := strings.ToUpper(s); up != s {
			report(at, fmt.Sprintf("%q is not in upper case: case matters, and the method is %q", s, up))
		}
	}
	for _, l := range m.lists() {
		for i, c := range l.conditions {
			at := l.key + "[" + strconv.Itoa(i) + "]"
			c.validate(l.kind, func(p, message string) { report(at+p, message) })
		}
	}
	for i, p := range m.Sources {
		at := "sources[" + strconv.Itoa(i) + "]"
		switch {
		case !p.IsValid():
			report(at, "is not a prefix, as 10.0.0.0/8 is")
		case p.Addr().Is4In6():
			report(at, fmt.Sprintf("%s is never matched: clients of IPv4 have IPv4 addresses", p))
		case p != p.Masked():
			report(at, fmt.Sprintf("%s has bits beyond its length: %s", p, p.Masked()))
		}
	}
}

func (m Match) validatePath(report func(path, message string)) {
	given := ""
	for _, p := range m.paths() {
		if p.text == "" {
			continue
		}
		if given != "" {
			report(p.key, given+" is given too: one of them can be")
		} else {
			given = p.key
		}
		if p.class == byRegexp {
			checkRegexp(p.key, p.text, report)
			continue
		}
		if c, err := h1.CanonicalPath(p.text); err != nil {
			report(p.key, fmt.Sprintf("%q: %v", p.text, err))
			continue
		} else if c != p.text {
			report(p.key, fmt.Sprintf("%q is never matched: requests are brought into the form %q first", p.text, c))
			continue
		} else if strings.Contains(p.text, ";") {
			report(p.key, fmt.Sprintf("%q is never matched: parameters are cut off first", p.text))
			continue
		}
		if p.class == byTemplate {
			if _, err := parseTemplate(p.text); err != nil {
				report(p.key, fmt.Sprintf("%q: %v", p.text, err))
			}
		}
	}
}

type pathKey struct {
	key, text string
	class     pathClass
}

func (m *Match) paths() [4]pathKey {
	return [4]pathKey{{"path", m.Path, byPath}, {"path_template", m.PathTemplate, byTemplate},
		{"path_prefix", m.PathPrefix, byPrefix}, {"path_regexp", m.PathRegexp, byRegexp}}
}

type conditionList struct {
	key        string
	kind       kind
	conditions []Condition
}

func (m *Match) lists() [3]conditionList {
	return [3]conditionList{{"headers", header, m.Headers}, {"query", query, m.Query}, {"cookies", cookie, m.Cookies}}
}

func (c *Condition) validate(k kind, report func(path, message string)) {
	switch {
	case c.Name == "":
		report(".name", "is empty")
	case k != query && !h1.ValidName(c.Name):
		report(".name", fmt.Sprintf("%q is not a %s name", c.Name, k))
	case k == header && h1.KindOf([]byte(c.Name)) == h1.Host:
		report(".name", "Host is matched by the key host")
	}
	given := 0
	for _, is := range []bool{c.Value != nil, c.Regexp != nil, c.Present != nil} {
		if is {
			given++
		}
	}
	if given > 1 {
		report("", "one of value, regexp and present can be given")
	}
	if c.Value != nil {
		if k != query && !h1.ValidValue(*c.Value) || k == cookie && strings.Contains(*c.Value, ";") {
			report(".value", fmt.Sprintf("no %s has the value %q", k, *c.Value))
		}
	}
	if c.Regexp != nil {
		checkRegexp(".regexp", *c.Regexp, report)
	}
}

func checkRegexp(key, pattern string, report func(path, message string)) {
	re, err := anchored(pattern, "")
	if err != nil {
		report(key, err.Error())
		return
	}
	seen := map[string]bool{}
	for _, name := range re.SubexpNames() {
		if name != "" {
			seen[name] = true // RE2 refuses a second of a name
		}
	}
	if len(seen) > MaxCaptures {
		report(key, fmt.Sprintf("%d named groups: more than %d", len(seen), MaxCaptures))
	}
}

// anchored compiles a pattern for the whole of a text. The pattern is compiled alone first: "a)|(b" is none, though it
// would be one in parentheses.
func anchored(pattern, flags string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?` + flags + `:` + pattern + `)\z`)
}

// String is m in one line, for messages.
func (m Match) String() string {
	out := "any host"
	switch {
	case m.Host != "":
		out = m.Host
	case m.HostRegexp != "":
		out = "~" + m.HostRegexp
	}
	path := " /"
	for _, p := range m.paths() {
		switch {
		case p.text == "":
		case p.class == byRegexp:
			path = " ~" + p.text
		case p.class == byPath:
			path = " =" + p.text
		default:
			path = " " + p.text
		}
	}
	out += path
	if len(m.Methods) > 0 {
		out += " " + strings.Join(m.Methods, ",")
	}
	for _, l := range m.lists() {
		for _, c := range l.conditions {
			out += fmt.Sprintf(" %s %s", l.kind, c)
		}
	}
	for i, p := range m.Sources {
		sep := ","
		if i == 0 {
			sep = " from "
		}
		out += sep + p.String()
	}
	return out
}

// String is c for messages.
func (c Condition) String() string {
	switch {
	case c.Value != nil:
		return fmt.Sprintf("%s=%q", c.Name, *c.Value)
	case c.Regexp != nil:
		return c.Name + "~" + *c.Regexp
	case c.Present != nil && !*c.Present:
		return "no " + c.Name
	}
	return c.Name
}
