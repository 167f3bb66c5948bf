package health

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStatusesUpAndDown(t *testing.T) {
	f := func(want []Status, up bool, statuses ...int) {
		t.Helper()
		for _, status := range statuses {
			err := check(t, asking(&HTTP{Path: "/", Statuses: want}), says(t, fmt.Sprintf("HTTP/1.1 %03d x\r\n\r\n", status)))
			if (err == nil) != up || err != nil && err.Error() != fmt.Sprintf("answered %d", status) {
				t.Errorf("%d of %q: %v", status, want, err)
			}
		}
	}
	f(nil, true, 200, 201, 204, 299, 300, 301, 304, 399)
	f(nil, false, 400, 404, 429, 499, 500, 503, 599, 101, 0, 600, 999)
	f([]Status{"200-299", "404"}, true, 200, 299, 404)
	f([]Status{"200-299", "404"}, false, 300, 399, 403, 405, 500)
	f([]Status{"503"}, true, 503)
	f([]Status{"503"}, false, 200, 502, 504)
	f([]Status{"500-599"}, true, 500, 599)
	f([]Status{"500-599"}, false, 600)
}

func TestAnswersUpAndDown(t *testing.T) {
	f := func(answer, want string) {
		t.Helper()
		got := said(check(t, asking(&HTTP{Path: "/"}), says(t, answer)))
		if !strings.HasPrefix(got, want) {
			t.Errorf("%.60q: %s, want %s", answer, got, want)
		}
		if len(got) > reasonBytes+50 || strings.ContainsAny(got, "\r\n") {
			t.Errorf("%.60q: %q is no reason for a log", answer, got)
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "up")
	f("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nthe body does not count", "up")
	f("HTTP/1.0 204 No Content\r\n\r\n", "up")
	// The gateway takes heads of 32 KiB, and so does a check.
	f("HTTP/1.1 200 OK\r\nSet-Cookie: "+strings.Repeat("a", 30<<10)+"\r\n\r\n", "up")
	f("HTTP/1.1 200 OK\r\nSet-Cookie: "+strings.Repeat("a", 70<<10)+"\r\n\r\n", "read response: a head of more than 64 KiB")
	f("HTTP/1.1 200 OK\r\n"+strings.Repeat("a: b\r\n", 12<<10)+"\r\n", "read response: a head of more than 64 KiB")
	f("HTTP/1.1 "+strings.Repeat("2", 70<<10)+"\r\n\r\n", "read response: ")
	// What is not the answer yet.
	f("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "up")
	f("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 No\r\n\r\n", "answered 503")
	f("HTTP/1.1 100 Continue\r\n\r\n", "read response: unexpected EOF")
	f(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 4<<10), "read response: a head of more than 64 KiB")
	// No answer.
	f("", "read response: unexpected EOF")
	f("HTTP/1.1 200", "read response: unexpected EOF")
	f("HTTP/1.1 200 OK\r\nContent-Le", "read response: ")
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n", "read response: unexpected EOF")
	f("SSH-2.0-OpenSSH_9.2\r\n\r\n", `read response: malformed HTTP response "SSH-2.0-OpenSSH_9.2"`)
	f(strings.Repeat("SSH", 1000)+"\r\n\r\n", `read response: malformed HTTP response "SSHSSH`)
	f("HTTP/1.1 2x0 OK\r\n\r\n", `read response: malformed HTTP status code "2x0"`)
	f("HTTP/1.1 200 OK\r\nno colon\x07\r\n\r\n", "read response: malformed MIME header")
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "read response: http: ")
	f("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", `read response: bad Content-Length "-1"`)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "read response: ")
	f("\x00\x00\x00\x04\x00\x00\x00\x00\x00", "read response: ")
}

func TestBodies(t *testing.T) {
	f := func(expr, answer, want string) {
		t.Helper()
		got := said(check(t, asking(&HTTP{Path: "/", Body: expr}), says(t, answer)))
		if got != want && (!strings.HasSuffix(want, ": ") || !strings.HasPrefix(got, want)) {
			t.Errorf("%q in %.80q: %s, want %s", expr, answer, got, want)
		}
	}
	const no = "body does not match"
	const length, chunked = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	of := func(body string) string { return fmt.Sprintf(length, len(body), body) }
	f("ok", of("all is ok here"), "up")
	f("^ok$", of("ok"), "up")
	f("^ok$", of("ok\n"), no)
	f("ok", of("no"), no)
	f("ok", of(""), no)
	f(`"status": *"(up|warn)"`, of(`{"status":  "warn"}`), "up")
	f("(?i)OK", of("oK"), "up")
	f("^$", "HTTP/1.1 204 No Content\r\n\r\n", "up")
	f("ok", "HTTP/1.1 204 No Content\r\n\r\nok", no) // there is no body, whatever follows
	// The status is the first that counts, and the body is the body alone.
	f("ok", "HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\nok", "answered 500")
	f("ok", "HTTP/1.1 200 ok\r\nX: ok\r\nContent-Length: 2\r\n\r\nnook", no)
	// Framing.
	f("^abcd$", chunked+"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", "up")
	f("^abcd$", chunked+"4;x=y\r\nabcd\r\n0\r\nTrailer: ok\r\n\r\n", "up")
	f("2\r\n", chunked+"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", no)
	f("ok", chunked+"2\r\nno\r\n0\r\n\r\nok", no)
	f("^until the end ok$", "HTTP/1.0 200 OK\r\n\r\nuntil the end ok", "up")
	// Cut off, and malformed: what came does not count.
	f("ok", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "read body: unexpected EOF")
	f("ok", chunked+"2\r\nok\r\n", "read body: unexpected EOF")
	f("ok", chunked+"20\r\nok", "read body: unexpected EOF")
	f("ok", chunked+"2\r\nok\r\nx\r\n", "read body: ")
	f("ok", chunked+"2\r\nok0\r\n\r\n", "read body: ")
	f("ok", chunked+"ffffffffffffffffff\r\nok", "read body: ")
	f("ok", chunked+strings.Repeat("1;"+strings.Repeat("x", 2000)+"\r\na\r\n", 100)+"0\r\n\r\n", "read body: ")
	// 64 KiB are looked at, in whatever pieces they come.
	long := strings.Repeat("a", maxBody-2)
	f("ok", of(long+"ok"), "up")
	f("ok", of(long+"aok"), no)
	f("ok", chunked+strings.Repeat("1\r\na\r\n", maxBody-2)+"2\r\nok\r\n0\r\n\r\n", "up")
	f("^ok", of("ok"+strings.Repeat("a", 1<<20)), "up")
	f("ok", "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nok"+long+"and is cut off later", "up")
}

