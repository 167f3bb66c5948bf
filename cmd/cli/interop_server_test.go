package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// Servers that are in use everywhere, behind the gateway, are as they are without it.
func TestServers(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *webServer{"nginx": nginx, "apache": apache, "lighttpd": lighttpd} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			through := map[string]string{} // the gateway's address before one of the server's
			for i, at := range gatewayTo(t, s.addresses()...) {
				through[s.addresses()[i]] = at
			}
			t.Run("answers", func(t *testing.T) { s.answers(t, s.plain, through[s.plain], "HTTP/1.1") })
			t.Run("three requests to a connection", func(t *testing.T) {
				s.threeEach(t)
				s.unfailing(t, through[s.short])
			})
			t.Run("uploads", func(t *testing.T) { s.uploads(t, through[s.plain]) })
			t.Run("expect", func(t *testing.T) { s.expects(t, through[s.plain]) })
			t.Run("too large", func(t *testing.T) { s.tooLarge(t, through[s.plain]) })
			if s.idle != "" {
				t.Run("no time to be idle", func(t *testing.T) { s.unfailing(t, through[s.idle]) })
			}
			if s.old != "" {
				t.Run("HTTP/1.0", func(t *testing.T) { s.answers(t, s.old, through[s.old], "HTTP/1.0") })
			}
		})
	}
}

// answers asks the server and the gateway the same, and holds one reply against the other.
func (s *webServer) answers(t *testing.T, server, gateway, proto string) {
	direct, through := visit(t, server), visit(t, gateway)
	file := direct.mustAsk("GET", "/1m.bin", nil)
	tag, modified := file.header.Get("ETag"), file.header.Get("Last-Modified")
	if tag == "" || modified == "" {
		t.Fatalf("no validators: %v", file.header)
	}
	unknown := "chunked"
	if proto == "HTTP/1.0" {
		unknown = "close"
	}
	type question struct {
		method, path string
		status       int    // of the server; 0: any
		framing      string // of the server; empty: any
		fields       []string
	}
	list := []question{
		{"GET", "/small.txt", 200, "length", nil},
		{"GET", "/empty.txt", 200, "length", nil},
		{"GET", "/1m.bin", 200, "length", nil},
		{"GET", "/5m.bin", 200, "length", nil},
		{"GET", "/1m.bin?a=b&c=%20d", 200, "length", nil},
		{"GET", "/a%20b/%C3%A9+%2525%3F.txt", 200, "length", nil},
		{"GET", "/dots.d/..hidden", 200, "length", nil},
		{"HEAD", "/small.txt", 200, "", nil},
		{"HEAD", "/5m.bin", 200, "", nil},
		{"HEAD", "/missing", 404, "", nil},
		{"GET", "/missing", 404, "", nil},
		{"GET", "/moved", 302, "", nil},
		{"GET", "/list", 301, "", nil},
		{"GET", s.dynamic, 200, unknown, nil},
		{"HEAD", s.dynamic, 200, "", nil},
		{"GET", "/1m.bin", 304, "", []string{"If-None-Match: " + tag}},
		{"GET", "/1m.bin", 304, "", []string{"If-Modified-Since: " + modified}},
		{"HEAD", "/1m.bin", 304, "", []string{"If-None-Match: " + tag}},
		{"GET", "/1m.bin", 200, "length", []string{`If-None-Match: "other"`}},
		{"GET", "/1m.bin", 0, "", []string{`If-Match: "other"`}},
		{"GET", "/1m.bin", 206, "length", []string{"Range: bytes=100-199"}},
		{"GET", "/1m.bin", 206, "length", []string{"Range: bytes=-1000"}},
		{"GET", "/5m.bin", 206, "length", []string{"Range: bytes=1000000-"}},
		{"GET", "/1m.bin", 206, "length", []string{"Range: bytes=0-9,500000-900000"}},
		{"GET", "/1m.bin", 206, "length", []string{"Range: bytes=5-9", "If-Range: " + tag}},
		{"GET", "/1m.bin", 200, "length", []string{"Range: bytes=5-9", `If-Range: "other"`}},
		{"GET", "/1m.bin", 416, "", []string{"Range: bytes=2000000-"}},
		{"OPTIONS", "/small.txt", 0, "", nil},
		{"DELETE", "/small.txt", 0, "", nil},
	}
	if s.gzip {
		list = append(list, question{"GET", "/digits.log", 200, unknown, []string{"Accept-Encoding: gzip"}},
			question{"GET", "/digits.log", 200, "", []string{"Accept-Encoding: identity"}})
	}
	for _, q := range list {
		if proto == "HTTP/1.0" && (q.status == 206 || q.status == 416) {
			q.status = 0 // it has no ranges, and servers differ on what they do then
		}
		want := direct.mustAsk(q.method, q.path, nil, q.fields...)
		if want.proto != proto || q.status != 0 && want.status != q.status || q.framing != "" && want.framing != q.framing {
			t.Errorf("the server itself: %v: %s %d, by %s", q, want.proto, want.status, want.framing)
			continue
		}
		for range 2 { // the second one on warm connections
			got := through.mustAsk(q.method, q.path, nil, q.fields...)
			if got.proto != "HTTP/1.1" || got.status != want.status {
				t.Errorf("%v: %s %d", q, got.proto, got.status)
			}
			wantHeader, wantBody := want.endToEnd()
			header, body := got.endToEnd()
			if !reflect.DeepEqual(header, wantHeader) {
				t.Errorf("%v: header\n%v, not\n%v", q, header, wantHeader)
			}
			if !bytes.Equal(body, wantBody) {
				t.Errorf("%v: a body of %d bytes is not the one of %d", q, len(body), len(wantBody))
			}
			if want.framing == "length" && got.framing != "length" {
				t.Errorf("%v: the length got lost: by %s", q, got.framing)
			}
			if len(got.header["Date"]) != 1 {
				t.Errorf("%v: Date %q", q, got.header["Date"])
			}
		}
	}
}

