package filter

import (
	"bytes"
	"strings"

	"sluice/gw/h1"
)

// mediaTypes are patterns of media types.
type mediaTypes struct {
	exact    map[string]struct{}
	patterns []typePattern
}

// typePattern is type/*+suffix: what is before and after the star.
type typePattern struct{ before, after string }

// maxType is the longest media type that is looked at: names have at most 127 characters (RFC 6838, section 4.2), and are short.
const maxType = 128

func newMediaTypes(list []string) mediaTypes {
	m := mediaTypes{exact: map[string]struct{}{}}
	for _, s := range list {
		if s == "*/*" {
			m.patterns = append(m.patterns, typePattern{})
		} else if before, after, ok := strings.Cut(s, "*"); ok {
			m.patterns = append(m.patterns, typePattern{before, after})
		} else {
			m.exact[s] = struct{}{}
		}
	}
	return m
}

// match takes a Content-Type with its parameters. None matches nothing.
func (m *mediaTypes) match(contentType []byte) bool {
	if i := bytes.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	contentType = trim(contentType)
	if len(contentType) == 0 || len(contentType) > maxType {
		return false
	}
	var room [maxType]byte
	for i, c := range contentType {
		room[i] = lower(c)
	}
	t := room[:len(contentType)]
	if _, ok := m.exact[string(t)]; ok {
		return true
	}
	for _, p := range m.patterns {
		if len(t) >= len(p.before)+len(p.after) && string(t[:len(p.before)]) == p.before && string(t[len(t)-len(p.after):]) == p.after {
			return true
		}
	}
	return false
}

// validTypePattern says that s is type/subtype, type/*, type/*+suffix or */*.
func validTypePattern(s string) bool {
	if s == "*/*" {
		return true
	}
	main, sub, ok := strings.Cut(s, "/")
	if rest, star := strings.CutPrefix(sub, "*"); star {
		if sub = rest; rest == "" {
			sub = "x"
		} else if rest[0] != '+' {
			return false
		}
	}
	return ok && h1.ValidName(main) && h1.ValidName(sub) && s == strings.ToLower(s) && !strings.Contains(main, "*") && !strings.Contains(sub, "*")
}
