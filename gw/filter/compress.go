package filter

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
)

// Compress encodes responses by what the client accepts (RFC 9110, section 12.5.3): as they come, each piece whole to the client, so
// that streams of events are not held back. Left as they are: those that are encoded already, parts (206), and what no-transform
// forbids. A strong ETag becomes a weak one. An attacker who can have a page's secret and words of his own in one response, and see
// its length, can guess the secret (BREACH): such responses say no-transform.
type Compress struct {
	// Encodings are those offered, the first among those that a client wants as much as others; empty: zstd, br, gzip.
	Encodings []Encoding `yaml:"encodings"`
	// MinLength is the shortest body that is worth it, in bytes; 0: 512. Bodies of unknown length are encoded.
	MinLength int `yaml:"min_length"`
	// ContentTypes are type/subtype, type/*, type/*+suffix or */*; empty: those of text, JSON, XML, scripts, and images and fonts that are not
	// compressed themselves.
	ContentTypes []string `yaml:"content_types"`
	// Levels are for each encoding.
	Levels Levels `yaml:"levels"`
}

// Levels trade time for size. Their limits keep a piece of 64 KiB, for which its loop does nothing else, to about 10 ms.
type Levels struct {
	// Gzip is 1 to 9; 0: 5.
	Gzip int `yaml:"gzip"`
	// Brotli is 1 to 6; 0: 2, which is three times as fast as 4 and not larger (BenchmarkCompress).
	Brotli int `yaml:"br"`
	// Zstd is 1 to 9; 0: 3.
	Zstd int `yaml:"zstd"`
}

// Encoding is the name of a content coding.
type Encoding string

// Choices are the values that a file may have.
func (Encoding) Choices() []string { return codingNames[gzipCoding:] }

const (
	minLength = 512
	// wholeBytes is the longest body that is encoded at once, when it is there as a whole: it takes milliseconds.
	wholeBytes = 128 << 10
	// windowBits bound what an encoder holds, for each response on its way, and a decoder has to: 256 KiB.
	windowBits = 18
)

// compressible are types whose contents are not compressed in themselves.
var compressible = []string{"text/*", "application/json", "application/*+json", "application/x-ndjson", "application/javascript",
	"application/x-javascript", "application/xml", "application/*+xml", "application/yaml", "application/wasm", "application/vnd.ms-fontobject",
	"image/svg+xml", "image/bmp", "image/x-icon", "image/vnd.microsoft.icon", "font/ttf", "font/otf"}

func (f *Compress) validate(report func(path, message string)) {
	for i, e := range f.Encodings {
		at := fmt.Sprintf("encodings[%d]", i)
		checkEncoding(at, f.Encodings, i, report)
		if e == "deflate" {
			report(at, "deflate means two formats, and clients differ: gzip has the same algorithm")
		}
	}
	if f.MinLength < 0 {
		report("min_length", fmt.Sprintf("%d bytes: 1 or more", f.MinLength))
	}
	for i, s := range f.ContentTypes {
		if !validTypePattern(s) {
			report(fmt.Sprintf("content_types[%d]", i), fmt.Sprintf("%q is not type/subtype, type/*, type/*+suffix or */*, in lower case", s))
		}
	}
	for _, l := range []struct {
		at       string
		has, max int
	}{{"levels.gzip", f.Levels.Gzip, 9}, {"levels.br", f.Levels.Brotli, 6}, {"levels.zstd", f.Levels.Zstd, 9}} {
		if l.has < 0 || l.has > l.max {
			report(l.at, fmt.Sprintf("level %d: 1 to %d", l.has, l.max))
		}
	}
}

// checkEncoding reports what is wrong with all[i].
func checkEncoding(at string, all []Encoding, i int, report func(path, message string)) {
	if e := all[i]; !slices.Contains(e.Choices(), string(e)) {
		report(at, fmt.Sprintf("%q is not one of %s", e, strings.Join(e.Choices(), ", ")))
	} else if slices.Contains(all[:i], e) {
		report(at, fmt.Sprintf("%s is there twice", e))
	}
}

// compress is a Compress, ready for use.
type compress struct {
	order     []coding
	encoders  [codings]encoders
	minLength int
	types     mediaTypes
}

func newCompress(cfg Compress) *compress {
	f := &compress{minLength: cfg.MinLength}
	if f.minLength == 0 {
		f.minLength = minLength
	}
	for _, e := range cfg.Encodings {
		c, _ := codingOf([]byte(e))
		f.order = append(f.order, c)
	}
	if len(f.order) == 0 {
		f.order = []coding{zstdCoding, brotliCoding, gzipCoding}
	}
	types := cfg.ContentTypes
	if len(types) == 0 {
		types = compressible
	}
	f.types = newMediaTypes(types)
	for _, c := range f.order {
		f.encoders[c].init(c, cfg.Levels)
	}
	return f
}

// lateKey marks an exchange in which a filter before this one reads the body: that is after this one's response phase, and the
// body is encoded after all of them.
type lateKey struct{ f *compress }

// Request implements Filter.
func (f *compress) Request(ctx *fasthttp.RequestCtx) Result {
	// Now, as later filters may change what the upstream is to see of it.
	a := acceptedBy(ctx)
	c := a.best(f.order)
	if noTransform(ctx.Request.Header.PeekAll("Cache-Control")) {
		c = identity
	}
	ctx.SetUserValue(f, &f.encoders[c])
	if ctx.UserValue(clientAcceptsKey{}) != nil {
		ctx.SetUserValue(lateKey{f}, true)
	}
	return Continue
}

