package h1

import "testing"

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
	{"gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false},
	{"NUL in a value", "HTTP/1.1 200 OK\r\nX: a\x00\r\n\r\n", false},
	{"folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", false},
}

// answer scans a response whole (cut 0) or byte by byte: good, refused as 502, or not whole (nil, false).
func answer(t testing.TB, in []byte, byByte bool) (p *Response, whole bool) {
	t.Helper()
	p, r := &Response{}, &Resume{}
	n := len(in)
	if byByte {
		n = min(1, len(in))
	}
	for ; n <= len(in); n++ {
		_, err := p.Scan(in[:n:n], r)
		if err == ErrPartial {
			continue
		}
		if e, ok := err.(*Error); ok {
			if e.Status != 502 {
				t.Errorf("a bad response is %d, not 502", e.Status)
			}
			return nil, true
		}
		return p, true
	}
	return nil, false
}

func TestResponseVerdicts(t *testing.T) {
	for _, c := range responses {
		for _, byByte := range []bool{false, true} {
			p, whole := answer(t, []byte(c.in), byByte)
			if !whole || (p != nil) != c.good {
				t.Errorf("%s, byte by byte %v: good %v, whole %v", c.name, byByte, p != nil, whole)
			}
		}
	}
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
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, whole := answer(t, b, false)
		q, again := answer(t, b, true)
		if len(b) > 0 && (whole != again || (p == nil) != (q == nil)) {
			t.Fatalf("whole: %v %v, byte by byte: %v %v", whole, p, again, q)
		}
		if p != nil && q != nil && (p.Status != q.Status || p.Length != q.Length || p.Chunked != q.Chunked ||
			string(p.AppendFields(nil, ResponseDrop)) != string(q.AppendFields(nil, ResponseDrop))) {
			t.Fatalf("whole %+v, byte by byte %+v", p, q)
		}
	})
}
