package h1

import (
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
		"/a\\b": "", "/a?b": "", "/a#b": "",
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
		"/;x/admin": "/admin", "/a/;x/b": "/a/b", "/a/;x": "/a/", "/;/;/a;/;": "/a/", "/": "/", "/a;b;c": "/a"} {
		if got := string(MatchPath([]byte(in), nil)); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
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
		for seg := range strings.SplitSeq(p, "/") {
			if name, _, _ := strings.Cut(seg, ";"); name == "." || name == ".." {
				t.Fatalf("%q: %q has a dot segment", in, p)
			}
		}
	})
}