// threeEach holds that the server ends each connection after three requests.
func (s *webServer) threeEach(t *testing.T) {
	c := keepAliveClient{address: s.short}
	defer c.close()
	for range 9 {
		_, err := c.get("/small.txt")
		must(t, err)
	}
	if c.dials != 3 {
		t.Fatalf("the server itself: %d connections for 9 requests", c.dials)
	}
}

// unfailing: the server ends its connections early, and no request fails of it, whoever is faster.
func (s *webServer) unfailing(t *testing.T, gateway string) {
	through := visit(t, gateway)
	get := func() error {
		a, err := through.ask("GET", "/small.txt", nil)
		if err == nil && (a.status != 200 || string(a.body) != "a small file\n") {
			err = fmt.Errorf("%d %q", a.status, a.body)
		}
		return err
	}
	for i := range 200 {
		if err := get(); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := get(); err != nil {
					t.Errorf("in parallel, request %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// arrived holds a body against what the server has of it.
func (s *webServer) arrived(t *testing.T, name string, want, answered []byte) {
	t.Helper()
	got := answered
	if s.stored {
		var err error
		got, err = os.ReadFile(filepath.Join(s.dir, "www", s.upload, name))
		must(t, err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes are not the %d that were sent", name, len(got), len(want))
	}
}

// uploads: bodies arrive, whatever frames them.
func (s *webServer) uploads(t *testing.T, gateway string) {
	through := visit(t, gateway)
	for _, file := range []string{"small.txt", "empty.txt", "1m.bin", "5m.bin"} {
		content, err := os.ReadFile(filepath.Join(s.dir, "www", file))
		must(t, err)
		for _, chunked := range []bool{false, true} {
			name := fmt.Sprintf("%s-%v", file, chunked)
			var a reply
			if chunked {
				a = through.mustAsk(s.method, s.upload+name, struct{ *bytes.Reader }{bytes.NewReader(content)})
			} else {
				a = through.mustAsk(s.method, s.upload+name, bytes.NewReader(content))
			}
			if a.status/100 != 2 {
				t.Errorf("%s: %d %s", name, a.status, a.body)
				continue
			}
			s.arrived(t, name, content, a.body)
		}
	}
}

// expects: curl waits for the server's 100 before it sends a body.
func (s *webServer) expects(t *testing.T, gateway string) {
	source := filepath.Join(s.dir, "www/5m.bin")
	content, err := os.ReadFile(source)
	must(t, err)
	for _, chunked := range []bool{false, true} {
		name := fmt.Sprintf("expected-%v", chunked)
		head, body := filepath.Join(s.dir, name+".head"), filepath.Join(s.dir, name+".body")
		args := []string{"--expect100-timeout", "15", "-H", "Expect: 100-continue", "-X", s.method, "-T", source, "-D", head, "-o", body,
			"http://" + gateway + s.upload + name}
		if chunked {
			args = append(args, "-H", "Transfer-Encoding: chunked")
		}
		curl(t, args...)
		heads, err := os.ReadFile(head)
		must(t, err)
		if !strings.HasPrefix(string(heads), "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20") {
			t.Errorf("%s: %s", name, heads)
		}
		answered, _ := os.ReadFile(body)
		s.arrived(t, name, content, answered)
	}
}

// tooLarge: the server's refusal comes before the body is sent, or in the middle of it, and the client gets it.
func (s *webServer) tooLarge(t *testing.T, gateway string) {
	source := filepath.Join(s.dir, "www/5m.bin")
	for _, expect := range []string{"Expect: 100-continue", "Expect:"} {
		for range 5 {
			out := curl(t, "--expect100-timeout", "15", "-H", expect, "-T", source, "-o", filepath.Join(s.dir, "refusal"),
				"-w", "%{http_code} %{size_upload}", "http://"+gateway+"/limited/x")
			if status, sent, _ := strings.Cut(out, " "); status != "413" || expect != "Expect:" && sent != "0" {
				t.Errorf("with %q: %s after %s bytes", expect, status, sent)
			}
		}
	}
}
