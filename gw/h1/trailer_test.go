package h1

import (
	"fmt"
	"strings"
	"testing"
)

// trailersOf reads a body of no content with these trailers, in pieces of n bytes.
func trailersOf(t testing.TB, lines string, n int) (string, bool) {
	t.Helper()
	y, in := ChunkedBody(), "0\r\n"+lines+"\r\nGET"
	for len(in) > 0 {
		piece := in[:min(n, len(in))]
		in = in[len(piece):]
		_, rest, err := y.Next([]byte(piece))
		if err != nil {
			return "", false
		}
		if y.Done() {
			if string(rest)+in != "GET" {
				t.Errorf("%q, in pieces of %d: rest %q", lines, n, string(rest)+in)
			}
			return string(y.Trailers()), true
		}
	}
	t.Errorf("%q, in pieces of %d: no end", lines, n)
	return "", false
}

// What may be passed on is, as it came and in its order, whatever the split.
func TestTrailersThatArePassedOn(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"X-A: b\r\n":                             "X-A: b\r\n",
		"x-a:\r\n":                               "x-a:\r\n",
		"A:  b\t c \r\n":                         "A:  b\t c \r\n",
		"Grpc-Status: 0\r\nGrpc-Message: ok\r\n": "Grpc-Status: 0\r\nGrpc-Message: ok\r\n",
		"X-A: 1\r\nContent-Length: 3\r\nX-B: 2\r\n":             "X-A: 1\r\nX-B: 2\r\n",
		"Content-Length: 3\r\nX-B: 2\r\n":                       "X-B: 2\r\n",
		"X-A: 1\r\nSet-Cookie: a=b\r\n":                         "X-A: 1\r\n",
		"ETag: \"x\"\r\nDigest: y\r\nServer-Timing: z\r\n":      "ETag: \"x\"\r\nDigest: y\r\nServer-Timing: z\r\n",
		"X-A: 1\r\nX-A: 2\r\n":                                  "X-A: 1\r\nX-A: 2\r\n",
		"Host: evil\r\nTransfer-Encoding: chunked\r\nTE: x\r\n": "",
		"X-\xe9: 1\r\n":                                         "refused",
	} {
		for _, n := range []int{1 << 20, 1, 2, 3, 5, 7, 11} {
			got, good := trailersOf(t, in, n)
			if !good {
				got = "refused"
			}
			if got != want {
				t.Errorf("%q, in pieces of %d: %q, not %q", in, n, got, want)
			}
		}
	}
}

// Names that decide before the body's end what the message is, in any case.
func TestTrailersThatAreDropped(t *testing.T) {
	for _, name := range strings.Fields(`Transfer-Encoding Content-Length Content-Encoding Content-Type Content-Range Content-Location Host
		Authorization Cookie Set-Cookie Cache-Control Expires Date Age Vary Location Retry-After WWW-Authenticate Max-Forwards Expect Range
		If-Match If-None-Match If-Modified-Since If-Range TE Trailer Upgrade Connection Keep-Alive Proxy Proxy-Authorization
		Proxy-Authentication-Info X-Request-Id X-Request-Timeout Grpc-Timeout X-Forwarded-For X-Forwarded- X-Real-IP X-Original-URL Forwarded
		Via Pragma Warning X_A Access-Control-Allow-Origin Strict-Transport-Security`) {
		for _, spelt := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			if got, good := trailersOf(t, "X-A: 1\r\n"+spelt+": x\r\nX-B: 2\r\n", 4); !good || got != "X-A: 1\r\nX-B: 2\r\n" {
				t.Errorf("%s: %q, %v", spelt, got, good)
			}
		}
	}
}

// What the head's Connection names is not passed on from the trailers either.
func TestTrailersThatConnectionNominates(t *testing.T) {
	for _, c := range []struct{ connection, nominated, want string }{
		{"close", "", "X-A: 1\r\nX-B: 2\r\n"},
		{"keep-alive, TE, Upgrade", "", "X-A: 1\r\nX-B: 2\r\n"},
		{"x-a", "x-a,", "X-B: 2\r\n"},
		{"X-B, close ,, X-A", "X-B,X-A,", ""},
		{"X-C, X-", "X-C,X-,", "X-A: 1\r\nX-B: 2\r\n"},
	} {
		_, q := verdict([]byte(headOf("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Connection: "+c.connection)))
		n := q.AppendNominated(nil)
		got := string(DropNominated([]byte("X-A: 1\r\nX-B: 2\r\n"), n))
		if string(n) != c.nominated || got != c.want {
			t.Errorf("%s: nominated %q, left %q, not %q", c.connection, n, got, c.want)
		}
	}
	_, q := verdict([]byte(headOf(get, "Host: a")))
	if n := q.AppendNominated(nil); n != nil || string(DropNominated([]byte("A: b\r\n"), nil)) != "A: b\r\n" {
		t.Errorf("without Connection, nominated %q", n)
	}
}

// A body without trailers allocates nothing, and one with them once.
func TestTrailersAllocateOnce(t *testing.T) {
	for in, want := range map[string]float64{"1\r\na\r\n0\r\n\r\n": 0, "1\r\na\r\n0\r\nX-A: b\r\nDate: x\r\nX-B: c\r\n\r\n": 1} {
		b := make([]byte, len(in))
		if n := testing.AllocsPerRun(50, func() {
			y := ChunkedBody()
			copy(b, in)
			if _, _, err := y.Next(b); err != nil || !y.Done() {
				t.Fatal(err)
			}
		}); n != want {
			t.Errorf("%q: %v allocations", in, n)
		}
	}
}

func TestLastChunkWithTrailers(t *testing.T) {
	out := AppendLastChunk(AppendChunk(nil, []byte("ab")), []byte("X-A: b\r\n"))
	if want := "2\r\nab\r\n0\r\nX-A: b\r\n\r\n"; string(out) != want {
		t.Errorf("%q, not %q", out, want)
	}
	y := ChunkedBody()
	if data, _, err := y.Next(out); err != nil || !y.Done() || string(data) != "ab" || string(y.Trailers()) != "X-A: b\r\n" {
		t.Errorf("read again: %q, trailers %q, %v", data, y.Trailers(), err)
	}
}

// The client says so in a list, which may be in several fields.
func TestTrailersAreWanted(t *testing.T) {
	for in, want := range map[string]bool{"trailers": true, "Trailers": true, "gzip;q=0.5, trailers": true, "": false, "trailer": false,
		"gzip": false, "trailers;q=1": false, "xtrailers": false} {
		v, q := verdict([]byte(headOf(get, "Host: a", "TE: "+in, "TE: deflate")))
		if v != 0 || q.TrailersOK != want || strings.Contains(string(q.AppendFields(nil, RequestDrop)), "TE") {
			t.Errorf("%q: %d, %v", in, v, q.TrailersOK)
		}
	}
	_, q := verdict([]byte(headOf(get, "Host: a", "TE: x", "TE: trailers", "Trailer: X-A")))
	if got := fmt.Sprint(q.TrailersOK, string(q.AppendFields(nil, RequestDrop&^(1<<Trailer)))); got != "trueHost: a\r\nTrailer: X-A\r\n" {
		t.Error(got)
	}
}
