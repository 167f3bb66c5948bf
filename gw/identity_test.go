package gw

import (
	"net/netip"
	"strings"
	"testing"

	"sluice/gw/filter"
	"sluice/gw/forwarded"
	"sluice/gw/h1"
	"sluice/gw/route"
	"sluice/gw/split"
	"sluice/lb"
)

// behind is the configuration of a listener that trusts these proxies.
func behind(h forwarded.Header, proxies ...string) Config {
	return Config{Trusted: forwarded.Config{Proxies: proxies, Header: h}}
}

// told is what the upstream of the last request was told of the client, a header a line.
func (rec *recorder) told() string {
	reqs, _ := rec.requests()
	h := reqs[len(reqs)-1].Header
	var out []string
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Real-Ip", "X-Forwarded-Port", "X_Forwarded_For"} {
		for _, v := range h.Values(name) {
			out = append(out, name+": "+v)
		}
	}
	return strings.Join(out, "\n")
}

// What a client says of itself, and what a proxy says that nobody trusts, does not come to the upstream; what a trusted one
// says does, as far as it is believed.
func TestUpstreamIsToldWhoAsks(t *testing.T) {
	const (
		spoofed = "X-Forwarded-For: 198.51.100.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nForwarded: for=198.51.100.6\r\n" +
			"X-Real-IP: 198.51.100.6\r\nX-Forwarded-Port: 1\r\nX_Forwarded_For: 198.51.100.6\r\n"
		itself = "X-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: A.test:81"
	)
	for _, c := range []struct {
		name   string
		cfg    Config
		fields string
		want   string
	}{
		{"nobody is trusted", Config{}, spoofed, itself},
		{"the peer is not trusted", behind("", "10.0.0.0/8", "198.51.100.0/24"), spoofed, itself},
		{"the peer says nothing", behind("", "127.0.0.1"), "", itself},
		{"for, proto and host", behind("", "127.0.0.1"), spoofed,
			"X-Forwarded-For: 198.51.100.6, 127.0.0.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil.test"},
		{"what the client wrote before", behind("", "127.0.0.1"), "X-Forwarded-For: 198.51.100.6, 192.0.2.1\r\nX-Forwarded-Proto: https, http\r\nX-Forwarded-Host: evil.test, b.test\r\n",
			"X-Forwarded-For: 192.0.2.1, 127.0.0.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: b.test"},
		{"two proxies, two lines", behind("", "127.0.0.1", "10.0.0.0/8"), "X-Forwarded-For: 198.51.100.6, 192.0.2.1:4711\r\nX-Forwarded-For: ::ffff:10.1.1.1\r\nX-Forwarded-Proto: https, http\r\n",
			"X-Forwarded-For: 192.0.2.1, 10.1.1.1, 127.0.0.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: A.test:81"},
		{"IPv6", behind("", "127.0.0.0/8"), "X-Forwarded-For: \"x\", [2001:DB8::1]:443\r\nX-Forwarded-Proto: ftp\r\nX-Forwarded-Host: a/b\r\n",
			"X-Forwarded-For: 2001:db8::1, 127.0.0.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: A.test:81"},
		{"who hides the client", behind("", "127.0.0.1"), "X-Forwarded-For: 192.0.2.1, unknown\r\nX-Forwarded-Proto: https\r\n",
			"X-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: A.test:81"},
		{"Forwarded, of which the other headers are the client's words", behind(forwarded.Forwarded, "127.0.0.1"),
			"X-Forwarded-For: 198.51.100.6\r\nX-Forwarded-Proto: ftp\r\nX-Forwarded-Host: evil.test\r\nForwarded: for=198.51.100.6;x=\", for=\"[2001:db8::1]:1\";proto=https;host=\"b.test\"\r\n",
			"X-Forwarded-For: 2001:db8::1, 127.0.0.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: b.test\n" +
				`Forwarded: for="[2001:db8::1]";proto=https;host="b.test", for=127.0.0.1;proto=http;host="A.test:81"`},
		{"Forwarded of nobody", behind(forwarded.Forwarded, "127.0.0.1"), "X-Forwarded-For: 198.51.100.6\r\n",
			itself + "\n" + `Forwarded: for=127.0.0.1;proto=http;host="A.test:81"`},
		{"Forwarded of who is not trusted", behind(forwarded.Forwarded, "10.0.0.0/8"), "Forwarded: for=198.51.100.6;proto=https\r\n",
			itself + "\n" + `Forwarded: for=127.0.0.1;proto=http;host="A.test:81"`},
	} {
		up := recordOK(t)
		cl := toUpstream(t, c.cfg, up.address).dial(t)
		for range 2 { // the second finds the result of the first
			cl.send("GET / HTTP/1.1\r\nHost: A.test:81\r\n" + c.fields + "\r\n")
			if resp, body := cl.answer("GET"); resp.StatusCode != 200 {
				t.Fatalf("%s: %d %s", c.name, resp.StatusCode, body)
			}
			if got := up.told(); got != c.want {
				t.Errorf("%s:\n%s\nnot\n%s", c.name, got, c.want)
			}
		}
		cl.send("GET / HTTP/1.1\r\nHost: A.test:81\r\n\r\n")
		cl.answer("GET")
		if got := up.told(); !strings.HasPrefix(got, itself) {
			t.Errorf("%s: the next request, which says nothing, is told as\n%s", c.name, got)
		}
	}
}

