package filter

import (
	"fmt"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/valyala/fasthttp"

	"sluice/gw/filter/jwks"
	"sluice/gw/filter/source"
)

// JWT lets in who has a token (RFC 7519) that is signed by one of the keys, for us, and not over. Which algorithm verifies
// follows from the key and from the list here, never from the token alone.
type JWT struct {
	// JWKSFile or JWKSURL is the key set (RFC 7517), or a public key in PEM. The file is looked at every second, and the URL fetched every
	// RefreshInterval; 0: 5 min; and when a token names a key that is not there, at most every 10 s. What is wrong leaves the
	// keys as they were.
	JWKSFile        string        `yaml:"jwks_file"`
	JWKSURL         string        `yaml:"jwks_url"`
	RefreshInterval time.Duration `yaml:"refresh_interval"`
	// FetchTimeout bounds a fetch of the URL, and so how long a request waits for one; 0: 5 s.
	FetchTimeout time.Duration `yaml:"fetch_timeout"`
	// Algorithms are those that tokens may be signed by; not given: all but HS256, HS384 and HS512.
	Algorithms []Algorithm `yaml:"algorithms"`
	// Issuer is what iss must be; not given: anything.
	Issuer string `yaml:"issuer"`
	// Audiences are those of which aud must have one; not given: any, or none.
	Audiences []string `yaml:"audiences"`
	// Leeway is how far clocks may be apart: for exp and nbf; not given: 30 s.
	Leeway *time.Duration `yaml:"leeway"`
	// AllowNoExpiry lets in tokens without exp, which are good as long as their key is.
	AllowNoExpiry bool `yaml:"allow_no_expiry"`
	// From is where a token may be, the first that is there counts; not given: bearer.
	From []Credential `yaml:"from"`
	// ClaimsToHeaders tells the upstream: header → claim. What a client sends under these names is removed.
	ClaimsToHeaders map[string]string `yaml:"claims_to_headers"`
	// Forward leaves the token in the request; else it is taken out.
	Forward bool `yaml:"forward"`
	// Optional lets in requests without a token, as nobody's.
	Optional bool `yaml:"optional"`
	// Cache is how many verified tokens are remembered; 0: 10,000.
	Cache int `yaml:"cache"`
	// InlineChecks is how many signatures per second are checked on the loops; those above are checked beside them, so that a
	// flood of forged tokens does not hold up other requests. 0: 1000, less than a tenth of a CPU for ES256 (BenchmarkJWT).
	InlineChecks int `yaml:"inline_checks"`
}

// Algorithm is how a token is signed (RFC 7518, section 3.1; RFC 8037).
type Algorithm string

var (
	asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	symmetric  = []string{"HS256", "HS384", "HS512"}
)

// Choices are the values that a file may have.
func (Algorithm) Choices() []string { return slices.Concat(asymmetric, symmetric) }

const (
	// maxWaiting bounds the requests that wait for keys, and those that wait for a signature to be checked beside the loops.
	maxWaiting = 256
	// unbounded is how long a token without exp is remembered.
	unbounded = 5 * time.Minute
)

func (f *JWT) validate(report func(path, message string)) {
	switch {
	case (f.JWKSFile == "") == (f.JWKSURL == ""):
		report("", "give jwks_file or jwks_url")
	case f.JWKSFile != "":
		data, err := source.ReadFile(f.JWKSFile)
		if err == nil {
			if _, err = jwks.Parse(data); err != nil {
				err = fmt.Errorf("%s: %w", f.JWKSFile, err)
			}
		}
		if err != nil {
			report("jwks_file", err.Error())
		}
	default:
		if err := source.CheckURL(f.JWKSURL); err != nil {
			report("jwks_url", err.Error())
		}
	}
	if f.JWKSFile != "" && (f.RefreshInterval != 0 || f.FetchTimeout != 0) {
		report("", "refresh_interval and fetch_timeout are for jwks_url")
	}
	if f.RefreshInterval != 0 && f.RefreshInterval < time.Second {
		report("refresh_interval", "at least 1s")
	}
	if f.FetchTimeout < 0 {
		report("fetch_timeout", "must not be negative")
	}
	for i, a := range f.Algorithms {
		if !slices.Contains(a.Choices(), string(a)) {
			report(fmt.Sprintf("algorithms[%d]", i), fmt.Sprintf("%q is not an algorithm for tokens", string(a)))
		}
	}
	if f.Leeway != nil && (*f.Leeway < 0 || *f.Leeway > time.Hour) {
		report("leeway", "0 to 1h")
	}
	if f.Cache < 0 || f.Cache > 10_000_000 {
		report("cache", "0 to 10000000")
	}
	if f.InlineChecks < 0 || f.InlineChecks > 1_000_000 {
		report("inline_checks", "0 to 1000000")
	}
	checkCredentials(f.From, report)
	checkClaimHeaders(f.ClaimsToHeaders, report)
}

