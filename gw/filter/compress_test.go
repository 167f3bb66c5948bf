package filter

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
)

// reader reads what is encoded, by decoders that are not the filters'.
func reader(t testing.TB, encoding string, r io.Reader) io.Reader {
	t.Helper()
	switch encoding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		return z
	case "br":
		return brotli.NewReader(r)
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	return r
}

// streamed runs the response of an upstream through f, piece by piece, and gives what the client gets.
func streamed(t testing.TB, f Filter, ctx *fasthttp.RequestCtx, pieces ...string) (out []byte, err error) {
	t.Helper()
	tr := f.(Streamer).Stream(ctx)
	if tr == nil {
		return []byte(strings.Join(pieces, "")), nil
	}
	defer tr.Close()
	for i, p := range pieces {
		if out, err = tr.Append(out, []byte(p), i == len(pieces)-1); err != nil {
			return out, err
		}
	}
	return out, nil
}

// words are n bytes of text that compresses as text does.
func words(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "w%d ", r.IntN(5000))
	}
	return b.String()[:n]
}

func TestCompressHeaders(t *testing.T) {
	const text = "Content-Type: text/html; charset=utf-8"
	for _, c := range []struct {
		name   string
		cfg    Compress
		status int
		method string
		fields []string // the first ones that begin with < are the request's
		want   string
	}{
		{"gzip", Compress{}, 200, "GET", []string{text}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"another", Compress{}, 200, "GET", []string{"<Accept-Encoding: gzip;q=0.5, br", text}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: br\nVary: Accept-Encoding\n"},
		{"our order", Compress{Encodings: []Encoding{"gzip", "br"}}, 200, "GET", []string{"<Accept-Encoding: br, gzip, zstd", text},
			"Content-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"not offered", Compress{Encodings: []Encoding{"br"}}, 200, "GET", []string{text}, "Content-Type: text/html; charset=utf-8\nVary: Accept-Encoding\n"},
		{"not accepted", Compress{}, 200, "GET", []string{"<Accept-Encoding: ", text}, "Content-Type: text/html; charset=utf-8\nVary: Accept-Encoding\n"},
		{"head", Compress{}, 200, "HEAD", []string{text}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"an error", Compress{}, 500, "GET", []string{text}, "500\nContent-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"no type", Compress{}, 200, "GET", nil, ""},
		{"an image", Compress{}, 200, "GET", []string{"Content-Type: image/png"}, "Content-Type: image/png\n"},
		{"json of a kind", Compress{}, 200, "GET", []string{"Content-Type: Application/Vnd.a+JSON"}, "Content-Type: Application/Vnd.a+JSON\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"events", Compress{}, 200, "GET", []string{"Content-Type: text/event-stream"}, "Content-Type: text/event-stream\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"no content", Compress{}, 204, "GET", []string{text}, "204\nContent-Type: text/html; charset=utf-8\n"},
		{"a part", Compress{}, 206, "GET", []string{text}, "206\nContent-Type: text/html; charset=utf-8\n"},
		{"not modified", Compress{}, 304, "GET", []string{`ETag: "x"`}, "304\nEtag: W/\"x\"\nVary: Accept-Encoding\n"},
		{"encoded", Compress{}, 200, "GET", []string{text, "Content-Encoding: br"}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: br\n"},
		{"encoded in a way that nobody knows", Compress{}, 200, "GET", []string{text, "Content-Encoding: x"}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: x\n"},
		{"identity is no encoding", Compress{}, 200, "GET", []string{text, "Content-Encoding: identity"}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"no-transform", Compress{}, 200, "GET", []string{text, "Cache-Control: max-age=1, No-Transform"}, "Content-Type: text/html; charset=utf-8\nCache-Control: max-age=1, No-Transform\n"},
		{"the client says no-transform", Compress{}, 200, "GET", []string{"<Cache-Control: no-transform", text}, "Content-Type: text/html; charset=utf-8\nVary: Accept-Encoding\n"},
		{"short", Compress{}, 200, "GET", []string{text, "Content-Length: 511"}, "Content-Type: text/html; charset=utf-8\n"},
		{"long enough", Compress{}, 200, "GET", []string{text, "Content-Length: 512"}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nVary: Accept-Encoding\n"},
		{"short, by choice", Compress{MinLength: 10}, 200, "GET", []string{text, "Content-Length: 9"}, "Content-Type: text/html; charset=utf-8\n"},
		{"types", Compress{ContentTypes: []string{"image/*"}}, 200, "GET", []string{text}, "Content-Type: text/html; charset=utf-8\n"},
		{"a strong tag, digests, ranges", Compress{}, 200, "GET", []string{text, `ETag: "x"`, "Accept-Ranges: bytes", "Content-Digest: a", "Repr-Digest: a", "Digest: a", "Content-MD5: a", "Vary: accept-encoding"},
			"Content-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nEtag: W/\"x\"\nVary: accept-encoding\n"},
		{"a weak tag", Compress{}, 200, "GET", []string{text, `ETag: W/"x"`}, "Content-Type: text/html; charset=utf-8\nContent-Encoding: gzip\nEtag: W/\"x\"\nVary: Accept-Encoding\n"},
		{"left as it is", Compress{}, 200, "GET", []string{"<Accept-Encoding: identity", text, `ETag: "x"`, "Accept-Ranges: bytes"},
			"Content-Type: text/html; charset=utf-8\nEtag: \"x\"\nAccept-Ranges: bytes\nVary: Accept-Encoding\n"},
	} {
		f := New(Config{Compress: &c.cfg})
		ctx := asked(t, "/", nil, "Accept-Encoding: gzip")
		ctx.Request.Header.SetMethod(c.method)
		for len(c.fields) > 0 && c.fields[0][0] == '<' {
			name, value, _ := strings.Cut(c.fields[0][1:], ": ")
			ctx.Request.Header.Set(name, value)
			c.fields = c.fields[1:]
		}
		f.Request(ctx)
		ctx.Response.SetStatusCode(c.status)
		ctx.Response.Header.SetContentLength(-2)
		for _, s := range c.fields {
			name, value, _ := strings.Cut(s, ": ")
			ctx.Response.Header.Set(name, value)
			if name == "Content-Length" {
				var n int
				fmt.Sscan(value, &n)
				ctx.Response.Header.SetContentLength(n)
			}
		}
		ctx.Request.Header.Del("Accept-Encoding") // for the upstream's sake
		f.Response(ctx)
		got := strings.ReplaceAll(lines(ctx), "Connection: close\n", "")
		// The order of what is set anew, and of what was there, is not the point.
		if diff := cmp.Diff(sortedLines(c.want), sortedLines(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		tr := f.(Streamer).Stream(ctx)
		encodes := strings.Contains(got, "Content-Encoding: ") && !strings.Contains(strings.Join(c.fields, ""), "Content-Encoding: ") || strings.Contains(c.name, "identity is")
		encodes = encodes && c.method != "HEAD" // whose head is that of a GET's
		if (tr != nil) != encodes {
			t.Errorf("%s: the body is encoded: %v", c.name, tr != nil)
		}
		if tr != nil {
			tr.Close()
		}
	}
}

func sortedLines(s string) map[string]int {
	m := map[string]int{}
	for l := range strings.Lines(s) {
		m[l]++
	}
	return m
}

// flowing is an exchange whose response is to be encoded.
func flowing(t testing.TB, f Filter, encoding string) *fasthttp.RequestCtx {
	t.Helper()
	ctx := asked(t, "/", nil, "Accept-Encoding: "+encoding)
	f.Request(ctx)
	ctx.Response.Header.SetContentLength(-1)
	ctx.Response.Header.SetContentType("text/plain")
	f.Response(ctx)
	if got := string(ctx.Response.Header.Peek("Content-Encoding")); got != encoding {
		t.Fatalf("%s: encoded by %q", encoding, got)
	}
	return ctx
}

func TestCompressedBodies(t *testing.T) {
	long := words(300_000)
	for _, e := range []string{"gzip", "br", "zstd"} {
		for _, level := range []int{0, 1, 6} {
			f := New(Config{Compress: &Compress{Levels: Levels{Gzip: level, Brotli: level, Zstd: level}}})
			for name, pieces := range map[string][]string{
				"empty": {""}, "one": {"hello"}, "last is empty": {"hello", ""}, "some": {"a", "", "b", "c"}, "long": {long[:100_000], long[100_000:200_000], long[200_000:]},
			} {
				// Twice: the second is by an encoder that has been in use.
				for range 2 {
					out, err := streamed(t, f, flowing(t, f, e), pieces...)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(reader(t, e, bytes.NewReader(out)))
					if want := strings.Join(pieces, ""); err != nil || string(got) != want {
						t.Errorf("%s, %s: %d bytes, not %d: %v", e, name, len(got), len(want), err)
					}
					if name == "long" && len(out) > len(long)*3/5 {
						t.Errorf("%s, level %d: %d bytes of %d", e, level, len(out), len(long))
					}
				}
			}
		}
	}
}

// growing is what has come so far; what has not is an error.
type growing struct{ b *[]byte }

var errNotYet = errors.New("not yet")

func (g growing) Read(p []byte) (int, error) {
	if len(*g.b) == 0 {
		return 0, errNotYet
	}
	n := copy(p, *g.b)
	*g.b = (*g.b)[n:]
	return n, nil
}

// An event that the upstream has sent is at the client before the next one.
func TestCompressedPiecesAreNotHeldBack(t *testing.T) {
	f := New(Config{Compress: &Compress{}})
	for _, e := range []string{"gzip", "br", "zstd"} {
		tr := f.(Streamer).Stream(flowing(t, f, e))
		var come []byte
		for i := range 5 {
			event := fmt.Sprintf("data: %d\n\n", i)
			out, err := tr.Append(nil, []byte(event), false)
			if err != nil {
				t.Fatal(err)
			}
			come = append(come, out...)
			all := come
			got := make([]byte, len(event)*(i+1))
			if _, err := io.ReadFull(reader(t, e, growing{&all}), got); err != nil || !strings.HasSuffix(string(got), event) {
				t.Errorf("%s: %q, %v", e, got, err)
			}
		}
		tr.Close() // early
		tr.Close()
	}
}

// What is there as a whole is encoded at once, with its length.
func TestCompressedAnswers(t *testing.T) {
	f := New(Config{Compress: &Compress{}})
	for _, c := range []struct {
		body string
		want bool
	}{{words(10_000), true}, {words(500), false}, {words(wholeBytes + 1), false}, {string(noise(2000)), false}} {
		ctx := asked(t, "/", nil, "Accept-Encoding: gzip")
		f.Request(ctx)
		New(Config{Respond: &Respond{Body: c.body}}).Request(ctx)
		f.Response(ctx)
		got := ctx.Response.Body()
		encoded := string(ctx.Response.Header.Peek("Content-Encoding")) == "gzip"
		if encoded {
			got, _ = io.ReadAll(reader(t, "gzip", bytes.NewReader(got)))
		}
		if encoded != c.want || string(got) != c.body {
			t.Errorf("%d bytes: encoded %v, %d bytes", len(c.body), encoded, len(got))
		}
		if f.(Streamer).Stream(ctx) != nil {
			t.Error("it is encoded twice")
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	r.Read(b)
	return b
}

// Bodies of several loops do not mix.
func TestCompressFromAllLoops(t *testing.T) {
	f := New(Config{Compress: &Compress{}})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			e := []string{"gzip", "br", "zstd"}[i%3]
			want := strings.Repeat(fmt.Sprintf("of loop %d. ", i), 1000)
			for range 20 {
				out, err := streamed(t, f, flowing(t, f, e), want[:i], want[i:])
				got, err2 := io.ReadAll(reader(t, e, bytes.NewReader(out)))
				if err != nil || err2 != nil || string(got) != want {
					t.Errorf("%s: %v, %v, %q", e, err, err2, got[:min(len(got), 50)])
				}
			}
		})
	}
	all.Wait()
}

func TestCompressIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  Compress
		want []string
	}{
		{Compress{}, nil},
		{Compress{Encodings: []Encoding{"br", "gzip", "zstd"}, MinLength: 1, ContentTypes: []string{"*/*", "text/*", "a/b", "a/*+json"}, Levels: Levels{Gzip: 9, Brotli: 6, Zstd: 9}}, nil},
		{Compress{Encodings: []Encoding{"brotli"}}, []string{`compress.encodings[0]: "brotli" is not one of gzip, br, zstd, deflate`}},
		{Compress{Encodings: []Encoding{"br", "br"}}, []string{"compress.encodings[1]: br is there twice"}},
		{Compress{Encodings: []Encoding{"deflate"}}, []string{"compress.encodings[0]: deflate means two formats, and clients differ: gzip has the same algorithm"}},
		{Compress{MinLength: -1}, []string{"compress.min_length: -1 bytes: 1 or more"}},
		{Compress{Levels: Levels{Gzip: 10, Brotli: 7, Zstd: -1}}, []string{"compress.levels.gzip: level 10: 1 to 9", "compress.levels.br: level 7: 1 to 6", "compress.levels.zstd: level -1: 1 to 9"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Compress: &c.cfg})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.cfg, diff)
		}
	}
	for _, s := range []string{"", "text", "text/", "/x", "*", "*/x", "text/*x", "text/*+", "Text/html", "a/b/c", "text/x*", "a b/c", "text/html; charset=utf-8"} {
		if validTypePattern(s) != (s == "text/*+") {
			t.Errorf("%q", s)
		}
	}
}

func TestCompressAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("pools forget")
	}
	piece := []byte(words(4000))
	for _, e := range []string{"gzip", "br", "zstd", "identity"} {
		f := New(Config{Compress: &Compress{}})
		ctx := asked(t, "/", nil, "Accept-Encoding: "+e)
		var out []byte
		if n := testing.AllocsPerRun(100, func() {
			ctx.ResetUserValues()
			ctx.Response.Header.Reset()
			ctx.Response.Header.SetContentType("text/plain")
			ctx.Response.Header.Set("ETag", `"x"`)
			ctx.Response.Header.SetContentLength(10_000)
			f.Request(ctx)
			f.Response(ctx)
			if tr := f.(Streamer).Stream(ctx); tr != nil {
				out, _ = tr.Append(out[:0], piece, false)
				out, _ = tr.Append(out[:0], piece, true)
				tr.Close()
			} else if e != "identity" {
				t.Fatal(e)
			}
		}); n >= 1 && (e != "zstd" || n > 2) { // two of the library, for each block
			t.Errorf("%s: %v allocations", e, n)
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	piece := []byte(words(64 << 10))
	for _, c := range []struct {
		e      string
		levels []int
	}{{"gzip", []int{1, 5, 9}}, {"br", []int{2, 3, 4, 5, 6}}, {"zstd", []int{1, 3, 9}}} {
		for _, level := range c.levels {
			b.Run(fmt.Sprintf("%s-%d", c.e, level), func(b *testing.B) {
				f := New(Config{Compress: &Compress{Levels: Levels{Gzip: level, Brotli: min(level, 6), Zstd: level}}})
				ctx := flowing(b, f, c.e)
				b.SetBytes(int64(len(piece)))
				b.ReportAllocs()
				var out []byte
				for b.Loop() {
					tr := f.(Streamer).Stream(ctx)
					out, _ = tr.Append(out[:0], piece, true)
					tr.Close()
				}
				b.ReportMetric(float64(len(piece))/float64(len(out)), "ratio")
			})
		}
	}
}

// Nothing of a body that was given up is in the next one.
func TestEncodersForgetWhatWasGivenUp(t *testing.T) {
	f := New(Config{Compress: &Compress{}})
	long := []byte(words(50_000))
	for _, e := range []string{"gzip", "br", "zstd"} {
		ctx := flowing(t, f, e)
		for range 5 {
			tr := f.(Streamer).Stream(ctx)
			if _, err := tr.Append(nil, long, false); err != nil {
				t.Fatal(err)
			}
			tr.Close()
			out, err := streamed(t, f, ctx, "mine")
			got, err2 := io.ReadAll(reader(t, e, bytes.NewReader(out)))
			if err != nil || err2 != nil || string(got) != "mine" {
				t.Fatalf("%s: %.20q, %v, %v", e, got, err, err2)
			}
		}
	}
}
