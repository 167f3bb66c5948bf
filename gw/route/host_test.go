package route

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Letters, and nothing but letters, are compared in any case.
func TestHostsInAnyCase(t *testing.T) {
	const host = "@az[`{.[::1]-_09"
	normal := string(normalHost(nil, []byte(host)))
	for _, c := range []struct {
		in   string
		want bool
	}{
		{host, true}, {strings.ToUpper(host), true}, {strings.Replace(host, "a", "A", 1), true}, {strings.Replace(host, "z", "Z", 1), true},
		{strings.Replace(host, "@", "`", 1), false}, {strings.Replace(host, "`", "@", 1), false},
		{strings.Replace(host, "[", "{", 1), false}, {strings.Replace(host, "{", "[", 1), false}, {strings.Replace(host, "a", "\xe1", 1), false},
	} {
		if got := string(normalHost(nil, []byte(c.in))); got == normal != c.want {
			t.Errorf("%q: %q", c.in, got)
		}
	}
}

// An IPv6 address is the same in whatever way it is written.
func TestAddressesAreCompared(t *testing.T) {
	long := "[1111:2222:3333:4444:5555:6666:123.123.123.123]"
	routes := table(t, Match{Host: "[0:0::1]", PathPrefix: "/a"}, Match{Host: "[2001:DB8::A]"}, Match{Host: long})
	for in, want := range map[string]int{"[::1]": 0, "[0:0:0:0:0:0:0:1]": 0, "[2001:db8:0::000a]": 1, "[1111:2222:3333:4444:5555:6666:7b7b:7b7b]": 2, long: 2} {
		if got, ok := routes.at(in, "/a"); !ok || got != want {
			t.Errorf("%s: route %d, %v; not %d", in, got, ok, want)
		}
	}
	for _, in := range []string{"[::2]", "::1", "[::1", "[]", "[", "[x]", "[::1%eth0]", "[1.2.3.4]"} {
		if got, ok := routes.at(in, "/a"); ok {
			t.Errorf("%s: route %d", in, got)
		}
	}
}

// Find is told the host without its port; one that has a port is another host.
func TestHostsHaveNoPort(t *testing.T) {
	routes := table(t, Match{Host: "a"})
	if _, ok := routes.at("a:80", "/"); ok {
		t.Error("a:80 is taken for a")
	}
}

// Names up to the bound are found and longer ones are of any host, wherever the routes of any host are.
func TestLongHosts(t *testing.T) {
	long := strings.Repeat("h", maxHost)
	routes := table(t, Match{Host: long}, Match{Host: strings.Repeat("i", maxHost-1)}, Match{})
	for in, want := range map[string]int{long: 0, long[1:]: 2, strings.Repeat("I", maxHost-1) + ".": 1, long + ".": 2, long + "h": 2} {
		if got, ok := routes.at(in, "/x"); !ok || got != want {
			t.Errorf("%d bytes: route %d, %v; not %d", len(in), got, ok, want)
		}
	}
}

// A request without a host, as HTTP/1.0 may be, is of any host: a route with one is not for it.
func TestRequestsWithoutHost(t *testing.T) {
	routes := table(t, Match{Host: "a"})
	for _, in := range []string{"", "."} {
		if _, ok := routes.at(in, "/"); ok {
			t.Errorf("%q has a route", in)
		}
	}
}

func TestHostsAreValidated(t *testing.T) {
	for _, in := range []string{"a", "a.", "A.b-c_d.test", "azAZ09", "10.0.0.1", "[::1]", "[2001:DB8::a]", "[::ffff:1.2.3.4]", "*.a", "*.a.test.", "*.10.a", strings.Repeat("h", maxHost)} {
		if said := reports(Match{Host: in}); said != nil {
			t.Errorf("%q: %q", in, said)
		}
	}
	for _, in := range []string{".", "a:80", "a b", "a/", "a:", "a@b", "a[", "a`", "a{", "a~", "*", "*.", "*..", "*.*.a", "a.*", "*a", "*.10.0.0.1", "*.1.", "*.[::1]", "\xe9", "é", "::1", "[", "[]", "[::1", "::1]",
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