// An endpoint may well stream for ever at its health's path: a check reads what it looks at, and hangs up.
func TestEndlessBody(t *testing.T) {
	endless := func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err != nil {
			return
		}
		for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nok"); err == nil; _, err = c.Write(make([]byte, 4096)) {
		}
	}
	for expr, want := range map[string]string{"": "up", "ok": "up", "no": "body does not match"} {
		address := serve(t, "tcp", "127.0.0.1:0", endless).Addr().String()
		if got := said(check(t, asking(&HTTP{Path: "/", Body: expr}), address)); got != want {
			t.Errorf("%q: %s, want %s", expr, got, want)
		}
	}
}

func TestRequest(t *testing.T) {
	f := func(network, address, host, want string) {
		t.Helper()
		got := make(chan *http.Request, 1)
		ln := serve(t, network, address, func(c net.Conn) {
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				got <- r
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			}
		})
		endpoint := ln.Addr().String()
		if network == "unix" {
			endpoint = "unix:" + endpoint
		}
		must(t, check(t, asking(&HTTP{Path: "/healthz?full=1", Host: host}), endpoint))
		r := receive(t, "the request is read", got)
		if want == "" {
			want = endpoint
		}
		if r.Method != "GET" || r.RequestURI != "/healthz?full=1" || r.Host != want || !r.Close {
			t.Errorf("%s: asked %s %s of %q, close %v; want Host %q", endpoint, r.Method, r.RequestURI, r.Host, r.Close, want)
		}
		if diff := cmp.Diff(http.Header{"User-Agent": {"sluice-health"}, "Connection": {"close"}}, r.Header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	f("tcp", "127.0.0.1:0", "", "") // the endpoint's address
	f("tcp", "127.0.0.1:0", "app.test", "app.test")
	f("unix", socket+"1", "", "localhost") // a path is no host
	f("unix", socket+"2", "app.test", "app.test")
	f("unix", fmt.Sprint("@sluice-health-", os.Getpid()), "", "localhost")
}

func TestMethods(t *testing.T) {
	f := func(method, want string) {
		t.Helper()
		got := make(chan string, 1)
		address := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			if head, err := readHead(c); err == nil {
				got <- head
				// A response to HEAD speaks of a body that it does not have.
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			}
		}).Addr().String()
		must(t, check(t, asking(&HTTP{Path: "/", Host: "a.test", Method: method}), address))
		if head := receive(t, "the request is read", got); head != want {
			t.Errorf("%s: asked %q, want %q", method, head, want)
		}
	}
	const rest = "Host: a.test\r\nUser-Agent: sluice-health\r\nConnection: close\r\n\r\n"
	const empty = "Host: a.test\r\nUser-Agent: sluice-health\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	f("", "GET / HTTP/1.1\r\n"+rest)
	f("HEAD", "HEAD / HTTP/1.1\r\n"+rest)
	f("OPTIONS", "OPTIONS / HTTP/1.1\r\n"+rest)
	f("POST", "POST / HTTP/1.1\r\n"+empty)
	f("PUT", "PUT / HTTP/1.1\r\n"+empty)
}

// readHead is all that comes, up to an empty line.
func readHead(c net.Conn) (string, error) {
	var head strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(head.String(), "\r\n\r\n"); head.Write(b) {
		if _, err := c.Read(b); err != nil {
			return head.String(), err
		}
	}
	return head.String(), nil
}

func FuzzStatuses(f *testing.F) {
	for _, s := range []string{"200", "200-399", "599", "600", "2xx", "-", "", "200-", "-200", "299-200", "+20-+30", "٢٠٠"} {
		f.Add(s)
	}
	form := regexp.MustCompile(`^[2-5][0-9][0-9](-[2-5][0-9][0-9])?$`)
	f.Fuzz(func(t *testing.T, text string) {
		var s statusSet
		ok := s.add(text)
		if ok != (form.MatchString(text) && (len(text) == 3 || text[:3] <= text[4:])) {
			t.Fatalf("%q: %v", text, ok)
		}
		for status := range 1000 {
			of := fmt.Sprintf("%03d", status)
			if want := ok && of >= text[:3] && of <= text[len(text)-3:]; s.has(status) != want {
				t.Fatalf("%q has %d: %v", text, status, !want)
			}
		}
	})
}
