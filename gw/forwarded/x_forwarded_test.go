package forwarded

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/gw/h1"
)

// Who is believed what, of X-Forwarded-For: addresses with a comma between them, as far as the walk from the right comes.
func TestXForwardedForIsBelieved(t *testing.T) {
	tr := trusting("") // it is the default
	f := func(want string, values ...string) {
		t.Helper()
		lines := []string{`Forwarded: for=6.6.6.6;proto=https;host=evil.test`, "X-Real-IP: 6.6.6.6", "X_Forwarded_For: 6.6.6.6"}
		for _, v := range values {
			lines = append(lines, "X-Forwarded-For: "+v)
		}
		q := scan(t, lines...)
		if got := read(tr, q, "10.0.0.1"); got != want {
			t.Errorf("%q: %q, not %q", values, got, want)
		}
		if got := read(tr, q, "::ffff:10.0.0.1"); got != want {
			t.Errorf("%q of a mapped peer: %q, not %q", values, got, want)
		}
		for _, peer := range []string{"192.0.2.9", "2001:db8::9", "::10.0.0.1", "11.0.0.1"} {
			if got := read(tr, q, peer); got != "" {
				t.Errorf("%q: of %s, who is not trusted, %q", values, peer, got)
			}
		}
	}
	f("")
	f("1.2.3.4", "1.2.3.4")
	// What a client wrote before the proxies did is its own.
	f("1.2.3.4", "6.6.6.6, 1.2.3.4")
	f("1.2.3.4", "10.0.0.9, 1.2.3.4")
	f("1.2.3.4", "127.0.0.1", "1.2.3.4")
	f("1.2.3.4 10.0.0.3 10.0.0.2", "6.6.6.6, 10.0.0.9, 1.2.3.4", "10.0.0.3, 10.0.0.2")
	f("10.0.0.3 10.0.0.2", "10.0.0.3,10.0.0.2") // the leftmost, if all are trusted
	// Ports, brackets, IPv4 in IPv6.
	f("1.2.3.4", "1.2.3.4:5678")
	f("2001:db8::1", "2001:db8::1")
	f("2001:db8::1", "[2001:db8::1]")
	f("2001:db8::1", "[2001:DB8:0::1]:443")
	f("1.2.3.4", "::ffff:1.2.3.4")
	f("1.2.3.4 10.0.0.2", "1.2.3.4, ::ffff:10.0.0.2")
	f("1.2.3.4 10.0.0.2", "1.2.3.4:80, [::ffff:10.0.0.2]:65535")
	f("::102:304", "::1.2.3.4") // which is no IPv4
	// White space and empty elements.
	f("1.2.3.4 10.0.0.2", " 1.2.3.4\t ,\t 10.0.0.2 ")
	f("1.2.3.4 10.0.0.2", ",, ,1.2.3.4,\t,,10.0.0.2, ,", "", " ,")
	// What names nobody, or is not one thing, ends the walk.
	for _, v := range []string{"unknown", "_hidden", "-", "a.test", "localhost", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "0x7f.1", "2130706433",
		"1.2.3.4 5.6.7.8", "1.2.3.4;5.6.7.8", "1.2.3.4/32", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:x", "1.2.3.4:-1", "1.2.3.4:000080", ":80", ":", "::ffff:1.2.3.4:80",
		"[::1", "::1]", "[::1]80", "[::1]:", "[::1]:65536", "[]", "[", "]", "[1.2.3.4]", "[1.2.3.4]:80", "[[::1]]", "fe80::1%eth0", "[fe80::1%eth0]", "[fe80::1%25eth0]:80",
		"1.2.3.4%eth0", "2001:db8::1::2", "2001:db8:0:0:0:0:0:0:1", `"1.2.3.4"`, "1.2.3.4\xa0", "\xa01.2.3.4", "\xe9", "１.2.3.4", strings.Repeat("1", 1000)} {
		f("", v)
		f("", "6.6.6.6, "+v)
		f("10.0.0.2", "6.6.6.6, "+v+", 10.0.0.2")
		f("10.0.0.2", "6.6.6.6", v, "10.0.0.2")
		f("1.2.3.4", v+",1.2.3.4")
	}
	// No more than can be.
	hops := strings.TrimSpace(strings.Repeat("10.0.0.2 ", maxHops))
	f(hops, strings.Repeat("10.0.0.2,", 10_000))
	f(hops, strings.Repeat("10.0.0.2,", maxHops))
	f(hops, "1.2.3.4,"+strings.Repeat("10.0.0.2,", maxHops))
	f("1.2.3.4"+hops[len("10.0.0.2"):], "1.2.3.4,"+strings.Repeat("10.0.0.2,", maxHops-1))
	f("1.2.3.4", "1.2.3.4"+strings.Repeat(" ,", 10_000))
}

