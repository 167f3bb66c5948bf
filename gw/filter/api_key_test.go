package filter

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

func sha(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

func TestAPIKeys(t *testing.T) {
	file := written(t, "keys", "# ours\n\nbob "+sha("bob's")+" plan=gold team=x=y # comment\n")
	f := made(t, Config{APIKey: &APIKey{
		From:            []Credential{"header:x-api-key", "query:key"},
		Keys:            []NamedKey{{Name: "alice", SHA256: strings.ToUpper(sha("alice's")), Attributes: map[string]string{"plan": "free"}}},
		File:            file,
		ClaimsToHeaders: map[string]string{"X-Who": "sub", "X-Plan": "plan", "X-Team": "team"},
	}})
	for _, c := range []struct {
		name, target string
		fields       []string
		want, who    string
	}{
		{"of the configuration", "/", []string{"X-API-Key: alice's"}, "", "alice free "},
		{"of the file", "/", []string{"X-API-Key: bob's"}, "", "bob gold x=y"},
		{"in the query", "/a?x=1&key=bob%27s", nil, "", "bob gold x=y"},
		{"what the client says of itself", "/", []string{"X-API-Key: alice's", "x-plan: gold", "X-TEAM: root"}, "", "alice free "},
		{"none", "/", nil, "401 missing", ""},
		{"empty", "/?key=", []string{"X-API-Key: "}, "401 missing", ""},
		{"wrong", "/", []string{"X-API-Key: carol's"}, "401 unknown", ""},
		{"a hash", "/", []string{"X-API-Key: " + sha("alice's")}, "401 unknown", ""},
		{"twice", "/?key=bob's&key=bob's", nil, "400 more than one key", ""},
		{"twice, once in escapes", "/?key=bob's&k%65y=alice's", nil, "", "bob gold x=y"},
		{"long", "/", []string{"X-API-Key: " + strings.Repeat("a", 60<<10)}, "401 unknown", ""},
	} {
		ctx := asked(t, c.target, nil, c.fields...)
		if got := outcome(t, f, ctx); got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
			continue
		}
		h := &ctx.Request.Header
		if c.want != "" {
			continue
		}
		if got := string(h.Peek("X-Who")) + " " + string(h.Peek("X-Plan")) + " " + string(h.Peek("X-Team")); got != c.who {
			t.Errorf("%s: %q, not %q", c.name, got, c.who)
		}
		if id := IdentityOf(ctx); id == nil || id.By != "api_key" || !strings.HasPrefix(c.who, id.Subject+" "+id.Claims["plan"].(string)) {
			t.Errorf("%s: identity %+v", c.name, id)
		}
		if len(h.Peek("X-API-Key")) > 0 || strings.Contains(string(h.RequestURI()), "key=") {
			t.Errorf("%s: the key is passed on", c.name)
		}
	}

	rewritten(t, file, "carol "+sha("carol's")+"\n")
	eventually(t, "the new key is there", func() bool { return outcome(t, f, asked(t, "/", nil, "X-API-Key: carol's")) == "" })
	if got := outcome(t, f, asked(t, "/", nil, "X-API-Key: bob's")); got != "401 unknown" {
		t.Errorf("a key that is gone: %q", got)
	}
	rewritten(t, file, "carol\n")
	eventually(t, "the broken file is seen", f.(*apiKeyFilter).file.Failing)
	if got := outcome(t, f, asked(t, "/", nil, "X-API-Key: carol's")); got != "" {
		t.Errorf("with a broken file: %q", got)
	}
}

func TestAPIKeyAllocatesNothing(t *testing.T) {
	f := made(t, Config{APIKey: &APIKey{Keys: []NamedKey{{Name: "a", SHA256: sha("k")}}, ClaimsToHeaders: map[string]string{"X-Who": "sub"}}})
	allocatesNothing(t, f, "/a?b=c\nX-API-Key: k\nX-Who: root")
}

func TestAPIKeyIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  APIKey
		want string
	}{
		{APIKey{}, "api_key: lets nobody in"},
		{APIKey{Keys: []NamedKey{{SHA256: sha("a")}}}, "api_key.keys[0]: a key needs a name"},
		{APIKey{Keys: []NamedKey{{Name: "a", SHA256: "my-secret-key"}}}, "api_key.keys[0]: the sha256 of a is not one in hex"},
		{APIKey{Keys: []NamedKey{{Name: "a", SHA256: sha("a")}, {Name: "b", SHA256: sha("a")}}}, "api_key.keys[1]: the key of b is there twice"},
		{APIKey{Keys: []NamedKey{{Name: "a\nb", SHA256: sha("a")}}, ClaimsToHeaders: map[string]string{"X": "sub"}}, "cannot be a header's value"},
		{APIKey{File: "/nowhere/x"}, "api_key.file: open /nowhere/x"},
		{APIKey{File: written(t, "k", "a "+sha("a")+"\nmy-secret-key\n")}, "api_key.file: line 2: not a name and a sha256"},
		{APIKey{File: written(t, "k", "a "+sha("a")+" gold\n")}, "api_key.file: line 1: an attribute is name=value"},
		{APIKey{File: written(t, "k", "b "+sha("a")), Keys: []NamedKey{{Name: "a", SHA256: sha("a")}}}, "line 1: the key of b is there twice"},
	} {
		got := said(Config{APIKey: &c.cfg})
		if !strings.Contains(got, c.want) || strings.Contains(got, "secret") {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}
