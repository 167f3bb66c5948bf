package bench

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

// chained answers as a proxy with working filters does, but for what change says.
func chained(t testing.TB, c *Chain, change func(req *http.Request, seen, answer http.Header, status *int)) string {
	return serve(t, func(conn *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		status, seen := http.StatusOK, http.Header{chainRequest: {chainMark}, chainID: {"1"}}
		answer := http.Header{chainAnswer: {chainMark}, chainID: {"1"}, "Access-Control-Allow-Origin": {chainOrigin}, "Vary": {"Origin"}}
		if req.Header.Get("Authorization") != "Bearer "+c.token {
			status = http.StatusUnauthorized
		}
		change(req, seen, answer, &status)
		body := strings.Builder{}
		_ = (&http.Request{Method: http.MethodGet, Host: "x", URL: req.URL, Header: seen}).Write(&body)
		resp := &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: answer, ContentLength: int64(body.Len()),
			Body: io.NopCloser(strings.NewReader(body.String()))}
		_ = resp.Write(conn)
	})
}

// What does not filter is told from what does, whichever filter it is that is missing.
func TestProveFilters(t *testing.T) {
	c, err := newChain()
	must(t, err)
	for _, at := range []struct {
		name   string
		change func(req *http.Request, seen, answer http.Header, status *int)
		want   string
	}{
		{"all work", func(*http.Request, http.Header, http.Header, *int) {}, ""},
		{"refused with 403", func(_ *http.Request, _, _ http.Header, status *int) {
			if *status == http.StatusUnauthorized {
				*status = http.StatusForbidden
			}
		}, ""},
		{"lets all in", func(_ *http.Request, _, _ http.Header, status *int) { *status = http.StatusOK }, "without a token was not refused: status 200"},
		{"is broken", func(_ *http.Request, _, _ http.Header, status *int) { *status = http.StatusBadGateway }, "without a token was not refused: status 502"},
		{"lets any token in", func(req *http.Request, _, _ http.Header, status *int) {
			if req.Header.Get("Authorization") != "" {
				*status = http.StatusOK
			}
		}, "with a forged token was not refused: status 200"},
		{"lets nobody in", func(_ *http.Request, _, _ http.Header, status *int) { *status = http.StatusUnauthorized }, "with the token was refused: status 401"},
		{"no CORS", func(_ *http.Request, _, answer http.Header, _ *int) { answer.Del("Access-Control-Allow-Origin") },
			`Access-Control-Allow-Origin of the response is "", not "https://app.test"`},
		{"CORS for another page", func(_ *http.Request, _, answer http.Header, _ *int) {
			answer.Set("Access-Control-Allow-Origin", "https://other.test")
		}, `"https://other.test"`},
		{"no Vary", func(_ *http.Request, _, answer http.Header, _ *int) { answer.Del("Vary") }, "Vary of the response"},
		{"a header not set", func(_ *http.Request, _, answer http.Header, _ *int) { answer.Del(chainAnswer) }, "X-Served-By of the response"},
		{"a header not removed", func(_ *http.Request, _, answer http.Header, _ *int) { answer.Set(chainRemoved, "x") }, "X-Powered-By of the response"},
		{"no id", func(_ *http.Request, _, answer http.Header, _ *int) { answer.Del(chainID) }, "the response has no X-Request-Id"},
		{"two ids", func(_ *http.Request, seen, _ http.Header, _ *int) { seen.Set(chainID, "2") }, `X-Request-Id of the request at the origin is "2", not "1"`},
		{"the request as it was", func(_ *http.Request, seen, _ http.Header, _ *int) { seen.Del(chainRequest) }, "X-Gateway of the request at the origin"},
		{"the token goes on", func(_ *http.Request, seen, _ http.Header, _ *int) { seen.Set("Authorization", "x") }, "Authorization of the request at the origin"},
	} {
		t.Run(at.name, func(t *testing.T) {
			err := c.prove(t.Context(), chained(t, c, at.change))
			if at.want == "" && err != nil || at.want != "" && (err == nil || !strings.Contains(err.Error(), at.want)) {
				t.Errorf("%v, not %q", err, at.want)
			}
		})
	}
}

// A target whose filters do nothing is not measured; one that is known to have none is.
func TestFiltersAreProvedBeforeTheRun(t *testing.T) {
	origin := testOrigin(t)
	c, err := newChain()
	must(t, err)
	suite := func(target Target) (*Result, error) {
		r := &Result{}
		s := &Suite{Scenarios: []Scenario{scenario(t, "http-keepalive"), scenario(t, "http-chain")}, Origin: origin, Chain: c,
			Targets: []Target{target}, Rounds: 1, Duration: 50 * time.Millisecond}
		return r, s.Run(t.Context(), r)
	}
	r, err := suite(Target{Name: "open", HTTP: origin, Chain: origin})
	if err == nil || !strings.Contains(err.Error(), "http-chain on open: its filters do not work: a request without a token was not refused") || len(r.Samples) > 0 {
		t.Errorf("%v, %d samples", err, len(r.Samples))
	}
	r, err = suite(Target{Name: "floor", HTTP: origin, Chain: origin, Bare: true})
	if err != nil || len(r.Samples) != 2 || !r.Samples[1].Measured() {
		t.Errorf("%v, %+v", err, r.Samples)
	}
	r, err = suite(Target{Name: "outside", HTTP: origin, NoChain: "no key"})
	if err != nil || len(r.Samples) != 2 || r.Samples[1].Unavailable != "no key" {
		t.Errorf("%v, %+v", err, r.Samples)
	}
}