// jwtFilter is a JWT, ready for use.
type jwtFilter struct {
	from     credentials
	headers  claimHeaders
	forward  bool
	optional bool
	leeway   time.Duration
	algs     []string
	claims   *jwt.Validator
	keys     *source.Source[jwks.Set]
	keysFrom source.Config
	known    *memory[*verified]
	heads    *memory[tokenHeader] // of tokens, as they are written
	seed     maphash.Seed
	inline   *pace
	crew     *crew
	waiting  atomic.Int64 // for keys
}

// verified is what a good token says. Immutable.
type verified struct {
	id      *Identity
	headers []string
	by      *jwks.Set // with another set than this one it has to be verified again: its key may be gone
}

// keySets are shared by all filters with the same source, over reloads.
var keySets shared[source.Config, *source.Source[jwks.Set]]

func newJWT(cfg JWT) *jwtFilter {
	f := &jwtFilter{
		from:     newCredentials(cfg.From, "bearer"),
		headers:  newClaimHeaders(cfg.ClaimsToHeaders),
		forward:  cfg.Forward,
		optional: cfg.Optional,
		leeway:   30 * time.Second,
		algs:     asymmetric,
		keysFrom: source.Config{File: cfg.JWKSFile, URL: cfg.JWKSURL, Refresh: cfg.RefreshInterval, Timeout: cfg.FetchTimeout},
		seed:     maphash.MakeSeed(),
		crew:     newCrew(maxWaiting),
	}
	if cfg.Leeway != nil {
		f.leeway = *cfg.Leeway
	}
	if len(cfg.Algorithms) > 0 {
		f.algs = nil
		for _, a := range cfg.Algorithms {
			f.algs = append(f.algs, string(a))
		}
	}
	rules := []jwt.ParserOption{jwt.WithLeeway(f.leeway)}
	if !cfg.AllowNoExpiry {
		rules = append(rules, jwt.WithExpirationRequired())
	}
	if cfg.Issuer != "" {
		rules = append(rules, jwt.WithIssuer(cfg.Issuer))
	}
	if len(cfg.Audiences) > 0 {
		rules = append(rules, jwt.WithAudience(cfg.Audiences...))
	}
	f.claims = jwt.NewValidator(rules...)
	if f.keysFrom.Refresh == 0 {
		f.keysFrom.Refresh = 5 * time.Minute
	}
	if f.keysFrom.Timeout == 0 {
		f.keysFrom.Timeout = 5 * time.Second
	}
	if cfg.Cache == 0 {
		cfg.Cache = 10_000
	}
	if cfg.InlineChecks == 0 {
		cfg.InlineChecks = 1000
	}
	f.known = newMemory[*verified](cfg.Cache)
	f.heads = newMemory[tokenHeader](rememberedHeaders)
	f.inline = newPace(cfg.InlineChecks)
	f.keys = keySets.take(f.keysFrom, func() *source.Source[jwks.Set] { return source.Open(f.keysFrom, jwks.Parse) })
	return f
}

// Close gives the keys back.
func (f *jwtFilter) Close() error {
	if keySets.give(f.keysFrom) {
		f.keys.Close()
	}
	return nil
}

// Request implements Filter. A token that is known is let in at once. Of another all that is cheap is looked at first, then its
// signature.
func (f *jwtFilter) Request(ctx *fasthttp.RequestCtx) Result {
	f.headers.clear(ctx)
	token, twice := f.from.find(ctx)
	switch {
	case twice:
		return f.refuse(ctx, &jwtTwice)
	case len(token) == 0 && f.optional:
		return Continue
	case len(token) == 0:
		return f.refuse(ctx, &jwtMissing)
	case len(token) > maxToken:
		return f.refuse(ctx, &jwtOversized)
	}
	now := time.Now()
	keys := f.keys.Get()
	if v, ok := f.known.get(maphash.Bytes(f.seed, token), token, now.Unix()); ok && v.by == keys {
		return f.accept(ctx, v)
	}
	return f.examine(ctx, string(token), keys, now)
}

// RequestNames implements Namer.
func (f *jwtFilter) RequestNames() []string { return f.headers.RequestNames() }

// Response implements Filter.
func (f *jwtFilter) Response(*fasthttp.RequestCtx) {}