// Of protocol and host, what the trusted proxy said that is nearest to the client.
func TestXForwardedProtoAndHost(t *testing.T) {
	tr := trusting(XForwardedFor)
	f := func(want, xff, proto, host string) {
		t.Helper()
		lines := []string{"X-Forwarded-Port: 99", "X-Forwarded-Scheme: https"}
		for name, values := range map[string]string{"For": xff, "Proto": proto, "Host": host} {
			for _, v := range strings.Split(values, "|") {
				if values != "" {
					lines = append(lines, "X-Forwarded-"+name+": "+v)
				}
			}
		}
		q := scan(t, lines...)
		if got := read(tr, q, "10.0.0.1"); got != want {
			t.Errorf("%q: %q, not %q", lines, got, want)
		}
		if got := read(tr, q, "192.0.2.9"); got != "" {
			t.Errorf("%q: of one who is not trusted %q", lines, got)
		}
	}
	f("https", "", "https", "")
	f("a.test:80", "", "", "a.test:80")
	f("https a.test", "", "http, HttpS", "evil.test,a.test")
	f("https a.test", "unknown", "http, https", "evil.test, a.test")
	f("1.2.3.4 https a.test", "6.6.6.6, 1.2.3.4", "http|https", "evil.test|a.test")
	f("1.2.3.4 10.0.0.2 https a.test", "6.6.6.6, 1.2.3.4, 10.0.0.2", "http, https, http", "evil.test, a.test | b.test")
	f("1.2.3.4 10.0.0.2 https a.test", "1.2.3.4, 10.0.0.2", "https", "a.test")              // replaced, not added to
	f("1.2.3.4 10.0.0.2 https a.test", "1.2.3.4, 10.0.0.2", ",https ,, http,", "a.test,|b") // empty ones do not count
	for _, proto := range []string{"ftp", "https:", "http/1.1", "on", "https https", `"https"`, "javascript", "http\xe9"} {
		f("1.2.3.4", "1.2.3.4", proto, "")
	}
	for _, host := range []string{"a b", "u@a", "a.test/x", "a.test:99999", "a\\b", "[::1", "[::1%25x]", "a?b", "%61", "é.test"} {
		f("1.2.3.4", "1.2.3.4", "", host)
	}
}

