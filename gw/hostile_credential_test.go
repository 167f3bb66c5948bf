package gw

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sluice/gw/filter"
	"sluice/lb/access"
)

func TestHostileAPIKeys(t *testing.T) {
	const key = "a-long-and-random-key"
	sum := sha256.Sum256([]byte(key))
	s := besiege(t, recordOK(t), []filter.Config{{APIKey: &filter.APIKey{From: []filter.Credential{"header:X-API-Key", "query:key"},
		Keys:            []filter.NamedKey{{Name: "alice", SHA256: hex.EncodeToString(sum[:]), Attributes: map[string]string{"plan": "gold"}}},
		ClaimsToHeaders: map[string]string{"X-Who": "sub", "X-Plan": "plan"}}}})
	s.secret = []string{key, hex.EncodeToString(sum[:])}
	for _, c := range []struct {
		name, raw string
		status    int
		why       string
	}{
		{"none", ask("/api"), 401, "missing"},
		{"empty", ask("/api", "X-API-Key: "), 401, "missing"},
		{"wrong", ask("/api", "X-API-Key: "+key[1:]), 401, "unknown"},
		{"the hash itself", ask("/api", "X-API-Key: "+hex.EncodeToString(sum[:])), 401, "unknown"},
		{"longer", ask("/api", "X-API-Key: "+key+"x"), 401, "unknown"},
		{"two", ask("/api", "X-API-Key: "+key, "x-api-key: "+key), 400, "more than one key"},
		{"two in the query", ask("/api?key=" + key + "&key=x"), 400, "more than one key"},
		{"the first is wrong", ask("/api?key="+key, "X-API-Key: x"), 401, "unknown"},
		{"another spelling of the parameter", ask("/api?k%65y=" + key), 401, "missing"},
		{"a name with _", ask("/api", "X_API_Key: "+key), 401, "missing"},
		{"NUL", ask("/api?key=%00"), 401, "unknown"},
		{"huge", ask("/api", "X-API-Key: "+strings.Repeat("k", 20<<10)), 401, "unknown"},
		{"bytes above ASCII", ask("/api", "X-API-Key: \xff\xfe"), 401, "unknown"},
	} {
		s.attack(t, c.name, c.raw, c.status, "api_key: "+c.why)
	}
	s.attack(t, "good", ask("/api?a=1&key="+key+"&b"), 200, "")
	if r := s.last(t); r.RequestURI != "/api?a=1&b" || r.Header.Get("X-Who") != "alice" || r.Header.Get("X-Plan") != "gold" {
		t.Errorf("the upstream got %s %v", r.RequestURI, r.Header)
	}
}

func basicOf(pair string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

func TestHostilePasswords(t *testing.T) {
	const password = "correct horse"
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must(t, err)
	s := besiege(t, recordOK(t), []filter.Config{{Basic: &filter.Basic{Users: map[string]string{"alice": string(hash)},
		ClaimsToHeaders: map[string]string{"X-Who": "sub"}}}})
	s.secret = []string{password, string(hash), base64.StdEncoding.EncodeToString([]byte("alice:" + password))}
	takes(t, 64, func() {
		for _, c := range []struct {
			name, field string
			status      int
			why         string
		}{
			{"none", "X: y", 401, "missing"},
			{"another scheme", "Authorization: Bearer x", 401, "missing"},
			{"wrong", basicOf("alice:" + password + "x"), 401, "wrong"},
			{"nobody", basicOf("bob:" + password), 401, "wrong"},
			{"nobody at all", basicOf(":"), 401, "wrong"},
			{"empty", basicOf("alice:"), 401, "wrong"},
			{"the hash", basicOf("alice:" + string(hash)), 401, "wrong"},
			{"a case of its own", basicOf("Alice:" + password), 401, "wrong"},
			{"NUL behind it", basicOf("alice:" + password + "\x00"), 401, "wrong"},
			{"beyond what bcrypt reads", basicOf("alice:" + password + strings.Repeat("x", 900)), 401, "wrong"},
			{"10 KB", basicOf("alice:" + strings.Repeat("x", 10<<10)), 401, "malformed"},
			{"10 KB of nobody", basicOf("bob:" + strings.Repeat("x", 10<<10)), 401, "malformed"},
			{"no colon", basicOf("alice"), 401, "malformed"},
			{"no base64", "Authorization: Basic %%%%", 401, "malformed"},
			{"a line break", basicOf("alice:" + password)[:30] + "\t" + basicOf("alice:" + password)[30:], 401, "malformed"},
			{"two", basicOf("alice:"+password) + "\r\n" + basicOf("alice:"+password), 400, "more than one password"},
		} {
			s.attack(t, c.name, ask("/api", c.field, "X-Who: root"), c.status, "basic: "+c.why)
		}
	})
	for range 2 { // verified, and remembered
		s.attack(t, "good", ask("/api", basicOf("alice:"+password), "X-Who: root", "x-who: root"), 200, "")
		if r := s.last(t); strings.Join(r.Header.Values("X-Who"), ",") != "alice" || r.Header.Get("Authorization") != "" {
			t.Errorf("the upstream was told %v", r.Header)
		}
	}
}

// More passwords than can be verified are answered at once that they are too many, and hold up nobody else.
func TestPasswordsThatAreTooMany(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), 10) // some 50 ms
	must(t, err)
	s := besiege(t, recordOK(t), []filter.Config{{Basic: &filter.Basic{Users: map[string]string{"alice": string(hash)}, Waiting: 4}}})
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for i := range 32 {
		c := s.dial(t)
		c.send(ask("/api", basicOf(fmt.Sprintf("alice:%d", i))))
		all.Go(func() {
			resp, _ := c.answer("GET")
			mu.Lock()
			defer mu.Unlock()
			got[resp.StatusCode]++
		})
	}
	if status, _ := s.other.get("/well"); status != 200 {
		t.Errorf("others are answered %d", status)
	}
	all.Wait()
	if got[401] < 4 || got[503] == 0 || got[401]+got[503] != 32 {
		t.Errorf("answered with %v", got)
	}
	if n := s.refused(); n["basic: too many waiting"] != uint64(got[503]) || n["basic: wrong"] != uint64(got[401]) {
		t.Errorf("counted as %v", n)
	}
}

