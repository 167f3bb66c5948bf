package forwarded

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sluice/gw/h1"
)

// scan is the head of a request with these lines.
func scan(t testing.TB, lines ...string) *h1.Request {
	t.Helper()
	q, resume, lim := &h1.Request{}, h1.Resume{}, h1.Limits{Line: 1 << 10, Head: 1 << 20, Fields: 1000}
	head := "GET / HTTP/1.1\r\n" + strings.Join(append(lines, "Host: a", "", ""), "\r\n")
	if _, err := q.Scan([]byte(head), &resume, &lim); err != nil {
		t.Fatal(err)
	}
	return q
}

func trusting(h Header) *Trusted {
	return New(Config{Proxies: []string{"10.0.0.0/8", "fe80::/10"}, Header: h})
}

// read is the result in one line: the chain, whose first is the client, protocol and host.
func read(tr *Trusted, q *h1.Request, peer string) string {
	r := Result{}
	p := netip.MustParseAddr(peer)
	tr.Read(q, p, &r)
	if want := p; len(r.Chain) > 0 {
		if want = r.Chain[0]; r.Client != want {
			return fmt.Sprint("the client is not the first: ", r.Client)
		}
	} else if r.Client != want {
		return fmt.Sprint("the client is not the peer: ", r.Client)
	}
	return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(r.Chain), "[]")+" "+r.Proto+" "+string(r.Host)), " ")
}

