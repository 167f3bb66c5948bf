package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a client, which must succeed, and returns what it says.
func run(t testing.TB, stdin io.Reader, name, pkg string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program(t, name, pkg), args...)
	var failed bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &failed
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, failed.Bytes())
	}
	return string(out)
}

// curl runs curl.
func curl(t testing.TB, args ...string) string {
	t.Helper()
	return curlFrom(t, nil, args...)
}

func curlFrom(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	return run(t, stdin, "curl", "curl", append([]string{"-sS", "-m", "20"}, args...)...)
}

// pieces is a body that the examining origin sends piece by piece.
var pieces = strings.Repeat(strings.Repeat("piece ", 500)+"\n", 30)

// examining is the gateway before an origin that says in X-Saw what it saw of a request: method, framing, upgrade and the
// body's hash. /whole answers with a length, /pieces without one, /echo sends the body back.
func examining(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Saw", fmt.Sprintf("%s %d %v %q %s",
			r.Method, r.ContentLength, r.TransferEncoding, r.Header.Get("Upgrade"), digest(body)))
		switch r.URL.Path {
		case "/echo":
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = w.Write(body)
		case "/whole":
			w.Header().Set("Content-Length", fmt.Sprint(len(pieces)))
			_, _ = io.WriteString(w, pieces)
		case "/pieces":
			for line := range strings.Lines(pieces) {
				_, _ = io.WriteString(w, line)
				w.(http.Flusher).Flush()
			}
		}
	}))
	t.Cleanup(s.Close)
	return "http://" + gatewayTo(t, s.Listener.Addr().String())[0]
}

// digest is short for a body.
func digest(body []byte) string {
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:8])
}

func TestCurl(t *testing.T) {
	gateway := examining(t)
	dir := t.TempDir()
	large := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	file := filepath.Join(dir, "large")
	must(t, os.WriteFile(file, large, 0o600))
	none := digest(nil)
	// A request, the origin's view of it, the response's status line, and its body.
	for _, x := range []struct {
		name      string
		args      []string
		stdin     io.Reader
		saw, line string
		body      string
	}{
		{"GET of known length", []string{"--http1.1", gateway + "/whole"}, nil, `GET 0 [] "" ` + none, "HTTP/1.1 200 OK", pieces},
		{"GET in chunks", []string{"--http1.1", gateway + "/pieces"}, nil, `GET 0 [] "" ` + none, "HTTP/1.1 200 OK", pieces},
		{"HTTP/1.0, known length", []string{"--http1.0", gateway + "/whole"}, nil, `GET 0 [] "" ` + none, "HTTP/1.1 200 OK", pieces},
		{"HTTP/1.0, until the end", []string{"--http1.0", gateway + "/pieces"}, nil, `GET 0 [] "" ` + none, "HTTP/1.1 200 OK", pieces},
		{"HEAD of known length", []string{"--head", gateway + "/whole"}, nil, `HEAD 0 [] "" ` + none, "HTTP/1.1 200 OK", ""},
		{"HEAD without", []string{"--head", gateway + "/pieces"}, nil, `HEAD 0 [] "" ` + none, "HTTP/1.1 200 OK", ""},
		{"POST", []string{"--data", "a=b&c=d", gateway + "/echo"}, nil, `POST 7 [] "" ` + digest([]byte("a=b&c=d")), "HTTP/1.1 200 OK", "a=b&c=d"},
		{"POST of nothing", []string{"--data", "", gateway + "/echo"}, nil, `POST 0 [] "" ` + none, "HTTP/1.1 200 OK", ""},
		{"large POST", []string{"--data-binary", "@" + file, gateway + "/echo"}, nil,
			`POST 3145728 [] "" ` + digest(large), "HTTP/1.1 200 OK", string(large)},
		{"POST by HTTP/1.0", []string{"--http1.0", "--data-binary", "@" + file, gateway + "/echo"}, nil,
			`POST 3145728 [] "" ` + digest(large), "HTTP/1.1 200 OK", string(large)},
		{"upload in chunks", []string{"-T", "-", gateway + "/echo"}, bytes.NewReader(large),
			`PUT -1 [chunked] "" ` + digest(large), "HTTP/1.1 200 OK", string(large)},
		{"upload of no chunk", []string{"-T", "-", gateway + "/echo"}, strings.NewReader(""),
			`PUT -1 [chunked] "" ` + none, "HTTP/1.1 200 OK", ""},
		{"DELETE", []string{"-X", "DELETE", gateway + "/echo"}, nil, `DELETE 0 [] "" ` + none, "HTTP/1.1 200 OK", ""},
		// Upgrade: h2c must not get through: an origin that takes it would be spoken to in what nobody checks.
		{"offer of HTTP/2", []string{"--http2", gateway + "/whole"}, nil, `GET 0 [] "" ` + none, "HTTP/1.1 200 OK", pieces},
	} {
		t.Run(x.name, func(t *testing.T) {
			head := filepath.Join(t.TempDir(), "head")
			args := []string{"-D", head}
			if x.args[0] == "--head" {
				args = append(args, "-o", "/dev/null") // where curl writes the head once more
			}
			body := curlFrom(t, x.stdin, append(args, x.args...)...)
			b, err := os.ReadFile(head)
			must(t, err)
			heads := strings.SplitAfter(strings.TrimSuffix(string(b), "\r\n"), "\r\n\r\n")
			last := heads[len(heads)-1] // after those of 100 Continue
			if !strings.HasPrefix(last, x.line+"\r\n") || !strings.Contains(last, "X-Saw: "+x.saw+"\r\n") {
				t.Errorf("want %s, X-Saw: %s; got %s", x.line, x.saw, b)
			}
			if body != x.body {
				t.Errorf("a body of %d bytes, not the one of %d", len(body), len(x.body))
			}
		})
	}
	for _, x := range []struct {
		name        string
		args        []string
		connections int
	}{
		{"one connection for all", []string{gateway + "/whole?[1-10]", gateway + "/pieces?[1-10]"}, 1},
		{"and for uploads", []string{"--data-binary", "@" + file, gateway + "/echo?[1-5]"}, 1},
		{"and for HTTP/1.0 that asks for it", []string{"--http1.0", "-H", "Connection: keep-alive", gateway + "/whole?[1-5]"}, 1},
		{"a length cannot be told to HTTP/1.0 in chunks", []string{"--http1.0", "-H", "Connection: keep-alive", gateway + "/pieces?[1-5]"}, 5},
		{"HTTP/1.0 alone", []string{"--http1.0", gateway + "/whole?[1-5]"}, 5},
		{"the client's close", []string{"-H", "Connection: close", gateway + "/whole?[1-5]"}, 5},
	} {
		t.Run(x.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "#1")
			n := 0
			said := curl(t, append([]string{"-o", out, "-o", out, "-w", "%{http_code} %{num_connects}\n"}, x.args...)...)
			for line := range strings.Lines(said) {
				var status, connects int
				if _, err := fmt.Sscan(line, &status, &connects); err != nil || status != 200 {
					t.Errorf("%q: %v", line, err)
				}
				n += connects
			}
			if n != x.connections {
				t.Errorf("%d connections, want %d: %s", n, x.connections, said)
			}
		})
	}
}

