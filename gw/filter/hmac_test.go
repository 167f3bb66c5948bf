package filter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

var hmacSecret = strings.Repeat("0123456789abcdef", 2)

// signature of a request as the docstring says, apart from how the filter makes it.
func hmacOf(secret, method, host, target string, at int64, nonce, body string) string {
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "%s\n%s\n%s\n%d\n%s\n%s\n", method, host, target, at, nonce, body)
	return hex.EncodeToString(m.Sum(nil))
}

func hmacField(key string, at int64, nonce, sum string) string {
	return fmt.Sprintf("Authorization: HMAC-SHA256 key=%s, time=%d, nonce=%s, signature=%s", key, at, nonce, sum)
}

func TestSignedRequests(t *testing.T) {
	f := made(t, Config{HMAC: &HMAC{Keys: []HMACKey{{Name: "alice", Secret: hmacSecret, Attributes: map[string]string{"plan": "gold"}}, {Name: "bob", Secret: hmacSecret + "b"}},
		Window: time.Minute, ClaimsToHeaders: map[string]string{"X-Who": "sub", "X-Plan": "plan"}}})
	now := time.Now().Unix()
	sign := func(at int64, nonce string) string {
		return hmacOf(hmacSecret, "GET", "a.test", "/a?b=c", at, nonce, "")
	}
	field := func(at int64, nonce string) string { return hmacField("alice", at, nonce, sign(at, nonce)) }
	sum := sign(now, "12345678")
	for _, c := range []struct{ name, field, target, want string }{
		{"good", field(now, "nonce-01"), "/a?b=c", ""},
		{"again", field(now, "nonce-01"), "/a?b=c", "401 replayed"},
		{"another nonce", field(now, "nonce-02"), "/a?b=c", ""},
		{"the nonce at another time", field(now-1, "nonce-02"), "/a?b=c", "401 replayed"},
		{"early", field(now-50, "nonce-03"), "/a?b=c", ""},
		{"too early", field(now-62, "nonce-04"), "/a?b=c", "401 time"},
		{"too late", field(now+62, "nonce-05"), "/a?b=c", "401 time"},
		{"another query", field(now, "nonce-06"), "/a?b=d", "401 wrong"},
		{"another path", field(now, "nonce-06"), "/b?b=c", "401 wrong"},
		{"what was wrong uses no nonce", field(now, "nonce-06"), "/a?b=c", ""},
		{"another time than was signed", hmacField("alice", now+1, "12345678", sum), "/a?b=c", "401 wrong"},
		{"another nonce than was signed", hmacField("alice", now, "12345679", sum), "/a?b=c", "401 wrong"},
		{"another's key", hmacField("bob", now, "12345678", sum), "/a?b=c", "401 wrong"},
		{"nobody's key", hmacField("carol", now, "12345678", sum), "/a?b=c", "401 unknown key"},
		{"a nonce is its key's own", hmacField("bob", now, "nonce-01", hmacOf(hmacSecret+"b", "GET", "a.test", "/a?b=c", now, "nonce-01", "")), "/a?b=c", ""},
		{"scheme in any case", strings.Replace(field(now, "nonce-07"), "HMAC-SHA256", "hmac-sha256", 1), "/a?b=c", ""},
		{"no spaces", strings.ReplaceAll(field(now, "nonce-08"), ", ", ","), "/a?b=c", ""},
		{"huge time", hmacField("alice", 1<<62, "12345678", sum), "/a?b=c", "401 malformed"},
		{"negative time", hmacField("alice", -5, "12345678", sum), "/a?b=c", "401 malformed"},
		{"short nonce", hmacField("alice", now, "1234567", sum), "/a?b=c", "401 malformed"},
		{"long nonce", hmacField("alice", now, strings.Repeat("1", 65), sum), "/a?b=c", "401 malformed"},
		{"odd nonce", hmacField("alice", now, "1234 5678", sum), "/a?b=c", "401 malformed"},
		{"short signature", hmacField("alice", now, "12345678", sum[:62]), "/a?b=c", "401 malformed"},
		{"no signature", hmacField("alice", now, "12345678", ""), "/a?b=c", "401 malformed"},
		{"no hex", hmacField("alice", now, "12345678", strings.Repeat("x", 64)), "/a?b=c", "401 malformed"},
		{"twice", field(now, "nonce-09") + ", key=alice", "/a?b=c", "401 malformed"},
		{"unknown parameter", field(now, "nonce-09") + ", x=1", "/a?b=c", "401 malformed"},
		{"comma at the end", field(now, "nonce-09") + ",", "/a?b=c", "401 malformed"},
		{"no time", "Authorization: HMAC-SHA256 key=alice, nonce=12345678, signature=" + sum, "/a?b=c", "401 malformed"},
		{"empty time", "Authorization: HMAC-SHA256 key=alice, time=, nonce=12345678, signature=" + sum, "/a?b=c", "401 malformed"},
		{"another scheme", "Authorization: Bearer abc", "/a?b=c", "401 missing"},
	} {
		ctx := asked(t, c.target, nil, c.field, "x-plan: root", "X-WHO: root")
		if got := outcome(t, f, ctx); got != c.want {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
		h := &ctx.Request.Header
		if got := string(h.Peek("X-Who")); strings.Contains(got+string(h.Peek("X-Plan")), "root") || c.want == "" && got == "" {
			t.Errorf("%s: is %q", c.name, got)
		}
		if c.want == "" && (len(h.Peek("Authorization")) > 0 || IdentityOf(ctx).By != "hmac") {
			t.Errorf("%s: is passed on, or nobody's", c.name)
		}
	}
	for name, change := range map[string]func(ctx *fasthttp.RequestCtx){
		"method": func(ctx *fasthttp.RequestCtx) { ctx.Request.Header.SetMethod("POST") },
		"host":   func(ctx *fasthttp.RequestCtx) { ctx.Request.Header.SetHost("b.test") },
	} {
		ctx := asked(t, "/a?b=c", nil, field(now, "nonce-10"))
		change(ctx)
		if got := outcome(t, f, ctx); got != "401 wrong" {
			t.Errorf("another %s: %q", name, got)
		}
	}
}

func TestSignedBody(t *testing.T) {
	f := made(t, Config{HMAC: &HMAC{Keys: []HMACKey{{Name: "a", Secret: hmacSecret}}, MaxBody: 100}})
	if n := f.(RequestBody).RequestBody(nil); n != 100 {
		t.Errorf("wants %d bytes", n)
	}
	now := time.Now().Unix()
	field := hmacField("a", now, "12345678", hmacOf(hmacSecret, "POST", "a.test", "/", now, "12345678", sha("body")))
	for body, want := range map[string]string{"bodY": "401 wrong", "": "401 wrong", "body": ""} {
		ctx := asked(t, "/", nil, field)
		ctx.Request.Header.SetMethod("POST")
		ctx.Request.SetBodyString(body)
		if got := outcome(t, f, ctx); got != want {
			t.Errorf("%q: %q, not %q", body, got, want)
		}
	}
	if _, ok := made(t, Config{HMAC: &HMAC{Keys: []HMACKey{{Name: "a", Secret: hmacSecret}}}}).(RequestBody); ok {
		t.Error("wants a body that is not signed")
	}
}

func TestReplayAfterAReloadIsFound(t *testing.T) {
	cfg := HMAC{Keys: []HMACKey{{Name: "a", Secret: hmacSecret}}, Window: 77 * time.Second}
	now := time.Now().Unix()
	field := hmacField("a", now, "12345678", hmacOf(hmacSecret, "GET", "a.test", "/", now, "12345678", ""))
	first := newHMAC(cfg).(*hmacFilter)
	if got := outcome(t, first, asked(t, "/", nil, field)); got != "" {
		t.Fatal(got)
	}
	cfg.ClaimsToHeaders = map[string]string{"X-Who": "sub"}
	second := newHMAC(cfg).(*hmacFilter)
	first.Close()
	if got := outcome(t, second, asked(t, "/", nil, field)); got != "401 replayed" {
		t.Errorf("after a reload: %q", got)
	}
	second.Close()
}

func TestNoncesAreUsedOnce(t *testing.T) {
	r := newReplays(64) // 16 sets
	now := time.Unix(1_800_000_000, 0)
	// From all loops at once one wins.
	var wins, fulls atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 64 {
				switch r.use(fmt.Append(nil, i), now, now.Add(time.Minute)) {
				case fresh:
					wins.Add(1)
				case full:
					fulls.Add(1)
				}
			}
		})
	}
	all.Wait()
	if wins.Load() > 64 || wins.Load()+fulls.Load() < 50 {
		t.Errorf("%d of 64 were let in, %d found it full", wins.Load(), fulls.Load())
	}
	// A full table lets nobody in, and forgets nothing before its time.
	for i := range 10_000 {
		r.use(fmt.Append(nil, "x", i), now, now.Add(time.Minute))
	}
	if got := r.use([]byte("y"), now.Add(time.Minute), now.Add(2*time.Minute)); got != full {
		t.Errorf("a full table: %v", got)
	}
	if got := r.use([]byte("y"), now.Add(61*time.Second), now.Add(2*time.Minute)); got != fresh {
		t.Errorf("when its time has come: %v", got)
	}
	if got := r.use([]byte("y"), now.Add(2*time.Minute), now.Add(3*time.Minute)); got != replayed {
		t.Errorf("a nonce within its time: %v", got)
	}
}