// Two gateways, of which the second trusts the first: it tells the upstream the same of the client, and of the first.
func TestUpstreamOfTwoGatewaysIsToldTheSame(t *testing.T) {
	for header, fields := range map[forwarded.Header]string{
		forwarded.XForwardedFor: "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.test\r\n",
		forwarded.Forwarded:     "Forwarded: for=192.0.2.1;proto=https;host=b.test\r\n",
	} {
		up := recordOK(t)
		second := toUpstream(t, behind(header, "127.0.0.1"), up.address)
		first := toUpstream(t, behind(header, "127.0.0.1"), second.listener.Bound())
		c := first.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: a.test\r\n" + fields + "\r\n")
		c.answer("GET")
		want := "X-Forwarded-For: 192.0.2.1, 127.0.0.1, 127.0.0.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: b.test"
		if got := up.told(); !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n%s\nnot\n%s", header, got, want)
		}
	}
}

// Routes, splits, pickers and filters go by the client that is believed: the one behind a trusted proxy, and the peer itself
// whatever it says if it is none.
func TestClientDecides(t *testing.T) {
	var addresses []string
	for _, name := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
		addresses = append(addresses, named(t, name).address)
	}
	hashed := cluster("hashed", addresses...)
	hashed.Picker, hashed.HashKey = lb.Maglev, lb.ClientIP
	routes := func() []Route {
		return []Route{
			{Match: route.Match{Path: "/inside", Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, Cluster: "zero"},
			{Match: route.Match{Path: "/local", Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, Cluster: "zero"},
			{Match: prefix("/hashed"), Cluster: "hashed"},
			{Match: prefix("/split"), Clusters: []split.Config{{Cluster: "zero"}, {Cluster: "one"}}, SplitBy: lb.ClientIP},
			{Match: prefix("/filtered"), Filters: []filter.Config{{Respond: &filter.Respond{Body: "x"}}}},
		}
	}
	clusters := []lb.Config{hashed, cluster("zero", addresses[0]), cluster("one", addresses[1])}
	get := func(c *client, path, from string) (status int, body string) {
		t.Helper()
		c.send("GET " + path + " HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: " + from + "\r\n\r\n")
		resp, body := c.answer("GET")
		return resp.StatusCode, body
	}
	// spied has the route /filtered note whom its filters see.
	spied := func(e *edge) chan string {
		saw := make(chan string, 1)
		e.on(func(*worker) {
			target, _ := e.gateway.routes.Find(&h1.Request{}, nil, []byte("/filtered"), netip.Addr{}, &route.Captures{})
			target.filters = append([]filter.Filter{spy{saw}}, target.filters...)
		})
		return saw
	}
	trusting, doubting := newEdge(t, behind("", "127.0.0.1"), routes(), clusters...), newEdge(t, behind("", "10.0.0.0/8"), routes(), clusters...)
	believed, doubted := trusting.dial(t), doubting.dial(t)

	for _, c := range []struct {
		conn   *client
		path   string
		from   string
		status int
	}{
		{believed, "/inside", "192.0.2.7", 200}, {believed, "/inside", "198.51.100.7", 404}, {believed, "/inside", "192.0.2.7, 198.51.100.7", 404},
		{believed, "/local", "192.0.2.7", 404}, {believed, "/local", "unknown", 200}, {believed, "/local", "127.0.0.9, 192.0.2.7", 404},
		{doubted, "/inside", "192.0.2.7", 404}, {doubted, "/local", "192.0.2.7", 200},
	} {
		if status, body := get(c.conn, c.path, c.from); status != c.status {
			t.Errorf("%s from %q: %d %s, not %d", c.path, c.from, status, body, c.status)
		}
	}

	for _, path := range []string{"/hashed", "/split"} {
		used, unmoved := map[string]bool{}, map[string]bool{}
		for i := range 32 {
			from := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()
			_, first := get(believed, path, from)
			used[first] = true
			for _, spelt := range []string{from + ":99", "::ffff:" + from, "198.51.100.9, " + from} {
				if _, again := get(believed, path, spelt); again != first {
					t.Errorf("%s: %s goes to %s, and as %q to %s", path, from, first, spelt, again)
				}
			}
			_, other := get(doubted, path, from)
			unmoved[other] = true
		}
		if len(used) < 2 || len(unmoved) != 1 {
			t.Errorf("%s: clients go to %v, and one that invents others to %v", path, used, unmoved)
		}
	}

	saw := spied(trusting)
	for _, from := range []string{"192.0.2.7", "2001:db8::7"} {
		get(believed, "/filtered", from)
		if got, want := <-saw, netip.AddrPortFrom(netip.MustParseAddr(from), 0).String(); got != want {
			t.Errorf("a filter sees %s, not %s", got, want)
		}
	}
	saw = spied(doubting)
	get(doubted, "/filtered", "192.0.2.7")
	if got := <-saw; got != doubted.LocalAddr().String() {
		t.Errorf("a filter sees %s, not %s", got, doubted.LocalAddr())
	}
}

// What a PROXY header says of the connection comes first: its source is the peer, which is trusted or not.
func TestPeerIsWhomTheProxyHeaderNames(t *testing.T) {
	up := recordOK(t)
	e := toUpstream(t, behind("", "10.0.0.0/8"), up.address)
	address, _ := e.fronted(t, lb.PrefaceConfig{ProxyProtocol: lb.ProxyRequire})
	for header, want := range map[string]string{
		"PROXY TCP4 10.0.0.9 127.0.0.1 5 6\r\n":  "X-Forwarded-For: 192.0.2.1, 10.0.0.9\n",
		"PROXY TCP4 192.0.2.9 127.0.0.1 5 6\r\n": "X-Forwarded-For: 192.0.2.9\n",
	} {
		c := dial(t, address)
		c.send(header + "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
		c.answer("GET")
		if got := up.told(); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q, not %q", header, got, want)
		}
	}
}
