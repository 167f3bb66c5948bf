package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// forwarded is what the gateway writes itself.
const forwarded = RequestDrop | 1<<Host | 1<<ContentLength

// framingOf is how a head says that its body ends, and its connection.
func framingOf(h *head) string {
	out := map[bool]string{true: "Connection: keep-alive\r\n", false: "Connection: close\r\n"}[h.KeepAlive()]
	if h.Chunked {
		out += "Transfer-Encoding: chunked\r\n"
	} else if h.Length >= 0 {
		out += fmt.Sprintf("Content-Length: %d\r\n", h.Length)
	}
	return out
}

// rewritten is a request as the gateway would write it, in the version that it came in.
func rewritten(q *Request) []byte {
	out := fmt.Appendf(nil, "%s %s%s HTTP/1.%d\r\n", q.Method, q.Path, q.Query, q.Minor)
	if len(q.Authority) > 0 {
		out = AppendField(out, "Host", q.Authority)
	}
	return append(q.AppendFields(append(out, framingOf(&q.head)...), forwarded), "\r\n"...)
}

// A rewritten head grows by less than this.
var roomy = Limits{Line: 64 << 10, Head: 128 << 10, Fields: 200}

// readAgain checks that an accepted request, written anew, says the same once more, to us and to others.
func readAgain(t testing.TB, q *Request) {
	t.Helper()
	says := func(q *Request) string {
		return fmt.Sprintf("%s %s%s %d %s %d %v %v %v %s", q.Method, q.Path, q.Query, q.Minor, q.Authority, q.Length, q.Chunked, q.Expect,
			q.KeepAlive(), q.AppendFields(nil, forwarded))
	}
	out, again := rewritten(q), &Request{}
	if n, err := again.Scan(out, &Resume{}, &roomy); err != nil || n != len(out) {
		t.Fatalf("%q: %d bytes, %v", out, n, err)
	}
	if got, want := says(again), says(q); got != want {
		t.Fatalf("%q: %q, not %q", out, got, want)
	}
	if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out))); err == nil {
		chunked := len(r.TransferEncoding) == 1 && r.TransferEncoding[0] == "chunked"
		if r.Method != string(q.Method) || chunked != q.Chunked || !chunked && r.ContentLength != max(0, q.Length) ||
			r.Host != string(q.Authority) && q.Path[0] == '/' {
			t.Fatalf("%q: net/http reads %s %s, length %d, %v", out, r.Method, r.Host, r.ContentLength, r.TransferEncoding)
		}
	}
	// Filters see what fasthttp reads; what it cannot read is refused.
	var h fasthttp.RequestHeader
	if err := h.Read(bufio.NewReaderSize(bytes.NewReader(out), 256<<10)); err == nil {
		if n := h.ContentLength(); string(h.Method()) != string(q.Method) || string(h.Host()) != string(q.Authority) ||
			string(h.RequestURI()) != string(q.Path)+string(q.Query) || q.Chunked && n != -1 || q.Length >= 0 && int64(n) != q.Length {
			t.Fatalf("%q: fasthttp reads %s %s %s, length %d", out, h.Method(), h.Host(), h.RequestURI(), n)
		}
	}
}

func TestRequestsAreReadAsWritten(t *testing.T) {
	taken := 0
	for _, in := range corpus() {
		if v, q := verdict([]byte(in)); v == 0 {
			taken++
			readAgain(t, q)
		}
	}
	if taken < 30 {
		t.Errorf("only %d were", taken)
	}
}

// readResponseAgain is readAgain for a response.
func readResponseAgain(t testing.TB, p *Response) {
	t.Helper()
	const drop = ResponseDrop | 1<<ContentLength
	says := func(p *Response) string {
		return fmt.Sprintf("%d %s %d %d %v %v %s", p.Status, p.Reason, p.Minor, p.Length, p.Chunked, p.KeepAlive(), p.AppendFields(nil, drop))
	}
	out := fmt.Appendf(nil, "HTTP/1.%d %d %s\r\n%s", p.Minor, p.Status, p.Reason, framingOf(&p.head))
	out = append(p.AppendFields(out, drop), "\r\n"...)
	again := &Response{}
	if n, err := again.Scan(out, &Resume{}); err != nil || n != len(out) {
		t.Fatalf("%q: %d bytes, %v", out, n, err)
	}
	if got, want := says(again), says(p); got != want {
		t.Fatalf("%q: %q, not %q", out, got, want)
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
	if err != nil || p.Bodiless(false) {
		return
	}
	want := p.Length
	if p.Chunked {
		want = -1
	}
	if r.StatusCode != p.Status || r.ContentLength != want {
		t.Fatalf("%q: net/http reads %d, length %d", out, r.StatusCode, r.ContentLength)
	}
}

func TestResponsesAreReadAsWritten(t *testing.T) {
	for _, c := range responses {
		if p, _ := answer(t, []byte(c.in), 0); p != nil {
			readResponseAgain(t, p)
		}
	}
}

// framedByOthers checks that a chunked body which was read as content is nothing else to others: where two disagree on
// a body's end, a request can be hidden in it. They may refuse it, for limits of their own: that is what is returned.
func framedByOthers(t testing.TB, in []byte, content string) error {
	t.Helper()
	got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in)))
	if !strings.HasPrefix(content, string(got)) || err == nil && string(got) != content {
		t.Fatalf("%q: net/http reads %q, %v; not %q", in, got, err, content)
	}
	return err
}

// What others write is read, and what is written is read by others.
func TestChunksOfOthers(t *testing.T) {
	var theirs bytes.Buffer
	w := httputil.NewChunkedWriter(&theirs)
	var ours []byte
	want := ""
	for _, n := range []int{1, 9, 10, 15, 16, 255, 4096} {
		s := strings.Repeat("x", n)
		want += s
		_, _ = w.Write([]byte(s))
		ours = AppendChunk(ours, []byte(s))
	}
	_ = w.Close()
	theirs.WriteString("\r\n") // which it leaves to who has trailers
	if ours = AppendLastChunk(ours, nil); string(ours) != theirs.String() {
		t.Errorf("%.80q…, and net/http writes %.80q…", ours, theirs.String())
	}
	if content, rest, done, _ := read(ChunkedBody(), theirs.String(), 100); !done || content != want || rest != "" {
		t.Errorf("%d bytes of %d, rest %q, done %v", len(content), len(want), rest, done)
	}
	for _, c := range bodies {
		if c.y.Chunked() && c.done {
			if err := framedByOthers(t, []byte(c.in), c.content); err != nil {
				t.Errorf("%s: net/http says %v", c.name, err)
			}
		}
	}
}