// Response implements Filter.
func (f *compress) Response(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	e, _ := ctx.UserValue(f).(*encoders)
	ctx.RemoveUserValue(f) // Stream encodes if it is there
	switch status := ctx.Response.StatusCode(); {
	case status == fasthttp.StatusNotModified:
		addVary(h, "Accept-Encoding") // as its 200 has (RFC 9110, section 15.4.5)
		if e != nil && e.coding != identity {
			unsize(ctx, false)
			weaken(h) // as it may have been there: who has a strong one compares it weakly (section 13.1.2)
		}
		return
	case bodiless(status), status == fasthttp.StatusPartialContent:
		return
	}
	if encoded(h) || noTransform(h.PeekAll("Cache-Control")) || !f.types.match(h.ContentType()) {
		return
	}
	body := ctx.Response.Body() // of an answer of ours, or if a filter wanted the whole of it
	length := h.ContentLength()
	if len(body) > 0 {
		length = len(body)
	}
	if length >= 0 && length < f.minLength {
		return
	}
	addVary(h, "Accept-Encoding")
	if e == nil || e.coding == identity {
		return
	}
	switch late := ctx.UserValue(lateKey{f}) != nil; {
	case len(body) == 0 && ctx.Request.Header.IsHead():
		unsize(ctx, false)
	case late:
		ctx.SetUserValue(f, e)
		return
	case len(body) == 0:
		ctx.SetUserValue(f, e)
	case !e.whole(ctx, body):
		return
	}
	f.encode(ctx, e)
}

// encode says what has become of the content.
func (f *compress) encode(ctx *fasthttp.RequestCtx, e *encoders) {
	ctx.Response.Header.Set("Content-Encoding", e.coding.String())
	recoded(ctx)
}

// Stream implements Streamer.
func (f *compress) Stream(ctx *fasthttp.RequestCtx) Transform {
	e, _ := ctx.UserValue(f).(*encoders)
	if e == nil {
		return nil
	}
	if ctx.UserValue(lateKey{f}) != nil {
		if n := len(ctx.Response.Body()); encoded(&ctx.Response.Header) || n > 0 && n < f.minLength {
			return nil
		}
		f.encode(ctx, e)
	}
	return e.take()
}

// bodiless are statuses whose responses have no content.
func bodiless(status int) bool {
	return status < 200 || status == 204 || status == 205 || status == 304
}

// encoded says that a content has been encoded.
func encoded(h *fasthttp.ResponseHeader) bool {
	c := h.Peek("Content-Encoding")
	return len(c) > 0 && !equalFold(trim(c), "identity")
}

// encoders are those of one coding and level that are out of use.
type encoders struct {
	coding coding
	free   sync.Pool // of *encoder
}

func (p *encoders) init(c coding, l Levels) {
	or := func(level, otherwise int) int {
		if level == 0 {
			return otherwise
		}
		return level
	}
	p.coding = c
	p.free.New = func() any {
		e := &encoder{home: p}
		var err error
		switch c {
		case gzipCoding:
			e.w, err = gzip.NewWriterLevel(&e.out, or(l.Gzip, 5))
		case brotliCoding:
			e.w = brotli.NewWriterOptions(&e.out, brotli.WriterOptions{Quality: or(l.Brotli, 2), LGWin: windowBits})
		case zstdCoding:
			e.w, err = zstd.NewWriter(&e.out, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(or(l.Zstd, 3))), zstd.WithWindowSize(1<<windowBits),
				zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
		}
		if e.w == nil || err != nil {
			panic("BUG: " + c.String() + ": a level that is not one has passed the validation")
		}
		return e
	}
}

func (p *encoders) take() *encoder {
	e := p.free.Get().(*encoder)
	e.w.Reset(&e.out)
	e.taken = true
	return e
}

// whole encodes a response's body. false: that would not make it shorter, or it would take the loop too long.
func (p *encoders) whole(ctx *fasthttp.RequestCtx, body []byte) bool {
	if len(body) > wholeBytes {
		return false
	}
	e := p.take()
	defer e.Close()
	var err error
	e.room, err = e.Append(e.room[:0], body, true)
	if err != nil || len(e.room) >= len(body) {
		return false
	}
	ctx.Response.SetBody(e.room)
	return true
}

// encoder is a Transform.
type encoder struct {
	w     flusher
	out   sink
	home  *encoders
	taken bool
	room  []byte // for whole bodies
}

type flusher interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// sink is a slice as an io.Writer.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// Append implements Transform.
func (e *encoder) Append(dst, src []byte, last bool) ([]byte, error) {
	e.out.b = dst
	var err error
	if len(src) > 0 {
		_, err = e.w.Write(src)
	}
	switch {
	case err != nil:
	case last:
		err = e.w.Close()
	case len(src) > 0:
		err = e.w.Flush()
	}
	dst, e.out.b = e.out.b, nil
	return dst, err
}

// Close implements Transform.
func (e *encoder) Close() {
	if e.taken {
		e.taken = false
		e.home.free.Put(e)
	}
}
