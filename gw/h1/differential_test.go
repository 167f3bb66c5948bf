package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// What the gateway writes of a message that it has accepted must be one message to whoever reads it, with this body and
// this end: where two disagree, a second one can be hidden. Others may refuse it, for rules of their own.

const nextRequest = "GET /next HTTP/1.1\r\nHost: next\r\n\r\n"

// whole reads a body of n bytes or in chunks from src; false if it is not whole.
func whole(y Body, src []byte) (content, trailers []byte, ok bool) {
	content, _, err := y.Next(bytes.Clone(src))
	return content, y.Trailers(), err == nil && y.Done()
}

func appendBody(out []byte, h *head, content, trailers []byte) []byte {
	if h.Chunked {
		return AppendLastChunk(AppendChunk(out, content), trailers)
	}
	return append(out, content...)
}

// framedAlike checks the first request of b, if it is accepted and whole; how many of the others took it.
func framedAlike(t testing.TB, b []byte) (taken int) {
	t.Helper()
	q := &Request{}
	n, err := q.Scan(b, &Resume{}, &DefaultLimits)
	if err != nil {
		return 0
	}
	content, trailers, ok := whole(bodyOf(&q.head), b[n:])
	if !ok {
		return 0
	}
	out := fmt.Appendf(nil, "%s %s%s HTTP/1.1\r\nHost: %s\r\n", q.Method, q.Path, q.Query, q.Authority)
	out = q.AppendFields(out, forwarded)
	if q.Chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	} else if q.Length >= 0 {
		out = fmt.Appendf(out, "Content-Length: %d\r\n", q.Length)
	}
	out = appendBody(append(out, "\r\n"...), &q.head, content, trailers)
	stream := append(bytes.Clone(out), nextRequest...)

	r := bufio.NewReader(bytes.NewReader(stream))
	if req, err := http.ReadRequest(r); err == nil {
		taken++
		got, err := io.ReadAll(req.Body)
		if err != nil || !bytes.Equal(got, content) || req.Method != string(q.Method) || req.Host != string(q.Authority) ||
			req.RequestURI != string(q.Path)+string(q.Query) {
			t.Fatalf("%q: net/http reads %s %s at %s, body %q, %v", out, req.Method, req.RequestURI, req.Host, got, err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != nextRequest {
			t.Fatalf("%q: net/http leaves %q", out, rest)
		}
	}

	r = bufio.NewReaderSize(bytes.NewReader(stream), 256<<10)
	var req fasthttp.Request
	err = req.Read(r)
	if err == nil && req.MayContinue() {
		err = req.ContinueReadBody(r, 0)
	}
	if err == nil {
		taken++
		h := &req.Header
		if !bytes.Equal(req.Body(), content) || !bytes.Equal(h.Method(), q.Method) || !bytes.Equal(h.Host(), q.Authority) ||
			string(h.RequestURI()) != string(q.Path)+string(q.Query) {
			t.Fatalf("%q: fasthttp reads %s %s at %s, body %q", out, h.Method(), h.RequestURI(), h.Host(), req.Body())
		}
		if rest, _ := io.ReadAll(r); string(rest) != nextRequest {
			t.Fatalf("%q: fasthttp leaves %q", out, rest)
		}
	}
	return taken
}

const nextResponse = "HTTP/1.1 299 Next\r\nContent-Length: 0\r\n\r\n"

// framedAlikeResponse is framedAlike for a response, to GET and to HEAD.
func framedAlikeResponse(t testing.TB, b []byte) (taken int) {
	t.Helper()
	p := &Response{Offered: []byte("websocket")}
	n, err := p.Scan(b, &Resume{})
	if err != nil || p.Status < 200 {
		return 0
	}
	for _, method := range []string{"GET", "HEAD"} {
		y, h := bodyOf(&p.head), p.head
		switch {
		case p.Bodiless(method == "HEAD"):
			y, h.Chunked = NoBody(), false
		case !h.Chunked && h.Length < 0:
			y, h.Length, h.Chunked = LengthBody(int64(len(b)-n)), -1, true // until it closes: the gateway puts chunks on
		}
		content, trailers, ok := whole(y, b[n:])
		if !ok {
			return taken
		}
		drop := ResponseDrop
		if p.Status == 204 {
			drop |= 1 << ContentLength
		}
		out := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", p.Status, p.Reason)
		out = p.AppendFields(out, drop)
		if h.Chunked {
			out = append(out, "Transfer-Encoding: chunked\r\n"...)
		}
		out = appendBody(append(out, "\r\n"...), &h, content, trailers)
		stream := append(bytes.Clone(out), nextResponse...)

		r := bufio.NewReader(bytes.NewReader(stream))
		if resp, err := http.ReadResponse(r, &http.Request{Method: method}); err == nil {
			if framed := h.Chunked || h.Length >= 0 || p.Bodiless(method == "HEAD"); framed {
				taken++
				got, err := io.ReadAll(resp.Body)
				if err != nil || !bytes.Equal(got, content) || resp.StatusCode != p.Status {
					t.Fatalf("%q to %s: net/http reads %d, body %q, %v", out, method, resp.StatusCode, got, err)
				}
				if rest, _ := io.ReadAll(r); string(rest) != nextResponse {
					t.Fatalf("%q to %s: net/http leaves %q", out, method, rest)
				}
			}
		}

		r = bufio.NewReaderSize(bytes.NewReader(stream), 256<<10)
		resp := fasthttp.Response{SkipBody: method == "HEAD"}
		if err := resp.Read(r); err == nil {
			taken++
			if resp.StatusCode() != p.Status || !bytes.Equal(resp.Body(), content) {
				t.Fatalf("%q to %s: fasthttp reads %d, body %q", out, method, resp.StatusCode(), resp.Body())
			}
			if rest, _ := io.ReadAll(r); string(rest) != nextResponse {
				t.Fatalf("%q to %s: fasthttp leaves %q", out, method, rest)
			}
		} else if errors.Is(err, io.EOF) {
			t.Fatalf("%q to %s: fasthttp waits for more: %v", out, method, err)
		}
	}
	return taken
}

func TestOthersFrameAlike(t *testing.T) {
	clients, upstreams := wires(t)
	taken := 0
	for _, c := range clients {
		taken += framedAlike(t, c.b)
	}
	for _, c := range corpus() {
		taken += framedAlike(t, []byte(c))
	}
	for _, c := range upstreams {
		taken += framedAlikeResponse(t, c.b)
	}
	for _, c := range responses {
		taken += framedAlikeResponse(t, []byte(c.in+strings.Repeat("x", 9)))
	}
	if taken < 250 {
		t.Errorf("only %d were taken", taken)
	}
}
