package forwarded

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Who is believed what, of X-Forwarded-For and what goes with it.
func TestXForwardedIsBelieved(t *testing.T) {
	tr := trusting("")
	f := func(want string, lines ...string) {
		t.Helper()
		for i, l := range lines {
			if !strings.HasPrefix(l, "X-") && !strings.HasPrefix(l, "x-") && !strings.HasPrefix(l, "Forwarded") {
				lines[i] = "X-Forwarded-For: " + l
			}
		}
		for _, peer := range []string{"10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0"} {
			if got := read(tr, scan(t, lines...), peer); got != want {
				t.Errorf("%s, %q: %q, not %q", peer, lines, got, want)
			}
		}
		// Of one who is not trusted nothing is.
		for _, peer := range []string{"192.0.2.9", "11.0.0.1", "2001:db8::9", "::10.0.0.1"} {
			if got := read(tr, scan(t, lines...), peer); got != "" {
				t.Errorf("%s, %q: of somebody %q", peer, lines, got)
			}
		}
	}
	f("")
	f("", "")
	f("1.2.3.4", "1.2.3.4")
	// What the client has written before that.
	f("1.2.3.4", "6.6.6.6, 1.2.3.4")
	f("1.2.3.4", "10.0.0.7, 1.2.3.4")
	f("1.2.3.4", "10.0.0.7", "1.2.3.4")
	f("1.2.3.4 10.0.0.3 10.0.0.2", "6.6.6.6, 10.0.0.9, 1.2.3.4, 10.0.0.3", "x-forwarded-for: 10.0.0.2")
	f("10.0.0.3 10.0.0.2", "10.0.0.3, 10.0.0.2") // all trusted: the first
	// Spellings of an address.
	f("1.2.3.4", "1.2.3.4:80")
	f("1.2.3.4", "1.2.3.4:_p")
	f("1.2.3.4", "::ffff:1.2.3.4")
	f("1.2.3.4", "::ffff:102:304")
	f("1.2.3.4", "[::ffff:1.2.3.4]:80")
	f("1.2.3.4 10.0.0.2", "1.2.3.4, ::ffff:10.0.0.2") // mapped, it is as trusted
	f("2001:db8::1", "2001:DB8:0::1")
	f("2001:db8::1", "[2001:db8::1]")
	f("2001:db8::1", "[2001:db8::1]:443")
	// White space and empty elements.
	f("1.2.3.4 10.0.0.2", "1.2.3.4\t , \t10.0.0.2")
	f("1.2.3.4 10.0.0.2", ",1.2.3.4,, ,\t,10.0.0.2, ,")
	f("1.2.3.4", "1.2.3.4", ",", "")
	// What is no address ends the walk.
	for _, v := range []string{"unknown", "UNKNOWN", "_hidden", "localhost", "1.2.3", "1.2.3.4.5", "01.2.3.4", "0x1.2.3.4", "16909060", "1.2.3.256", "1.2.3.4:", "1.2.3.4:x",
		"1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:000080", "1.2.3.4:_" + strings.Repeat("p", 60), "1.2.3.4:80:80", "1.2.3.4/32", "[1.2.3.4]", "[::1", "::1]", "[::1]x", "[::1]80", "[]", "[]:80", ":80", "fe80::1%eth0",
		"[fe80::1%eth0]", "::ffff:1.2.3.4%1", `"1.2.3.4"`, "for=1.2.3.4", "1.2.3.4 10.0.0.5", "1.2.3.4;10.0.0.5", "\xff", "1.2.3.4\xa0", strings.Repeat("1", 1000)} {
		f("", v)
		f("10.0.0.2", "6.6.6.6, "+v+", 10.0.0.2")
		f("10.0.0.2", "6.6.6.6", v, "10.0.0.2")
		f("1.2.3.4", v+", 1.2.3.4")
	}
	// The other header is nothing.
	f("", "Forwarded: for=1.2.3.4;proto=https;host=a")
	f("1.2.3.4", "1.2.3.4", "Forwarded: for=6.6.6.6;proto=https", "X-Real-IP: 6.6.6.6")

	// Protocol and host are those that the proxy has said which the client spoke to.
	f("1.2.3.4 https a:1", "1.2.3.4", "X-Forwarded-Proto: HTTPS", "X-Forwarded-Host: a:1")
	f("1.2.3.4 http", "1.2.3.4", "X-Forwarded-Proto: https, http")
	f("1.2.3.4 http", "1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Proto: http")
	f("1.2.3.4 10.0.0.2 https a", "1.2.3.4, 10.0.0.2", "X-Forwarded-Proto: http, https, http", "X-Forwarded-Host: c, a, b")
	f("1.2.3.4 10.0.0.2 https a", "1.2.3.4, 10.0.0.2", "X-Forwarded-Proto: https", "X-Forwarded-Host: a") // by a proxy that replaces
	f("https", "unknown", "X-Forwarded-Proto: https")
	f("https", "X-Forwarded-Proto: https")
	f("https a", "unknown", "X-Forwarded-Proto: http, https", "X-Forwarded-Host: b, a")
	for _, v := range []string{"", "ws", "https;", "httpsx", "https\xff"} {
		f("1.2.3.4", "1.2.3.4", "X-Forwarded-Proto: "+v)
	}
	for _, v := range []string{"", ",", "a b", "a/b", "a@b", "a:65536", ":80", "[::1", "::1", "a%2eb", "a\"b", "\xe9"} {
		f("1.2.3.4", "1.2.3.4", "X-Forwarded-Host: "+v)
	}
}

