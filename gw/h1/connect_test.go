package h1

import (
	"strings"
	"testing"
)

// Where it is allowed, CONNECT names a host and a port, and has no body.
func TestConnect(t *testing.T) {
	lim := DefaultLimits
	lim.Connect = true
	for _, c := range []struct {
		head, authority string
		status          int
	}{
		{headOf("CONNECT b:443 HTTP/1.1", "Host: b:443"), "b:443", 0},
		{headOf("CONNECT b:443 HTTP/1.1", "Host: other"), "b:443", 0},
		{headOf("CONNECT b:443 HTTP/1.0"), "b:443", 0},
		{headOf("CONNECT [::1]:1 HTTP/1.1", "Host: [::1]:1"), "[::1]:1", 0},
		{headOf("CONNECT b:65535 HTTP/1.1", "Host: b"), "b:65535", 0},
		{headOf("CONNECT b:443 HTTP/1.1"), "", 400},
		{headOf("CONNECT b:443 HTTP/1.1", "Host: b c"), "", 400},
		{headOf("CONNECT b HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT b: HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT b:0 HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT b:65536 HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT b:x HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT :443 HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT u@b:443 HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT [::1] HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT [fe80::1 HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT / HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT http://b:443/ HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT b:443/x HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT * HTTP/1.1", "Host: b"), "", 400},
		{headOf("CONNECT b:443 HTTP/1.1", "Host: b", "Content-Length: 0"), "", 400},
		{headOf("CONNECT b:443 HTTP/1.1", "Host: b", "Content-Length: 3"), "", 400},
		{headOf("CONNECT b:443 HTTP/1.1", "Host: b", "Transfer-Encoding: chunked"), "", 400},
		{headOf("TRACE / HTTP/1.1", "Host: b"), "", 405},
		{headOf("connect b:443 HTTP/1.1", "Host: b"), "", 400}, // another method: case matters
	} {
		for cut := range c.head {
			q, r := &Request{}, &Resume{}
			_, err := q.Scan([]byte(c.head)[:cut], r, &lim)
			if err == ErrPartial {
				_, err = q.Scan([]byte(c.head), r, &lim)
			}
			status := 0
			if e, ok := err.(*Error); ok {
				status = e.Status
			}
			if status != c.status || status == 0 && (string(q.Authority) != c.authority || len(q.Path)+len(q.Query) > 0) {
				t.Fatalf("%q, cut at %d: %d, %q, path %q", c.head, cut, status, q.Authority, q.Path)
			}
		}
		if method, _, _ := strings.Cut(c.head, " "); method == "CONNECT" {
			if v, _ := verdict([]byte(c.head)); v != 405 {
				t.Errorf("%q, not allowed: %d", c.head, v)
			}
		}
	}
}

// A Request that was a CONNECT is the next request's.
func TestConnectIsForgotten(t *testing.T) {
	lim := DefaultLimits
	lim.Connect = true
	q := &Request{}
	if _, err := q.Scan([]byte(headOf("CONNECT b:443 HTTP/1.1", "Host: b")), &Resume{}, &lim); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Scan([]byte(headOf("POST /x HTTP/1.1", "Host: c", "Content-Length: 3")), &Resume{}, &lim); err != nil ||
		string(q.Path) != "/x" || string(q.Authority) != "c" {
		t.Errorf("%q at %q, %v", q.Path, q.Authority, err)
	}
}

// Each option is compared with each field, so their number is bounded.
func TestConnectionListsAFew(t *testing.T) {
	for n, want := range map[int]int{maxOptions: 0, maxOptions + 1: 400} {
		in := headOf(get, "Host: a", "Connection: "+strings.Repeat("x,", n-1), "Connection: y")
		if v, _ := verdict([]byte(in)); v != want {
			t.Errorf("%d options: %d", n, v)
		}
	}
}

// All that an int64 holds, and nothing more.
func TestLengths(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "007": 7, "9223372036854775807": 1<<63 - 1, "9223372036854775800": 1<<63 - 8,
		"9223372036854775808": -1, "9223372036854775810": -1, "18446744073709551616": -1, "18446744073709551621": -1,
		"00000000000000000000000000000000000000001": 1, "": -1, "-1": -1, "+1": -1, "1 ": -1, "0x1": -1, "1,1": -1, "1e3": -1} {
		if n, ok := parseLength([]byte(in)); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v", in, n, ok)
		}
	}
}
