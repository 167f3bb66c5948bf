package discovery

import (
	"fmt"
	"strings"
	"testing"
)

func TestListIsRead(t *testing.T) {
	f := func(src string, want ...string) {
		t.Helper()
		set, err := parseList("l", []byte(src))
		if err != nil || set == nil {
			t.Errorf("%q: %v, %v", src, set, err)
			return
		}
		if got := strings.Join(describe(set), ", "); got != strings.Join(want, ", ") {
			t.Errorf("%q: decoded %s, want %s", src, got, want)
		}
	}
	f("[]")
	f("# none today\n[]\n")
	f("---\n- address: 10.0.0.1:80\n...\n", "10.0.0.1:80")
	f("\ufeff- address: 10.0.0.1:80\r\n  weight: 3\r\n", "10.0.0.1:80 weight 3")
	f("- address: 10.0.0.1:80 # the old one\n  weight: ~\n- address: \"10.0.0.2:80\"\n  zone: '7'\n", "10.0.0.1:80", "10.0.0.2:80 zone 7")
	f("- address: unix:/run/a.sock\n  maxconn: 1_000\n", "unix:/run/a.sock maxconn 1000")
	f(`[{"address":"[2001:db8::1]:80","weight":65535,"backup":true},{"address":"10.0.0.2:80","backup":false}]`,
		"[2001:db8::1]:80 weight 65535 backup", "10.0.0.2:80")
	f("[\n  {\n    \"address\": \"10.0.0.1:80\",\n    \"state\": \"drain\"\n  }\n]\n", "10.0.0.1:80 drain")
}

