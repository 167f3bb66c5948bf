package filter

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// HMAC lets in requests that are signed with a secret that both sides have:
//
//	Authorization: HMAC-SHA256 key=NAME, time=SECONDS, nonce=NONCE, signature=HEX
//
// time is in Unix seconds, a nonce is 8 to 64 letters, digits, - and _, new for each request, and what is signed are lines, each
// with \n at its end: method, Host, path with query as they were sent (in canonical form: what the gateway would normalise is
// normalised), time, nonce, and with MaxBody the SHA-256 of the body in hex, else nothing.
type HMAC struct {
	Keys []HMACKey `yaml:"keys"`
	// Window is how far time may be from ours, before and after; 0: 5 min.
	Window time.Duration `yaml:"window"`
	// Nonces is how many requests the table of nonces holds, each for up to twice the window; 0: 100,000, in 4 MiB. Where it is full
	// requests are answered 503: to forget a nonce would be to let in a replay. Filters with the same window and size share a
	// table, and a reload keeps it.
	Nonces int `yaml:"nonces"`
	// MaxBody has the body signed too, of so many bytes at most; a longer one is answered 413. 0: bodies are not looked at.
	MaxBody int `yaml:"max_body"`
	// ClaimsToHeaders tells the upstream: header → attribute, or sub: the key's name. What a client sends under these names is
	// removed.
	ClaimsToHeaders map[string]string `yaml:"claims_to_headers"`
	// Forward leaves Authorization in the request; else it is taken out.
	Forward bool `yaml:"forward"`
}

// HMACKey is a secret, and whose it is.
type HMACKey struct {
	Name string `yaml:"name"`
	// Secret has at least 32 bytes: the output of SHA-256 (RFC 2104, section 3).
	Secret string `yaml:"secret"`
	// Attributes are the identity's claims.
	Attributes map[string]string `yaml:"attributes"`
}

func (f *HMAC) validate(report func(path, message string)) {
	if len(f.Keys) == 0 {
		report("keys", "without keys nobody is let in")
	}
	headers := newClaimHeaders(f.ClaimsToHeaders)
	all := map[string]*signer{}
	for i, k := range f.Keys {
		if err := addSigner(all, k, headers); err != nil {
			report(fmt.Sprintf("keys[%d]", i), err.Error())
		}
	}
	if f.Window != 0 && f.Window < time.Second || f.Window > 24*time.Hour {
		report("window", "1s to 24h")
	}
	if f.Nonces < 0 || f.Nonces > 10_000_000 {
		report("nonces", "0 to 10000000")
	}
	if f.MaxBody < 0 {
		report("max_body", "must not be negative")
	}
	checkClaimHeaders(f.ClaimsToHeaders, report)
}

// signer is a key, ready for use.
type signer struct {
	id      *Identity
	headers []string
	macs    sync.Pool // of *signing
}

