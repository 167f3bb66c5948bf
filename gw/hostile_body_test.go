package gw

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"sluice/gw/filter"
)

// bomb is so many MiB of zeros, coded.
func bomb(t testing.TB, coding string, mib int) string {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b)
		must(t, err)
		w = z
	}
	zeros := make([]byte, 1<<20)
	for range mib {
		_, err := w.Write(zeros)
		must(t, err)
	}
	must(t, w.Close())
	return b.String()
}

func TestHostileBodiesOfJSON(t *testing.T) {
	s := besiege(t, recordOK(t), []filter.Config{{JSONBody: &filter.JSONBody{Limit: 256 << 10,
		Request: &filter.JSONChange{Set: map[string]filter.JSONText{"via": `"sluice"`}, Remove: []string{"secret"}}}}})
	s.secret = []string{"s3cret"}
	deep := func(open, end string, n int) string { return strings.Repeat(open, n) + strings.Repeat(end, n) }
	takes(t, 64, func() {
		for _, c := range []struct {
			name, raw string
			status    int
			why       string
		}{
			{"nested arrays", post("/", deep("[", "]", 100_000)), 400, "too deep"},
			{"nested arrays that do not end", post("/", strings.Repeat("[", 200_000)), 400, "too deep"},
			{"nested objects", post("/", strings.Repeat(`{"a":`, 40_000)), 400, "too deep"},
			{"nested under a name that goes", post("/", `{"secret":`+deep("[", "]", 100_000)+`}`), 400, "too deep"},
			{"says it has 100 MB", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n", 413, "too large"},
			{"says it has 100 MB, and waits", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n", 413, "too large"},
			{"100 MB in chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6400000\r\n" + strings.Repeat("[", 1<<20), 413, "too large"},
			{"no JSON", post("/", `{"a":s3cret}`), 400, "invalid"},
			{"behind it", post("/", `{} {}`), 400, "invalid"},
			{"NaN", post("/", `{"a":NaN}`), 400, "invalid"},
			{"a name twice", post("/", `{"secret":1,"secret":2}`), 200, ""},
			{"no UTF-8", post("/", "{\"a\":\"\xff\"}"), 400, "invalid"},
			{"half a surrogate", post("/", `{"a":"\ud800"}`), 200, ""},
			{"a number of 200 KB", post("/", `{"a":`+strings.Repeat("9", 200<<10)+`}`), 200, ""},
			{"another type", post("/", `{"secret":"s3cret"}`, "Content-Type: text/plain"), 200, ""},
			{"encoded", post("/", zipped(`{}`), "Content-Encoding: gzip"), 415, "encoded"},
			{"encoded twice", post("/", `{}`, "Content-Encoding: gzip, gzip"), 415, "encoded"},
			{"an array", post("/", `[1]`), 400, "not an object"},
			{"a name in escapes", post("/", `{"\u0073ecret":"s3cret"}`), 200, ""},
		} {
			if c.why != "" {
				c.why = "json_body: " + c.why
			}
			s.attack(t, c.name, c.raw, c.status, c.why)
			if c.status == 200 {
				if got := s.last(t).body; strings.Contains(got, "s3cret") || strings.Contains(got, `"secret"`) || !strings.Contains(got, `"via":"sluice"`) {
					t.Errorf("%s: the upstream got %.200s", c.name, got)
				}
			}
		}
	})
}

// An upstream's JSON can be as bad.
func TestHostileResponsesOfJSON(t *testing.T) {
	edit := &filter.JSONChange{Remove: []string{"secret"}}
	for _, c := range []struct {
		name, answer string
		why          string
	}{
		{"nested", answerOf("application/json", strings.Repeat("[", 100_000)), "json_body: too deep"},
		{"no JSON", answerOf("application/json", "<html>s3cret"), "json_body: invalid"},
		{"encoded", answerOf("application/json", zipped(`{"secret":"s3cret"}`), "Content-Encoding: gzip"), "json_body: invalid"},
		{"says it has 100 MB", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n" + strings.Repeat(" ", 1<<20), "json_body: too large"},
		{"in chunks", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n6400000\r\n" + strings.Repeat(" ", 1<<20), "json_body: too large"},
	} {
		s := besiege(t, record(t, func(_ int, r *seen) (string, error) {
			if strings.HasPrefix(r.RequestURI, "/well") {
				return ok, nil
			}
			return c.answer, errHangUp
		}), []filter.Config{{JSONBody: &filter.JSONBody{Limit: 256 << 10, Response: edit}}})
		s.secret = []string{"s3cret"}
		takes(t, 32, func() { s.attack(t, c.name, ask("/"), 502, c.why) })
	}
}

// Programs that do not end, or make more than there is, are over when their time is, and nobody waits for them.
func TestHostilePrograms(t *testing.T) {
	for _, c := range []struct {
		name, program string
		status        int
		why           string
	}{
		{"for ever", `def f: f; f`, 503, "program timed out"},
		{"deeper for ever", `def f: 1 + f; f`, 503, "program timed out"},
		{"until never", `until(false; .)`, 503, "program timed out"},
		{"an array without end", `[range(infinite)]`, 503, "program timed out"},
		{"the last of an endless one", `last(range(infinite))`, 503, "program timed out"},
		{"more than one", `range(3)`, 400, "program failed"},
		{"more than one, and they do not end", `repeat(1)`, 400, "program failed"},
		{"doubled again and again", `reduce range(60) as $i ([1]; [., .])`, 413, "too large"},
		{"a long text", `"x" * 20000000`, 413, "too large"},
		{"deep", `reduce range(20000) as $i (1; [.])`, 400, "too deep"},
		{"an error that tells", `error($request.headers.authorization)`, 400, "program failed"},
		{"halt", `halt_error`, 400, "program failed"},
		{"no environment", `{a: env, b: $ENV}`, 200, ""},
		{"nothing", `empty`, 400, "program failed"},
		{"a regexp that others take for ever", `[range(20)] | map("a") | add | . + "!" | test("^(a+)+$")`, 200, ""},
		{"the client's number", `.n * .n`, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := &filter.JSONBody{Timeout: time.Second, Request: &filter.JSONChange{JQ: c.program}}
			if c.why == "program timed out" {
				cfg.Timeout = 100 * time.Millisecond
			}
			(&filter.Config{JSONBody: cfg}).Validate(func(p, m string) { t.Fatalf("%s: %s", p, m) })
			s := besiege(t, recordOK(t), []filter.Config{{JSONBody: cfg}})
			s.secret = []string{"s3cret"}
			t.Setenv("SLUICE_SECRET", "s3cret")
			why := c.why
			if why != "" {
				why = "json_body: " + why
			}
			takes(t, 1024, func() {
				s.attack(t, c.name, post("/", `{"n":1e999}`, "Authorization: s3cret"), c.status, why)
				if c.status == 200 {
					if got := s.last(t).body; strings.Contains(got, "s3cret") {
						t.Errorf("the upstream got %s", got)
					}
				}
			})
		})
	}
	// Many at once: each is answered in time, or that there are too many; and those who do nothing of the kind are not held up.
	s := besiege(t, recordOK(t), []filter.Config{{JSONBody: &filter.JSONBody{Timeout: 100 * time.Millisecond, Request: &filter.JSONChange{JQ: `def f: f; f`}}}})
	var all sync.WaitGroup
	for range 32 {
		c := s.dial(t)
		c.send(post("/", `{}`))
		all.Go(func() {
			if resp, _ := c.answer("POST"); resp.StatusCode != 503 {
				t.Errorf("%d", resp.StatusCode)
			}
		})
	}
	for range 20 {
		if status, _ := s.other.get("/well"); status != 200 {
			t.Errorf("others are answered %d", status)
		}
	}
	all.Wait()
}

func TestBombs(t *testing.T) {
	for _, coding := range []string{"gzip", "br", "zstd"} {
		t.Run(coding, func(t *testing.T) {
			large, small := bomb(t, coding, 200), bomb(t, coding, 1)
			s := besiege(t, recordOK(t), []filter.Config{{Decompress: &filter.Decompress{Requests: true, MaxRequestBytes: 4 << 20}}})
			takes(t, 64, func() {
				why := "decompress: ratio"
				if coding == "gzip" {
					why = "decompress: too long" // it packs less into a byte
				}
				s.attack(t, "200 MiB", post("/", large, "Content-Encoding: "+coding), 413, why)
				s.attack(t, "1 MiB", post("/", small, "Content-Encoding: "+coding), 413, "decompress: ratio")
				s.attack(t, "cut off", post("/", large[:len(large)/2], "Content-Encoding: "+coding), 413, why)
				s.attack(t, "not what it says", post("/", strings.Repeat("x", 100), "Content-Encoding: "+coding), 400, "decompress: malformed")
				s.attack(t, "in another", post("/", small, "Content-Encoding: "+coding+", "+coding), 415, "decompress: coding")
				s.attack(t, "something behind it", post("/", zippedBy(t, coding, "hello")+"evil", "Content-Encoding: "+coding), 400, "decompress: malformed")
			})
			loose := besiege(t, recordOK(t), []filter.Config{{Decompress: &filter.Decompress{Requests: true, MaxRequestBytes: 4 << 20, MaxRatio: 1 << 30}}})
			takes(t, 64, func() {
				loose.attack(t, "200 MiB, by its length", post("/", large, "Content-Encoding: "+coding), 413, "decompress: too long")
			})
			// Off the loop, many at once: nobody is held up, and no more memory is taken for it than some have a right to.
			takes(t, 640, func() {
				var all sync.WaitGroup
				for range 16 {
					c := loose.dial(t)
					all.Go(func() {
						c.send(post("/", large, "Content-Encoding: "+coding))
						if resp, _ := c.answer("POST"); resp.StatusCode != 413 && resp.StatusCode != 503 {
							t.Errorf("%d", resp.StatusCode)
						}
					})
				}
				all.Wait()
			})

			// A response ends where it becomes too long: 502 if nothing of it is out, else cut off.
			up := record(t, func(_ int, r *seen) (string, error) {
				if strings.HasPrefix(r.RequestURI, "/well") {
					return ok, nil
				}
				return answerOf("text/plain", large, "Content-Encoding: "+coding), errHangUp
			})
			out := besiege(t, up, []filter.Config{{Decompress: &filter.Decompress{Responses: filter.Always}}})
			takes(t, 64, func() {
				c := out.dial(t)
				c.send(ask("/", "Connection: close"))
				if got, _ := c.rest(); len(got) > 12<<20 {
					t.Errorf("%d bytes came", len(got))
				} else if strings.HasSuffix(got, "0\r\n\r\n") && !strings.HasPrefix(got, "HTTP/1.1 502") {
					t.Errorf("it seems to be whole, of %d bytes", len(got))
				}
				if n := out.refused(); n["decompress: ratio"] != 1 {
					t.Errorf("counted as %v", n)
				}
				if status, _ := out.other.get("/well"); status != 200 {
					t.Errorf("others are answered %d", status)
				}
			})
		})
	}
}

func zippedBy(t testing.TB, coding, text string) string {
	t.Helper()
	var b bytes.Buffer
	switch coding {
	case "gzip":
		return zipped(text)
	case "br":
		w := brotli.NewWriter(&b)
		fmt.Fprint(w, text)
		must(t, w.Close())
	case "zstd":
		w, err := zstd.NewWriter(&b)
		must(t, err)
		fmt.Fprint(w, text)
		must(t, w.Close())
	}
	return b.String()
}