func TestNoncesFitAsManyAsWereAskedFor(t *testing.T) {
	r := newReplays(10_000)
	now := time.Now()
	refused := 0
	for i := range 10_000 {
		if r.use(fmt.Append(nil, i), now, now.Add(time.Minute)) != fresh {
			refused++
		}
	}
	if refused > 3 {
		t.Errorf("%d of 10,000 refused", refused)
	}
}

func TestFullTableOfNoncesIsA503(t *testing.T) {
	f := made(t, Config{HMAC: &HMAC{Keys: []HMACKey{{Name: "a", Secret: hmacSecret}}, Nonces: 1}})
	now := time.Now().Unix()
	got := ""
	for i := range 17 {
		nonce := fmt.Sprintf("nonce-%02d", i)
		got = outcome(t, f, asked(t, "/", nil, hmacField("a", now, nonce, hmacOf(hmacSecret, "GET", "a.test", "/", now, nonce, ""))))
	}
	if got != "503 too many nonces" {
		t.Error(got)
	}
}

func TestSignedRequestAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("a sync.Pool forgets at random under the race detector")
	}
	f := made(t, Config{HMAC: &HMAC{Keys: []HMACKey{{Name: "a", Secret: hmacSecret}}, ClaimsToHeaders: map[string]string{"X-Who": "sub"}}}).(*hmacFilter)
	now := time.Now().Unix()
	ctx := asked(t, "/", nil, "X-Who: root")
	field := hmacField("a", now, "12345678", hmacOf(hmacSecret, "GET", "a.test", "/", now, "12345678", ""))
	_, value, _ := strings.Cut(field, ": ")
	if n := testing.AllocsPerRun(200, func() {
		for i := range f.used.sets[0] {
			f.used.sets[0][i].Store(0)
		}
		for i := range f.used.sets {
			f.used.sets[i][0].Store(0)
		}
		ctx.ResetUserValues()
		ctx.Request.Header.Set("Authorization", value)
		if f.Request(ctx) != Continue {
			t.Fatal(RefusalOf(ctx))
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHMACIsValidated(t *testing.T) {
	keys := []HMACKey{{Name: "a", Secret: hmacSecret}}
	for _, c := range []struct {
		cfg  HMAC
		want string
	}{
		{HMAC{}, "hmac.keys: without keys nobody is let in"},
		{HMAC{Keys: []HMACKey{{Name: "a", Secret: "secret"}}}, "hmac.keys[0]: the secret of a is shorter than 32 bytes"},
		{HMAC{Keys: []HMACKey{{Name: "a b", Secret: hmacSecret}}}, "hmac.keys[0]: a key's name is letters"},
		{HMAC{Keys: append(keys, keys[0])}, "hmac.keys[1]: a is there twice"},
		{HMAC{Keys: keys, Window: time.Millisecond}, "hmac.window: 1s to 24h"},
		{HMAC{Keys: keys, Nonces: -1}, "hmac.nonces: "},
		{HMAC{Keys: keys, MaxBody: -1}, "hmac.max_body: "},
	} {
		if got := said(Config{HMAC: &c.cfg}); !strings.Contains(got, c.want) {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// A signature that is understood has what it must have, and none is let in without the secret.
func FuzzSignature(f *testing.F) {
	f.Add("key=a, time=1, nonce=12345678, signature=" + strings.Repeat("0", 64))
	f.Add("key=,,time==")
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := parseSignature([]byte(text))
		if ok && (len(p.key) == 0 || len(p.nonce) < 8 || p.seconds < 0 || fmt.Sprint(p.seconds) != strings.TrimLeft(string(p.time), "0") && p.seconds != 0) {
			t.Errorf("%q: %+v", text, p)
		}
	})
}
