package route

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Letters, and nothing but letters, are compared in any case.
func TestHostsInAnyCase(t *testing.T) {
	const host = "@az[`{.[::1]-_09"
	routes := New[int]()
	routes.Add(Match{Host: host}, 7)
	for _, c := range []struct {
		in   string
		want bool
	}{
		{host, true}, {strings.ToUpper(host), true}, {strings.Replace(host, "a", "A", 1), true}, {strings.Replace(host, "z", "Z", 1), true},
		{strings.Replace(host, "@", "`", 1), false}, {strings.Replace(host, "`", "@", 1), false},
		{strings.Replace(host, "[", "{", 1), false}, {strings.Replace(host, "{", "[", 1), false}, {strings.Replace(host, "a", "\xe1", 1), false},
	} {
		if _, ok := routes.Find([]byte(c.in), []byte("/")); ok != c.want {
			t.Errorf("%q: %v", c.in, ok)
		}
	}
}

// Find is told the host without its port; one that has a port is another host.
func TestHostsHaveNoPort(t *testing.T) {
	routes := table(t, Match{Host: "a"})
	if _, ok := routes.Find([]byte("a:80"), []byte("/")); ok {
		t.Error("a:80 is taken for a")
	}
}

// Names up to the bound are found and longer ones are of any host, wherever the routes of any host are.
func TestLongHosts(t *testing.T) {
	long := strings.Repeat("h", maxHost)
	routes := table(t, Match{Host: long}, Match{Host: strings.Repeat("i", maxHost-1)}, Match{})
	for in, want := range map[string]int{long: 0, long[1:]: 2, strings.Repeat("I", maxHost-1) + ".": 1, long + ".": 2, long + "h": 2} {
		if got, ok := routes.Find([]byte(in), []byte("/x")); !ok || got != want {
			t.Errorf("%d bytes: route %d, %v; not %d", len(in), got, ok, want)
		}
	}
}

// A request without a host, as HTTP/1.0 may be, is of any host: a route with one is not for it.
func TestRequestsWithoutHost(t *testing.T) {
	routes := table(t, Match{Host: "a"})
	for _, in := range []string{"", "."} {
		if _, ok := routes.Find([]byte(in), []byte("/")); ok {
			t.Errorf("%q has a route", in)
		}
	}
}

func TestHostsAreValidated(t *testing.T) {
	for _, in := range []string{"a", "a.", "A.b-c_d.test", "azAZ09", "10.0.0.1", "[::1]", "[2001:DB8::a]", "[::ffff:1.2.3.4]", strings.Repeat("h", maxHost)} {
		if said := reports(Match{Host: in}); said != nil {
			t.Errorf("%q: %q", in, said)
		}
	}
	for _, in := range []string{".", "a:80", "a b", "a/", "a:", "a@b", "a[", "a`", "a{", "a~", "*", "*.a", "\xe9", "é", "::1", "[", "[]", "[::1", "::1]",
		"[::1]]", "[::1]:80", "[1.2.3.4]", "[a]", "[::g]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[::1]x", strings.Repeat("h", maxHost+1)} {
		said := reports(Match{Host: in})
		if len(said) != 1 || !strings.HasPrefix(said[0], "host: ") || !strings.HasSuffix(said[0], " is not a host name or IP address without a port") {
			t.Errorf("%q: %q", in, said)
		}
	}
}

// Each key is judged for itself, so that a file is corrected at once.
func TestAllThatIsWrongIsReported(t *testing.T) {
	want := []string{
		`host: "a:1" is not a host name or IP address without a port`,
		`path_prefix: "/a/../b" is never matched: requests are brought into the form "/b" first`,
	}
	if diff := cmp.Diff(want, reports(Match{Host: "a:1", PathPrefix: "/a/../b"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func reports(m Match) (out []string) {
	m.Validate(func(path, message string) { out = append(out, path+": "+message) })
	return out
}