// Against a second opinion that goes from the left: the chain is the longest end of the list in which all but the first are
// trusted, and all are addresses.
func FuzzXForwardedFor(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "1.2.3.4,10.0.0.1|10.0.0.2", "10.0.0.1:80 , [::ffff:10.0.0.2]:1,[::1],", "unknown,10.0.0.1", "[::1,10.0.0.1", "fe80::1%a,fe80::2"} {
		f.Add(s)
	}
	tr := trusting(XForwardedFor)
	f.Fuzz(func(t *testing.T, values string) {
		if !h1.ValidValue(values) || strings.Count(values, "|") > 100 || len(values) > 8<<10 {
			t.Skip()
		}
		var lines []string
		for _, v := range strings.Split(values, "|") {
			lines = append(lines, "X-Forwarded-For: "+v)
		}
		var chain []string
		for _, e := range strings.Split(strings.ReplaceAll(values, "|", ","), ",") {
			if e = strings.Trim(e, " \t"); e == "" {
				continue
			}
			a, err := netip.ParseAddr(e)
			if ap, errPort := netip.ParseAddrPort(e); err != nil && errPort == nil {
				a, err = ap.Addr(), nil
			}
			if in, ok := strings.CutPrefix(e, "["); ok && err != nil {
				if a, err = netip.ParseAddr(strings.TrimSuffix(in, "]")); err == nil && (!a.Is6() || !strings.HasSuffix(in, "]")) {
					err = fmt.Errorf("brackets")
				}
			}
			if err != nil || a.Zone() != "" {
				chain = nil
				continue
			}
			a = a.Unmap()
			if !tr.proxies.Admits(a) {
				chain = nil // whoever stands to the left is this one's word
			}
			chain = append(chain, a.String())
		}
		if len(chain) > maxHops {
			chain = chain[len(chain)-maxHops:]
		}
		want := strings.Join(chain, " ")
		if got := read(tr, scan(t, lines...), "10.0.0.1"); got != want && !oddPort(values) {
			t.Errorf("%q: %q, not %q", values, got, want)
		}
	})
}

// oddPort says that there may be a port that netip takes and node does not, or the other way round: more than five digits,
// or a name in its place.
func oddPort(s string) bool {
	return strings.Contains(s, ":0") || strings.Contains(s, ":_") || strings.Contains(s, "+")
}

func TestValidate(t *testing.T) {
	f := func(c Config, want ...string) {
		t.Helper()
		var got []string
		c.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c, diff)
		}
	}
	f(Config{})
	f(Config{Proxies: []string{"10.0.0.0/8", "::1", "2001:db8::/32"}, Header: Forwarded})
	f(Config{Proxies: []string{"10.0.0.0/8", "10.1.2.3/8"}}, `trusted_proxies[1]: "10.1.2.3/8" has bits set beyond its length: is it 10.0.0.0/8, or the address alone?`)
	f(Config{Header: XForwardedFor}, "trusted_header: nobody is trusted: there are no trusted_proxies")
}

// Where nobody is trusted, nobody is believed, and the peer is told of as it is.
func TestNobodyIsTrusted(t *testing.T) {
	if tr := New(Config{}); tr != nil {
		t.Errorf("%+v", tr)
	}
	q := scan(t, "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.test")
	if got := read(nil, q, "10.0.0.1"); got != "" {
		t.Errorf("%q", got)
	}
	for peer, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "fe80::1%eth0": "fe80::1"} {
		r := Result{Client: netip.MustParseAddr("6.6.6.6"), Chain: []netip.Addr{netip.MustParseAddr("6.6.6.6")}, Proto: "https", Host: []byte("evil.test")}
		(*Trusted)(nil).Read(q, netip.MustParseAddr(peer), &r) // nothing is left of what r was used for before
		if got := string(r.AppendFor(nil, netip.MustParseAddr(peer))); got != want || r.Proto != "" || r.Host != nil {
			t.Errorf("%s: %s %+v", peer, got, r)
		}
	}
}

func TestXForwardedForAllocatesNothing(t *testing.T) {
	tr, peer, r := trusting(XForwardedFor), netip.MustParseAddr("10.0.0.1"), Result{}
	dst := make([]byte, 0, 4<<10)
	for _, v := range []string{"", "unknown", "1.2.3.4", "6.6.6.6, [2001:db8::1]:80, 10.0.0.2", strings.Repeat(",", 10_000), strings.Repeat("10.0.0.2,", 10_000)} {
		q := scan(t, "X-Forwarded-For: "+v, "X-Forwarded-Proto: https", "X-Forwarded-Host: a.test")
		tr.Read(q, peer, &r)
		if n := testing.AllocsPerRun(20, func() {
			tr.Read(q, peer, &r)
			r.AppendFor(dst, peer)
		}); n != 0 {
			t.Errorf("%.40q: %v allocations", v, n)
		}
	}
}
