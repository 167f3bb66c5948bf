// Package jwks reads the keys that tokens are verified by: a JSON Web Key Set (RFC 7517) or a public key in PEM. What a key may
// verify follows from the key, never from the token.
package jwks

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
)

// Key verifies. Immutable.
type Key struct {
	// ID is the key's kid; may be empty.
	ID string
	// Value is what golang-jwt's methods take: *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or the bytes of a secret.
	Value any
	algs  []string
}

// Fits says that the key is one for this algorithm.
func (k *Key) Fits(alg string) bool { return slices.Contains(k.algs, alg) }

// Set is a key set. Immutable.
type Set struct{ keys []Key }

// Find is the key of a kid for an algorithm. A kid that no key has, or a token without one, leads to a key only if there is no
// choice: among the keys without a kid, or among all. One signature is checked per token. nil: none.
func (s *Set) Find(id, alg string) *Key {
	var found *Key
	several := false
	for i := range s.keys {
		k := &s.keys[i]
		switch {
		case !k.Fits(alg):
		case id != "" && k.ID == id:
			return k
		case id == "" || k.ID == "":
			several = several || found != nil
			found = k
		}
	}
	if several {
		return nil
	}
	return found
}

// Len is the number of keys that can be used.
func (s *Set) Len() int { return len(s.keys) }

type jwk struct {
	Kty, Kid, Use, Alg, Crv, N, E, X, Y, K string
	Ops                                    []string `json:"key_ops"`
}

// Parse reads a set. Keys that are for something else, of unknown kinds or too weak are left out (RFC 7517, section 5); a set
// without any other is an error. Errors quote nothing.
func Parse(data []byte) (*Set, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) {
		return parsePEM(data)
	}
	var doc struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, errors.New("is not a JSON Web Key Set")
	}
	s := &Set{}
	for _, raw := range doc.Keys {
		var j jwk
		if json.Unmarshal(raw, &j) != nil || j.Use != "" && j.Use != "sig" || j.Ops != nil && !slices.Contains(j.Ops, "verify") {
			continue
		}
		value := j.value()
		if value == nil {
			continue
		}
		k := Key{ID: j.Kid, Value: value, algs: algorithms(value)}
		if j.Alg != "" {
			if !k.Fits(j.Alg) {
				continue
			}
			k.algs = []string{j.Alg}
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 {
		return nil, errors.New("the key set has no key that can be used")
	}
	return s, nil
}

func parsePEM(data []byte) (*Set, error) {
	block, _ := pem.Decode(bytes.TrimSpace(data))
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("is not a PUBLIC KEY in PEM")
	}
	value, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is not a public key of a known kind")
	}
	algs := algorithms(value)
	if algs == nil {
		return nil, errors.New("is a key of an unknown kind, or too short")
	}
	return &Set{keys: []Key{{Value: value, algs: algs}}}, nil
}

// algorithms are those that a key can verify (RFC 7518, section 3.1, and RFC 8037); nil: none, or the key is too short.
func algorithms(key any) []string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= 8192 { // section 3.3; above, a check takes milliseconds
			return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}
		case elliptic.P384():
			return []string{"ES384"}
		case elliptic.P521():
			return []string{"ES512"}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	case []byte: // section 3.2: at least as long as the hash
		for i, n := range []int{32, 48, 64} {
			if len(k) < n {
				return []string{"HS256", "HS384", "HS512"}[:i:i]
			}
		}
		return []string{"HS256", "HS384", "HS512"}
	}
	return nil
}

// value is the key itself; nil: it is none.
func (j *jwk) value() any {
	switch j.Kty {
	case "RSA":
		n, e := decode(j.N), decode(j.E)
		if len(n) == 0 || len(e) == 0 || len(e) > 4 {
			return nil
		}
		k := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if k.E < 3 || k.E%2 == 0 || algorithms(k) == nil {
			return nil
		}
		return k
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		x, y := decode(j.X), decode(j.Y)
		if curve == nil || len(x) != (curve.Params().BitSize+7)/8 || len(y) != len(x) {
			return nil
		}
		k, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y)) // on the curve, or an error
		if err != nil {
			return nil
		}
		return k
	case "OKP":
		if x := decode(j.X); j.Crv == "Ed25519" && len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x)
		}
	case "oct":
		if k := decode(j.K); len(algorithms(k)) > 0 {
			return k
		}
	}
	return nil
}

// decode is base64url without padding, which some add all the same; nil: it is not.
func decode(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil
	}
	return b
}
