package filter

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

func bcrypted(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func argoned(password string) string {
	salt := []byte("0123456789abcdef")
	sum := argon2.IDKey([]byte(password), salt, 1, 64, 1, 32)
	return fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=1$%s$%s", base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum))
}

func pair(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// Hashes that other programs' own tests have.
func TestHashesOfOthers(t *testing.T) {
	for _, c := range []struct{ hash, password string }{
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"}, // libargon2
		{"$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},                              // crypt_blowfish
	} {
		h, err := parseHash(c.hash)
		if err != nil {
			t.Errorf("%s: %v", c.hash, err)
		} else if !h.matches([]byte(c.password)) || h.matches([]byte(c.password+"x")) {
			t.Errorf("%s is not of %s alone", c.hash, c.password)
		}
	}
}

func TestPasswords(t *testing.T) {
	long := strings.Repeat("p", 72)
	file := written(t, "users", "# ours\ncarol:"+bcrypted(t, "carol:s")+"\r\nlong:"+bcrypted(t, long)+"\n")
	f := made(t, Config{Basic: &Basic{
		Users:           map[string]string{"alice": bcrypted(t, "alice's"), "bob": argoned("bob's")},
		File:            file,
		Realm:           "here",
		ClaimsToHeaders: map[string]string{"X-User": "sub"},
	}})
	for _, c := range []struct {
		name, field, want, who string
	}{
		{"bcrypt", pair("alice", "alice's"), "", "alice"},
		{"argon2id", pair("bob", "bob's"), "", "bob"},
		{"with a colon", pair("carol", "carol:s"), "", "carol"},
		{"72 bytes", pair("long", long), "", "long"},
		{"73 bytes", pair("long", long+"x"), "401 wrong", ""},
		{"wrong", pair("alice", "bob's"), "401 wrong", ""},
		{"empty", pair("alice", ""), "401 wrong", ""},
		{"nobody", pair("dave", "alice's"), "401 wrong", ""},
		{"no name", pair("", "alice's"), "401 wrong", ""},
		{"no colon", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice")), "401 malformed", ""},
		{"no base64", "Authorization: Basic !!!!", "401 malformed", ""},
		{"nothing", "Authorization: Basic ", "401 missing", ""},
		{"another scheme", "Authorization: Bearer abc", "401 missing", ""},
		{"long", pair("alice", strings.Repeat("a", 60<<10)), "401 malformed", ""},
	} {
		for range 2 { // verified, and remembered
			ctx := asked(t, "/", nil, c.field, "x-USER: root")
			if got := outcome(t, f, ctx); got != c.want {
				t.Errorf("%s: %q, not %q", c.name, got, c.want)
			}
			if got := string(ctx.Request.Header.Peek("X-User")); got != c.who {
				t.Errorf("%s: user %q, not %q", c.name, got, c.who)
			}
			id := IdentityOf(ctx)
			switch {
			case c.want != "":
				if got := string(ctx.Response.Header.Peek("WWW-Authenticate")); got != `Basic realm="here", charset="UTF-8"` || id != nil {
					t.Errorf("%s: %q, %v", c.name, got, id)
				}
			case id == nil || id.Subject != c.who || id.By != "basic":
				t.Errorf("%s: identity %+v", c.name, id)
			case len(ctx.Request.Header.Peek("Authorization")) > 0:
				t.Errorf("%s: the password is passed on", c.name)
			}
		}
	}

	// Another password: the one that is remembered is right no longer.
	rewritten(t, file, "carol:"+bcrypted(t, "new")+"\n")
	eventually(t, "the new password is there", func() bool { return outcome(t, f, asked(t, "/", nil, pair("carol", "new"))) == "" })
	if got := outcome(t, f, asked(t, "/", nil, pair("carol", "carol:s"))); got != "401 wrong" {
		t.Errorf("the password before: %q", got)
	}
	rewritten(t, file, "carol:x\n")
	eventually(t, "the broken file is seen", f.(*basicFilter).file.Failing)
	if got := outcome(t, f, asked(t, "/", nil, pair("carol", "new"))); got != "" {
		t.Errorf("with a broken file: %q", got)
	}
}

// slowHash is one that takes until it is told.
type slowHash chan struct{}

func (h slowHash) matches([]byte) bool { <-h; return true }

func TestPasswordsAreVerifiedBesideTheLoopAndNotWithoutEnd(t *testing.T) {
	f := made(t, Config{Basic: &Basic{Users: map[string]string{"a": argoned("x")}, Waiting: 3}}).(*basicFilter)
	h := make(slowHash)
	f.fixed.users["a"].hash = h
	resumed := make(chan Result, 3)
	for i := range 5 {
		ctx := asked(t, "/", nil, pair("a", fmt.Sprint(i)))
		SetResume(ctx, func(r Result) { resumed <- r })
		if r := f.Request(ctx); i < 3 && r != Wait {
			t.Errorf("request %d: %v", i, r)
		} else if i >= 3 && (r != Answer || ctx.Response.StatusCode() != 503 || string(ctx.Response.Header.Peek("Retry-After")) != "1") {
			t.Errorf("request %d: %v, %s", i, r, ctx.Response.String())
		}
	}
	// Others are not held up by those that wait.
	if got := outcome(t, f, asked(t, "/", nil)); got != "401 missing" {
		t.Error(got)
	}
	close(h)
	for range 3 {
		if r := <-resumed; r != Continue {
			t.Errorf("resumed with %v", r)
		}
	}
	eventually(t, "there is room again", func() bool { return f.crew.waiting.Load() == 0 })
}

// counted counts how often it is asked.
type counted int

func (c *counted) matches([]byte) bool { *c++; return false }

func TestNobodysPasswordIsHashedAsSomebodys(t *testing.T) {
	f := made(t, Config{Basic: &Basic{Users: map[string]string{"a": argoned("x")}}}).(*basicFilter)
	c := counted(0)
	f.fixed.hashes[0] = &c
	outcome(t, f, asked(t, "/", nil, pair("b", "x")))
	if c != 1 {
		t.Errorf("hashed %d times", c)
	}
}

func TestKnownPasswordAllocatesNothing(t *testing.T) {
	f := made(t, Config{Basic: &Basic{Users: map[string]string{"a": argoned("x")}, ClaimsToHeaders: map[string]string{"X-User": "sub"}}})
	if got := outcome(t, f, asked(t, "/", nil, pair("a", "x"))); got != "" {
		t.Fatal(got)
	}
	if raced {
		t.Skip("a sync.Pool forgets at random under the race detector")
	}
	allocatesNothing(t, f, "/\n"+pair("a", "x"))
}

func TestBasicIsValidated(t *testing.T) {
	hash := bcrypted(t, "x")
	users := func(name, hash string) Basic { return Basic{Users: map[string]string{name: hash}} }
	for _, c := range []struct {
		cfg  Basic
		want string
	}{
		{Basic{}, "basic: lets nobody in"},
		{users("a", "secret"), "basic.users.a: what a has is not a bcrypt or argon2id hash"},
		{users("a", "{SHA}secret"), "is not a bcrypt or argon2id hash"},
		{users("a", "$apr1$secret"), "is not a bcrypt or argon2id hash"},
		{users("a", hash[:40]), "is not a whole bcrypt hash"},
		{users("a", "$2y$17"+hash[6:]), "bcrypt of cost 17: at most 16"},
		{users("a", "$argon2id$v=16$m=64,t=1,p=1$MDEyMzQ1Njc$MDEyMzQ1Njc4OTAxMjM0NQ"), "is not a whole argon2id hash of version 19"},
		{users("a", "$argon2id$v=19$m=9000000,t=1,p=1$MDEyMzQ1Njc$MDEyMzQ1Njc4OTAxMjM0NQ"), "argon2id wants"},
		{users("a", "$argon2id$v=19$m=64,t=1,p=300$MDEyMzQ1Njc$MDEyMzQ1Njc4OTAxMjM0NQ"), "is not a whole argon2id hash"},
		{users("a", "$argon2id$v=19$m=64,t=0,p=1$MDEyMzQ1Njc$MDEyMzQ1Njc4OTAxMjM0NQ"), "argon2id wants"},
		{users("a", "$argon2id$v=19$m=64,t=1,p=1x$MDEyMzQ1Njc$MDEyMzQ1Njc4OTAxMjM0NQ"), "is not a whole argon2id hash"},
		{users("a:b", hash), `"a:b" is not a user's name`},
		{Basic{File: written(t, "u", "a:"+hash+"\nsecret\n")}, "basic.file: line 2: not name:hash"},
		{Basic{File: written(t, "u", "a:"+hash+"\na:"+hash+"\n")}, "basic.file: line 2: a is there twice"},
		{Basic{File: "/nowhere/x"}, "basic.file: open /nowhere/x"},
		{Basic{Users: map[string]string{"a": hash}, Realm: `a"b`}, "basic.realm: "},
		{Basic{Users: map[string]string{"a": hash}, Remember: -time.Second}, "basic.remember: "},
		{Basic{Users: map[string]string{"a": hash}, Waiting: -1}, "basic.waiting: "},
	} {
		got := said(Config{Basic: &c.cfg})
		if !strings.Contains(got, c.want) || strings.Contains(got, "secret") {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// A name that is nobody's has the work of one user done, always of the same one: who is a user is not told by how long it takes.
func TestNobodysPasswordsTakeAsLongAsSomebodys(t *testing.T) {
	f := made(t, Config{Basic: &Basic{Users: map[string]string{
		"a": "$2y$04$abcdefghijklmnopqrstuuG1yH9kSgkLsCzDXrkqVCFDKwUDw1cKi", "b": "$2y$05$abcdefghijklmnopqrstuuG1yH9kSgkLsCzDXrkqVCFDKwUDw1cKi"}}}).(*basicFilter)
	used := map[string]bool{}
	for i := range 64 {
		name := fmt.Sprint("nobody", i)
		first := f.fixed.standIn(f.seed, name).(bcryptHash)
		used[string(first)] = true
		for range 16 {
			if again := f.fixed.standIn(f.seed, name).(bcryptHash); string(again) != string(first) {
				t.Fatalf("%s stands for two users", name)
			}
		}
	}
	if len(used) != 2 {
		t.Errorf("the names stand for %d users of 2", len(used))
	}
}