func TestHostileSignatures(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 2)
	s := besiege(t, recordOK(t), []filter.Config{{HMAC: &filter.HMAC{Keys: []filter.HMACKey{{Name: "alice", Secret: secret}}, Window: time.Minute,
		MaxBody: 1000, ClaimsToHeaders: map[string]string{"X-Who": "sub"}}}})
	s.secret = []string{secret}
	sign := func(method, host, target, body string, at int64, nonce string) string {
		sum := sha256.Sum256([]byte(body))
		m := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(m, "%s\n%s\n%s\n%d\n%s\n%s\n", method, host, target, at, nonce, hex.EncodeToString(sum[:]))
		return fmt.Sprintf("Authorization: HMAC-SHA256 key=alice, time=%d, nonce=%s, signature=%x", at, nonce, m.Sum(nil))
	}
	now := time.Now().Unix()
	first := sign("POST", "a.test", "/api?b", "body", now, "nonce-01")
	for _, c := range []struct {
		name, raw string
		status    int
		why       string
	}{
		{"good", post("/api?b", "body", first, "X-Who: root"), 200, ""},
		{"replayed", post("/api?b", "body", first), 401, "replayed"},
		{"replayed, spelt another way", post("/api?b", "body", strings.Replace(first, "HMAC-SHA256", "hmac-sha256", 1)), 401, "replayed"},
		{"replayed with another body", post("/api?b", "bodY", first), 401, "wrong"},
		{"replayed with another query", post("/api?c", "body", first), 401, "wrong"},
		{"replayed at another method", strings.Replace(post("/api?b", "body", first), "POST", "PUT", 1), 401, "wrong"},
		{"replayed at another host", strings.Replace(post("/api?b", "body", first), "a.test", "b.test", 1), 401, "wrong"},
		{"from yesterday", post("/api?b", "body", sign("POST", "a.test", "/api?b", "body", now-70, "nonce-02")), 401, "time"},
		{"from tomorrow", post("/api?b", "body", sign("POST", "a.test", "/api?b", "body", now+70, "nonce-02")), 401, "time"},
		{"a slow clock", post("/api?b", "body", sign("POST", "a.test", "/api?b", "body", now-50, "nonce-02")), 200, ""},
		{"a fast clock", post("/api?b", "body", sign("POST", "a.test", "/api?b", "body", now+50, "nonce-03")), 200, ""},
		{"two", post("/api?b", "body", sign("POST", "a.test", "/api?b", "body", now, "nonce-04"), first), 400, "more than one signature"},
		{"no signature", post("/api?b", "body"), 401, "missing"},
		{"rubbish", post("/api?b", "body", "Authorization: HMAC-SHA256 "+strings.Repeat("key=,", 1000)), 401, "malformed"},
		{"a body that is too large", post("/api?b", strings.Repeat("x", 1001), first), 413, "too large"},
	} {
		if c.why != "" {
			c.why = "hmac: " + c.why
		}
		s.attack(t, c.name, c.raw, c.status, c.why)
		if c.status == 200 {
			if r := s.last(t); strings.Join(r.Header.Values("X-Who"), ",") != "alice" {
				t.Errorf("%s: the upstream was told %v", c.name, r.Header)
			}
		}
	}
}

