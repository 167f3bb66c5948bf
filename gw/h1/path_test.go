package h1

import (
	"net/url"
	"strings"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a/b": "/a/b", "/a/": "/a/", "/a/./b": "/a/b", "/a/../b": "/b", "/a/b/..": "/a/", "/a/.": "/a/", "/./": "/",
		"//a": "/a", "/a//b": "/a/b", "/a//": "/a/", "/.a": "/.a", "/..a": "/..a", "/a.": "/a.", "/...": "/...",
		"/%61": "/a", "/%7Ea": "/~a", "/%2e%2e/a": "", "/a/%2e%2e/b": "/b", "/a/%2E/b": "/a/b", "/%3f": "/%3F", "/%e2%82%ac": "/%E2%82%AC",
		"/a;v=1/b": "/a;v=1/b", "/a;/b": "/a;/b",
		"/..": "", "/a/../..": "", "/%2f": "", "/%5c": "", "/%00": "", "/%0a": "", "/%7f": "", "/%": "", "/%4": "", "/%zz": "", "/%4z": "", "/%z4": "",
		"/%c0%af": "", "/%ff%20": "", "/%20%ff": "", "/%e2%82": "", "/%ed%a0%80": "", "/%ff": "", "/a/..;x/b": "", "/.;x": "", "a": "", "": "", "/a/b/../../c": "/c", "/a/../../b": "", "/a/./..": "/", "/a/%2e%2e": "/", "/a/.../b": "/a/.../b", "/a/..b/.c": "/a/..b/.c",
		"/%2525": "/%2525", "/%20": "/%20", "/%c3%a9": "/%C3%A9", "/%F0%9F%98%80": "/%F0%9F%98%80", "/%f0%9f%98": "", "/%c3a": "", "/%c3%c3%a9": "",
		"/%80": "", "/%e0%80%af": "", "/%f4%90%80%80": "", "/%1f": "", "/a%3bb": "/a%3Bb", "/..;": "", "/a/%2e%2e;x": "", "/x/..;/..": "",
		"/a\\b": "", "/a?b": "", "/a#b": "", "/a/..%3bx/b": "", "/.%3B": "", "/a/...%3bx": "/a/...%3Bx", "/a%3": "",
	} {
		got, err := CanonicalPath(in)
		if want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%q: %q, %v; not %q", in, got, err, want)
		}
	}
}

