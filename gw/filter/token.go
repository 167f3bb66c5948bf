package filter

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/gw/filter/jwks"
)

const (
	// maxToken bounds a token: those of Kerberos groups are some 10 kB. What is longer is not looked at.
	maxToken = 16 << 10
	// maxTokenHeader bounds its header, in characters.
	maxTokenHeader = 1 << 10
)

// candidate is a token of which everything is right but, maybe, its signature.
type candidate struct {
	token, signed string
	signature     []byte
	method        jwt.SigningMethod
	key           *jwks.Key
	keys          *jwks.Set
	claims        jwt.MapClaims
	subject       string
	expires       time.Time // zero: never
}

var strict = base64.RawURLEncoding.Strict()

// parse takes a token apart (RFC 7515, section 7.1) and checks it as far as that is cheap: form, algorithm, key, claims. The
// refusal is nil if nothing is wrong.
func (f *jwtFilter) parse(token string, keys *jwks.Set) (*candidate, *Refusal) {
	head, rest, _ := strings.Cut(token, ".")
	body, sig, ok := strings.Cut(rest, ".")
	if !ok || len(head) > maxTokenHeader || head == "" || body == "" || strings.Contains(sig, ".") {
		return nil, &jwtMalformed
	}
	h, why := f.header(head, keys)
	if why != nil && why != &jwtNoKeys && why != &jwtUnknownKey {
		return nil, why
	}
	p := &candidate{token: token, signed: token[:len(head)+1+len(body)], keys: keys, method: h.method, key: h.key}
	var err error
	if p.signature, err = strict.DecodeString(sig); err != nil || len(p.signature) == 0 {
		return nil, &jwtMalformed
	}
	if why != nil {
		return nil, why
	}
	if p.claims, ok = object(body); !ok {
		return nil, &jwtMalformed
	}
	if why := tokenRefusal(f.claims.Validate(p.claims)); why != nil {
		return nil, why
	}
	if t, _ := p.claims.GetExpirationTime(); t != nil {
		p.expires = t.Time
	}
	if p.subject, err = p.claims.GetSubject(); err != nil {
		return nil, &jwtBadClaims
	}
	return p, nil
}

// tokenHeader is what a token's header leads to.
type tokenHeader struct {
	method jwt.SigningMethod
	key    *jwks.Key
	keys   *jwks.Set // that key is of
}

// rememberedHeaders is some times as many as an issuer has keys: its tokens have the same header, to the byte, for each.
const rememberedHeaders = 64

// header reads a token's header, or knows it.
func (f *jwtFilter) header(text string, keys *jwks.Set) (h tokenHeader, why *Refusal) {
	hash := maphash.String(f.seed, text)
	name := []byte(text)
	if h, ok := f.heads.get(hash, name, 0); ok && h.keys == keys {
		return h, nil
	}
	header, ok := object(text)
	if !ok {
		return h, &jwtMalformed
	}
	alg, _ := header["alg"].(string)
	if !slices.Contains(f.algs, alg) {
		return h, &jwtAlgorithm
	}
	// Nothing that is critical is understood here (RFC 7515, section 4.1.11).
	if _, critical := header["crit"]; critical {
		return h, &jwtMalformed
	}
	kid, isText := header["kid"].(string)
	if _, given := header["kid"]; given && (!isText || kid == "") {
		return h, &jwtMalformed
	}
	h.method, h.keys = jwt.GetSigningMethod(alg), keys
	if keys == nil {
		return h, &jwtNoKeys
	}
	if h.key = keys.Find(kid, alg); h.key == nil {
		return h, &jwtUnknownKey
	}
	f.heads.put(hash, name, 0, math.MaxInt64, h)
	return h, nil
}

// object decodes one JSON object. Its numbers are json.Number.
func object(segment string) (map[string]any, bool) {
	data, err := strict.DecodeString(segment)
	if err != nil {
		return nil, false
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if d.Decode(&m) != nil || m == nil {
		return nil, false
	}
	_, err = d.Token()
	return m, err == io.EOF
}

// tokenRefusal says in our words what golang-jwt found.
func tokenRefusal(err error) *Refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return &jwtExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return &jwtNotYet
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return &jwtIssuer
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return &jwtAudience
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return &jwtLacking
	}
	return &jwtBadClaims
}

func (p *candidate) identity() *Identity {
	numbered(map[string]any(p.claims))
	return &Identity{Subject: p.subject, By: "jwt", Claims: p.claims}
}
