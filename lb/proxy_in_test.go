package lb

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	judge "github.com/pires/go-proxyproto"

	"sluice/engine"
)

const (
	someClient = "192.0.2.7:4711"
	someDest   = "198.51.100.1:443"
	client6    = "[2001:db8::7]:4711"
	dest6      = "[2001:db8::1]:443"
)

// peerItself stands for the address that a connection comes from.
const peerItself = "the peer"

// However a header comes in, its source is the client's address to all who come after, and nothing of the header, nor
// less than all behind it, is passed on.
func TestHeaderNamesTheClient(t *testing.T) {
	local := format(t, &judge.Header{Version: 2, Command: judge.LOCAL, TransportProtocol: judge.UNSPEC})
	unix := format(t, &judge.Header{Version: 2, Command: judge.PROXY, TransportProtocol: judge.UnixStream,
		SourceAddr: &net.UnixAddr{Name: "/a", Net: "unix"}, DestinationAddr: &net.UnixAddr{Name: "/b", Net: "unix"}})
	for name, x := range map[string]struct{ header, client string }{
		"v1":         {header1(someClient, someDest), someClient},
		"v1 IPv6":    {header1(client6, dest6), client6},
		"v1 UNKNOWN": {"PROXY UNKNOWN\r\n", peerItself},
		"v1 UNKNOWN, and more": {"PROXY UNKNOWN ffff:f:f:f:f:f:f:f ffff:f:f:f:f:f:f:f 65535 65535\r\n",
			peerItself},
		"v2":              {header2(t, someClient, someDest), someClient},
		"v2 IPv6":         {header2(t, client6, dest6), client6},
		"v2 with TLVs":    {header2(t, someClient, someDest, judge.TLV{Type: judge.PP2_TYPE_NOOP, Value: make([]byte, 3000)}), someClient},
		"v2 LOCAL":        {local, peerItself},
		"v2 UNIX sockets": {unix, peerItself},
		"optional, none":  {"", peerItself},
	} {
		t.Run(name, func(t *testing.T) {
			a, heard := telling(t, "a")
			cfg := of(RoundRobin, a)
			cfg.SendProxyProtocol = ProxyV2
			f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyOptional}}, cfg)
			want := uint64(0)
			for way, send := range map[string]func(c net.Conn){
				"with the data": func(c net.Conn) {
					_, err := io.WriteString(c, x.header+"hello")
					must(t, err)
				},
				"before the data": func(c net.Conn) {
					_, err := io.WriteString(c, x.header)
					must(t, err)
					f.turn()
					_, err = io.WriteString(c, "hello")
					must(t, err)
				},
				"byte by byte": func(c net.Conn) {
					short := x.header[:min(len(x.header), 200)]
					f.drip(c, []byte(short))
					_, err := io.WriteString(c, x.header[len(short):])
					must(t, err)
					f.drip(c, []byte("hello"))
				},
				"in two parts": func(c net.Conn) {
					half := len(x.header) / 2
					f.drip(c, []byte(x.header[:half]))
					_, err := io.WriteString(c, x.header[half:]+"hello")
					must(t, err)
				},
			} {
				c := f.dial("")
				send(c)
				must(t, c.CloseWrite())
				got, err := io.ReadAll(c)
				if string(got) != "a: hello" || err != nil {
					t.Fatalf("%s: answered %q, %v", way, got, err)
				}
				who := x.client
				if who == peerItself {
					who = c.LocalAddr().String()
				}
				if h := receive(t, "the endpoint is told", heard); h.client() != who || h.rest != "hello" {
					t.Errorf("%s: the endpoint was told of %s, want %s, and heard %q", way, h.client(), who, h.rest)
				}
				want++
				f.counts(want, 0, 0, 0, 0, 5*want, 8*want)
			}
			f.prefaced(0, 0, 0)
		})
	}
}

