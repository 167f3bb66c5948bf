package filter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// Decompress decodes bodies: of requests, for filters and upstreams that cannot, and of responses, for filters and clients that
// cannot. A request in a coding that is not among Encodings is answered 415, with those in Accept-Encoding (RFC 9110, section
// 15.5.16); one that is malformed 400, and one that becomes too long 413. A response in another coding is passed on as it is; one
// that is malformed, or becomes too long, ends where it is.
type Decompress struct {
	// Requests are decoded before the filters that follow: the bodies of those that are encoded are collected.
	Requests bool `yaml:"requests"`
	// Responses are decoded as they come; empty: never.
	Responses Decoding `yaml:"responses"`
	// Encodings are those decoded; empty: gzip, br, zstd and deflate.
	Encodings []Encoding `yaml:"encodings"`
	// MaxRequestBytes is the longest body of a request, encoded and decoded; 0: 10485760, 10 MiB.
	MaxRequestBytes int `yaml:"max_request_bytes"`
	// MaxResponseBytes is the longest decoded body of a response; 0: no limit, as none of it is kept.
	MaxResponseBytes int `yaml:"max_response_bytes"`
	// MaxRatio is how many times longer than before a body may become, when that is more than 64 KiB; 0: 100. Text becomes 3 to 20 times
	// longer, and a bomb 1000 times and more.
	MaxRatio int `yaml:"max_ratio"`
}

// Decoding is when a response is decoded.
type Decoding string

// Never; always; or if the client does not say that it accepts the coding.
const (
	Never      Decoding = "never"
	Always     Decoding = "always"
	Unaccepted Decoding = "unaccepted"
)

// Choices are the values that a file may have.
func (Decoding) Choices() []string {
	return []string{string(Never), string(Always), string(Unaccepted)}
}

const (
	maxRequestBytes = 10 << 20
	maxRatio        = 100
	// decodeInline is the longest encoded body that its loop decodes itself: what it may become takes less than a millisecond.
	decodeInline = 4 << 10
)

func (f *Decompress) validate(report func(path, message string)) {
	if f.Responses != "" && !slices.Contains(f.Responses.Choices(), string(f.Responses)) {
		report("responses", fmt.Sprintf("%q is not one of %s", f.Responses, strings.Join(f.Responses.Choices(), ", ")))
	} else if !f.Requests && (f.Responses == "" || f.Responses == Never) {
		report("", "decodes nothing: give requests or responses")
	}
	for i := range f.Encodings {
		checkEncoding(fmt.Sprintf("encodings[%d]", i), f.Encodings, i, report)
	}
	for _, n := range []struct {
		at  string
		has int
	}{{"max_request_bytes", f.MaxRequestBytes}, {"max_response_bytes", f.MaxResponseBytes}, {"max_ratio", f.MaxRatio}} {
		if n.has < 0 {
			report(n.at, fmt.Sprintf("%d: 1 or more", n.has))
		}
	}
}

// decompress is a Decompress, ready for use, of responses only.
type decompress struct {
	responses Decoding
	decodes   codingSet
	names     string // of the codings, for Accept-Encoding
	request   limits
	response  limits
}

// codingSet has a bit for each coding.
type codingSet uint8

func (s codingSet) has(c coding) bool { return s>>c&1 != 0 }

func newDecompress(cfg Decompress) Filter {
	f := &decompress{
		responses: cfg.Responses,
		request:   limits{bytes: int64(cfg.MaxRequestBytes), ratio: int64(cfg.MaxRatio)},
		response:  limits{bytes: int64(cfg.MaxResponseBytes), ratio: int64(cfg.MaxRatio)},
	}
	if f.request.bytes == 0 {
		f.request.bytes = maxRequestBytes
	}
	if cfg.MaxRatio == 0 {
		f.request.ratio, f.response.ratio = maxRatio, maxRatio
	}
	names := cfg.Encodings
	if len(names) == 0 {
		names = []Encoding{"gzip", "br", "zstd", "deflate"}
	}
	for i, e := range names {
		c, _ := codingOf([]byte(e))
		f.decodes |= 1 << c
		if i > 0 {
			f.names += ", "
		}
		f.names += c.String()
	}
	if cfg.Requests {
		return &decompressRequests{decompress: f}
	}
	return f
}

// contentCoding is the one coding of a message; ok is false if there are several, or one that is not known.
func contentCoding(fields [][]byte) (c coding, ok bool) {
	for _, list := range fields {
		for len(list) > 0 {
			var member []byte
			member, list = nextMember(list)
			one, known := codingOf(member)
			switch {
			case len(member) == 0 || known && one == identity:
			case !known || c != identity:
				return 0, false
			default:
				c = one
			}
		}
	}
	return c, true
}

