package acme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := func(change func(*Config)) Config {
		c := Config{Domains: []string{"a.test"}, Storage: filepath.Join(dir, "new", "store")}
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		cfg  Config
		want string // path: part of the message; empty: good
	}{
		"good": {good(func(*Config) {}), ""},
		"full": {good(func(c *Config) {
			c.Email, c.Directory = "ops@a.test", "https://ca.test/dir"
			c.Challenges, c.EAB = []ChallengeType{TLSALPN01, HTTP01}, &EAB{KeyID: "k", HMAC: "AAAA"}
		}), ""},
		"no domain":     {good(func(c *Config) { c.Domains = nil }), "domains: is empty"},
		"twice":         {good(func(c *Config) { c.Domains = []string{"a.test", "a.test"} }), "domains[1]: \"a.test\" is there twice"},
		"wildcard":      {good(func(c *Config) { c.Domains = []string{"*.a.test"} }), "domains[0]: \"*.a.test\": a wildcard is proved by DNS"},
		"upper case":    {good(func(c *Config) { c.Domains = []string{"A.test"} }), "domains[0]: "},
		"address":       {good(func(c *Config) { c.Domains = []string{"192.0.2.1"} }), "domains[0]: "},
		"path":          {good(func(c *Config) { c.Domains = []string{"../../etc"} }), "domains[0]: "},
		"email":         {good(func(c *Config) { c.Email = "Ops <ops@a.test>" }), "email: "},
		"directory":     {good(func(c *Config) { c.Directory = "http://ca.test/dir" }), "directory: "},
		"root":          {good(func(c *Config) { c.CARoot = "gone.pem" }), "ca_root: open gone.pem"},
		"root no PEM":   {good(func(c *Config) { c.CARoot = file }), "ca_root: " + file + ": no certificate"},
		"no storage":    {good(func(c *Config) { c.Storage = "" }), "storage: is missing"},
		"storage is no": {good(func(c *Config) { c.Storage = file }), "storage: is not a directory"},
		"challenge":     {good(func(c *Config) { c.Challenges = []ChallengeType{HTTP01, "dns-01"} }), "challenges[1]: \"dns-01\" is none of"},
		"key id":        {good(func(c *Config) { c.EAB = &EAB{HMAC: "AAAA"} }), "eab.key_id: "},
		"hmac":          {good(func(c *Config) { c.EAB = &EAB{KeyID: "k", HMAC: "+"} }), "eab.hmac: "},
	} {
		var got []string
		c.cfg.Validate(func(path, message string) { got = append(got, path+": "+message) })
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
			t.Errorf("%s: %q, want one of %q", name, got, c.want)
		}
	}
}
