package gw

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
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/gw/filter"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

// jwkOf is the public key as a JWK.
func jwkOf(t testing.TB, kid string, public any) string {
	t.Helper()
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		p, err := k.Bytes()
		must(t, err)
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}`, kid, b64(string(p[1:33])), b64(string(p[33:])))
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":"AQAB"}`, kid, b64(string(k.N.Bytes())))
	}
	t.Fatal("no key")
	return ""
}

func keySet(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// token is signed; more are claims beside good ones, of which nil takes one out.
func token(t testing.TB, m jwt.SigningMethod, kid string, key any, more jwt.MapClaims) string {
	t.Helper()
	c := jwt.MapClaims{"iss": "https://issuer.test", "aud": "api", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, more)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	tok := jwt.NewWithClaims(m, c)
	tok.Header["kid"] = kid
	s, err := tok.SignedString(key)
	must(t, err)
	return s
}

// issuer is who keys are fetched from. It answers what it is told to, and counts.
type issuer struct {
	*httptest.Server
	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int64
}

func newIssuer(t testing.TB, f http.HandlerFunc) *issuer {
	i := &issuer{}
	i.answer.Store(&f)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		(*i.answer.Load())(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func serves(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func TestHostileTokens(t *testing.T) {
	ec, other := ecKey(t), ecKey(t)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	secret := []byte(strings.Repeat("s", 32))
	set := keySet(jwkOf(t, "e", &ec.PublicKey), jwkOf(t, "r", &rs.PublicKey), fmt.Sprintf(`{"kty":"oct","kid":"h","k":%q}`, b64(string(secret))))
	from := newIssuer(t, serves(set))
	s := besiege(t, recordOK(t), []filter.Config{{JWT: &filter.JWT{JWKSURL: from.URL, Issuer: "https://issuer.test", Audiences: []string{"api"},
		ClaimsToHeaders: map[string]string{"X-User": "sub", "X-Groups": "groups"}}}})
	es := func(more jwt.MapClaims) string { return token(t, jwt.SigningMethodES256, "e", ec, more) }
	good := es(nil)
	parts := strings.Split(good, ".")
	s.secret = []string{parts[2], parts[1], "alice", string(secret), b64(string(secret))}
	withHead := func(head string) string { return b64(head) + "." + parts[1] + "." + parts[2] }
	withBody := func(body string) string { return parts[0] + "." + b64(body) + "." + parts[2] }
	der, err := x509.MarshalPKIXPublicKey(&rs.PublicKey)
	must(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	now := time.Now()
	takes(t, 64, func() {
		for _, c := range []struct {
			name, token string
			status      int
			why         string
		}{
			{"forged", token(t, jwt.SigningMethodES256, "e", other, nil), 401, "signature"},
			{"forged, RSA", parts[0][:0] + b64(`{"alg":"RS256","kid":"r"}`) + "." + parts[1] + "." + b64(strings.Repeat("x", 256)), 401, "signature"},
			{"none", token(t, jwt.SigningMethodNone, "e", jwt.UnsafeAllowNoneSignatureType, nil), 401, "algorithm"},
			{"nOnE", withHead(`{"alg":"nOnE","kid":"e"}`), 401, "algorithm"},
			{"HS with the public key", token(t, jwt.SigningMethodHS256, "r", public, nil), 401, "algorithm"},
			{"HS with the secret", token(t, jwt.SigningMethodHS256, "h", secret, nil), 401, "algorithm"},
			{"RS with the name of an EC key", token(t, jwt.SigningMethodRS256, "e", rs, nil), 401, "unknown key"},
			{"two algorithms", withHead(`{"alg":"ES256","alg":"none","kid":"e"}`), 401, "algorithm"},
			{"two algorithms, the other way round", withHead(`{"alg":"none","alg":"ES256","kid":"e"}`), 401, "signature"},
			{"a key of its own", withHead(`{"alg":"ES256","kid":"e","jwk":{"kty":"EC"},"jku":"` + from.URL + `/evil"}`), 401, "signature"},
			{"critical", withHead(`{"alg":"ES256","kid":"e","crit":["exp"]}`), 401, "malformed"},
			{"a path as kid", withHead(`{"alg":"ES256","kid":"../../etc/passwd"}`), 401, "unknown key"},
			{"unknown kid", withHead(`{"alg":"ES256","kid":"x"}`), 401, "unknown key"},
			{"expired", es(jwt.MapClaims{"exp": now.Add(-time.Minute).Unix()}), 401, "expired"},
			{"expired, forged", token(t, jwt.SigningMethodES256, "e", other, jwt.MapClaims{"exp": 1}), 401, "expired"},
			{"expires never", es(jwt.MapClaims{"exp": nil}), 401, "claim missing"},
			{"expires at infinity", withBody(`{"iss":"https://issuer.test","aud":"api","exp":1e999}`), 401, "expired"},
			{"from the future", es(jwt.MapClaims{"nbf": now.Add(time.Minute).Unix()}), 401, "not yet valid"},
			{"another issuer", es(jwt.MapClaims{"iss": "https://issuer.test.evil"}), 401, "issuer"},
			{"another audience", es(jwt.MapClaims{"aud": []string{"a", "b"}}), 401, "audience"},
			{"a line in a claim", es(jwt.MapClaims{"groups": "a\r\nX-Admin: 1"}), 401, "claim for a header"},
			{"NUL in the subject", es(jwt.MapClaims{"sub": "a\x00b"}), 401, "claim for a header"},
			{"oversized", good + strings.Repeat("A", 17<<10), 401, "oversized"},
			{"dots", strings.Repeat(".", 8000), 401, "malformed"},
			{"nested head", withHead(strings.Repeat(`{"a":`, 200)), 401, "malformed"},
			{"nested claims", withBody(strings.Repeat(`[`, 10_000)), 401, "malformed"},
			{"no base64", "%%%.%%%.%%%", 401, "malformed"},
			{"an encrypted one", good + ".a.b", 401, "malformed"},
			{"another spelling of the signature", good[:len(good)-1] + string(good[len(good)-1]+1), 401, "malformed"},
			{"NUL in the head", withHead("\x00"), 401, "malformed"},
		} {
			s.attack(t, c.name, ask("/api", "Authorization: Bearer "+c.token), c.status, "jwt: "+c.why)
		}
	})
	s.attack(t, "none at all", ask("/api"), 401, "jwt: missing")
	s.attack(t, "an empty one", ask("/api", "Authorization: Bearer "), 401, "jwt: missing")
	s.attack(t, "two", ask("/api", "Authorization: Bearer "+good, "Authorization: Bearer "+good), 400, "jwt: more than one token")
	s.attack(t, "beyond a head's limit", ask("/api", "Authorization: Bearer "+strings.Repeat("A", 200<<10)), 431, "")
	if reqs, _ := s.up.requests(); len(reqs) == 0 {
		t.Fatal("others were not served")
	} else {
		for _, r := range reqs {
			if !strings.HasPrefix(r.RequestURI, "/well") {
				t.Errorf("%s came to the upstream", r.RequestURI)
			}
		}
	}
	if n := from.asked.Load(); n > 2 {
		t.Errorf("keys were fetched %d times", n)
	}
	// And the good one is as good as it was.
	s.attack(t, "good", ask("/api", "Authorization: Bearer "+good), 200, "")
	s.attack(t, "what Connection nominates", ask("/api", "Authorization: Bearer "+good, "Connection: x-user, authorization"), 200, "")
	if r := s.last(t); r.Header.Get("X-User") != "alice" || r.Header.Get("Authorization") != "" {
		t.Errorf("the upstream was told %v", r.Header)
	}
}

// Who issues the keys may be down, slow, or not itself: requests are answered in time, and it is not asked for each.
func TestHostileKeySets(t *testing.T) {
	ec := ecKey(t)
	good := token(t, jwt.SigningMethodES256, "e", ec, nil)
	set := keySet(jwkOf(t, "e", &ec.PublicKey))
	for name, f := range map[string]http.HandlerFunc{
		"down": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"hangs up": func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		},
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(set))
			for range 100 << 10 {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1024))); err != nil {
					return
				}
			}
		},
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"slow": func(w http.ResponseWriter, r *http.Request) {
			for range set {
				_, _ = w.Write([]byte(" "))
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		},
		"nested":  serves(strings.Repeat("[", 1<<20)),
		"another": serves(keySet(strings.Replace(jwkOf(t, "e", &ec.PublicKey), "P-256", "P-384", 1))),
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			from := newIssuer(t, f)
			s := besiege(t, recordOK(t), []filter.Config{{JWT: &filter.JWT{JWKSURL: from.URL, FetchTimeout: 200 * time.Millisecond}}})
			s.secret = []string{strings.Split(good, ".")[2]}
			takes(t, 32, func() {
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() {
						c := s.dial(t)
						c.send(ask("/api", "Authorization: Bearer "+good))
						if resp, _ := c.answer("GET"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
							t.Errorf("%d %v", resp.StatusCode, resp.Header)
						}
					})
				}
				all.Wait()
				s.attack(t, name, ask("/api", "Authorization: Bearer "+good), 503, "jwt: no keys yet")
			})
			if n := from.asked.Load(); n > 2 {
				t.Errorf("asked %d times", n)
			}
			if !strings.Contains(s.log.String(), "stays in force") {
				t.Errorf("nothing is said of it: %s", s.log)
			}
		})
	}
}