// hash_key says whether the header's address or the peer's decides where a session goes.
func TestHeaderPlacesTheClient(t *testing.T) {
	for _, key := range []HashKey{ClientIP, Client, PeerIP} {
		cfg := of(Maglev, named(t, "a"), named(t, "b"), named(t, "c"))
		cfg.HashKey = key
		f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyRequire}}, cfg)
		where := map[string]string{} // by what the key is of
		served := map[string]bool{}
		for i := 1; i <= 12; i++ {
			for port := 1; port <= 3; port++ {
				for _, peer := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
					client := fmt.Sprintf("192.0.2.%d", i)
					got := f.says(peer, header1(fmt.Sprintf("%s:%d", client, port), someDest))
					served[got] = true
					id := map[HashKey]string{ClientIP: client, Client: fmt.Sprint(client, port), PeerIP: peer}[key]
					if was, ok := where[id]; ok && was != got {
						t.Errorf("%s: %s is served by %q, and then by %q", key, id, was, got)
					}
					where[id] = got
				}
			}
		}
		if len(served) < 2 && key != PeerIP {
			t.Errorf("%s: one endpoint serves all", key)
		}
	}
}

// The header alone opens a session: where the server speaks first the client has nothing to add.
func TestServerSpeaksFirstAfterHeader(t *testing.T) {
	greeter := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_, _ = io.WriteString(c, "220 ready\r\n")
		_, _ = io.Copy(c, c)
	})
	for _, mode := range []ProxyMode{ProxyRequire, ProxyOptional} {
		f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: mode, ProxyTimeout: time.Hour}}, of(RoundRobin, greeter))
		c := f.dial("")
		_, err := io.WriteString(c, header1(someClient, someDest))
		must(t, err)
		greeted(t, c)
		f.prefaced(0, 0, 0)
	}
	// Nobody can tell a client that waits to be greeted from one whose header is on its way, but by waiting.
	f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyOptional, ProxyTimeout: 40 * time.Millisecond}},
		of(RoundRobin, greeter))
	greeted(t, f.dial(""))
	f.prefaced(0, 0, 0)
}

// greeted reads a greeting, and has a word echoed.
func greeted(t testing.TB, c net.Conn) {
	t.Helper()
	b := make([]byte, len("220 ready\r\n"))
	_, err := io.ReadFull(c, b)
	must(t, err)
	_, err = io.WriteString(c, "helo")
	must(t, err)
	_, err = io.ReadFull(c, b[:4])
	must(t, err)
	if string(b[:4]) != "helo" {
		t.Errorf("echoed %q", b[:4])
	}
}

func TestHeaderIsRefused(t *testing.T) {
	v1, v2 := header1(someClient, someDest), header2(t, someClient, someDest)
	large := []byte(v2)
	large[14], large[15] = 0xff, 0xff
	short := []byte(v2)
	short[15] = 4
	within := []byte(v2[:16])
	within[15] = byte(len(v1))
	for name, what := range map[string]string{
		"v1 of garbage":       "PROXY TCP4 you me 1 2\r\n",
		"v1 without end":      "PROXY TCP4 " + strings.Repeat("1", 200),
		"v1 with bare LF":     strings.ReplaceAll(v1, "\r\n", "\n"),
		"v1 lies about ports": "PROXY TCP4 192.0.2.7 192.0.2.8 70000 1\r\n",
		"v1, another family":  "PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n",
		"v2 oversized":        string(large),
		"v2 oversized, all":   string(large) + strings.Repeat("x", 65535),
		"v2 too short":        string(short),
		"v2 of version 3":     v2[:12] + "\x31" + v2[13:],
		"v1 in v2":            string(within) + v1,
		"v1 twice":            v1 + v1 + "hello",
		"v1 after v2":         v2 + v1 + "hello",
		"v2 after v1":         v1 + v2 + "hello",
		"v2 twice":            v2 + v2 + "hello",
		"v1 after LOCAL":      "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" + v1,
	} {
		t.Run(name, func(t *testing.T) {
			for i, mode := range []ProxyMode{ProxyRequire, ProxyOptional} {
				f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: mode}}, of(RoundRobin, named(t, "not asked")))
				f.rejects("", what, false)
				f.prefaced(1, 0, 0)
				f.counts(0, 0, 0, 0, 0, 0, 0)
				if i == 0 {
					f.endpoint(0, 0, 0, 0, 0)
				}
			}
		})
	}
}

func TestHeaderIsRequired(t *testing.T) {
	for name, x := range map[string]struct {
		says string
		fin  bool
	}{
		"another protocol":          {"GET / HTTP/1.1\r\n\r\n", false},
		"almost one":                {"PROXIES", false},
		"nothing":                   {"", true},
		"the beginning of one":      {"PRO", true},
		"half of one":               {header1(someClient, someDest)[:20], true},
		"half of one, of version 2": {header2(t, someClient, someDest)[:20], true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTimeout: time.Hour}},
				of(RoundRobin, named(t, "not asked")))
			f.rejects("", x.says, x.fin)
			f.prefaced(1, 0, 0)
			f.counts(0, 0, 0, 0, 0, 0, 0)
		})
	}
}