// With Forwarded, X-Forwarded-For is what a client may have written.
func TestOneHeaderIsBelieved(t *testing.T) {
	q := scan(t, "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil")
	if got := read(trusting(Forwarded), q, "10.0.0.1"); got != "" {
		t.Errorf("%q", got)
	}
}

func TestNobodyIsTrusted(t *testing.T) {
	tr := New(Config{})
	if tr != nil {
		t.Error("not nil")
	}
	if got := read(tr, scan(t, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "Forwarded: for=1.2.3.4"), "10.0.0.1"); got != "" {
		t.Errorf("%q", got)
	}
}

// A result that is used again has nothing of the request before.
func TestResultIsUsedAgain(t *testing.T) {
	tr, r := trusting(XForwardedFor), Result{}
	tr.Read(scan(t, "X-Forwarded-For: 1.2.3.4, 10.0.0.2", "X-Forwarded-Proto: https", "X-Forwarded-Host: a"), netip.MustParseAddr("10.0.0.1"), &r)
	tr.Read(scan(t), netip.MustParseAddr("10.0.0.9"), &r)
	if r.Client != netip.MustParseAddr("10.0.0.9") || len(r.Chain) > 0 || r.Proto != "" || r.Host != nil {
		t.Errorf("%+v", r)
	}
}

// A list without end is followed for so many hops, and costs nothing but the look at it.
func TestLongListsAreCutOff(t *testing.T) {
	tr, peer, r := trusting(XForwardedFor), netip.MustParseAddr("10.0.0.1"), Result{}
	dst := make([]byte, 0, 4<<10)
	for _, c := range []struct {
		list string
		hops int
	}{
		{"6.6.6.6, " + strings.Repeat("10.0.0.2, ", 62) + "10.0.0.3", 64},
		{"6.6.6.6, " + strings.Repeat("10.0.0.2, ", 10_000) + "10.0.0.3", 64},
		{strings.Repeat(",", 10_000) + "10.0.0.3", 1},
		{strings.Repeat("unknown,", 10_000), 0},
		{"1.2.3.4", 1},
	} {
		q := scan(t, "X-Forwarded-For: "+c.list, "X-Forwarded-Proto: "+strings.Repeat("http,", 1000)+"https", "X-Forwarded-Host: a")
		tr.Read(q, peer, &r)
		if len(r.Chain) != c.hops {
			t.Errorf("%.20s: %d hops, not %d", c.list, len(r.Chain), c.hops)
		}
		if n := testing.AllocsPerRun(20, func() {
			tr.Read(q, peer, &r)
			r.AppendFor(dst, peer)
		}); n != 0 {
			t.Errorf("%.20s: %v allocations", c.list, n)
		}
	}
}

func TestForAsWritten(t *testing.T) {
	r := Result{Chain: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.0.0.2")}}
	for peer, want := range map[string]string{"10.0.0.1": "2001:db8::1, 10.0.0.2, 10.0.0.1", "::ffff:10.0.0.1": "2001:db8::1, 10.0.0.2, 10.0.0.1", "fe80::1%eth0": "2001:db8::1, 10.0.0.2, fe80::1"} {
		if got := string(r.AppendFor(nil, netip.MustParseAddr(peer))); got != want {
			t.Errorf("%s: %s, not %s", peer, got, want)
		}
	}
}

func TestConfigIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want []string
	}{
		{Config{}, nil},
		{Config{Proxies: []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.1"}, Header: Forwarded}, nil},
		{Config{Proxies: []string{"10.0.0.0/8", "10.0.0.1/8"}}, []string{`trusted_proxies[1]: "10.0.0.1/8" has bits set beyond its length: is it 10.0.0.0/8, or the address alone?`}},
		{Config{Header: XForwardedFor}, []string{"trusted_header: nobody is trusted: there are no trusted_proxies"}},
	} {
		var got []string
		c.cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.cfg, diff)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, c := range []struct {
		h    Header
		line string
	}{{XForwardedFor, "X-Forwarded-For: 1.2.3.4, 10.0.0.2"}, {Forwarded, `Forwarded: for=1.2.3.4;proto=https;host="a", for=10.0.0.2`}} {
		b.Run(string(c.h), func(b *testing.B) {
			tr, q, peer, r := trusting(c.h), scan(b, c.line), netip.MustParseAddr("10.0.0.1"), Result{}
			for b.Loop() {
				tr.Read(q, peer, &r)
			}
		})
	}
}