// An address that a client says of itself is none, unless a trusted proxy says it.
func TestHostileAddresses(t *testing.T) {
	inside := func() []filter.Config {
		return []filter.Config{{IP: &filter.IP{Config: access.Config{Allow: []string{"192.0.2.0/24"}}}}}
	}
	s := besiege(t, recordOK(t), inside())
	for name, field := range map[string]string{
		"nothing": "X: y", "said": "X-Forwarded-For: 192.0.2.1", "said twice": "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.1",
		"real": "X-Real-IP: 192.0.2.1", "forwarded": "Forwarded: for=192.0.2.1", "client": "Client-IP: 192.0.2.1\r\nTrue-Client-IP: 192.0.2.1",
		"a list": "X-Forwarded-For: " + strings.Repeat("192.0.2.1, ", 500) + "192.0.2.1", "_": "X_Forwarded_For: 192.0.2.1",
		"mapped": "X-Forwarded-For: ::ffff:192.0.2.1", "rubbish": "X-Forwarded-For: \", 192.0.2.1;", "PROXY": "PROXY: TCP4 192.0.2.1",
	} {
		s.attack(t, name, ask("/api", field), 403, "ip: address")
	}
	trusting := newEdge(t, behind("", "127.0.0.1"), []Route{{Filters: inside(), Cluster: "c"}}, cluster("c", s.up.address))
	defer trusting.gateway.Close()
	c := trusting.dial(t)
	for from, want := range map[string]int{"192.0.2.1": 200, "198.51.100.1": 403, "192.0.2.1, 198.51.100.1": 403, "198.51.100.1, 192.0.2.1": 200,
		"": 403, "192.0.2.1, unknown": 403, netip.MustParseAddr("::ffff:192.0.2.1").String(): 200} {
		c.send(ask("/", "X-Forwarded-For: "+from))
		if resp, _ := c.answer("GET"); resp.StatusCode != want {
			t.Errorf("from %q: %d, not %d", from, resp.StatusCode, want)
		}
	}
}

// Who somebody is is told by us: what clients say under these names comes through in no spelling, whether they are let in or not known.
func TestClientsSayNothingOfWhoTheyAre(t *testing.T) {
	const key = "a-long-and-random-key"
	sum := sha256.Sum256([]byte(key))
	s := besiege(t, recordOK(t), []filter.Config{{APIKey: &filter.APIKey{Optional: true, Keys: []filter.NamedKey{{Name: "alice", SHA256: hex.EncodeToString(sum[:])}},
		ClaimsToHeaders: map[string]string{"X-User-Name": "sub", "X-Admin": "admin"}}}})
	spoofed := []string{"X-User-Name: root", "x-user-name: root", "X-USER-NAME: root", "X-User-Name:root", "X_User_Name: root", "x-user_name: root", "X_USER_NAME: root",
		"X-Admin: root", "x-Admin: root", "X_Admin: root", "Connection: x-user-name, x-admin"}
	s.attack(t, "nobody", ask("/api", spoofed...), 200, "")
	nobody := s.last(t)
	s.attack(t, "somebody", ask("/api", append(spoofed, "X-API-Key: "+key)...), 200, "")
	somebody := s.last(t)
	s.attack(t, "behind the body", "POST /api HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Name\r\n\r\n1\r\na\r\n0\r\nX-User-Name: root\r\nx-aDMIN: root\r\nX_User_Name: root\r\nX-Sum: 1\r\n\r\n", 200, "")
	behind := s.last(t)
	for name, r := range map[string]seen{"nobody": nobody, "somebody": somebody, "behind the body": behind} {
		for _, h := range []map[string][]string{r.Header, r.Trailer} {
			for k, v := range h {
				if strings.Contains(strings.Join(v, ","), "root") {
					t.Errorf("%s: the upstream was told %s: %q", name, k, v)
				}
			}
		}
	}
	if behind.Trailer.Get("X-Sum") != "1" {
		t.Errorf("other trailers are gone: %v", behind.Trailer)
	}
	if got := somebody.Header["X-User-Name"]; len(got) != 1 || got[0] != "alice" {
		t.Errorf("the upstream was told %q", got)
	}
}

// nobodyHere lets nobody in who is here.
func nobodyHere() *filter.IP {
	return &filter.IP{Config: access.Config{Allow: []string{"192.0.2.0/24"}}}
}