// signing is room for one signature, used again.
type signing struct {
	hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

func addSigner(all map[string]*signer, k HMACKey, headers claimHeaders) error {
	if !plainToken([]byte(k.Name), 1, 128) {
		return errors.New("a key's name is letters, digits, - and _")
	}
	if all[k.Name] != nil {
		return fmt.Errorf("%s is there twice", k.Name)
	}
	if len(k.Secret) < sha256.Size {
		return fmt.Errorf("the secret of %s is shorter than %d bytes", k.Name, sha256.Size)
	}
	s := &signer{id: &Identity{Subject: k.Name, By: "hmac"}}
	if len(k.Attributes) > 0 {
		s.id.Claims = make(map[string]any, len(k.Attributes))
		for name, v := range k.Attributes {
			s.id.Claims[name] = v
		}
	}
	var ok bool
	if s.headers, ok = headers.values(s.id); !ok {
		return fmt.Errorf("an attribute of %s cannot be a header's value", k.Name)
	}
	secret := []byte(k.Secret)
	s.macs.New = func() any { return &signing{Hash: hmac.New(sha256.New, secret)} }
	all[k.Name] = s
	return nil
}

// nonceTable is what a table of nonces is shared by.
type nonceTable struct {
	window time.Duration
	nonces int
}

var nonceTables shared[nonceTable, *replays]

// hmacFilter is an HMAC, ready for use.
type hmacFilter struct {
	signers map[string]*signer
	headers claimHeaders
	forward bool
	body    bool
	table   nonceTable
	used    *replays
}

// hmacBodyFilter signs bodies too.
type hmacBodyFilter struct {
	*hmacFilter
	maxBody int
}

// RequestBody implements RequestBody.
func (f hmacBodyFilter) RequestBody(*fasthttp.RequestCtx) int { return f.maxBody }

func newHMAC(cfg HMAC) Filter {
	f := &hmacFilter{
		signers: map[string]*signer{},
		headers: newClaimHeaders(cfg.ClaimsToHeaders),
		forward: cfg.Forward,
		body:    cfg.MaxBody > 0,
		table:   nonceTable{cfg.Window, cfg.Nonces},
	}
	for _, k := range cfg.Keys {
		if err := addSigner(f.signers, k, f.headers); err != nil {
			panic("BUG: not validated: " + err.Error())
		}
	}
	if f.table.window == 0 {
		f.table.window = 5 * time.Minute
	}
	if f.table.nonces == 0 {
		f.table.nonces = 100_000
	}
	f.used = nonceTables.take(f.table, func() *replays { return newReplays(f.table.nonces) })
	if f.body {
		return hmacBodyFilter{f, cfg.MaxBody}
	}
	return f
}

// Close gives the table of nonces back.
func (f *hmacFilter) Close() error {
	nonceTables.give(f.table)
	return nil
}

// Request implements Filter.
func (f *hmacFilter) Request(ctx *fasthttp.RequestCtx) Result {
	f.headers.clear(ctx)
	values := ctx.Request.Header.PeekAll(fasthttp.HeaderAuthorization)
	if len(values) > 1 {
		return Refuse(ctx, 400, "more than one Authorization", &hmacTwice)
	}
	var given []byte
	if len(values) == 1 {
		given = afterScheme(values[0], "hmac-sha256")
	}
	if len(given) == 0 {
		return f.refuse(ctx, "a signature is required", &hmacMissing)
	}
	p, ok := parseSignature(given)
	if !ok {
		return f.refuse(ctx, "signature is not valid", &hmacMalformed)
	}
	now := time.Now()
	at := time.Unix(p.seconds, 0)
	if at.Before(now.Add(-f.table.window)) || at.After(now.Add(f.table.window)) {
		return f.refuse(ctx, "the request's time is too far from ours", &hmacTime)
	}
	s := f.signers[string(p.key)]
	if s == nil {
		return f.refuse(ctx, "signature is not valid", &hmacUnknown)
	}
	w := s.macs.Get().(*signing)
	defer s.macs.Put(w)
	if !f.signed(ctx, w, &p) {
		return f.refuse(ctx, "signature is not valid", &hmacWrong)
	}
	// Only who has a key comes here: nobody else can fill the table.
	w.text = append(append(append(w.text[:0], p.key...), '\n'), p.nonce...)
	switch f.used.use(w.text, now, at.Add(f.table.window)) {
	case replayed:
		return f.refuse(ctx, "the request was sent before", &hmacReplayed)
	case full:
		ctx.Response.Header.Set("Retry-After", "1")
		return Refuse(ctx, 503, "too many signed requests", &hmacFull)
	}
	if !f.forward {
		ctx.Request.Header.Del(fasthttp.HeaderAuthorization)
	}
	f.headers.set(ctx, s.headers)
	SetIdentity(ctx, s.id)
	return Continue
}

// RequestNames implements Namer.
func (f *hmacFilter) RequestNames() []string { return f.headers.RequestNames() }

// Response implements Filter.
func (f *hmacFilter) Response(*fasthttp.RequestCtx) {}

// signed says that the signature is the request's.
func (f *hmacFilter) signed(ctx *fasthttp.RequestCtx, w *signing, p *signature) bool {
	h := &ctx.Request.Header
	t := w.text[:0]
	for _, part := range [...][]byte{h.Method(), h.Host(), h.RequestURI(), p.time, p.nonce} {
		t = append(append(t, part...), '\n')
	}
	if f.body {
		sum := sha256.Sum256(ctx.Request.Body())
		t = hex.AppendEncode(t, sum[:])
	}
	w.text = append(t, '\n')
	w.Reset()
	w.Write(w.text)
	return hmac.Equal(w.Sum(w.sum[:0]), p.sum[:])
}

func (f *hmacFilter) refuse(ctx *fasthttp.RequestCtx, message string, why *Refusal) Result {
	ctx.Response.Header.Set("WWW-Authenticate", "HMAC-SHA256")
	return Refuse(ctx, 401, message, why)
}

// signature is what Authorization says. The bytes are the request's.
type signature struct {
	key, time, nonce []byte
	seconds          int64
	sum              [sha256.Size]byte
}

// parseSignature wants each parameter once.
func parseSignature(text []byte) (p signature, ok bool) {
	seen := 0
	for len(text) > 0 {
		pair, rest, more := bytes.Cut(text, []byte{','})
		if text = rest; more && len(rest) == 0 {
			return p, false
		}
		name, value, _ := bytes.Cut(bytes.Trim(pair, " \t"), []byte{'='})
		bit := 0
		switch string(name) {
		case "key":
			p.key, bit, ok = value, 1, plainToken(value, 1, 128)
		case "time":
			var err error
			p.seconds, err = strconv.ParseInt(string(value), 10, 64)
			p.time, bit, ok = value, 2, err == nil && len(value) <= 12 && value[0] != '+' && value[0] != '-'
		case "nonce":
			p.nonce, bit, ok = value, 4, plainToken(value, 8, 64)
		case "signature":
			ok = len(value) == 2*len(p.sum)
			if ok {
				_, err := hex.Decode(p.sum[:], value)
				ok = err == nil
			}
			bit = 8
		default:
			return p, false
		}
		if !ok || seen&bit != 0 {
			return p, false
		}
		seen |= bit
	}
	return p, seen == 15
}

// plainToken says that b is letters, digits, - and _, so many of them.
func plainToken(b []byte, least, most int) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return len(b) >= least && len(b) <= most
}

var (
	hmacMissing   = Refusal{"hmac", "missing"}
	hmacTwice     = Refusal{"hmac", "more than one signature"}
	hmacMalformed = Refusal{"hmac", "malformed"}
	hmacTime      = Refusal{"hmac", "time"}
	hmacUnknown   = Refusal{"hmac", "unknown key"}
	hmacWrong     = Refusal{"hmac", "wrong"}
	hmacReplayed  = Refusal{"hmac", "replayed"}
	hmacFull      = Refusal{"hmac", "too many nonces"}
)