// says checks what a load generator has counted.
func says(t testing.TB, out string, want ...string) {
	t.Helper()
	plain := strings.Join(strings.Fields(out), " ")
	for _, w := range want {
		if !strings.Contains(plain, w) {
			t.Errorf("no %q in: %s", w, out)
		}
	}
}

// ab speaks HTTP/1.0.
func TestApacheBench(t *testing.T) {
	gateway := examining(t)
	body := filepath.Join(t.TempDir(), "body")
	must(t, os.WriteFile(body, bytes.Repeat([]byte("b"), 50<<10), 0o600))
	for _, x := range []struct {
		name string
		args []string
		want string
	}{
		{"a connection for each", []string{gateway + "/whole"}, "Total transferred:"},
		{"keep-alive", []string{"-k", gateway + "/whole"}, "Keep-Alive requests: 200 "},
		{"POST", []string{"-k", "-p", body, "-T", "text/plain", gateway + "/echo"}, "Keep-Alive requests: 200 "},
		{"HEAD", []string{"-k", "-i", gateway + "/whole"}, "Keep-Alive requests: 200 "},
		{"until the end", []string{gateway + "/pieces"}, fmt.Sprintf("HTML transferred: %d bytes", 200*len(pieces))},
		{"keep-alive cannot be", []string{"-k", gateway + "/pieces"}, "Keep-Alive requests: 0 "},
	} {
		t.Run(x.name, func(t *testing.T) {
			out := run(t, nil, "ab", "apache2-utils", append([]string{"-q", "-n", "200", "-c", "8"}, x.args...)...)
			says(t, out, "Complete requests: 200 ", "Failed requests: 0 ", x.want)
			if strings.Contains(out, "Non-2xx") {
				t.Error(out)
			}
		})
	}
}

// h2load sends the next of its requests before it has the answer to the last.
func TestPipelining(t *testing.T) {
	gateway := examining(t)
	body := filepath.Join(t.TempDir(), "body")
	must(t, os.WriteFile(body, bytes.Repeat([]byte("b"), 10<<10), 0o600))
	for _, x := range []struct {
		name string
		args []string
	}{
		{"known length", []string{gateway + "/whole"}},
		{"chunks", []string{gateway + "/pieces"}},
		{"mixed", []string{gateway + "/pieces", gateway + "/whole", gateway + "/echo"}},
		{"uploads", []string{"-d", body, gateway + "/echo"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			out := run(t, nil, "h2load", "nghttp2-client", append([]string{"--h1", "-n", "500", "-c", "8", "-m", "4"}, x.args...)...)
			says(t, out, "500 total, 500 started, 500 done, 500 succeeded, 0 failed, 0 errored, 0 timeout",
				"status codes: 500 2xx, 0 3xx, 0 4xx, 0 5xx")
		})
	}
}
