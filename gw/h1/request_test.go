package h1

import (
	"fmt"
	"strings"
	"testing"
)

// verdict is what comes of a request's head: its status if it is refused, 0 if it is good, -1 if it is not whole.
func verdict(b []byte) (int, *Request) {
	q := &Request{}
	_, err := q.Scan(b, &Resume{}, &DefaultLimits)
	switch e := err.(type) {
	case nil:
		return 0, q
	case *Error:
		return e.Status, q
	}
	return -1, q
}

// headOf is a head of this line and these fields.
func headOf(line string, fields ...string) string {
	return line + "\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}

const get = "GET / HTTP/1.1"

var requests = []struct {
	name, in string
	want     int
}{
	{"plain", headOf(get, "Host: a"), 0},
	{"empty lines first", "\r\n\r\n" + headOf(get, "Host: a"), 0},
	{"too many empty lines", strings.Repeat("\r\n", 5) + headOf(get, "Host: a"), 400},
	{"not whole", "GET / HTTP/1.1\r\nHost: a\r\n", -1},
	{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
	{"LF first", "\n" + headOf(get, "Host: a"), 400},
	{"bare LF after a field", get + "\r\nHost: ab\nX: y\r\n\r\n", 400},
	{"bare LF after the last field", get + "\r\nHost: ab\n\r\n", 400},
	{"bare LF at the end", get + "\r\nHost: ab\r\n\n", 400},
	{"bare CR in a value", headOf(get, "Host: a", "X: a\rb"), 400},
	{"TLS", "\x16\x03\x01\x02\x00", 400},
	{"HTTP/0.9", headOf("GET /", "Host: a"), 400},
	{"two spaces", headOf("GET  / HTTP/1.1", "Host: a"), 400},
	{"tab for space", headOf("GET\t/ HTTP/1.1", "Host: a"), 400},
	{"space at the end", headOf("GET / HTTP/1.1 ", "Host: a"), 400},
	{"method is no token", headOf("G(T / HTTP/1.1", "Host: a"), 400},
	{"unknown method", headOf("BREW / HTTP/1.1", "Host: a"), 0},
	{"TRACE", headOf("TRACE / HTTP/1.1", "Host: a"), 405},
	{"CONNECT", headOf("CONNECT a:1 HTTP/1.1", "Host: a:1"), 405},
	{"version 2.0", headOf("GET / HTTP/2.0", "Host: a"), 505},
	{"version 1.9 is 1.1", headOf("GET / HTTP/1.9", "Host: a"), 0},
	{"version of two digits", headOf("GET / HTTP/1.10", "Host: a"), 400},
	{"lower-case http", headOf("GET / http/1.1", "Host: a"), 400},
	{"absolute form", headOf("GET http://a/x HTTP/1.1", "Host: b"), 0},
	{"absolute form with user", headOf("GET http://u@a/ HTTP/1.1", "Host: a"), 400},
	{"other scheme", headOf("GET ftp://a/ HTTP/1.1", "Host: a"), 400},
	{"asterisk", headOf("OPTIONS * HTTP/1.1", "Host: a"), 0},
	{"asterisk for GET", headOf("GET * HTTP/1.1", "Host: a"), 400},
	{"fragment", headOf("GET /#x HTTP/1.1", "Host: a"), 400},
	{"byte above ASCII in the target", headOf("GET /\xe9 HTTP/1.1", "Host: a"), 400},
	{"encoded slash", headOf("GET /a%2fb HTTP/1.1", "Host: a"), 400},
	{"encoded NUL", headOf("GET /%00 HTTP/1.1", "Host: a"), 400},
	{"above the root", headOf("GET /../x HTTP/1.1", "Host: a"), 400},
	{"no Host", headOf(get), 400},
	{"no Host in 1.0", headOf("GET / HTTP/1.0"), 0},
	{"two Hosts", headOf(get, "Host: a", "Host: a"), 400},
	{"Host with a path", headOf(get, "Host: a/b"), 400},
	{"Host with user", headOf(get, "Host: u@a"), 400},
	{"Host with a port too large", headOf(get, "Host: a:65536"), 400},
	{"IPv6", headOf(get, "Host: [::1]:80"), 0},
	{"half of IPv6", headOf(get, "Host: [::1"), 400},
	{"empty Host", headOf(get, "Host:"), 400},
	{"folded line", headOf(get, "Host: a", "X: a", " b"), 400},
	{"space before the colon", headOf(get, "Host : a"), 400},
	{"no colon", headOf(get, "Host: a", "nonsense"), 400},
	{"no name", headOf(get, "Host: a", ": x"), 400},
	{"NUL in a value", headOf(get, "Host: a", "X: a\x00b"), 400},
	{"obs-text in a value", headOf(get, "Host: a", "X: \xe9"), 0},
	{"length", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 5"), 0},
	{"length with a sign", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: +5"), 400},
	{"length of a list", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 5, 5"), 400},
	{"length too large", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 99999999999999999999"), 400},
	{"length of 2^63 and no more", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 9223372036854775808"), 400},
	{"length almost as large", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 9223372036854775799"), 0},
	{"length that is negative", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: -1"), 400},
	{"length in hexadecimal", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 0x5"), 400},
	{"length that is empty", headOf("POST / HTTP/1.1", "Host: a", "Content-Length:"), 400},
	{"two lengths", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 5"), 400},
	{"two lengths, the first 0", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 0", "Content-Length: 5"), 400},
	{"chunked and a length of 0", headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 0", "Transfer-Encoding: chunked"), 400},
	{"chunked", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), 0},
	{"chunked in 1.0", headOf("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"), 400},
	{"chunked and a length", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 5"), 400},
	{"chunked twice", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400},
	{"chunked, spelt otherwise", headOf("POST / HTTP/1.1", "Host: a", "TRANSFER-ENCODING: ChunkeD "), 0},
	{"chunked after a control character", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: \x0bchunked"), 400},
	{"chunked that is quoted", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: \"chunked\""), 400},
	{"chunked after another", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"), 400},
	{"no coding", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding:"), 400},
	{"no coding and a length", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding:", "Content-Length: 5"), 400},
	{"gzip", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip"), 501},
	{"identity", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: identity"), 400},
	{"chunked with a parameter", headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked;x=1"), 400},
	{"Expect", headOf("POST / HTTP/1.1", "Host: a", "Expect: 100-Continue"), 0},
	{"unknown expectation", headOf("POST / HTTP/1.1", "Host: a", "Expect: 200-ok"), 417},
	{"Connection that is no list of tokens", headOf(get, "Host: a", "Connection: a b"), 400},
	{"long line", headOf("GET /"+strings.Repeat("a", 8<<10)+" HTTP/1.1", "Host: a"), 414},
	{"long line that has no end", "GET /" + strings.Repeat("a", 9<<10), 414},
	{"large head", headOf(get, "Host: a", "X: "+strings.Repeat("a", 32<<10)), 431},
	{"100 fields", headOf(get, append([]string{"Host: a"}, strings.Split(strings.Repeat("X: y|", 98)+"X: y", "|")...)...), 0},
	{"101 fields", headOf(get, append([]string{"Host: a"}, strings.Split(strings.Repeat("X: y|", 99)+"X: y", "|")...)...), 431},
}

func TestRequestVerdicts(t *testing.T) {
	for _, c := range requests {
		if got, _ := verdict([]byte(c.in)); got != c.want {
			t.Errorf("%s: %d, not %d", c.name, got, c.want)
		}
	}
}

// Who is refused is told which rule was broken. The statuses alone would not show a check that another stands in for.
func TestRefusalsSayWhy(t *testing.T) {
	for in, want := range map[string]*Error{
		"\x16\x03\x01":                                                 errMethod,
		" GET / HTTP/1.1\r\n":                                          errMethod,
		"\n":                                                           errBareLF,
		"GET / HTTP/1.1\n":                                             errBareLF,
		get + "\r\nHost: ab\n":                                         errBareLF,
		get + "\r\nHost: ab\r\n\n":                                     errBareLF,
		strings.Repeat("\r\n", 5):                                      errEmptyLines,
		headOf("GET /", "Host: a"):                                     errRequestLine,
		headOf("G(T / HTTP/1.1", "Host: a"):                            errRequestLine,
		headOf("GET /#x HTTP/1.1", "Host: a"):                          errTarget,
		headOf("GET x HTTP/1.1", "Host: a"):                            errTargetForm,
		headOf("GET /%zz HTTP/1.1", "Host: a"):                         errPercent,
		headOf("GET /%2f HTTP/1.1", "Host: a"):                         errPathByte,
		headOf("GET /.. HTTP/1.1", "Host: a"):                          errPathRoot,
		headOf("GET /..;x HTTP/1.1", "Host: a"):                        errPathDots,
		headOf("GET / HTTP/1.1 ", "Host: a"):                           errVersion,
		headOf("GET / HTTP/2.0", "Host: a"):                            errVersionOther,
		headOf("TRACE / HTTP/1.1", "Host: a"):                          errMethodRefused,
		get + "\r\nHost: a\r\n b\r\n":                                  errFieldFold,
		get + "\r\nHost : a\r\n":                                       errFieldName,
		get + "\r\n: a\r\n":                                            errFieldName,
		get + "\r\nX: a\rb\r\n":                                        errBareCR,
		get + "\r\nX: a\x00b\r\n":                                      errFieldValue,
		headOf(get):                                                    errHostMissing,
		headOf(get, "Host: a", "Host: a"):                              errHostTwice,
		headOf(get, "Host: a/b"):                                       errHostBad,
		headOf(get, "Host: a", "Content-Length: 1, 1"):                 errLength,
		headOf(get, "Content-Length: 1", "Content-Length:"):            errLengthTwice,
		headOf(get, "Content-Length: 1", "Transfer-Encoding: chunked"): errLengthAndTE,
		headOf(get, "Transfer-Encoding:"):                              errTE,
		headOf(get, "Transfer-Encoding: gzip"):                         errTEUnknown,
		headOf("GET / HTTP/1.0", "Transfer-Encoding: chunked"):         errTE10,
		headOf(get, "Connection: a b"):                                 errConnection,
		headOf(get, "Host: a", "Expect: x"):                            errExpect,
	} {
		n, err := (&Request{}).Scan([]byte(in), &Resume{}, &DefaultLimits)
		if n != 0 || err != error(want) {
			t.Errorf("%q: %d, %v; not %v", in, n, err, want)
		}
	}
}

// resumed is the verdict on b that comes in pieces: cut at i, or byte by byte if i is negative.
func resumed(b []byte, i int) (int, *Request) {
	q, r := &Request{}, &Resume{}
	step := func(n int) (int, bool) {
		_, err := q.Scan(b[:n:n], r, &DefaultLimits)
		switch e := err.(type) {
		case nil:
			return 0, true
		case *Error:
			return e.Status, true
		}
		return -1, false
	}
	if i >= 0 {
		if v, done := step(i); done {
			return v, q
		}
		v, _ := step(len(b))
		return v, q
	}
	for n := 1; n <= len(b); n++ {
		if v, done := step(n); done {
			return v, q
		}
	}
	return -1, q
}

// The network's cuts change nothing.
func TestRequestVerdictsWhateverTheSplit(t *testing.T) {
	for _, c := range requests {
		_, whole := verdict([]byte(c.in))
		for i := -1; i < len(c.in); i += 1 + len(c.in)/600 {
			got, q := resumed([]byte(c.in), i)
			if got != c.want {
				t.Errorf("%s, cut at %d: %d, not %d", c.name, i, got, c.want)
				break
			}
			if got == 0 && meaningOf(q) != meaningOf(whole) {
				t.Errorf("%s, cut at %d: %s, not %s", c.name, i, meaningOf(q), meaningOf(whole))
				break
			}
		}
	}
}

func meaningOf(q *Request) string {
	return fmt.Sprintf("%s %s%s %d %s %d %v %v %v %s", q.Method, q.Path, q.Query, q.Minor, q.Authority, q.Length, q.Chunked, q.Expect, q.KeepAlive(),
		q.AppendFields(nil, RequestDrop))
}

func TestRequestMeaning(t *testing.T) {
	for in, want := range map[string]string{
		headOf("GET /a/./b/../c?q=/../ HTTP/1.1", "Host: A:80", "X: 1"):                          "GET /a/c?q=/../ 1 A:80 -1 false false true Host: A:80\r\nX: 1\r\n",
		headOf("GET http://b:1?x HTTP/1.1", "Host: a"):                                           "GET /?x 1 b:1 -1 false false true Host: a\r\n",
		headOf("GET / HTTP/1.0", "Connection: keep-alive", "Expect: 100-continue"):               "GET / 0  -1 false false true ",
		headOf(get, "Host: a", "Connection: close, X-Y", "x-y: 1", "Z: 2"):                       "GET / 1 a -1 false false false Host: a\r\nZ: 2\r\n",
		headOf(get, "Host: a", "Connection: Host, Authorization", "Authorization: b"):            "GET / 1 a -1 false false true Host: a\r\nAuthorization: b\r\n",
		headOf(get, "Host: a", "X-Forwarded-For: 1", "x_real_ip: 2", "TE: trailers", "Proxy: x"): "GET / 1 a -1 false false true Host: a\r\n",
		headOf("POST / HTTP/1.1", "Host: a", "Content-Length: 007", "Expect: 100-continue"):      "POST / 1 a 7 false true true Host: a\r\nContent-Length: 007\r\nExpect: 100-continue\r\n",
	} {
		v, q := verdict([]byte(in))
		if got := meaningOf(q); v != 0 || got != want {
			t.Errorf("%.60q: %d\n%q, not\n%q", in, v, got, want)
		}
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	in := []byte(headOf("GET /a/%7Eb/../c?q HTTP/1.1", "Host: a.test", "User-Agent: x", "Accept: */*", "Connection: keep-alive, x-y", "X-Y: 1"))
	q, r := &Request{}, &Resume{}
	out := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := q.Scan(in, r, &DefaultLimits); err != nil {
			t.Fatal(err)
		}
		out = q.AppendFields(out[:0], RequestDrop)
	}); n != 0 {
		t.Errorf("a request: %v allocations", n)
	}
	p := &Response{}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := p.Scan(answer, r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a response: %v allocations", n)
	}
}

func FuzzRequest(f *testing.F) {
	for _, c := range requests {
		if len(c.in) < 1000 {
			f.Add([]byte(c.in), 7)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		want, whole := verdict(b)
		if want == 0 {
			readAgain(t, whole)
		}
		for _, i := range []int{-1, max(0, min(at, len(b)))} {
			got, q := resumed(b, i)
			if got != want {
				t.Fatalf("cut at %d: %d, not %d", i, got, want)
			}
			if want == 0 && meaningOf(q) != meaningOf(whole) {
				t.Fatalf("cut at %d: %s, not %s", i, meaningOf(q), meaningOf(whole))
			}
		}
	})
}