func TestListIsRefused(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		set, err := parseList("l", []byte(src))
		if err == nil || set != nil {
			t.Errorf("%q: passed as %q", src, describe(set))
			return
		}
		if got := err.Error(); got != want {
			t.Errorf("%q:\n got %s\nwant %s", src, got, want)
		}
	}
	const keys = "; known here: address, backup, maxconn, priority, state, weight, zone"
	f("", "l:1:1: no list: one without endpoints is written []")
	f("# still to be written\n", "l:1:1: no list: one without endpoints is written []")
	f("null\n", "l:1:1: expected a list of endpoints, found nothing")
	f("{}", "l:1:1: expected a list of endpoints, found a mapping")
	f("endpoints:\n- address: 10.0.0.1:80\n", "l:1:1: expected a list of endpoints, found a mapping")
	f("10.0.0.1:80", "l:1:1: expected a list of endpoints, found text")
	f("- 10.0.0.1:80\n", "l:1:3: expected a mapping of an endpoint's keys, found text")
	f("- address: 10.0.0.1:80\n-\n", "l:2:3: expected a mapping of an endpoint's keys, found nothing")
	f("- address: 10.0.0.1:80\n- weight: 1\n  zone: a\n", `l:2:3: key "address" is missing`)
	f("- {}\n", `l:1:3: key "address" is missing`)
	f("- address: \"\"\n", `l:1:3: key "address" is missing`)
	f("- address: 10.0.0.1:80\n  wieght: 1\n", `l:2:3: unknown key "wieght"`+keys)
	f("- address: 10.0.0.1:80\n  Weight: 1\n", `l:2:3: unknown key "Weight"`+keys)
	f("- address: 10.0.0.1:80\n  address: 10.0.0.2:80\n", `l:2:3: mapping key "address" already defined at [1:3]`)
	f(`[{"address":"10.0.0.1:80","address":"10.0.0.2:80"}]`, `l:1:27: mapping key "address" already defined at [1:3]`)
	f("- address: 10.0.0.1:80\n- address: 10.0.0.2:80\n- address: 10.0.0.1:80\n",
		"l:3:12: endpoint 10.0.0.1:80 is there twice: give it a weight instead")
	f("- address: 10.0.0.1\n  weight: 0\n",
		`l:1:12: bad address "10.0.0.1" is not host:port, [v6]:port or unix:/path (and 1 more)`)
	f("- address: 10.0.0.1:80\n  backup: true\n  priority: 2\n", "l:3:13: a backup endpoint has none: it is tried after all others")
	f("- address: 10.0.0.1:80\n  state: up\n", `l:2:10: "up" is not one of ready, drain, maint`)
	// A value of another kind is not made to fit: 1.10 would be another zone than it says.
	f("- address: 80\n", "l:1:12: expected text, found a number: put it in quotes")
	f("- address: 10.0.0.1:80\n  zone: 1.10\n", "l:2:9: expected text, found a number: put it in quotes")
	f("- address: 10.0.0.1:80\n  zone: true\n", "l:2:9: expected text, found true or false: put it in quotes")
	f("- address: [a]\n", "l:1:12: expected text, found a list")
	f("- address:\n", "l:1:12: expected text, found nothing")
	f("- address: 10.0.0.1:80\n  weight: 1.5\n", `l:2:11: expected a whole number, found "1.5"`)
	f("- address: 10.0.0.1:80\n  weight: 99999999999999999999\n", `l:2:11: expected a whole number, found "99999999999999999999"`)
	f("- address: 10.0.0.1:80\n  weight: \"5\"\n", `l:2:11: expected a whole number, found "5"`)
	f("- address: 10.0.0.1:80\n  weight: []\n", "l:2:11: expected a whole number, found a list")
	f("- address: 10.0.0.1:80\n  backup: yes\n", "l:2:11: expected true or false, found text")
	// What would let a small file become a large value.
	f("- &a {address: 10.0.0.1:80}\n- *a\n", `l:1:3: "&": a list of endpoints has no anchors, aliases, tags, directives or complex keys`)
	f("- *a\n", `l:1:3: "*": a list of endpoints has no anchors, aliases, tags, directives or complex keys`)
	f("- ? address\n  : 10.0.0.1:80\n", `l:1:3: "?": a list of endpoints has no anchors, aliases, tags, directives or complex keys`)
	f("%YAML 1.2\n---\n[]\n", `l:1:1: "%": a list of endpoints has no anchors, aliases, tags, directives or complex keys`)
	f("- <<: {address: 10.0.0.1:80}\n", `l:1:3: "<<": a list of endpoints has no anchors, aliases, tags, directives or complex keys`)
	f("- !!map {address: 10.0.0.1:80}\n", `l:1:3: "!!map": a list of endpoints has no anchors, aliases, tags, directives or complex keys`)
	f("[{address: {}}]", "l:1:12: nested too deep: an endpoint's values are single")
	f(strings.Repeat("[", 1e5), "l:1:3: nested too deep: an endpoint's values are single")
	f(strings.Repeat("- ", 1e5), "l:1:3: expected an endpoint's keys before this")
	f(strings.Repeat("a: ", 1e5), "l:1:5: a second value on this line")
	f(strings.Repeat("- a: b\n", MaxEndpoints+1), "l:65536:1: more than 65535 endpoints")
	f("["+strings.Repeat("{},\n", MaxEndpoints+1), "l:65536:1: more than 65535 endpoints")
	f("- address: 10.0.0.1:80\n- wieght: 1\n  weight: 0x\n", `l:2:3: unknown key "wieght"`+keys+" (and 1 more)")
	// Broken as YAML.
	f("[]\n---\n[]\n", "l:3:1: a second document: a file holds one list")
	f("- {address: 10.0.0.1:80\n", "l:1:3: could not find flow mapping end token '}'")
	f("- address: \"10.0.0.1:80\n", "l:1:12: could not find end character of double-quoted text")
	f("- address: 10.0.0.1:80\n\tweight: 1\n", "l:2:1: found character '\t' that cannot start any token")
	f("- address: 10.0.0.1:80\n  zone: \xff\n", "l:2:1: not UTF-8")
}

func TestLongestListIsRead(t *testing.T) {
	var b strings.Builder
	for i := range MaxEndpoints {
		fmt.Fprintf(&b, "- {address: \"10.0.%d.%d:80\", weight: 5}\n", i>>8, i&255)
	}
	set, err := parseList("l", []byte(b.String()))
	if err != nil || len(set) != MaxEndpoints {
		t.Errorf("%d endpoints, %v", len(set), err)
	}
}

// Whatever a file holds, it is a good list or an error, and never a panic.
func FuzzList(f *testing.F) {
	for _, s := range []string{
		"", "[]", "- address: 10.0.0.1:80\n  weight: 5\n  zone: a\n  priority: 1\n", `[{"address":"unix:/a","backup":true}]`,
		"- address: \"a:1\"\n  state: drain\n  maxconn: 0x10\n", "- ", "- - a", "a: b: c", "&a *a !a", "? a\n: b\n", "[{", "}", "'", "\"",
		"|\n a\n", "- address: >-\n    a:1\n", "%YAML 1.2\n---\n[]\n", "\ufeff", "\t", "- address: a:1 # c\n\n- {}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		set, err := parseList("l", src)
		if (err == nil) != (set != nil) {
			t.Fatalf("set %v with error %v", set, err)
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "l:") {
				t.Fatalf("%q names no place", err)
			}
			return
		}
		for _, e := range set {
			if e.Address == "" {
				t.Fatal("an endpoint without an address")
			}
		}
		ValidateAll(set, func(path, message string) { t.Fatalf("%s: %s", path, message) })
	})
}
