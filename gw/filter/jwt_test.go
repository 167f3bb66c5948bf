package filter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecJWK(t testing.TB, kid string, k *ecdsa.PrivateKey) string {
	t.Helper()
	p, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}`, kid, b64(p[1:33]), b64(p[33:]))
}

func rsaJWK(kid string, k *rsa.PublicKey) string {
	return fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":"AQAB"}`, kid, b64(k.N.Bytes()))
}

func keySet(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// claims are good ones, changed by pairs; a nil takes one out.
func claims(pairs ...any) jwt.MapClaims {
	c := jwt.MapClaims{"iss": "https://issuer.test", "aud": "api", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for i := 0; i < len(pairs); i += 2 {
		c[pairs[i].(string)] = pairs[i+1]
		if pairs[i+1] == nil {
			delete(c, pairs[i].(string))
		}
	}
	return c
}

func signed(t testing.TB, m jwt.SigningMethod, kid string, key any, c jwt.MapClaims) string {
	t.Helper()
	return signedHead(t, m, map[string]any{"kid": kid}, key, c)
}

func signedHead(t testing.TB, m jwt.SigningMethod, head map[string]any, key any, c jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(m, c)
	maps.Copy(tok.Header, head)
	if tok.Header["kid"] == "" {
		delete(tok.Header, "kid")
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bearing(t testing.TB, token string) *fasthttp.RequestCtx {
	t.Helper()
	return asked(t, "/", nil, "Authorization: Bearer "+token)
}

func TestTokensThatAreRefused(t *testing.T) {
	ec, other := ecKey(t), ecKey(t)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte(strings.Repeat("s", 32))
	hmacJWK := fmt.Sprintf(`{"kty":"oct","kid":"h","k":%q}`, b64(secret))
	cfg := JWT{JWKSFile: written(t, "jwks", keySet(ecJWK(t, "e", ec), rsaJWK("r", &rs.PublicKey), hmacJWK)),
		Issuer: "https://issuer.test", Audiences: []string{"api", "web"}}
	f := made(t, Config{JWT: &cfg})
	es := func(pairs ...any) string { return signed(t, jwt.SigningMethodES256, "e", ec, claims(pairs...)) }
	now := time.Now()
	der, _ := x509.MarshalPKIXPublicKey(&rs.PublicKey)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := es()
	parts := strings.Split(good, ".")
	withHead := func(head string) string { return b64([]byte(head)) + "." + parts[1] + "." + parts[2] }
	withBody := func(body string) string { return parts[0] + "." + b64([]byte(body)) + "." + parts[2] }
	// The last character of 64 bytes has four bits that do not count: another spelling of the same signature.
	respelled := good[:len(good)-1] + string(good[len(good)-1]+1)
	for _, c := range []struct{ name, token, want string }{
		{"good", good, ""},
		{"RS256", signed(t, jwt.SigningMethodRS256, "r", rs, claims()), ""},
		{"PS384", signed(t, jwt.SigningMethodPS384, "r", rs, claims()), ""},
		{"one of several audiences", es("aud", []string{"x", "web"}), ""},
		{"no kid, one key fits", signed(t, jwt.SigningMethodES256, "", ec, claims()), ""},
		{"within the leeway", es("exp", now.Add(-10*time.Second).Unix(), "nbf", now.Add(10*time.Second).Unix()), ""},
		{"forged", signed(t, jwt.SigningMethodES256, "e", other, claims()), "401 signature"},
		{"of another token", parts[0] + "." + strings.Split(es("sub", "bob"), ".")[1] + "." + parts[2], "401 signature"},
		{"none", signed(t, jwt.SigningMethodNone, "e", jwt.UnsafeAllowNoneSignatureType, claims()) + "", "401 algorithm"},
		{"None", withHead(`{"alg":"None","kid":"e"}`), "401 algorithm"},
		{"no alg", withHead(`{"kid":"e"}`), "401 algorithm"},
		{"another spelling of alg", withHead(`{"ALG":"ES256","kid":"e"}`), "401 algorithm"},
		{"alg is a list", withHead(`{"alg":["ES256"],"kid":"e"}`), "401 algorithm"},
		{"HS with the public key", signed(t, jwt.SigningMethodHS256, "r", public, claims()), "401 algorithm"},
		{"HS that is not listed", signed(t, jwt.SigningMethodHS256, "h", secret, claims()), "401 algorithm"},
		{"a key of another kind", signed(t, jwt.SigningMethodRS256, "e", rs, claims()), "401 unknown key"},
		{"unknown kid", signed(t, jwt.SigningMethodES256, "x", ec, claims()), "401 unknown key"},
		{"kid is no text", signedHead(t, jwt.SigningMethodES256, map[string]any{"kid": 1}, ec, claims()), "401 malformed"},
		{"critical", signedHead(t, jwt.SigningMethodES256, map[string]any{"kid": "e", "crit": []string{"b64"}, "b64": false}, ec, claims()), "401 malformed"},
		{"a key of its own", signedHead(t, jwt.SigningMethodES256, map[string]any{"kid": "e", "jwk": map[string]any{"kty": "EC"}, "jku": "http://127.0.0.1:1"}, other, claims()), "401 signature"},
		{"expired", es("exp", now.Add(-31*time.Second).Unix()), "401 expired"},
		{"expired long ago", es("exp", -1e300), "401 expired"},
		{"expiry 0", es("exp", 0), "401 expired"},
		{"no expiry", es("exp", nil), "401 claim missing"},
		{"expiry is text", es("exp", "9999999999"), "401 claims"},
		{"future", es("nbf", now.Add(40*time.Second).Unix()), "401 not yet valid"},
		{"another issuer", es("iss", "https://issuer.test/"), "401 issuer"},
		{"no issuer", es("iss", nil), "401 claim missing"},
		{"another audience", es("aud", "apis"), "401 audience"},
		{"no audience", es("aud", nil), "401 claim missing"},
		{"sub is a number", es("sub", 5), "401 claims"},
		{"expired and forged", signed(t, jwt.SigningMethodES256, "e", other, claims("exp", 1)), "401 expired"},
		{"no dots", "abc", "401 malformed"},
		{"one dot", "a.b", "401 malformed"},
		{"encrypted", good + ".a.b", "401 malformed"},
		{"only dots", "..", "401 malformed"},
		{"no signature", parts[0] + "." + parts[1] + ".", "401 malformed"},
		{"half a signature", good[:len(good)-42], "401 signature"},
		{"respelled signature", respelled, "401 malformed"},
		{"padding", good + "==", "401 malformed"},
		{"a line break", parts[0] + "\t." + parts[1] + "." + parts[2], "401 malformed"},
		{"head is a list", withHead(`[]`), "401 malformed"},
		{"head is null", withHead(`null`), "401 malformed"},
		{"two heads", withHead(`{"alg":"ES256","kid":"e"}{}`), "401 malformed"},
		{"long head", withHead(`{"alg":"ES256","kid":"` + strings.Repeat("e", 1000) + `"}`), "401 malformed"},
		{"body is no JSON", withBody("x"), "401 malformed"},
		{"nested", withBody(strings.Repeat(`{"a":`, 1500)), "401 malformed"},
		{"oversized", good + strings.Repeat("a", maxToken), "401 oversized"},
	} {
		ctx := bearing(t, c.token)
		if got := outcome(t, f, ctx); got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
		if c.want != "" && IdentityOf(ctx) != nil {
			t.Errorf("%s: has an identity", c.name)
		}
		if body := string(ctx.Response.Body()); strings.Contains(body, "alice") || strings.Contains(body, parts[2]) {
			t.Errorf("%s: the answer tells: %s", c.name, body)
		}
	}
	if got := outcome(t, f, asked(t, "/", nil)); got != "401 missing" {
		t.Errorf("without a token: %s", got)
	}
	if got := outcome(t, f, asked(t, "/", nil, "Authorization: Basic abc")); got != "401 missing" {
		t.Errorf("with a password: %s", got)
	}
	two := bearing(t, good)
	two.Request.Header.Add("Authorization", "Bearer "+good)
	if got := outcome(t, f, two); got != "400 more than one token" {
		t.Errorf("two tokens: %s", got)
	}
	// A secret in the set is for those who list its algorithm, and then it is not for others.
	cfg.Algorithms = []Algorithm{"HS256"}
	hs := made(t, Config{JWT: &cfg})
	for token, want := range map[string]string{
		signed(t, jwt.SigningMethodHS256, "h", secret, claims()): "",
		signed(t, jwt.SigningMethodHS256, "r", public, claims()): "401 unknown key",
		good: "401 algorithm",
	} {
		if got := outcome(t, hs, bearing(t, token)); got != want {
			t.Errorf("HS256: %q, not %q", got, want)
		}
	}
}

func TestTokenIsTakenFromItsPlacesAndOut(t *testing.T) {
	ec := ecKey(t)
	file := written(t, "jwks", keySet(ecJWK(t, "e", ec)))
	good := signed(t, jwt.SigningMethodES256, "e", ec, claims())
	f := made(t, Config{JWT: &JWT{JWKSFile: file, From: []Credential{"header:X-Token", "cookie:session", "query:access_token", "bearer"}}})
	for _, c := range []struct {
		name   string
		target string
		fields []string
		want   string
		after  string // target, X-Token, Cookie and Authorization
	}{
		{"header", "/a?x=1", []string{"X-Token: " + good}, "", "/a?x=1|||"},
		{"cookie", "/", []string{"Cookie: a=b; session=" + good + "; c=d"}, "", "/||a=b; c=d|"},
		{"query", "/p;v=1?x=%2f&access_token=" + good + "&y", nil, "", "/p;v=1?x=%2f&y|||"},
		{"query alone", "/p?access_token=" + good, nil, "", "/p|||"},
		{"bearer in any case", "/", []string{"Authorization: bEARER   " + good}, "", "/|||"},
		{"the first counts", "/?access_token=" + good, []string{"X-Token: bad"}, "401 malformed", "/?access_token=" + good + "|bad||"},
		{"all are taken out", "/?access_token=x&access_token=y", []string{"X-Token: " + good, "Authorization: Bearer z"}, "", "/|||"},
		{"twice in the query", "/?access_token=" + good + "&access_token=" + good, nil, "400 more than one token", ""},
		{"another name", "/?xaccess_token=" + good + "&access_tokens=x", nil, "401 missing", ""},
		{"another scheme stays", "/", []string{"X-Token: " + good, "Authorization: Basic eDp5"}, "", "/|||Basic eDp5"},
	} {
		ctx := asked(t, c.target, nil, c.fields...)
		if got := outcome(t, f, ctx); got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
		h := &ctx.Request.Header
		after := fmt.Sprintf("%s|%s|%s|%s", h.RequestURI(), h.Peek("X-Token"), h.Peek("Cookie"), h.Peek("Authorization"))
		if c.after != "" && after != c.after {
			t.Errorf("%s: %q, not %q", c.name, after, c.after)
		}
	}
	keeps := made(t, Config{JWT: &JWT{JWKSFile: file, Forward: true, Optional: true, ClaimsToHeaders: map[string]string{"X-User": "sub"}}})
	ctx := bearing(t, good)
	if got := outcome(t, keeps, ctx); got != "" || string(ctx.Request.Header.Peek("Authorization")) != "Bearer "+good {
		t.Errorf("forward: %q, %q", got, ctx.Request.Header.Peek("Authorization"))
	}
	// Optional is for who has none: not for a bad one, and what a client says of itself is removed all the same.
	ctx = asked(t, "/", nil, "x-USER: root")
	if got := outcome(t, keeps, ctx); got != "" || len(ctx.Request.Header.Peek("X-User")) > 0 || IdentityOf(ctx) != nil {
		t.Errorf("optional: %q, X-User %q", got, ctx.Request.Header.Peek("X-User"))
	}
	if got := outcome(t, keeps, bearing(t, "x.y.z")); got != "401 malformed" {
		t.Errorf("optional, and bad: %q", got)
	}
}

func TestClaimsBecomeHeaders(t *testing.T) {
	ec := ecKey(t)
	f := made(t, Config{JWT: &JWT{JWKSFile: written(t, "jwks", keySet(ecJWK(t, "e", ec))), ClaimsToHeaders: map[string]string{
		"X-User": "sub", "X-Groups": "groups", "X-Level": "level", "X-Role": "realm.role", "X-Url": "https://a.test/x", "X-None": "none"}}})
	token := signed(t, jwt.SigningMethodES256, "e", ec, claims("groups", []string{"a", "b"}, "level", 9007199254740993,
		"realm", map[string]any{"role": true}, "https://a.test/x", 1.5))
	for range 2 { // verified, and remembered
		ctx := bearing(t, token)
		for _, spelling := range []string{"X-User", "X-Groups", "X-Level", "X-Role", "X-Url", "X-None"} {
			ctx.Request.Header.Add(strings.ToUpper(spelling), "root")
			ctx.Request.Header.Add(strings.ToLower(spelling), "root")
		}
		if got := outcome(t, f, ctx); got != "" {
			t.Fatal(got)
		}
		got := map[string]string{}
		for k, v := range ctx.Request.Header.All() {
			if strings.HasPrefix(string(k), "X-") {
				got[string(k)] += string(v)
			}
		}
		if diff := cmp.Diff(map[string]string{"X-User": "alice", "X-Groups": "a,b", "X-Level": "9007199254740993", "X-Role": "true", "X-Url": "1.5"}, got); diff != "" {
			t.Error(diff)
		}
		id := IdentityOf(ctx)
		if id == nil || id.Subject != "alice" || id.By != "jwt" || id.Claims["level"] != int64(9007199254740993) {
			t.Errorf("identity %+v", id)
		}
	}
	for name, groups := range map[string]any{"line break": "a\r\nX-User: root", "comma": []string{"a,admin"}, "list of lists": []any{[]any{"a"}}} {
		ctx := bearing(t, signed(t, jwt.SigningMethodES256, "e", ec, claims("groups", groups)))
		if got := outcome(t, f, ctx); got != "401 claim for a header" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// issuer serves what it is told to.
type issuer struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int64
}

func newIssuer(t testing.TB, h http.HandlerFunc) *issuer {
	t.Helper()
	s := &issuer{}
	s.answer.Store(&h)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func serving(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func TestKeysOfAURL(t *testing.T) {
	ec := ecKey(t)
	good := signed(t, jwt.SigningMethodES256, "e", ec, claims())
	set := keySet(ecJWK(t, "e", ec))

	// Requests before the keys are there wait for them.
	release := make(chan struct{})
	slow := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		fmt.Fprint(w, set)
	})
	f := made(t, Config{JWT: &JWT{JWKSURL: slow.URL}})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got := outcome(t, f, bearing(t, good)); got != "" {
				t.Errorf("waited for keys: %q", got)
			}
		})
	}
	eventually(t, "all wait", func() bool { return f.(*jwtFilter).waiting.Load() == 20 })
	close(release)
	all.Wait()
	// A stranger's kid does not make us ask again and again.
	for i := range 50 {
		if got := outcome(t, f, bearing(t, signed(t, jwt.SigningMethodES256, fmt.Sprint(i), ec, claims()))); got != "401 unknown key" {
			t.Errorf("unknown kid: %q", got)
		}
	}
	if n := slow.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}

	for name, h := range map[string]http.HandlerFunc{
		"down": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); fmt.Fprint(w, set) },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(set))
			w.Write(slices.Repeat([]byte(" "), 1<<20))
		},
		"not JSON":       serving("<html>"),
		"empty":          serving(`{"keys":[]}`),
		"elsewhere":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, slow.URL, http.StatusFound) },
		"for encryption": serving(strings.Replace(set, `"kty"`, `"use":"enc","kty"`, 1)),
	} {
		f := made(t, Config{JWT: &JWT{JWKSURL: newIssuer(t, h).URL}})
		if got := outcome(t, f, bearing(t, good)); got != "503 no keys yet" {
			t.Errorf("%s: %q", name, got)
		}
	}
	silent := newIssuer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	f = made(t, Config{JWT: &JWT{JWKSURL: silent.URL, FetchTimeout: 50 * time.Millisecond}})
	if got := outcome(t, f, bearing(t, good)); got != "503 no keys yet" {
		t.Errorf("silent: %q", got)
	}
}