// examine looks at a token that is not known, on its loop.
func (f *jwtFilter) examine(ctx *fasthttp.RequestCtx, token string, keys *jwks.Set, now time.Time) Result {
	p, why := f.parse(token, keys)
	if why == &jwtNoKeys || why == &jwtUnknownKey {
		if f.await(ctx, token) {
			return Wait
		}
		if fresh := f.keys.Get(); fresh != keys { // they have come meanwhile
			p, why = f.parse(token, fresh)
		}
	}
	if why != nil {
		return f.refuse(ctx, why)
	}
	resume := Resume(ctx)
	if resume == nil || f.inline.take(now) {
		return f.decide(ctx, p)
	}
	if !f.crew.do(func() { resume(f.decide(ctx, p)) }) {
		return f.refuse(ctx, &jwtBusy)
	}
	return Wait
}

// await has the request wait for the keys to be fetched, if that is due: false: it is not.
func (f *jwtFilter) await(ctx *fasthttp.RequestCtx, token string) bool {
	resume := Resume(ctx)
	if resume == nil {
		return false
	}
	if f.waiting.Add(1) > maxWaiting {
		f.waiting.Add(-1)
		return false
	}
	fetched := f.keys.Soon()
	if fetched == nil {
		f.waiting.Add(-1)
		return false
	}
	go func() {
		<-fetched
		f.waiting.Add(-1)
		p, why := f.parse(token, f.keys.Get())
		if why != nil {
			resume(f.refuse(ctx, why))
			return
		}
		if !f.crew.do(func() { resume(f.decide(ctx, p)) }) {
			resume(f.refuse(ctx, &jwtBusy))
		}
	}()
	return true
}

// decide checks the signature, which is all that is left to check.
func (f *jwtFilter) decide(ctx *fasthttp.RequestCtx, p *candidate) Result {
	if p.method.Verify(p.signed, p.signature, p.key.Value) != nil {
		return f.refuse(ctx, &jwtSignature)
	}
	v := &verified{id: p.identity(), by: p.keys}
	var ok bool
	if v.headers, ok = f.headers.values(v.id); !ok {
		return f.refuse(ctx, &jwtClaim)
	}
	now := time.Now()
	until := now.Add(unbounded)
	if !p.expires.IsZero() {
		until = p.expires.Add(f.leeway)
	}
	key := []byte(p.token)
	f.known.put(maphash.Bytes(f.seed, key), key, now.Unix(), until.Unix(), v)
	return f.accept(ctx, v)
}

func (f *jwtFilter) accept(ctx *fasthttp.RequestCtx, v *verified) Result {
	if !f.forward {
		f.from.remove(ctx)
	}
	f.headers.set(ctx, v.headers)
	SetIdentity(ctx, v.id)
	return Continue
}

// refuse answers (RFC 6750, section 3): a request without a token is told what is wanted, and no more.
func (f *jwtFilter) refuse(ctx *fasthttp.RequestCtx, why *Refusal) Result {
	h := &ctx.Response.Header
	switch why {
	case &jwtNoKeys, &jwtBusy:
		h.Set("Retry-After", "1")
		return Refuse(ctx, 503, "tokens cannot be verified now", why)
	case &jwtTwice:
		h.Set("WWW-Authenticate", `Bearer error="invalid_request"`)
		return Refuse(ctx, 400, "more than one token", why)
	case &jwtMissing:
		h.Set("WWW-Authenticate", "Bearer")
		return Refuse(ctx, 401, "a token is required", why)
	case &jwtExpired:
		h.Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="expired"`)
		return Refuse(ctx, 401, "token has expired", why)
	}
	h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	return Refuse(ctx, 401, "token is not valid", why)
}

var (
	jwtMissing    = Refusal{"jwt", "missing"}
	jwtTwice      = Refusal{"jwt", "more than one token"}
	jwtOversized  = Refusal{"jwt", "oversized"}
	jwtMalformed  = Refusal{"jwt", "malformed"}
	jwtAlgorithm  = Refusal{"jwt", "algorithm"}
	jwtNoKeys     = Refusal{"jwt", "no keys yet"}
	jwtUnknownKey = Refusal{"jwt", "unknown key"}
	jwtExpired    = Refusal{"jwt", "expired"}
	jwtNotYet     = Refusal{"jwt", "not yet valid"}
	jwtIssuer     = Refusal{"jwt", "issuer"}
	jwtAudience   = Refusal{"jwt", "audience"}
	jwtLacking    = Refusal{"jwt", "claim missing"}
	jwtBadClaims  = Refusal{"jwt", "claims"}
	jwtSignature  = Refusal{"jwt", "signature"}
	jwtClaim      = Refusal{"jwt", "claim for a header"}
	jwtBusy       = Refusal{"jwt", "too many signatures"}
)
