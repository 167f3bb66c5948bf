package h1

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var (
	escape     = regexp.MustCompile(`%..`)
	unreserved = regexp.MustCompile(`^[A-Za-z0-9._~-]$`) // RFC 3986, section 2.3
)

// reference is canonical as RFC 3986 puts it, segment by segment, slow and from other parts; empty: refused.
func reference(in string, s Slashes) string {
	decoded, err := url.PathUnescape(in)
	if err != nil || !strings.HasPrefix(in, "/") || !utf8.ValidString(decoded) || strings.Count(decoded, "/") > strings.Count(in, "/") ||
		strings.ContainsAny(in, " #?\\") || strings.Contains(decoded, "\\") {
		return ""
	}
	if s == Refuse && strings.Contains(in, "//") {
		return ""
	}
	for _, c := range []byte(in) {
		if c > 0x7e {
			return ""
		}
	}
	for _, c := range []byte(decoded) {
		if c < ' ' || c == 0x7f {
			return ""
		}
	}
	in = escape.ReplaceAllStringFunc(in, func(s string) string {
		if c, _ := url.PathUnescape(s); unreserved.MatchString(c) {
			return c
		}
		return strings.ToUpper(s)
	})
	var kept []string
	open := true // it ends in a slash
	segs := strings.Split(in, "/")[1:]
	for i, seg := range segs {
		name, _, parameters := strings.Cut(strings.ReplaceAll(seg, "%3B", ";"), ";")
		dots := name == "." || name == ".."
		open = dots || seg == ""
		switch {
		case dots && parameters, name == ".." && len(kept) == 0:
			return ""
		case name == ".." && dots:
			kept = kept[:len(kept)-1]
		case !open, s == Keep && !dots && i < len(segs)-1 && len(kept) > 0:
			kept = append(kept, seg)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if open && len(kept) > 0 {
		out += "/"
	}
	return out
}

func agrees(t testing.TB, in string) {
	t.Helper()
	for _, s := range []Slashes{Merge, Keep, Refuse} {
		if got, want := pathAs(in, s), reference(in, s); got != want {
			t.Fatalf("%q, %s: %q, not %q", in, s, got, want)
		}
	}
}

// pathAs is the canonical path of in, or nothing if it is refused.
func pathAs(in string, s Slashes) string {
	if in == "" || in[0] != '/' || !all([]byte(in), uchar) || contains(in, '?') {
		return ""
	}
	p, _, err := canonical([]byte(in), nil, s)
	if err != nil {
		return ""
	}
	return string(p)
}

// Every path of up to five pieces that mean something, in any order.
func TestCanonicalPathAgreesWithTheReference(t *testing.T) {
	pieces := []string{"/", ".", "a", ";", "%2e", "%2F", "%c3", "%a9", "%3b", "\x80"}
	var all func(in string, n int)
	all = func(in string, n int) {
		agrees(t, in)
		for _, p := range pieces {
			if n > 0 {
				all(in+p, n-1)
			}
		}
	}
	all("", 0)
	all("/", 5)
	for _, a := range "0123456789abcdefABCDEFgG/:@`" {
		for _, b := range "0123456789abcdefABCDEFgG/:@`" {
			agrees(t, "/x%"+string(a)+string(b)+"y")
		}
	}
	for c := range 256 {
		agrees(t, "/"+string([]byte{byte(c)}))
		agrees(t, "/a"+string([]byte{byte(c)})+"b/.")
	}
}

// Characters that stand at an edge of UTF-8, each as its escapes; U+FFFD is what decoders put for what is none, and a
// character like others.
func TestEscapedCharacters(t *testing.T) {
	for _, c := range []rune{0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfffd, 0xffff, 0x10000, 0x10ffff} {
		want := "/" + strings.ToUpper(url.PathEscape(string(c)))
		if got, err := CanonicalPath(want); got != want || err != nil {
			t.Errorf("%U: %q, %v", c, got, err)
		}
	}
}

// Most paths are canonical as they are, and are not copied; room is for the others.
func TestCanonicalPathsAreNotCopied(t *testing.T) {
	for in, want := range map[string]bool{"/": true, "/a.b/c-d/_~": true, "/a/b.": true, "/a;b": false, "/a//b": false, "/%41": false} {
		v, q := verdict([]byte(headOf("GET "+in+" HTTP/1.1", "Host: a")))
		if v != 0 {
			t.Fatalf("%s: %d", in, v)
		}
		if got := &q.Path[0] == &q.Raw[len("GET ")]; got != want {
			t.Errorf("%s: its own bytes: %v", in, got)
		}
		if m := MatchPath(q.Path, make([]byte, 0, 64)); !strings.Contains(in, ";") && &m[0] != &q.Path[0] {
			t.Errorf("%s: copied to be matched", in)
		}
	}
}