// Where a header need not come, all else is passed on as it is.
func TestHeaderIsOptional(t *testing.T) {
	f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyOptional, ProxyTimeout: time.Hour}}, of(RoundRobin, named(t, "a")))
	for _, what := range []string{"", "x", "PRO", "PROXIES", "\r\n", "\r\n\r\n\x00\r\nQUIT", strings.Repeat("P", 100<<10)} {
		if got := f.says("", what); got != "a: "+what {
			t.Errorf("%.20q is passed on as %.20q", what, got)
		}
	}
	f.prefaced(0, 0, 0)
	// But half of one is none that anybody meant to send without.
	f.rejects("", header1(someClient, someDest)[:20], true)
	f.rejects("", header2(t, someClient, someDest)[:20], true)
	f.prefaced(2, 0, 0)
}

// A header takes its time at once: whoever sends it byte by byte has no more of it.
func TestHeaderMustComeInTime(t *testing.T) {
	half := header1(someClient, someDest)[:20]
	for name, x := range map[string]struct {
		mode  ProxyMode
		says  string
		drips bool
	}{
		"silence":         {ProxyRequire, "", false},
		"half":            {ProxyRequire, half, false},
		"half, optional":  {ProxyOptional, half, false},
		"first, optional": {ProxyOptional, "P", false}, // it may be an untrusted header that is on its way
		"drips":           {ProxyRequire, "PROXY UNKNOWN ", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: x.mode, ProxyTimeout: 100 * time.Millisecond}},
				of(RoundRobin, named(t, "not asked")))
			if !x.drips {
				f.rejects("", x.says, false)
			} else {
				c := f.dial("")
				_, err := io.WriteString(c, x.says)
				for n := 0; err == nil; n++ {
					if n > 80 {
						t.Fatal("the whole line came, a byte every few milliseconds")
					}
					<-time.After(5 * time.Millisecond)
					_, err = io.WriteString(c, "x")
				}
			}
			f.prefaced(0, 0, 1)
			f.counts(0, 0, 0, 0, 0, 0, 0)
		})
	}
}

// Only who is trusted may say whose connection it is. Others are reset at once where a header must come, and when they
// send one where it may.
func TestHeaderOfUntrustedPeer(t *testing.T) {
	trusted := []string{"127.0.0.2", "127.9.0.0/16", "::ffff:127.0.0.3"}
	for mode, f := range map[ProxyMode]*front{
		ProxyRequire: newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTrusted: trusted}},
			of(RoundRobin, named(t, "a"))),
		ProxyOptional: newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyOptional, ProxyTrusted: trusted}},
			of(RoundRobin, named(t, "a"))),
		"dual": newFront(t, frontConfig{address: "[::]:0", preface: PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTrusted: trusted}},
			of(RoundRobin, named(t, "a"))),
	} {
		for _, h := range []string{header1(someClient, someDest), header2(t, someClient, someDest)} {
			for _, from := range []string{"127.0.0.2", "127.0.0.3", "127.9.8.7"} {
				if got := f.says(from, h+"hello"); got != "a: hello" {
					t.Errorf("%s: %s got %q", mode, from, got)
				}
			}
		}
		f.prefaced(0, 0, 0)
		f.rejects("127.0.0.1", header1(someClient, someDest)+"hello", false)
		f.rejects("127.0.0.4", header2(t, someClient, someDest)+"hello", false)
		f.prefaced(0, 2, 0)
		if mode == ProxyOptional {
			if got := f.says("127.0.0.1", "hello"); got != "a: hello" {
				t.Errorf("a direct client got %q", got)
			}
			f.prefaced(0, 2, 0)
			c := f.dial("127.0.0.1")
			h := header1(someClient, someDest)
			f.drip(c, []byte(h[:len(h)-1]))
			_, _ = io.WriteString(c, "\n")
			f.prefaced(0, 3, 0)
		} else {
			f.rejects("127.0.0.1", "", false) // it need not say anything
			f.prefaced(0, 3, 0)
		}
	}
}

