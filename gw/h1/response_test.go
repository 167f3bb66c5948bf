package h1

import (
	"fmt"
	"testing"
)

var responses = []struct {
	name, in string
	good     bool
}{
	{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true},
	{"no reason", "HTTP/1.1 200\r\n\r\n", true},
	{"no reason but its space", "HTTP/1.1 200 \r\n\r\n", true},
	{"1.0", "HTTP/1.0 200 OK\r\n\r\n", true},
	{"interim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", true},
	{"empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n", false},
	{"bare LF", "HTTP/1.1 200 OK\n\n", false},
	{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", false},
	{"status 600", "HTTP/1.1 600 x\r\n\r\n", false},
	{"version 2", "HTTP/2.0 200 OK\r\n\r\n", false},
	{"not HTTP", "SSH-2.0-x\r\n\r\n", false},
	{"switch unasked", "HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n", false},
	{"chunked in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false},
	{"chunked and a length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", false},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", false},
	{"two lengths, the first 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\n", false},
	{"chunked and a length of 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", false},
	{"bare LF after a field", "HTTP/1.1 200 OK\r\nX: ab\nY: z\r\n\r\n", false},
	{"bare LF at the end", "HTTP/1.1 200 OK\r\nX: ab\r\n\n", false},
	{"gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false},
	{"NUL in a value", "HTTP/1.1 200 OK\r\nX: a\x00\r\n\r\n", false},
	{"empty line alone", "\r\n", false},
	{"status 099", "HTTP/1.1 099 x\r\n\r\n", false},
	{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", false},
	{"no space before the reason", "HTTP/1.1 200OK\r\n\r\n", false},
	{"NUL in the reason", "HTTP/1.1 200 O\x00K\r\n\r\n", false},
	{"two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n", false},
	{"space before a colon", "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", false},
	{"coding without a name", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", false},
	{"Connection that is no list of tokens", "HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n", false},
	{"folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", false},
}

// answer scans a response: whole if cut is 0, in two pieces cut there, or byte by byte if cut is negative. It is good,
// refused as 502 (nil, true), or not whole (nil, false).
func answer(t testing.TB, in []byte, cut int) (p *Response, whole bool) {
	t.Helper()
	p, r := &Response{}, &Resume{}
	ends := []int{len(in)}
	if cut > 0 {
		ends = []int{cut, len(in)}
	}
	if cut < 0 {
		ends = ends[:0]
		for n := range in {
			ends = append(ends, n+1)
		}
	}
	for _, n := range ends {
		_, err := p.Scan(in[:n:n], r)
		if err == ErrPartial {
			continue
		}
		if err == nil {
			return p, true
		}
		if e, ok := err.(*Error); !ok || e.Status != 502 {
			t.Errorf("a bad response is %v, not a 502", err)
		}
		return nil, true
	}
	return nil, false
}

func TestResponseVerdicts(t *testing.T) {
	for _, c := range responses {
		p, whole := answer(t, []byte(c.in), 0)
		if !whole || (p != nil) != c.good {
			t.Errorf("%s: good %v, whole %v", c.name, p != nil, whole)
		}
		for cut := -1; cut < len(c.in); cut++ {
			q, whole := answer(t, []byte(c.in), cut)
			if !whole || (q != nil) != c.good || q != nil && saysOf(q) != saysOf(p) {
				t.Errorf("%s, cut at %d: good %v, whole %v", c.name, cut, q != nil, whole)
			}
		}
	}
	if p, whole := answer(t, []byte("HTTP/1.1 200 OK\r\nX: y\r\n"), 0); p != nil || whole {
		t.Errorf("without its end: %v, whole %v", p, whole)
	}
}

// Every byte of a status line that has one meaning only; 0: it is refused.
func TestStatusLines(t *testing.T) {
	for in, want := range map[string]int{
		"HTTP/1.1 100 Continue": 100, "HTTP/1.1 203": 203, "HTTP/1.1 418 I'm a teapot": 418, "HTTP/1.0 599 ": 599, "HTTP/1.9 250 x": 250,
		"HTTP/1.1 099": 0, "HTTP/1.1 600": 0, "HTTP/1.1 20": 0, "HTTP/1.1 ": 0, "HTTP/1.1": 0, "HTTP/1.x 200": 0, "HTTP/x.1 200": 0, "HTTP/11 200": 0,
		"HTTP/1.1-200 x": 0, "HTTP/1.1 x00 x": 0, "HTTP/1.1 2x0 x": 0, "HTTP/1.1 20x x": 0, "HTTP/1.1 +20 x": 0, "HTTP/1.1 200\tx": 0,
		"HTTP/1.11 200": 0, "http/1.1 200": 0, "ICY 200 OK and more": 0,
	} {
		p, whole := answer(t, []byte(in+"\r\n\r\n"), 0)
		got := 0
		if p != nil {
			got = p.Status
		}
		if !whole || got != want {
			t.Errorf("%q: status %d, whole %v", in, got, whole)
		}
	}
}

func saysOf(p *Response) string {
	return fmt.Sprintf("%d %s %d %d %v %v %v %s", p.Status, p.Reason, p.Minor, p.Length, p.Chunked, p.KeepAlive(), p.Dated(),
		p.AppendFields(nil, ResponseDrop))
}

func TestBodiless(t *testing.T) {
	for _, c := range []struct {
		status int
		toHEAD bool
		want   bool
	}{{200, false, false}, {200, true, true}, {204, false, true}, {304, false, true}, {103, false, true}, {205, false, false}} {
		if got := (&Response{Status: c.status}).Bodiless(c.toHEAD); got != c.want {
			t.Errorf("%d to HEAD %v: %v", c.status, c.toHEAD, got)
		}
	}
}

func FuzzResponse(f *testing.F) {
	for _, c := range responses {
		f.Add([]byte(c.in), 9)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		p, whole := answer(t, b, 0)
		if p != nil {
			readResponseAgain(t, p)
		}
		for _, cut := range []int{-1, max(0, min(at, len(b)))} {
			q, again := answer(t, b, cut)
			if whole != again || (p == nil) != (q == nil) || p != nil && saysOf(p) != saysOf(q) {
				t.Fatalf("whole: %v %v, cut at %d: %v %v", whole, p, cut, again, q)
			}
		}
	})
}