// Who is believed what, of Forwarded: elements with a comma between them, as far as the walk from the right comes.
func TestForwardedIsBelieved(t *testing.T) {
	tr := trusting(Forwarded)
	f := func(want string, values ...string) {
		t.Helper()
		var lines []string
		for _, v := range values {
			lines = append(lines, "Forwarded: "+v)
		}
		if got := read(tr, scan(t, lines...), "10.0.0.1"); got != want {
			t.Errorf("%q: %q, not %q", values, got, want)
		}
		// Of one who is not trusted nothing is.
		if got := read(tr, scan(t, lines...), "192.0.2.9"); got != "" {
			t.Errorf("%q: of somebody %q", values, got)
		}
	}
	f("1.2.3.4", "for=1.2.3.4")
	f("1.2.3.4 https a:1", `FOR=1.2.3.4;Proto=HTTPS;hOst="a:1"`)
	f("1.2.3.4 10.0.0.2 https a", "for=6.6.6.6, for=1.2.3.4;proto=https;host=a, for=10.0.0.2;proto=http;host=b")
	f("1.2.3.4 10.0.0.2", "for=1.2.3.4, for=10.0.0.2;proto=https;host=a") // nobody says how the client spoke
	f("10.0.0.3 10.0.0.2", "for=10.0.0.3,for=10.0.0.2")
	f("1.2.3.4 10.0.0.3 10.0.0.2", "for=6.6.6.6, for=1.2.3.4", "for=10.0.0.3 \t,\t for=10.0.0.2")
	f("2001:db8::1", `for="[2001:db8::1]"`)
	f("2001:db8::1", `for="[2001:db8::1]:443"`)
	f("1.2.3.4", `for="1.2.3.4:80"`)
	f("1.2.3.4", `for="1.2.3.4:_hid.de-n_1"`)
	f("1.2.3.4", `for="[::ffff:1.2.3.4]"`)
	f("1.2.3.4 https", "for=1.2.3.4;;by=_x;ext=\"a,\\\";b\";proto=https;")
	f("1.2.3.4", ", for=1.2.3.4, ,\t,;,")
	f("1.2.3.4", `for=1.2.3.4;proto=gopher;host="a b"`)

	// What does not follow the grammar, or names nobody, ends the walk.
	for _, v := range []string{"for=unknown", "for=_hidden", `for=""`, "for=", "for", "=1.2.3.4", "for=1.2.3.4:80", "for=[2001:db8::1]",
		`for="2001:db8::1"`, `for="::ffff:1.2.3.4"`, `for="[1.2.3.4]"`, `for="[2001:db8::1%25eth0]"`, `for="[2001:db8::1%eth0]"`, `for="1.2.3.4:"`, `for="1.2.3.4:_"`,
		`for="1.2.3.4:65536"`, `for="1.2.3.4:_a!"`, `for="1.2.3.4:_a{"`, `for="1.2.3.4 "`, "for=1.2.3", "for=01.2.3.4", "for=0x1.2.3.4", "for=1.2.3.4;for=1.2.3.4",
		"for=1.2.3.4;FOR=5.6.7.8", "for=1.2.3.4;proto=http;proto=https", "for=1.2.3.4;host=a;host=a", "for =1.2.3.4", "for= 1.2.3.4",
		"for=1.2.3.4; proto=https", "for=1.2.3.4 ;proto=https", "for=1.2.3.4 proto=https", `for="1.2.3.4`, `for=1.2.3.4"`, `for="1.2.3.4"x`, `for="1.2.3.4"proto=https`, "for=1.2.3.4;host=", "for=1.2.3.4;=a",
		`for="1\.2.3.4"`, `for="1.2.3.4\"`, `"for"=1.2.3.4`, "for=\xff", "for=1.2.3.4;\xe9=1", "by=10.0.0.9", "ext=1"} {
		f("", v)
		f("10.0.0.2", "for=6.6.6.6, "+v+", for=10.0.0.2")
		f("10.0.0.2", "for=6.6.6.6", v, "for=10.0.0.2")
		f("1.2.3.4", v+",for=1.2.3.4")
		f("1.2.3.4", v, "for=1.2.3.4")
	}
	f("https a", "for=unknown;proto=https;host=a") // who hides the client may tell of it
	f("10.0.0.2 http", "for=1.2.3.4;proto=https, for=unknown;proto=https;host=a, for=10.0.0.2;proto=http")

	// A quote that the client leaves open does not swallow what the proxies say after it.
	for _, open := range []string{`for="`, `"`, `for=9.9.9.9;host="`, `x="\`, `x=\"`, `for=9.9.9.9;x="a, b`, `"""`} {
		f("1.2.3.4", open+`, for=1.2.3.4`)
		f("1.2.3.4 b", open+`, for=1.2.3.4;host="b"`)
		f("2001:db8::1", open+`, for="[2001:db8::1]"`)
		f("1.2.3.4 10.0.0.2", open+`, for=1.2.3.4;ext="\\\"\\",for=10.0.0.2;ext="\\"`)
		f("1.2.3.4 10.0.0.2", open+`, for=1.2.3.4;ext=",",for=10.0.0.2;ext="\",\\\""`)
	}
}

// Whatever a client writes before what the trusted proxies add, in lines of its own or at the head of theirs, changes
// nothing of what is believed.
func FuzzClientsWordsAreNobodys(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "for=1.2.3.4", `for="`, `\"`, `x="\`, `for=9.9.9.9;host="a`, "10.0.0.7, 10.0.0.8", ",,", "\xff\x80", `"";"`, `for="[::1]`} {
		for seed := range uint64(20) {
			f.Add(s, seed)
		}
	}
	f.Fuzz(func(t *testing.T, client string, seed uint64) {
		if !h1.ValidValue(client) || len(client) > 4<<10 {
			t.Skip("the gateway passes no such value on")
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, h := range []Header{XForwardedFor, Forwarded} {
			lists, want := honest(rng, h)
			tr := trusting(h)
			var all []string
			for _, name := range slices.Sorted(maps.Keys(lists)) {
				words := client
				switch rng.IntN(4) { // none at all, in a line of their own, or at the head of theirs
				case 0:
					words = ""
				case 1:
					all, words = append(all, name+": "+client), ""
				}
				all = append(all, line(rng, name, words, lists[name])...)
			}
			if got := read(tr, scan(t, all...), "10.0.0.1"); got != want {
				t.Errorf("%q: %q, not %q", all, got, want)
			}
		}
	})
}

// honest is what a chain of trusted proxies writes of a client, by the header's name, and what is to be made of it.
func honest(rng *rand.Rand, h Header) (lists map[string][]string, want string) {
	protos, hosts := []string{"http", "https"}, []string{"a.test", "a.test:8080", "[2001:db8::7]:1"}
	clients := []string{"1.2.3.4", "2001:db8::1", "192.0.2.1"}
	lists = map[string][]string{}
	var chain []string
	told := ""
	for i := range 1 + rng.IntN(4) {
		who := fmt.Sprintf("10.0.0.%d", 1+rng.IntN(200))
		proto, host := protos[rng.IntN(2)], hosts[rng.IntN(3)]
		if i == 0 {
			who, told = clients[rng.IntN(3)], proto+" "+host
		}
		chain = append(chain, who)
		if h == Forwarded {
			node := who
			if strings.Contains(who, ":") {
				node = `"[` + who + `]"`
			}
			lists["Forwarded"] = append(lists["Forwarded"], []string{
				"for=" + node + ";proto=" + proto + `;host="` + host + `"`,
				`by="_x\"\\,;";host="` + host + `";proto=` + proto + ";for=" + node,
			}[rng.IntN(2)])
			continue
		}
		lists["X-Forwarded-For"] = append(lists["X-Forwarded-For"], who)
		lists["X-Forwarded-Proto"] = append(lists["X-Forwarded-Proto"], proto)
		lists["X-Forwarded-Host"] = append(lists["X-Forwarded-Host"], host)
	}
	return lists, strings.Join(chain, " ") + " " + told
}

// line joins what a client wrote and what was added to it into field lines, as proxies do: some begin a new one.
func line(rng *rand.Rand, name, client string, added []string) []string {
	lines := []string{name + ": " + client}
	for i, a := range added {
		switch {
		case i == 0 && client == "":
			lines[0] = name + ": " + a
		case rng.IntN(3) == 0:
			lines = append(lines, name+": "+a)
		default:
			lines[len(lines)-1] += []string{",", ", ", " ,\t"}[rng.IntN(3)] + a
		}
	}
	return lines
}

// The next Sluice, which trusts this one, makes the same of what this one writes, by either header.
func TestNextHopReadsTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		lists, want := honest(rng, Forwarded)
		tr := trusting(Forwarded)
		q := scan(t, "Forwarded: "+strings.Join(lists["Forwarded"], ", "))
		r, peer := Result{}, netip.MustParseAddr("10.0.0.1")
		tr.Read(q, peer, &r)
		want = strings.Replace(want, " http", " 10.0.0.1 http", 1)
		next := string(r.AppendForwarded(nil, peer, "http", []byte("b")))
		if got := read(tr, scan(t, "Forwarded: "+next), "10.0.0.5"); got != want {
			t.Fatalf("%q: %q, not %q", next, got, want)
		}
		next = string(r.AppendFor(nil, peer))
		if got := read(trusting(XForwardedFor), scan(t, "X-Forwarded-For: "+next, "X-Forwarded-Proto: "+r.Proto, "X-Forwarded-Host: "+string(r.Host)), "10.0.0.5"); got != want {
			t.Fatalf("%q: %q, not %q", next, got, want)
		}
	}
}

func TestForwardedAsWritten(t *testing.T) {
	for _, c := range []struct {
		r                 Result
		peer, proto, host string
		want              string
	}{
		{Result{}, "192.0.2.1", "http", "a", `for=192.0.2.1;proto=http;host="a"`},
		{Result{}, "::ffff:192.0.2.1", "http", "", `for=192.0.2.1;proto=http`},
		{Result{}, "fe80::1%eth0", "", "", `for="[fe80::1]"`},
		{Result{Chain: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.0.0.2")}, Proto: "https", Host: []byte("[::1]:1")}, "10.0.0.1", "http", "b",
			`for="[2001:db8::1]";proto=https;host="[::1]:1", for=10.0.0.2, for=10.0.0.1;proto=http;host="b"`},
	} {
		if got := string(c.r.AppendForwarded(nil, netip.MustParseAddr(c.peer), c.proto, []byte(c.host))); got != c.want {
			t.Errorf("%s, not %s", got, c.want)
		}
	}
}

func TestForwardedAllocatesNothing(t *testing.T) {
	tr, peer, r := trusting(Forwarded), netip.MustParseAddr("10.0.0.1"), Result{}
	dst := make([]byte, 0, 1<<10)
	for _, v := range []string{"", "for=unknown", "for=_x", `for="[2001:db8::1]:1";proto=https;host="a", for=10.0.0.2`, strings.Repeat(",", 10_000), strings.Repeat("for=10.0.0.2,", 10_000)} {
		q := scan(t, "Forwarded: "+v)
		tr.Read(q, peer, &r)
		if n := testing.AllocsPerRun(20, func() {
			tr.Read(q, peer, &r)
			r.AppendForwarded(dst, peer, "http", nil)
		}); n != 0 {
			t.Errorf("%.40q: %v allocations", v, n)
		}
		if len(r.Chain) > maxHops {
			t.Errorf("%.40q: %d hops", v, len(r.Chain))
		}
	}
}