func TestKeysOfAURLAreSharedOverReloads(t *testing.T) {
	ec := ecKey(t)
	from := newIssuer(t, serving(keySet(ecJWK(t, "e", ec))))
	cfg := Config{JWT: &JWT{JWKSURL: from.URL}}
	first := New(cfg).(*jwtFilter)
	good := signed(t, jwt.SigningMethodES256, "e", ec, claims())
	if got := outcome(t, first, bearing(t, good)); got != "" {
		t.Fatal(got)
	}
	second := New(cfg).(*jwtFilter)
	first.Close()
	from.Close()
	if got := outcome(t, second, bearing(t, good)); got != "" {
		t.Errorf("after a reload: %q", got)
	}
	second.Close()
	if len(keySets.all) != 0 {
		t.Errorf("%d key sets are kept", len(keySets.all))
	}
}

func TestKeysThatAreExchanged(t *testing.T) {
	before, after := ecKey(t), ecKey(t)
	file := written(t, "jwks", keySet(ecJWK(t, "1", before)))
	f := made(t, Config{JWT: &JWT{JWKSFile: file}})
	byBefore, byAfter := signed(t, jwt.SigningMethodES256, "1", before, claims()), signed(t, jwt.SigningMethodES256, "2", after, claims())
	for range 2 {
		if got := outcome(t, f, bearing(t, byBefore)); got != "" {
			t.Fatal(got)
		}
	}
	if got := outcome(t, f, bearing(t, byAfter)); got != "401 unknown key" {
		t.Fatal(got)
	}
	rewritten(t, file, keySet(ecJWK(t, "2", after)))
	eventually(t, "the new key is there", func() bool { return outcome(t, f, bearing(t, byAfter)) == "" })
	// A token that is remembered goes with its key.
	if got := outcome(t, f, bearing(t, byBefore)); got != "401 unknown key" {
		t.Errorf("of a key that is gone: %q", got)
	}
	rewritten(t, file, "{")
	source := f.(*jwtFilter).keys
	eventually(t, "the broken file is seen", source.Failing)
	if got := outcome(t, f, bearing(t, byAfter)); got != "" {
		t.Errorf("with a broken file: %q", got)
	}
}