// Request implements Filter.
func (f *decompress) Request(ctx *fasthttp.RequestCtx) Result {
	if f.responses == Unaccepted {
		// Now, as later filters may change what the upstream is to see of it.
		var takes codingSet
		for c, q := range acceptedBy(ctx) {
			if q > 0 {
				takes |= 1 << c
			}
		}
		ctx.SetUserValue(f, takes)
	}
	return Continue
}

// Response implements Filter.
func (f *decompress) Response(ctx *fasthttp.RequestCtx) {
	takes, _ := ctx.UserValue(f).(codingSet)
	ctx.RemoveUserValue(f) // Stream decodes if there is a coding
	h, status := &ctx.Response.Header, ctx.Response.StatusCode()
	if (f.responses == Always || f.responses == Unaccepted) && status == fasthttp.StatusNotModified {
		unsize(ctx, false)
		weaken(h)
	}
	if f.responses != Always && f.responses != Unaccepted || bodiless(status) || status == fasthttp.StatusPartialContent {
		return
	}
	c, ok := contentCoding(h.PeekAll("Content-Encoding"))
	if !ok || !f.decodes.has(c) || noTransform(h.PeekAll("Cache-Control")) {
		return
	}
	if f.responses == Unaccepted {
		addVary(h, "Accept-Encoding")
		if takes.has(c) {
			return
		}
	}
	if body := ctx.Response.Body(); ctx.Request.Header.IsHead() {
		unsize(ctx, false)
	} else if len(body) > 0 {
		whole, err := decodeAll(c, f.response, nil, body)
		if err != nil {
			h.Del("Content-Encoding")
			Refuse(ctx, 502, "upstream sent a body that cannot be decoded", refusalOf(err))
			return
		}
		ctx.Response.SetBody(whole)
	} else {
		ctx.SetUserValue(f, c)
	}
	h.Del("Content-Encoding")
	recoded(ctx)
}

// Stream implements Streamer.
func (f *decompress) Stream(ctx *fasthttp.RequestCtx) Transform {
	if c, ok := ctx.UserValue(f).(coding); ok {
		return newDecoder(c, f.response)
	}
	return nil
}

// decompressRequests is a decompress, of requests too.
type decompressRequests struct {
	*decompress
	pool pool // of those that are decoded off the loops
}

// RequestBody implements RequestBody.
func (f *decompressRequests) RequestBody(ctx *fasthttp.RequestCtx) int {
	if c, ok := contentCoding(ctx.Request.Header.PeekAll("Content-Encoding")); !ok || !f.decodes.has(c) {
		return 0 // nothing to decode, or it is refused by its head
	}
	return int(f.request.bytes)
}

// Request implements Filter.
func (f *decompressRequests) Request(ctx *fasthttp.RequestCtx) Result {
	f.decompress.Request(ctx)
	h := &ctx.Request.Header
	c, ok := contentCoding(h.PeekAll("Content-Encoding"))
	if ok && c == identity {
		return Continue
	}
	if !ok || !f.decodes.has(c) {
		ctx.Response.Header.Set("Accept-Encoding", f.names)
		return Refuse(ctx, 415, "content coding is not supported", &otherCoding)
	}
	if len(ctx.Request.Body()) <= decodeInline {
		return f.decode(ctx, c)
	}
	resume := Resume(ctx)
	if !f.pool.do(func() { resume(f.decode(ctx, c)) }) {
		return busy.answer(ctx, false)
	}
	return Wait
}

func (f *decompressRequests) decode(ctx *fasthttp.RequestCtx, c coding) Result {
	whole, err := decodeAll(c, f.request, nil, ctx.Request.Body())
	switch err {
	case nil:
	case errMalformed:
		return Refuse(ctx, 400, "body cannot be decoded", refusalOf(err))
	default:
		return Refuse(ctx, 413, "decoded body is too large", refusalOf(err))
	}
	h := &ctx.Request.Header
	h.Del("Content-Encoding")
	for _, name := range ofOtherBytes {
		h.Del(name)
	}
	ctx.Request.SetBody(whole)
	h.SetContentLength(len(whole))
	return Continue
}

var (
	otherCoding  = Refusal{"decompress", "coding"}
	badCoding    = Refusal{"decompress", "malformed"}
	tooLong      = Refusal{"decompress", "too long"}
	tooExpansive = Refusal{"decompress", "ratio"}
)

// RefusalOfBody is why a Transform has ended a response, if that was what the upstream sent; nil: it was not.
func RefusalOfBody(err error) *Refusal {
	switch err {
	case errTooLong, errRatio, errMalformed:
		return refusalOf(err)
	}
	return nil
}

func refusalOf(err error) *Refusal {
	switch err {
	case errTooLong:
		return &tooLong
	case errRatio:
		return &tooExpansive
	}
	return &badCoding
}
