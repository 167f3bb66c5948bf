package lb

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// StickyConfig is the cookie that clients are known again by.
type StickyConfig struct {
	Cookie string `yaml:"cookie"` // its name; not given: sluice_sticky
	// Key signs cookies, at least 16 bytes; or KeyFile has it, without the white space around it, and is read when the
	// cluster is built. With neither it is random: clients are known again until the process ends, a new binary that takes
	// over included, and by no other node.
	Key     string `yaml:"key"`
	KeyFile string `yaml:"key_file"`
	// TTL is how long a client stays, in whole seconds, from the response on that set the cookie; 0: as long as its browser
	// keeps the session.
	TTL    time.Duration `yaml:"ttl"`
	Path   string        `yaml:"path"` // not given: /
	Domain string        `yaml:"domain"`
	// Secure has browsers send the cookie over TLS alone, and SameSite with what other sites ask for or not.
	Secure   bool     `yaml:"secure"`
	SameSite SameSite `yaml:"same_site"`
}

// SameSite says with which requests of other sites a browser sends the cookie; not given: lax (RFC 6265bis, section 5.6.7).
type SameSite string

// The choices.
const (
	SameSiteLax    SameSite = "lax" // with those that open a page
	SameSiteStrict SameSite = "strict"
	SameSiteNone   SameSite = "none" // with all
)

// Choices are the values that a file may have.
func (SameSite) Choices() []string {
	return []string{string(SameSiteLax), string(SameSiteStrict), string(SameSiteNone)}
}

// minStickyKey is half of what the MAC could use.
const minStickyKey = 16

func (c *StickyConfig) validate(report func(path, message string)) {
	if c.Cookie != "" {
		if err := tokenIn("cookie", c.Cookie); err != nil {
			report("cookie", err.Error())
		}
	}
	switch _, err := c.secret(); {
	case c.Key != "" && c.KeyFile != "":
		report("key_file", "there is a key already")
	case err != nil && c.KeyFile != "":
		report("key_file", err.Error())
	case err != nil:
		report("key", err.Error())
	}
	if c.TTL < 0 || c.TTL%time.Second != 0 {
		report("ttl", fmt.Sprintf("%v: whole seconds", c.TTL))
	}
	if c.Path != "" && (c.Path[0] != '/' || strings.ContainsFunc(c.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' })) {
		report("path", fmt.Sprintf("%q is not a path that a cookie can have", c.Path))
	}
	if strings.ContainsFunc(c.Domain, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	}) {
		report("domain", fmt.Sprintf("%q is not a domain's name", c.Domain))
	}
	if c.SameSite != "" && !slices.Contains(c.SameSite.Choices(), string(c.SameSite)) {
		report("same_site", fmt.Sprintf("%q is not one of %s", c.SameSite, strings.Join(c.SameSite.Choices(), ", ")))
	}
	// Browsers refuse such cookies without a word (RFC 6265bis, sections 4.1.2.7 and 4.1.3).
	switch host := strings.HasPrefix(c.Cookie, "__Host-"); {
	case !c.Secure && c.SameSite == SameSiteNone:
		report("same_site", "browsers want secure with none")
	case !c.Secure && (host || strings.HasPrefix(c.Cookie, "__Secure-")):
		report("cookie", fmt.Sprintf("browsers want secure with %q", c.Cookie))
	case host && (c.Domain != "" || c.Path != "" && c.Path != "/"):
		report("cookie", fmt.Sprintf("browsers want no domain, and no path but / with %q", c.Cookie))
	}
}

// secret is the key; nil if it is to be random.
func (c *StickyConfig) secret() ([]byte, error) {
	key := []byte(c.Key)
	if c.KeyFile != "" {
		b, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return nil, err
		}
		if key = bytes.TrimSpace(b); len(key) == 0 {
			return nil, fmt.Errorf("%s is empty", c.KeyFile)
		}
	}
	if len(key) == 0 {
		return nil, nil
	}
	if len(key) < minStickyKey {
		return nil, fmt.Errorf("%d bytes: a key has at least %d", len(key), minStickyKey)
	}
	return key, nil
}

func (c StickyConfig) withDefaults() *StickyConfig {
	if c.Cookie == "" {
		c.Cookie = "sluice_sticky"
	}
	if c.Path == "" {
		c.Path = "/"
	}
	return &c
}