// Keys that are exchanged in the middle of it: what was good stays while nothing better is there, then only the new ones count.
func TestKeysAreExchangedUnderFire(t *testing.T) {
	before, after, evil := ecKey(t), ecKey(t), ecKey(t)
	file := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		must(t, os.WriteFile(file+".new", []byte(text), 0o600))
		must(t, os.Rename(file+".new", file))
	}
	write(keySet(jwkOf(t, "1", &before.PublicKey)))
	s := besiege(t, recordOK(t), []filter.Config{{JWT: &filter.JWT{JWKSFile: file}}})
	with := func(kid string, k *ecdsa.PrivateKey) string {
		return ask("/api", "Authorization: Bearer "+token(t, jwt.SigningMethodES256, kid, k, nil))
	}
	first, second, forged := with("1", before), with("2", after), with("1", evil)
	stop := make(chan struct{})
	var fire sync.WaitGroup
	fire.Go(func() {
		c := s.dial(t)
		for {
			select {
			case <-stop:
				return
			default:
				c.send(forged)
				if resp, _ := c.answer("GET"); resp.StatusCode != 401 {
					t.Errorf("forged: %d", resp.StatusCode)
					return
				}
			}
		}
	})
	c := s.dial(t)
	status := func(raw string) int {
		c.send(raw)
		resp, _ := c.answer("GET")
		return resp.StatusCode
	}
	if got := status(first); got != 200 {
		t.Errorf("the first key: %d", got)
	}
	write(`{"keys":[`)
	eventually(t, "it is said that the file is wrong", func() bool { return strings.Contains(s.log.String(), "stays in force") })
	if got := status(first); got != 200 {
		t.Errorf("the last good key: %d", got)
	}
	write(keySet(jwkOf(t, "2", &after.PublicKey)))
	eventually(t, "the second key is there", func() bool { return status(second) == 200 })
	if got := status(first); got != 401 {
		t.Errorf("a key that is gone: %d", got)
	}
	close(stop)
	fire.Wait()
}