// Who has got at the file of a UNIX socket was let in by its mode, and may speak for others.
func TestHeaderOverUnixSocket(t *testing.T) {
	a, heard := telling(t, "a")
	cfg := of(RoundRobin, a)
	cfg.SendProxyProtocol = ProxyV1
	f := newFront(t, frontConfig{address: "unix:" + filepath.Join(t.TempDir(), "s"),
		preface: PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTrusted: []string{"127.0.0.2"}}}, cfg)
	for _, x := range []struct{ header, client string }{
		{header1(someClient, someDest), someClient},
		{"PROXY UNKNOWN\r\n", "nobody"},
	} {
		c, err := net.Dial("unix", strings.TrimPrefix(f.listener.Bound(), "unix:"))
		must(t, err)
		_, err = io.WriteString(c, x.header+"hello")
		must(t, err)
		must(t, c.(*net.UnixConn).CloseWrite())
		_, err = io.ReadAll(c)
		must(t, err)
		must(t, c.Close())
		if h := receive(t, "the endpoint is told", heard); h.client() != x.client || h.rest != "hello" {
			t.Errorf("after %q the endpoint was told of %s, and heard %q", x.header, h.client(), h.rest)
		}
	}
}

// The kernel may hand over a connection with its header and more in it already.
func TestHeaderOfDeferredAccept(t *testing.T) {
	f := newFront(t, frontConfig{socket: engine.ListenOptions{DeferAccept: time.Second}, preface: PrefaceConfig{ProxyProtocol: ProxyRequire}},
		of(RoundRobin, named(t, "a")))
	for _, h := range []string{header1(someClient, someDest), header2(t, someClient, someDest)} {
		if got := f.says("", h+"hello"); got != "a: hello" {
			t.Errorf("answered %q", got)
		}
		c := f.dial("")
		f.drip(c, []byte(h+"hello"))
		must(t, c.CloseWrite())
		if b, err := io.ReadAll(c); string(b) != "a: hello" || err != nil {
			t.Errorf("answered %q, %v", b, err)
		}
	}
	f.prefaced(0, 0, 0)
}

// A client that goes while its header is on its way leaves nothing behind, and is nobody's fault. The reset is noticed
// also if the loop finds it and the header at once.
func TestClientResetsWithinHeader(t *testing.T) {
	f := func(what string) {
		t.Helper()
		e := newFront(t, frontConfig{preface: PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTimeout: time.Hour}}, of(RoundRobin, named(t, "a")))
		c := e.dial("")
		eventually(t, "it is accepted", func() bool { return e.listener.Open() == 1 })
		on(e.loop(), func() {
			_, err := io.WriteString(c, what)
			must(t, err)
			must(t, c.SetLinger(0))
			must(t, c.Close())
		})
		eventually(t, "it is gone", func() bool { return e.engine.Open() == 0 })
		e.prefaced(0, 0, 0)
		e.counts(0, 0, 0, 0, 0, 0, 0)
		e.endpoint(0, 0, 0, 0, 0)
	}
	f("")
	f("PROXY TCP4 ")
	f(header1(someClient, someDest))
	f(header2(t, someClient, someDest) + "hello")
}

func TestPrefaceConfig(t *testing.T) {
	f := func(c PrefaceConfig, want ...string) {
		t.Helper()
		var got []string
		c.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%+v:\n got %q\nwant %q", c, got, want)
		}
	}
	f(PrefaceConfig{})
	f(PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTrusted: []string{"10.0.0.0/8", "::1", "fd00::/8"}, ProxyTimeout: time.Second})
	f(PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTrusted: []string{}}, "proxy_trusted: is empty: nobody could send a header")
	f(PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTrusted: []string{"10.0.0.0/8", "10.0.0.0/33"}},
		`proxy_trusted[1]: "10.0.0.0/33" is neither an address nor a prefix like 192.0.2.0/24 or 2001:db8::/32`)
	f(PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTrusted: []string{"fe80::1%eth0"}},
		`proxy_trusted[0]: "fe80::1%eth0": an address of a list has no zone`)
	f(PrefaceConfig{ProxyProtocol: ProxyRequire, ProxyTimeout: -1}, "proxy_timeout: must not be negative")
	f(PrefaceConfig{ProxyTimeout: 1}, "proxy_trusted: proxy_trusted and proxy_timeout are for a listener with proxy_protocol")
}
