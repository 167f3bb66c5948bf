package h1

import (
	"strings"
	"testing"
)

// What a request asks to switch to, or nothing.
func TestUpgradesThatAreAsked(t *testing.T) {
	const up = "Connection: Upgrade"
	for _, c := range []struct {
		head, want string
	}{
		{headOf(get, "Host: a", up, "Upgrade: websocket"), "websocket"},
		{headOf(get, "Host: a", "Connection: keep-alive, UPGRADE", "uPGRADE: WebSocket , foo/2"), "WebSocket , foo/2"},
		{headOf(get, "Host: a", up, "Upgrade: websocket", "Content-Length: 0"), "websocket"},
		{headOf(get, "Host: a", "Upgrade: websocket"), ""},
		{headOf(get, "Host: a", "Connection: upgrades", "Upgrade: websocket"), ""},
		{headOf(get, "Host: a", up), ""},
		{headOf(get, "Host: a", up, "Upgrade:"), ""},
		{headOf(get, "Host: a", up, "Upgrade: a b"), ""},
		{headOf(get, "Host: a", up, "Upgrade: a/"), ""},
		{headOf(get, "Host: a", up, "Upgrade: /1"), ""},
		{headOf(get, "Host: a", up, "Upgrade: websocket", "Upgrade: websocket"), ""},
		{headOf("GET / HTTP/1.0", "Host: a", up, "Upgrade: websocket"), ""},
		{headOf("POST / HTTP/1.1", "Host: a", up, "Upgrade: websocket"), ""},
		{headOf("HEAD / HTTP/1.1", "Host: a", up, "Upgrade: websocket"), ""},
		{headOf(get, "Host: a", up, "Upgrade: websocket", "Content-Length: 1"), ""},
		{headOf(get, "Host: a", up, "Upgrade: websocket", "Transfer-Encoding: chunked"), ""},
	} {
		v, q := verdict([]byte(c.head))
		if v != 0 || string(q.Upgrade) != c.want || (c.want == "") != (q.Upgrade == nil) {
			t.Errorf("%q: %d, %q, not %q", c.head, v, q.Upgrade, c.want)
		}
		if strings.Contains(strings.ToLower(string(q.AppendFields(nil, RequestDrop))), "upgrade") {
			t.Errorf("%q: forwarded as a field", c.head)
		}
	}
}

// A 101 is taken from an upstream that was offered what it switches to, and from no other.
func TestSwitches(t *testing.T) {
	const line = "HTTP/1.1 101 Switching Protocols"
	for _, c := range []struct{ offered, head, want string }{
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: websocket"), "websocket"},
		{"websocket", headOf(line, "Connection: x, Upgrade", "Upgrade: WebSocket"), "WebSocket"},
		{"foo/1, bar", headOf(line, "Connection: upgrade", "Upgrade: FOO/1", "Content-Length: 0"), "FOO/1"},
		{"", headOf(line, "Connection: upgrade", "Upgrade: websocket"), errSwitched.Reason},
		{"websocket", headOf(line, "Upgrade: websocket"), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade"), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: h2c"), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: websocke"), errSwitch.Reason},
		{"websocket, foo", headOf(line, "Connection: upgrade", "Upgrade: websocket, foo"), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: "), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: websocket", "Upgrade: websocket"), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: websocket", "Upgrade: x"), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: websocket", "Content-Length: 2"), errSwitch.Reason},
		{"websocket", headOf(line, "Connection: upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"), errSwitch.Reason},
		{"websocket", headOf("HTTP/1.0 101 x", "Connection: upgrade", "Upgrade: websocket"), errSwitch.Reason},
	} {
		for cut := range c.head {
			p, r := &Response{}, &Resume{}
			var err error
			for _, n := range []int{cut, len(c.head)} {
				if c.offered != "" {
					p.Offered = []byte(c.offered)
				}
				if _, err = p.Scan([]byte(c.head)[:n], r); err != ErrPartial {
					break
				}
			}
			got := string(p.Upgrade)
			if err != nil {
				got = err.Error()
			}
			if e, ok := err.(*Error); got != c.want || ok && (e.Status != 502 || p.Upgrade != nil) {
				t.Fatalf("%q to %q, cut at %d: %q, not %q", c.head, c.offered, cut, got, c.want)
			}
		}
	}
}

// An offer is of one exchange: the next one on this loop has none.
func TestOffersAreNotInherited(t *testing.T) {
	p := &Response{Offered: []byte("websocket")}
	in := []byte(headOf("HTTP/1.1 101 x", "Connection: upgrade", "Upgrade: websocket"))
	if _, err := p.Scan(in, &Resume{}); err != nil || string(p.Upgrade) != "websocket" {
		t.Fatalf("%q, %v", p.Upgrade, err)
	}
	if _, err := p.Scan(in, &Resume{}); err != errSwitched {
		t.Errorf("once more: %v", err)
	}
	p.Offered = []byte("websocket")
	if _, err := p.Scan([]byte("HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), &Resume{}); err != nil || p.Upgrade != nil {
		t.Errorf("of a 200: %q, %v", p.Upgrade, err)
	}
}

func TestOffers(t *testing.T) {
	for _, c := range []struct {
		list, protocol string
		want           bool
	}{{"websocket", "WebSocket", true}, {"a/1, websocket", "websocket", true}, {"websocket/13", "websocket", false}, {"a", "", false},
		{"", "", false}, {"websocket", "web", false}} {
		if got := Offers([]byte(c.list), []byte(c.protocol)); got != c.want {
			t.Errorf("%q, %q: %v", c.list, c.protocol, got)
		}
	}
}