// The requests that are measured have what the filters look at.
func TestChainRequestsHaveTheToken(t *testing.T) {
	c, err := newChain()
	must(t, err)
	heads := make(chan *http.Request, 1)
	target := serve(t, func(conn *net.TCPConn) {
		for in := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			select {
			case heads <- req:
			default:
			}
			if _, err := io.WriteString(conn, response("200 OK", "ok")); err != nil {
				return
			}
		}
	})
	s := &Suite{Scenarios: []Scenario{scenario(t, "http-chain")}, Origin: testOrigin(t), Chain: c, Rounds: 1, Duration: 50 * time.Millisecond,
		Targets: []Target{{Name: "t", Chain: target, Bare: true}}}
	must(t, s.Run(t.Context(), &Result{}))
	got := <-heads
	if d := cmp.Diff(http.Header{"Authorization": {"Bearer " + c.token}, "Origin": {chainOrigin}}, got.Header); d != "" || got.URL.Path != "/chain/33" {
		t.Errorf("%s %s", got.URL.Path, d)
	}
}

// Peers pass the proof, and their limits bite: with a rate of one a second, and the burst of one that goes with it, soon
// enough a request is refused.
func TestChainOfPeers(t *testing.T) {
	for _, p := range []struct {
		name  string
		start func(*Rig, context.Context, int) error
	}{{"haproxy", (*Rig).HAProxy}, {"nginx", (*Rig).Nginx}} {
		t.Run(p.name, func(t *testing.T) {
			if _, err := look(p.name); err != nil {
				t.Skip(err)
			}
			target := func(rate int) (*Chain, string) {
				r := testRig(t)
				r.Chain.rate = rate
				must(t, p.start(r, t.Context(), 1))
				return r.Chain, r.Targets[0].Chain
			}
			c, address := target(chainRate)
			must(t, c.prove(t.Context(), address))
			c, address = target(1)
			for range 100 {
				resp, _, err := c.ask(t.Context(), address, c.token)
				must(t, err)
				if resp.StatusCode == http.StatusTooManyRequests {
					return
				}
			}
			t.Error("100 requests at once are within one a second")
		})
	}
}

// A token that has run out is refused where the target looks at more than its letters.
func TestChainOfHAProxyKnowsExpiry(t *testing.T) {
	if _, err := look("haproxy"); err != nil {
		t.Skip(err)
	}
	r := testRig(t)
	must(t, r.HAProxy(t.Context(), 1))
	for _, at := range []struct {
		expires time.Duration
		status  int
	}{{time.Hour, http.StatusOK}, {-time.Hour, http.StatusUnauthorized}} {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Now().Add(at.expires))}).
			SignedString([]byte(r.Chain.secret))
		must(t, err)
		resp, _, err := r.Chain.ask(t.Context(), r.Targets[0].Chain, token)
		must(t, err)
		if resp.StatusCode != at.status {
			t.Errorf("expires in %v: status %d, not %d", at.expires, resp.StatusCode, at.status)
		}
	}
}

// Both reports say what the chain costs each target over its own requests without it, and who does not do the same.
func TestReportsCompareWithTheScenarioBeside(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	res := &Result{}
	for _, at := range []struct {
		target      string
		plain, with float64
	}{{"sluice", 10, 15}, {"nginx", 20, 22}} {
		res.Samples = append(res.Samples, series(at.target, at.plain, 0, 6, r)...)
		for _, s := range series(at.target, at.with, 0, 6, r) {
			s.Scenario = "http-chain"
			res.Samples = append(res.Samples, s)
		}
	}
	res.Samples = append(res.Samples, series("haproxy", 20, 0, 6, r)...)
	res.Samples = append(res.Samples, Sample{Scenario: "http-chain", Target: "haproxy", Unavailable: "it is old"})
	var out strings.Builder
	res.Print(&out)
	page := filepath.Join(t.TempDir(), "r.html")
	must(t, WriteReport(page, []*Result{res}, nil))
	b, err := os.ReadFile(page)
	must(t, err)
	html := strings.NewReplacer("&#43;", "+", "&#39;", "'").Replace(string(b))
	for name, text := range map[string]string{"table": out.String(), "page": html} {
		for _, want := range []string{"CPU over http-keepalive, each its own: sluice 1.50 (1.50–1.50), +5.00 µs; nginx 1.10 (1.10–1.10), +2.00 µs",
			"nginx: compares the token"} {
			if strings.Count(text, want) != 1 {
				t.Errorf("the %s has not one %q:\n%.4000s", name, want, text)
			}
		}
		if strings.Contains(text, "haproxy: verifies") {
			t.Errorf("the %s tells how a target does what it does not", name)
		}
	}
	// Alone there is nothing to compare with.
	res.Samples = res.Samples[6:12]
	out.Reset()
	res.Print(&out)
	if strings.Contains(out.String(), "CPU over") {
		t.Errorf("%s", out.String())
	}
}
