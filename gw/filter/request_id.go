package filter

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// RequestID gives a request an id of its own under a header, for the upstream and, if it is wanted, for the client. The gateway has
// X-Request-Id without it, and takes over the client's: this is for another header, another form, or for not taking it over.
type RequestID struct {
	// Header is its name; not given: X-Request-Id.
	Header string `yaml:"header"`
	// Accept says whose ids are taken over; not given: client.
	Accept IDSource `yaml:"accept"`
	// Format is that of new ids; not given: hex.
	Format IDFormat `yaml:"format"`
	// Respond puts it into the response, too. An upstream's is replaced.
	Respond bool `yaml:"respond"`
}

// IDSource is whose request ids are taken over.
type IDSource string

// The sources.
const (
	IDsOfClient IDSource = "client" // if it is one that can go into logs and headers as it is, of at most 128 bytes
	IDsOfNobody IDSource = "nobody"
)

// Choices are the values that a file may have.
func (IDSource) Choices() []string { return []string{string(IDsOfClient), string(IDsOfNobody)} }

// IDFormat is how a new id is written.
type IDFormat string

// The formats: 128 random bits as 32 hex digits, or a UUID of version 4 (RFC 9562, section 5.4).
const (
	HexID  IDFormat = "hex"
	UUIDv4 IDFormat = "uuid"
)

// Choices are the values that a file may have.
func (IDFormat) Choices() []string { return []string{string(HexID), string(UUIDv4)} }

// maxRequestID bounds, in bytes, an id that is taken over; the gateway's own bound.
const maxRequestID = 128

func (f *RequestID) validate(report func(path, message string)) {
	if f.Header != "" {
		if err := checkField(f.Header, "", false); err != nil {
			report("header", err.Error())
		}
	}
	if f.Accept != "" && !slices.Contains(f.Accept.Choices(), string(f.Accept)) {
		report("accept", fmt.Sprintf("%q is not one of %s", f.Accept, strings.Join(f.Accept.Choices(), ", ")))
	}
	if f.Format != "" && !slices.Contains(f.Format.Choices(), string(f.Format)) {
		report("format", fmt.Sprintf("%q is not one of %s", f.Format, strings.Join(f.Format.Choices(), ", ")))
	}
}

// requestID is a RequestID, ready for use.
type requestID struct {
	RequestID
	name []byte // Header, as fasthttp spells it
}

func newRequestID(cfg RequestID) *requestID {
	f := &requestID{RequestID: cfg}
	if f.Header == "" {
		f.Header = "X-Request-Id"
	}
	f.name = fasthttp.AppendNormalizedHeaderKey(nil, f.Header)
	return f
}

// Request implements Filter.
func (f *requestID) Request(ctx *fasthttp.RequestCtx) Result {
	h := &ctx.Request.Header
	// Of two it would be chance whose it is.
	if ids := h.PeekAll(f.Header); f.Accept != IDsOfNobody && len(ids) == 1 && plainID(ids[0]) {
		return Continue
	}
	var room [36]byte
	id := appendID(room[:0], f.Format)
	h.Del(f.Header)
	h.SetCanonical(f.name, id)
	return Continue
}

// Identifier is implemented by filters that may give requests the id that is the gateway's own, too: in its answers and logs.
type Identifier interface{ SetsID() bool }

// SetsID implements Identifier.
func (f *requestID) SetsID() bool { return strings.EqualFold(f.Header, "X-Request-Id") }

// RequestNames implements Namer.
func (f *requestID) RequestNames() []string { return []string{f.Header} }

// Response implements Filter.
func (f *requestID) Response(ctx *fasthttp.RequestCtx) {
	if f.Respond { // as later filters have left it
		ctx.Response.Header.DelBytes(f.name)
		ctx.Response.Header.SetCanonical(f.name, ctx.Request.Header.PeekCanonical(f.name))
	}
}

// plainID says that an id can go into logs and headers as it is.
func plainID(id []byte) bool {
	for _, c := range id {
		if !plainOctet[c] {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxRequestID
}

var plainOctet = func() (t [256]bool) {
	for _, c := range []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:/+=") {
		t[c] = true
	}
	return t
}()

// appendID appends a new id, which nobody can guess from others: math/rand/v2's own source is ChaCha8, seeded by the system.
func appendID(dst []byte, as IDFormat) []byte {
	var b [16]byte
	for i, u := 0, rand.Uint64(); i < 8; i, u = i+1, u>>8 {
		b[i] = byte(u)
	}
	for i, u := 8, rand.Uint64(); i < 16; i, u = i+1, u>>8 {
		b[i] = byte(u)
	}
	if as != UUIDv4 {
		return hex.AppendEncode(dst, b[:])
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, b[[...]int{0, 4, 6, 8, 10}[i]:end])
	}
	return dst
}
