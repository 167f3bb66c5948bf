package filter

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
)

// encodedBy is s in an encoding; flate is deflate without what should be around it.
func encodedBy(t testing.TB, encoding, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "br":
		w = brotli.NewWriterLevel(&b, 5)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "flate":
		w, err = flate.NewWriter(&b, 5)
	default:
		t.Fatal(encoding)
	}
	if err == nil {
		_, err = io.WriteString(w, s)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// codedAs are the encodings, by the names in encodedBy.
var codedAs = map[string]coding{"gzip": gzipCoding, "br": brotliCoding, "zstd": zstdCoding, "deflate": deflateCoding, "flate": deflateCoding}

// decodedInPieces gives src to a decoder in pieces of n bytes.
func decodedInPieces(c coding, l limits, src []byte, n int) (out []byte, err error) {
	d := newDecoder(c, l)
	defer d.Close()
	for len(src) > n {
		if out, err = d.Append(out, src[:n:n], false); err != nil {
			return out, err
		}
		src = src[n:]
	}
	return d.Append(out, src, true)
}

func TestDecodedBodies(t *testing.T) {
	defer goleak.VerifyNone(t)
	l := limits{ratio: 100}
	for _, want := range []string{"", "a", words(100_000)} {
		for e, c := range codedAs {
			src := encodedBy(t, e, want)
			for _, n := range []int{1, 4096, 1 << 20} {
				if got, err := decodedInPieces(c, l, src, n); err != nil || string(got) != want {
					t.Errorf("%s of %d bytes, by %d: %d bytes, %v", e, len(want), n, len(got), err)
				}
			}
			if got, err := decodeAll(c, l, []byte("kept "), src); err != nil || string(got) != "kept "+want {
				t.Errorf("%s of %d bytes: %d bytes, %v", e, len(want), len(got), err)
			}
			// The last piece may be empty.
			d := newDecoder(c, l)
			got, err := d.Append(nil, src, false)
			if err == nil {
				got, err = d.Append(got, nil, true)
			}
			if err != nil || string(got) != want {
				t.Errorf("%s of %d bytes, then nothing: %d bytes, %v", e, len(want), len(got), err)
			}
			d.Close()
		}
	}
	for e, c := range codedAs { // no content at all
		if got, err := decodedInPieces(c, l, nil, 1); err != nil || len(got) > 0 {
			t.Errorf("%s: %q, %v", e, got, err)
		}
	}
	// Members of gzip and frames of zstd may follow one another.
	for _, e := range []string{"gzip", "zstd"} {
		src := append(encodedBy(t, e, "one, "), encodedBy(t, e, "two")...)
		if got, err := decodedInPieces(codedAs[e], l, src, 5); err != nil || string(got) != "one, two" {
			t.Errorf("%s: %q, %v", e, got, err)
		}
	}
}

// A piece that has been flushed is there before the next one comes.
func TestDecodedPiecesAreNotHeldBack(t *testing.T) {
	f := New(Config{Compress: &Compress{}})
	for _, e := range []string{"gzip", "br", "zstd"} {
		tr := f.(Streamer).Stream(flowing(t, f, e))
		d := newDecoder(codedAs[e], limits{ratio: 100})
		for range 3 {
			piece, err := tr.Append(nil, []byte("data: 1\n\n"), false)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Append([]byte("then "), piece, false); err != nil || string(got) != "then data: 1\n\n" {
				t.Errorf("%s: %q, %v", e, got, err)
			}
		}
		tr.Close()
		d.Close()
		d.Close()
	}
}

func TestHostileEncodedBodies(t *testing.T) {
	defer goleak.VerifyNone(t)
	zeros := strings.Repeat("\x00", 4<<20)
	letters := strings.Repeat("a", 60<<10)
	some := words(256<<10 + 1)
	for e, c := range codedAs {
		good := encodedBy(t, e, some[:5000])
		flipped := bytes.Clone(good)
		flipped[0] ^= 0xff
		l := limits{bytes: 256 << 10, ratio: 100}
		for name, h := range map[string]struct {
			src  []byte
			want error
		}{
			"cut":             {good[:len(good)-1], errMalformed},
			"cut early":       {good[:1], errMalformed},
			"more after it":   {append(bytes.Clone(good), "GET / HTTP/1.1"...), errMalformed},
			"noise":           {append([]byte{0xfe}, noise(300)...), errMalformed},
			"a flipped start": {flipped, errMalformed},
			"a bomb":          {encodedBy(t, e, zeros), errRatio},
			"too long":        {encodedBy(t, e, some), errTooLong},
			"just not":        {encodedBy(t, e, some[:256<<10]), nil},
			"short, of one":   {encodedBy(t, e, letters), nil},
		} {
			for _, n := range []int{100, 1 << 20} {
				out, err := decodedInPieces(c, l, h.src, n)
				if err != h.want && !(name == "a bomb" && err == errTooLong) {
					t.Errorf("%s, %s, by %d: %v, not %v", e, name, n, err, h.want)
				}
				if len(out) > 256<<10+decodeBytes {
					t.Errorf("%s, %s, by %d: %d bytes", e, name, n, len(out))
				}
			}
		}
	}
}

// What has failed stays so.
func TestDecoderAfterAnError(t *testing.T) {
	d := newDecoder(gzipCoding, limits{ratio: 100})
	defer d.Close()
	for range 3 {
		if out, err := d.Append([]byte("x"), []byte("no gzip at all"), false); err != errMalformed || string(out) != "x" {
			t.Errorf("%q, %v", out, err)
		}
	}
}

// A frame that wants more memory than a decoder of HTTP is to have is refused (RFC 9659).
func TestZstdWindow(t *testing.T) {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(16<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	for range 17 {
		w.Write(make([]byte, 1<<20))
	}
	w.Close()
	if _, err := decodedInPieces(zstdCoding, limits{ratio: 1 << 40}, b.Bytes(), 1<<16); err != errMalformed {
		t.Error(err)
	}
}

func TestDecompressResponses(t *testing.T) {
	const vary = "Vary: Accept-Encoding\n"
	for _, c := range []struct {
		name   string
		cfg    Decompress
		accept string
		status int
		method string
		fields []string
		want   string
		stream bool
	}{
		{"always", Decompress{Responses: Always}, "gzip", 200, "GET", []string{"Content-Encoding: gzip"}, "", true},
		{"x-gzip", Decompress{Responses: Always}, "gzip", 200, "GET", []string{"Content-Encoding: X-GZIP"}, "", true},
		{"never", Decompress{Requests: true, Responses: Never}, "", 200, "GET", []string{"Content-Encoding: gzip"}, "Content-Encoding: gzip\n", false},
		{"not said", Decompress{Requests: true}, "", 200, "GET", []string{"Content-Encoding: gzip"}, "Content-Encoding: gzip\n", false},
		{"unaccepted", Decompress{Responses: Unaccepted}, "br, gzip;q=0", 200, "GET", []string{"Content-Encoding: gzip"}, vary, true},
		{"nothing is accepted", Decompress{Responses: Unaccepted}, "", 200, "GET", []string{"Content-Encoding: gzip"}, vary, true},
		{"accepted", Decompress{Responses: Unaccepted}, "br, gzip", 200, "GET", []string{"Content-Encoding: gzip"}, "Content-Encoding: gzip\n" + vary, false},
		{"as it is", Decompress{Responses: Always}, "", 200, "GET", []string{"ETag: \"x\""}, "Etag: \"x\"\n", false},
		{"another coding", Decompress{Responses: Always, Encodings: []Encoding{"br"}}, "", 200, "GET", []string{"Content-Encoding: gzip"}, "Content-Encoding: gzip\n", false},
		{"an unknown one", Decompress{Responses: Always}, "", 200, "GET", []string{"Content-Encoding: x"}, "Content-Encoding: x\n", false},
		{"several", Decompress{Responses: Always}, "", 200, "GET", []string{"Content-Encoding: gzip, gzip"}, "Content-Encoding: gzip, gzip\n", false},
		{"head", Decompress{Responses: Always}, "", 200, "HEAD", []string{"Content-Encoding: gzip"}, "", false},
		{"a part", Decompress{Responses: Always}, "", 206, "GET", []string{"Content-Encoding: gzip"}, "206\nContent-Encoding: gzip\n", false},
		{"not modified", Decompress{Responses: Always}, "", 304, "GET", []string{"Content-Encoding: gzip"}, "304\nContent-Encoding: gzip\n", false},
		{"no-transform", Decompress{Responses: Always}, "", 200, "GET", []string{"Content-Encoding: gzip", "Cache-Control: no-transform"}, "Content-Encoding: gzip\nCache-Control: no-transform\n", false},
		{"tag, ranges", Decompress{Responses: Always}, "", 200, "GET", []string{"Content-Encoding: gzip", "Accept-Ranges: bytes", "ETag: \"x\""}, "Etag: W/\"x\"\n", true},
	} {
		f := New(Config{Decompress: &c.cfg})
		ctx := asked(t, "/", nil, "Accept-Encoding: "+c.accept)
		ctx.Request.Header.SetMethod(c.method)
		ctx.Response.SetStatusCode(c.status)
		got := responded(t, f, ctx, c.fields...)
		if diff := cmp.Diff(c.want, strings.ReplaceAll(got, "Connection: close\n", "")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		src := string(encodedBy(t, "gzip", "hello"))
		out, err := streamed(t, f, ctx, src[:9], src[9:])
		if want := map[bool]string{true: "hello", false: src}[c.stream]; err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", c.name, out, err)
		}
	}
}

func TestDecompressCollectedResponses(t *testing.T) {
	f := New(Config{Decompress: &Decompress{Responses: Always, MaxResponseBytes: 100}})
	for body, want := range map[string]int{"hello": 200, words(101): 502} {
		ctx := asked(t, "/", nil)
		f.Request(ctx)
		ctx.Response.Header.Set("Content-Encoding", "br")
		ctx.Response.SetBody(encodedBy(t, "br", body))
		f.Response(ctx)
		got := string(ctx.Response.Body())
		if ctx.Response.StatusCode() != want || (got == body) != (want == 200) || len(ctx.Response.Header.Peek("Content-Encoding")) > 0 {
			t.Errorf("%d: %q", ctx.Response.StatusCode(), got)
		}
		if f.(Streamer).Stream(ctx) != nil {
			t.Error("it is decoded twice")
		}
	}
}

// What stands before a compress is run after it on the way out, and the other way round.
func TestRecoded(t *testing.T) {
	in, out := New(Config{Decompress: &Decompress{Responses: Unaccepted}}), New(Config{Compress: &Compress{}})
	ctx := asked(t, "/", nil, "Accept-Encoding: zstd")
	out.Request(ctx)
	in.Request(ctx)
	ctx.Response.Header.SetContentType("text/plain")
	ctx.Response.Header.Set("Content-Encoding", "gzip")
	ctx.Response.Header.SetContentLength(300)
	in.Response(ctx)
	out.Response(ctx)
	if got := lines(ctx); !strings.Contains(got, "Content-Encoding: zstd\n") || strings.Count(got, "Vary") != 1 {
		t.Error(got)
	}
}

// passedDecompress runs a request's way as the pipeline does, and waits if it is to.
func passedDecompress(t *testing.T, f Filter, ctx *fasthttp.RequestCtx) Result {
	t.Helper()
	later := make(chan Result, 1)
	SetResume(ctx, func(r Result) { later <- r })
	r := f.Request(ctx)
	if r != Wait {
		return r
	}
	select {
	case r = <-later:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for ever")
		return r
	}
}

func TestDecompressRequests(t *testing.T) {
	long := words(100_000)
	for _, c := range []struct {
		name, coding string
		body         []byte
		status       int
		reason       string
		want         string
	}{
		{"gzip", "gzip", encodedBy(t, "gzip", "hello"), 200, "", "hello"},
		{"off the loop", "br", encodedBy(t, "br", long), 200, "", long},
		{"deflate", "Deflate", encodedBy(t, "flate", "hello"), 200, "", "hello"},
		{"not encoded", "", []byte("hello"), 200, "", "hello"},
		{"identity", "identity", []byte("hello"), 200, "", "hello"},
		{"no body", "zstd", nil, 200, "", ""},
		{"unknown", "x", []byte("hello"), 415, "coding", ""},
		{"not offered", "zstd", []byte("hello"), 415, "coding", ""},
		{"twice", "gzip, gzip", encodedBy(t, "gzip", string(encodedBy(t, "gzip", "hello"))), 415, "coding", ""},
		{"malformed", "gzip", []byte("hello"), 400, "malformed", ""},
		{"malformed, off the loop", "gzip", noise(decodeInline + 1), 400, "malformed", ""},
		{"too long", "gzip", encodedBy(t, "gzip", words(200_001)), 413, "too long", ""},
		{"a bomb", "gzip", encodedBy(t, "gzip", strings.Repeat("\x00", 150_000)), 413, "ratio", ""},
	} {
		cfg := Decompress{Requests: true, MaxRequestBytes: 200_000}
		if c.name == "not offered" {
			cfg.Encodings = []Encoding{"gzip", "br"}
		}
		f := New(Config{Decompress: &cfg})
		ctx := asked(t, "/", nil)
		ctx.Request.Header.SetMethod("POST")
		ctx.Request.SetBody(c.body)
		if c.coding != "" {
			ctx.Request.Header.Set("Content-Encoding", c.coding)
			ctx.Request.Header.Set("Content-Digest", "x")
		}
		// What is not encoded, or refused anyway, is not collected.
		needed := 200_000
		if c.coding == "" || c.coding == "identity" || c.status == 415 {
			needed = 0
		}
		if n := f.(RequestBody).RequestBody(ctx); n != needed {
			t.Errorf("%s: %d bytes are needed", c.name, n)
		}
		r := passedDecompress(t, f, ctx)
		if status := ctx.Response.StatusCode(); status != c.status || (r == Answer) != (status != 200) {
			t.Errorf("%s: %v, %d", c.name, r, status)
			continue
		}
		why := ""
		if p := RefusalOf(ctx); p != nil {
			why = p.Reason
		}
		if why != c.reason {
			t.Errorf("%s: %q", c.name, why)
		}
		if c.status == 200 && (string(ctx.Request.Body()) != c.want || c.coding != "" && c.coding != "identity" &&
			len(ctx.Request.Header.Peek("Content-Encoding"))+len(ctx.Request.Header.Peek("Content-Digest")) > 0) {
			t.Errorf("%s: %d bytes, %s", c.name, len(ctx.Request.Body()), &ctx.Request.Header)
		}
		if offers := string(ctx.Response.Header.Peek("Accept-Encoding")); (offers != "") != (c.status == 415) || c.name == "not offered" && offers != "gzip, br" {
			t.Errorf("%s: %q is offered", c.name, offers)
		}
	}
	// Without requests, no body is asked for.
	if _, ok := New(Config{Decompress: &Decompress{Responses: Always}}).(RequestBody); ok {
		t.Error("it wants bodies of requests")
	}
}

func TestDecompressFromAllLoops(t *testing.T) {
	defer goleak.VerifyNone(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			want := strings.Repeat(string(rune('a'+i)), 1000) + words(5000)
			for e, c := range codedAs {
				src := encodedBy(t, e, want)
				for n := 30; n < 3000; n *= 10 {
					if got, err := decodedInPieces(c, limits{ratio: 100}, src, n); err != nil || string(got) != want {
						t.Errorf("%s: %d bytes, %v", e, len(got), err)
					}
				}
			}
		})
	}
	all.Wait()
}

func TestDecompressIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  Decompress
		want []string
	}{
		{Decompress{Requests: true}, nil},
		{Decompress{Responses: Unaccepted, Encodings: []Encoding{"deflate", "gzip"}, MaxRatio: 1, MaxResponseBytes: 1}, nil},
		{Decompress{}, []string{"decompress: decodes nothing: give requests or responses"}},
		{Decompress{Responses: Never}, []string{"decompress: decodes nothing: give requests or responses"}},
		{Decompress{Responses: "yes"}, []string{`decompress.responses: "yes" is not one of never, always, unaccepted`}},
		{Decompress{Requests: true, Encodings: []Encoding{"gzip", "x", "gzip"}}, []string{`decompress.encodings[1]: "x" is not one of gzip, br, zstd, deflate`, "decompress.encodings[2]: gzip is there twice"}},
		{Decompress{Requests: true, MaxRequestBytes: -1, MaxResponseBytes: -1, MaxRatio: -1},
			[]string{"decompress.max_request_bytes: -1: 1 or more", "decompress.max_response_bytes: -1: 1 or more", "decompress.max_ratio: -1: 1 or more"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Decompress: &c.cfg})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.cfg, diff)
		}
	}
}

// Whatever comes, and in whatever pieces, the two ways of decoding agree, and the limits hold.
func FuzzDecoder(f *testing.F) {
	for e, c := range codedAs {
		f.Add(encodedBy(f, e, "hello, hello, hello"), uint8(c), 3)
		f.Add(encodedBy(f, e, strings.Repeat("a", 100_000)), uint8(c), 50)
	}
	f.Fuzz(func(t *testing.T, src []byte, which uint8, n int) {
		c := coding(which)
		if c == identity || c >= codings || n < 1 {
			return
		}
		l := limits{bytes: 80_000, ratio: 50}
		whole, err := decodeAll(c, l, nil, src)
		pieces, err2 := decodedInPieces(c, l, src, n)
		if err == nil && err2 == nil && !bytes.Equal(whole, pieces) || err == nil && err2 != nil && err2 != errRatio {
			t.Errorf("%v: %d bytes, %v; %d bytes, %v", c, len(whole), err, len(pieces), err2)
		}
		if max(len(whole), len(pieces)) > 80_000+decodeBytes {
			t.Errorf("%v: %d bytes, %d bytes", c, len(whole), len(pieces))
		}
	})
}

func TestDecompressOfNothingAllocatesNothing(t *testing.T) {
	f := New(Config{Decompress: &Decompress{Requests: true, Responses: Unaccepted}})
	ctx := asked(t, "/", nil, "Accept-Encoding: gzip, br")
	if n := testing.AllocsPerRun(100, func() {
		ctx.ResetUserValues()
		ctx.Response.Header.Reset()
		ctx.Response.Header.Set("Content-Encoding", "gzip")
		f.Request(ctx)
		f.Response(ctx)
		f.(Streamer).Stream(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Nothing of a body that was given up is in the next one.
func TestDecodersForgetWhatWasGivenUp(t *testing.T) {
	for e, c := range codedAs {
		long := encodedBy(t, e, words(20_000))
		for _, src := range [][]byte{long, long[:3000], append(encodedBy(t, e, "a"), encodedBy(t, e, "b")...)} {
			d := newDecoder(c, limits{bytes: 1, ratio: 100})
			d.Append(nil, src, true)
			d.Close()
			if got, err := decodedInPieces(c, limits{ratio: 100}, encodedBy(t, e, "mine"), 4); err != nil || string(got) != "mine" {
				t.Fatalf("%s: %.20q, %v", e, got, err)
			}
		}
	}
}