func TestKnownTokenAllocatesNothing(t *testing.T) {
	ec := ecKey(t)
	f := made(t, Config{JWT: &JWT{JWKSFile: written(t, "jwks", keySet(ecJWK(t, "e", ec))), ClaimsToHeaders: map[string]string{"X-User": "sub"}}})
	allocatesNothing(t, f, "/\nAuthorization: Bearer "+signed(t, jwt.SigningMethodES256, "e", ec, claims())+"\nX-User: root")
}

func TestSignaturesAboveThePaceAreCheckedBesideTheLoop(t *testing.T) {
	ec, other := ecKey(t), ecKey(t)
	f := made(t, Config{JWT: &JWT{JWKSFile: written(t, "jwks", keySet(ecJWK(t, "e", ec))), InlineChecks: 1}}).(*jwtFilter)
	waited := 0
	for i := range 20 {
		key, want := ec, Continue
		if i%2 == 0 {
			key, want = other, Answer
		}
		ctx := bearing(t, signed(t, jwt.SigningMethodES256, "e", key, claims("n", i)))
		resumed := make(chan Result, 1)
		SetResume(ctx, func(r Result) { resumed <- r })
		r := f.Request(ctx)
		if r == Wait {
			waited++
			r = <-resumed
		}
		if r != want {
			t.Errorf("token %d: %v, not %v", i, r, want)
		}
	}
	if waited < 15 {
		t.Errorf("%d of 20 were checked beside the loop", waited)
	}
	// And no more of them wait than are allowed.
	f.crew.waiting.Store(maxWaiting)
	if got := outcome(t, f, bearing(t, signed(t, jwt.SigningMethodES256, "e", ec, claims("n", -1)))); got != "503 too many signatures" {
		t.Errorf("with all waiting: %q", got)
	}
	f.crew.waiting.Store(0)
}

