package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// The keys of RFC 7517, appendix A.1, and RFC 8037, appendix A.2.
const (
	ecOfRFC      = `{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}`
	rsaOfRFC     = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	ed25519OfRFC = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
)

func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func TestKeysVerifyWhatTheirKindDoes(t *testing.T) {
	secret := func(n int, more string) string {
		return fmt.Sprintf(`{"kty":"oct","k":%q%s}`, b64(make([]byte, n)), more)
	}
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	ec := strings.Replace(ecOfRFC, `"use":"enc",`, "", 1)
	for _, c := range []struct{ name, key, want string }{
		{"RSA with alg", rsaOfRFC, "RS256"},
		{"RSA", strings.Replace(rsaOfRFC, `"alg":"RS256",`, "", 1), "RS256 RS384 RS512 PS256 PS384 PS512"},
		{"EC", ec, "ES256"},
		{"Ed25519", ed25519OfRFC, "EdDSA"},
		{"a secret of 64 bytes", secret(64, ""), "HS256 HS384 HS512"},
		{"a secret of 32 bytes", secret(32, ""), "HS256"},
		{"a secret of 31 bytes", secret(31, ""), ""},
		{"padded", strings.Replace(secret(32, ""), `"}`, `="}`, 1), "HS256"},
		{"for encryption", ecOfRFC, ""},
		{"to sign", strings.Replace(ec, "{", `{"key_ops":["sign"],`, 1), ""},
		{"to verify", strings.Replace(ec, "{", `{"key_ops":["verify"],`, 1), "ES256"},
		{"alg of another kind", strings.Replace(rsaOfRFC, "RS256", "HS256", 1), ""},
		{"alg none", strings.Replace(rsaOfRFC, "RS256", "none", 1), ""},
		{"another curve", strings.Replace(ec, "P-256", "P-384", 1), ""},
		{"not on the curve", strings.Replace(ec, "MKBC", "MKBD", 1), ""},
		{"short coordinate", strings.Replace(ec, "MKBC", "", 1), ""},
		{"RSA of 1024 bits", fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, b64(small.N.Bytes())), ""},
		{"RSA of 16384 bits", fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"}`, b64([]byte(strings.Repeat("\xff", 2048)))), ""},
		{"exponent 1", strings.Replace(rsaOfRFC, "AQAB", "AQ", 1), ""},
		{"even exponent", strings.Replace(rsaOfRFC, "AQAB", "AQAA", 1), ""},
		{"long exponent", strings.Replace(rsaOfRFC, "AQAB", "AQABAQAB", 1), ""},
		{"Ed448", strings.Replace(ed25519OfRFC, "Ed25519", "Ed448", 1), ""},
		{"unknown kind", `{"kty":"AKP","kid":"1"}`, ""},
		{"no object", `5`, ""},
	} {
		s, err := Parse([]byte(set(c.key)))
		if (err != nil) != (c.want == "") {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := ""
		for _, a := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512", "none", ""} {
			if s != nil && s.Find("", a) != nil {
				got += " " + a
			}
		}
		if strings.TrimSpace(got) != c.want {
			t.Errorf("%s: verifies%s, not %s", c.name, got, c.want)
		}
		// One that is of no use does not spoil the others.
		if s, err := Parse([]byte(set(c.key, ed25519OfRFC))); err != nil || s.Find("", "EdDSA") == nil && c.want != "EdDSA" {
			t.Errorf("%s, beside another: %v", c.name, err)
		}
	}
}

func TestPEM(t *testing.T) {
	k, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	for want, key := range map[string]any{"ES384": k.Public(), "EdDSA": ed} {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		if err != nil || s.Find("any", want) == nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := Parse([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")); err == nil {
		t.Error("what is no key is taken as one")
	}
}

func TestFind(t *testing.T) {
	ed := func(kid string) string { return strings.Replace(ed25519OfRFC, "{", `{"kid":"`+kid+`",`, 1) }
	f := func(keys, kid, alg string, found bool) {
		t.Helper()
		s, err := Parse([]byte(keys))
		if err != nil {
			t.Fatal(err)
		}
		if k := s.Find(kid, alg); (k != nil) != found {
			t.Errorf("%q, %s: %v", kid, alg, k)
		}
	}
	f(set(ed("a"), ed("b"), rsaOfRFC), "b", "EdDSA", true)
	f(set(ed("a"), ed("b"), rsaOfRFC), "c", "EdDSA", false)
	f(set(ed("a"), ed("b"), rsaOfRFC), "a", "RS256", false)
	f(set(ed("a"), ed("b"), rsaOfRFC), "", "EdDSA", false) // which?
	f(set(ed("a"), ed("b"), rsaOfRFC), "", "RS256", true)
	f(set(ed("a"), ed25519OfRFC), "c", "EdDSA", true)
	f(set(ed25519OfRFC, ed25519OfRFC), "c", "EdDSA", false)
}

// Whatever a set is, its keys are of use for one algorithm at least, and never for both of secrets and public keys.
func FuzzParse(f *testing.F) {
	for _, s := range []string{ecOfRFC, rsaOfRFC, ed25519OfRFC, `{"kty":"oct","k":"AAAA"}`} {
		f.Add(set(s))
	}
	f.Add("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse([]byte(text))
		if (s == nil) == (err == nil) {
			t.Fatal("neither or both")
		}
		if s == nil {
			return
		}
		for _, k := range s.keys {
			if _, secret := k.Value.([]byte); len(k.algs) == 0 || secret != strings.HasPrefix(k.algs[0], "HS") {
				t.Errorf("%v for %v", k.Value, k.algs)
			}
		}
	})
}
