package acme

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Config is which certificates to get, and from whom.
type Config struct {
	// Domains each get a certificate of their own.
	Domains []string `yaml:"domains,required"`
	// Email is where the CA writes to when something is wrong; not given: nowhere. To give Domains and run this is to agree to the CA's
	// terms of service.
	Email string `yaml:"email"`
	// Directory is the CA's URL (RFC 8555, section 7.1.1); not given: Let's Encrypt.
	Directory string `yaml:"directory"`
	// CARoot is a PEM file of who vouches for the CA's server; not given: whom the system trusts.
	CARoot string `yaml:"ca_root"`
	// Storage is a directory for the account, the certificates with their keys, and the challenges under way. Nodes that share it
	// share all of these: one of them gets a certificate, and each answers for the others.
	Storage string `yaml:"storage,required"`
	// Challenges are the ways to prove that a domain is ours; not given: both.
	Challenges []ChallengeType `yaml:"challenges"`
	// EAB binds the account to one that the CA has already (RFC 8555, section 7.3.4).
	EAB *EAB `yaml:"eab"`
}

// EAB is what a CA has given to know its customer by.
type EAB struct {
	KeyID string `yaml:"key_id,required"`
	// HMAC is the key, in base64url.
	HMAC string `yaml:"hmac,required"`
}

// ChallengeType is a way to prove that a domain is ours.
type ChallengeType string

// The ways: by plain HTTP on port 80 (RFC 8555, section 8.3), by a TLS handshake on port 443 (RFC 8737).
const (
	HTTP01    ChallengeType = "http-01"
	TLSALPN01 ChallengeType = "tls-alpn-01"
)

// Choices are the values that a file may have.
func (ChallengeType) Choices() []string { return []string{string(HTTP01), string(TLSALPN01)} }

const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Validate reports what is wrong with c, by the path of the key. It reads the file.
func (c *Config) Validate(report func(path, message string)) {
	if len(c.Domains) == 0 {
		report("domains", "is empty")
	}
	for i, d := range c.Domains {
		at := "domains[" + strconv.Itoa(i) + "]"
		switch {
		case slices.Contains(c.Domains[:i], d):
			report(at, fmt.Sprintf("%q is there twice", d))
		case strings.HasPrefix(d, "*."):
			report(at, fmt.Sprintf("%q: a wildcard is proved by DNS alone, which is not among the challenges", d))
		case !hostname(d):
			report(at, fmt.Sprintf("%q is not a host name in lower case", d))
		}
	}
	if c.Email != "" {
		if a, err := mail.ParseAddress(c.Email); err != nil || a.Address != c.Email {
			report("email", "is not an address")
		}
	}
	if c.Directory != "" {
		if u, err := url.Parse(c.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			report("directory", "is not an https URL")
		}
	}
	if c.CARoot != "" {
		if _, err := c.roots(); err != nil {
			report("ca_root", err.Error())
		}
	}
	if c.Storage == "" {
		report("storage", "is missing: certificates would be asked for anew at each start, until the CA refuses")
	} else if st, err := os.Stat(existing(c.Storage)); err != nil {
		report("storage", err.Error())
	} else if !st.IsDir() {
		report("storage", "is not a directory")
	}
	for i, t := range c.Challenges {
		if !slices.Contains(t.Choices(), string(t)) {
			report("challenges["+strconv.Itoa(i)+"]", fmt.Sprintf("%q is none of %q", string(t), t.Choices()))
		}
	}
	if e := c.EAB; e != nil {
		if e.KeyID == "" {
			report("eab.key_id", "is missing")
		}
		if key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e.HMAC, "=")); err != nil || len(key) == 0 {
			report("eab.hmac", "is not a key in base64url")
		}
	}
}

// existing is the directory, or the nearest above it that is there: what is missing is made.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// hostname says that s is one (RFC 1123, section 2.1), and no address.
func hostname(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

func (c *Config) roots() (*x509.CertPool, error) {
	if c.CARoot == "" {
		return nil, nil
	}
	data, err := os.ReadFile(c.CARoot)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: no certificate in PEM", c.CARoot)
	}
	return pool, nil
}

// withDefaults fills in what was not given.
func (c Config) withDefaults() Config {
	c.Directory = cmp.Or(c.Directory, letsEncrypt)
	if len(c.Challenges) == 0 {
		c.Challenges = []ChallengeType{HTTP01, TLSALPN01}
	}
	return c
}