func TestMatchPath(t *testing.T) {
	for in, want := range map[string]string{"/a": "/a", "/a;v=1": "/a", "/a;v=1/b;w": "/a/b", "/;x": "/",
		// A segment of parameters alone is an empty one to who cuts them off, and two slashes are one.
		"/;x/admin": "/admin", "/a/;x/b": "/a/b", "/a/;x": "/a/", "/;/;/a;/;": "/a/", "/": "/", "/a;b;c": "/a",
		// What Keep has left.
		"/a//b": "/a/b", "//a": "/a", "//": "/", "/a///": "/a/", "/a//;x//b": "/a/b", "/a/b/": "/a/b/", "": ""} {
		if got := string(MatchPath([]byte(in), nil)); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
}

// Repeated slashes are made one, kept or refused; dot segments are removed in every mode, and with Keep an empty segment
// is one that ".." removes. Empty: refused.
func TestSlashes(t *testing.T) {
	for _, c := range []struct{ in, merge, keep, refuse string }{
		{"/a//b", "/a/b", "/a//b", ""},
		{"/a///b//", "/a/b/", "/a///b//", ""},
		{"//a", "/a", "/a", ""},
		{"//", "/", "/", ""},
		{"/a//../b", "/b", "/a/b", ""},
		{"/a//..", "/", "/a/", ""},
		{"/a//../../b", "", "/b", ""},
		{"/a/.//b", "/a/b", "/a//b", ""},
		{"/a/..//b", "/b", "/b", ""},
		{"/.//..", "", "", ""},
		{"/a//%2e%2E/b", "/b", "/a/b", ""},
		{"/a//b;v=1", "/a/b;v=1", "/a//b;v=1", ""},
		{"/a/./b", "/a/b", "/a/b", "/a/b"},
		{"/a/b/", "/a/b/", "/a/b/", "/a/b/"},
		{"/a/b/..", "/a/", "/a/", "/a/"},
		{"/", "/", "/", "/"},
	} {
		for s, want := range map[Slashes]string{Merge: c.merge, "": c.merge, Keep: c.keep, Refuse: c.refuse} {
			lim := DefaultLimits
			lim.Slashes = s
			q := &Request{}
			_, err := q.Scan([]byte(headOf("GET "+c.in+"?//../ HTTP/1.1", "Host: a")), &Resume{}, &lim)
			e, refused := err.(*Error)
			if got := string(q.Path); refused != (want == "") || refused && e.Status != 400 || !refused && got != want {
				t.Errorf("%s, %q: %q, %v; not %q", c.in, s, got, err, want)
			}
		}
	}
}

// readings are what servers make of a path: they may decode it, cut parameters off before or after, make slashes one,
// remove dot segments before or after, and take what begins with two slashes for a reference to a host.
func readings(p string) (out []string) {
	clean := func(p string) string {
		var kept []string
		for seg := range strings.SplitSeq(p, "/") {
			switch seg {
			case "", ".":
			case "..":
				kept = kept[:max(0, len(kept)-1)]
			default:
				kept = append(kept, seg)
			}
		}
		return "/" + strings.Join(kept, "/")
	}
	cut := func(p string) string {
		segs := strings.Split(p, "/")
		for i := range segs {
			segs[i], _, _ = strings.Cut(segs[i], ";")
		}
		return strings.Join(segs, "/")
	}
	decoded, err := url.PathUnescape(p)
	if err != nil {
		return nil
	}
	out = []string{clean(p), clean(cut(p)), cut(clean(p)), clean(decoded)}
	if d, err := url.PathUnescape(cut(p)); err == nil {
		out = append(out, clean(d))
	}
	if u, err := url.Parse(p); err == nil {
		out = append(out, clean(u.Path))
	}
	return out
}

// Every spelling, of up to six pieces before it and between its letters, that a server may read as /admin or below is
// matched as that, if it is not refused.
func TestNoSpellingEscapesItsPrefix(t *testing.T) {
	tried := 0
	check := func(in string) {
		for _, s := range []Slashes{Merge, Keep, Refuse} {
			p := pathAs(in, s)
			if p == "" {
				continue
			}
			tried++
			matched := string(MatchPath([]byte(p), nil)) + "/"
			for _, r := range readings(p) {
				if strings.HasPrefix(r+"/", "/admin/") && !strings.HasPrefix(matched, "/admin/") {
					t.Errorf("%q, %s: forwarded as %q, matched as %q, and may be read as %q", in, s, p, matched, r)
				}
			}
		}
	}
	pieces := []string{"/", "x", "..", ".", ";", "%2e%2e", "%3b", "//"}
	var around func(in string, n int)
	around = func(in string, n int) {
		for _, name := range []string{"admin", "%61dmin", "adm%69n;y", "admin/.", "admin//z", "admin/z/.."} {
			check(in + "/" + name)
			check("/" + name + in)
		}
		for _, p := range pieces {
			if n > 0 {
				around(in+p, n-1)
			}
		}
	}
	around("/", 4)
	if tried < 1000 {
		t.Errorf("only %d were", tried)
	}
}

// Whatever comes in, what is matched has one spelling.
func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{"/a/b", "/a/../b", "/%2e%2e/", "/%e2%82%ac", "/a;x/b", "//..//", "/a/;x/b", "/%25%32%65"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		agrees(t, in)
		p, err := CanonicalPath(in)
		if err != nil {
			return
		}
		if again, err := CanonicalPath(p); err != nil || again != p {
			t.Fatalf("%q: %q, and once more %q, %v", in, p, again, err)
		}
		low := strings.ToLower(p)
		if !strings.HasPrefix(p, "/") || strings.Contains(p, "//") || strings.Contains(low, "%2f") || strings.Contains(low, "%5c") ||
			strings.Contains(low, "%2e") || strings.Contains(low, "%00") {
			t.Fatalf("%q: %q", in, p)
		}
		// Routes match what others would make of it.
		m := string(MatchPath([]byte(p), nil))
		if again, err := CanonicalPath(m); err != nil || again != m || strings.Contains(m, ";") {
			t.Fatalf("%q: %q is matched as %q, which is %q, %v", in, p, m, again, err)
		}
		if k := pathAs(in, Keep); k != "" {
			if again := pathAs(k, Keep); again != k || strings.HasPrefix(k, "//") {
				t.Fatalf("%q, slashes kept: %q, and once more %q", in, k, again)
			}
			if m := string(MatchPath([]byte(k), nil)); strings.Contains(m, "//") || strings.Contains(m, ";") {
				t.Fatalf("%q, slashes kept: %q is matched as %q", in, k, m)
			}
		}
		if r := pathAs(in, Refuse); r != "" && r != p {
			t.Fatalf("%q: %q, but %q when slashes are refused", in, p, r)
		}
		for seg := range strings.SplitSeq(p, "/") {
			if name, _, _ := strings.Cut(seg, ";"); name == "." || name == ".." {
				t.Fatalf("%q: %q has a dot segment", in, p)
			}
		}
	})
}