func TestJWTIsValidated(t *testing.T) {
	ec := ecKey(t)
	file := written(t, "jwks", keySet(ecJWK(t, "e", ec)))
	hour := 2 * time.Hour
	for _, c := range []struct {
		cfg  JWT
		want string
	}{
		{JWT{}, "jwt: give jwks_file or jwks_url"},
		{JWT{JWKSFile: file, JWKSURL: "https://a.test"}, "jwt: give jwks_file or jwks_url"},
		{JWT{JWKSFile: "/nowhere/x"}, "jwt.jwks_file: open /nowhere/x: no such file"},
		{JWT{JWKSFile: written(t, "empty", "{}")}, "the key set has no key that can be used"},
		{JWT{JWKSFile: written(t, "secret", "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----")}, "is not a PUBLIC KEY in PEM"},
		{JWT{JWKSURL: "ftp://a.test"}, "jwt.jwks_url: is not an http or https URL"},
		{JWT{JWKSURL: "https://u:p@a.test"}, "jwt.jwks_url: must not hold a password"},
		{JWT{JWKSFile: file, RefreshInterval: time.Minute}, "are for jwks_url"},
		{JWT{JWKSURL: "https://a.test", RefreshInterval: time.Millisecond}, "jwt.refresh_interval: at least 1s"},
		{JWT{JWKSFile: file, Algorithms: []Algorithm{"ES256", "none"}}, `jwt.algorithms[1]: "none" is not an algorithm`},
		{JWT{JWKSFile: file, From: []Credential{"bearer", "header:A B"}}, `jwt.from[1]: "header:A B" is not bearer`},
		{JWT{JWKSFile: file, From: []Credential{"header:Content-Length"}}, "jwt.from[0]: "},
		{JWT{JWKSFile: file, ClaimsToHeaders: map[string]string{"Connection": "sub"}}, "jwt.claims_to_headers.Connection: "},
		{JWT{JWKSFile: file, ClaimsToHeaders: map[string]string{"X-A": "sub", "x-a": "iss"}}, "in two spellings"},
		{JWT{JWKSFile: file, Leeway: &hour}, "jwt.leeway: 0 to 1h"},
		{JWT{JWKSFile: file, Cache: -1}, "jwt.cache: "},
		{JWT{JWKSFile: file, InlineChecks: -1}, "jwt.inline_checks: "},
	} {
		if got := said(Config{JWT: &c.cfg}); !strings.Contains(got, c.want) {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// Whatever a token looks like: without the key nobody gets in, and nothing panics.
func FuzzToken(f *testing.F) {
	ec := ecKey(f)
	filter := made(f, Config{JWT: &JWT{JWKSFile: written(f, "jwks", keySet(ecJWK(f, "e", ec))), Algorithms: []Algorithm{"ES256", "HS256"}}}).(*jwtFilter)
	good := strings.Split(signed(f, jwt.SigningMethodES256, "e", ec, claims()), ".")
	head, _ := base64.RawURLEncoding.DecodeString(good[0])
	body, _ := base64.RawURLEncoding.DecodeString(good[1])
	f.Add(string(head), string(body), good[2])
	f.Add(`{"alg":"none"}`, "{}", "")
	f.Fuzz(func(t *testing.T, head, body, sig string) {
		token := b64([]byte(head)) + "." + b64([]byte(body)) + "." + sig
		p, why := filter.parse(token, filter.keys.Get())
		if (p == nil) == (why == nil) {
			t.Fatal("neither or both")
		}
		if p == nil || token == strings.Join(good, ".") {
			return
		}
		if p.method.Verify(p.signed, p.signature, p.key.Value) == nil && p.signed != good[0]+"."+good[1] {
			t.Errorf("%q is let in", token)
		}
	})
}

func BenchmarkJWT(b *testing.B) {
	ec := ecKey(b)
	f := made(b, Config{JWT: &JWT{JWKSFile: written(b, "jwks", keySet(ecJWK(b, "e", ec))), InlineChecks: 1_000_000}}).(*jwtFilter)
	good := signed(b, jwt.SigningMethodES256, "e", ec, claims())
	ctx, field := bearing(b, good), "Bearer "+good
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ctx.Request.Header.Set("Authorization", field)
			ctx.ResetUserValues()
			f.Request(ctx)
		}
	})
	f.known = newMemory[*verified](1)
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ctx.Request.Header.Set("Authorization", field)
			clear(f.known.sets)
			f.Request(ctx)
		}
	})
	bad := bearing(b, signed(b, jwt.SigningMethodES256, "x", ec, claims()))
	b.Run("unknown key", func(b *testing.B) {
		for b.Loop() {
			f.Request(bad)
		}
	})
}
