package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Chain is what the filters of http-chain and its requests have in common. Immutable while a suite runs.
type Chain struct {
	secret string // of HS256: of all algorithms the one that costs a proxy the least that verifies each time
	token  string
	forged string // the same, signed with another secret
	rate   int    // requests per second and client that are let through
}

// chainRate is more than any target can do: what it costs to count is measured, not what it costs to refuse.
const chainRate = 1_000_000

// What the filters do to headers, apart from what their names say.
const (
	chainOrigin  = "https://app.test" // of the page that asks
	chainRequest = "X-Gateway"        // set to chainMark on the way to the origin
	chainAnswer  = "X-Served-By"      // set to chainMark on the way back
	chainRemoved = "X-Powered-By"     // what the origin says of itself, which clients do not see
	chainMark    = "edge"
	chainID      = "X-Request-Id"
)

// chainUnlike says what targets do otherwise.
var chainUnlike = map[string]string{
	"sluice":  "verifies the token once and remembers it; it tells clients what is left of their rate, which the peers do not",
	"haproxy": "verifies the token's signature and expiry with each request: it has no memory of tokens",
	"nginx":   "compares the token, ignoring case, with the only one that it knows: the free nginx cannot verify any",
	"floor":   "has no filters: it shows what the longer messages alone cost",
}

// newChain makes a secret and a token that is good for a week.
func newChain() (*Chain, error) {
	// RFC 7518, section 3.2: a key of at least 256 bits.
	c := &Chain{secret: rand.Text() + rand.Text(), rate: chainRate}
	claims := jwt.RegisteredClaims{Subject: "bench", ExpiresAt: jwt.NewNumericDate(time.Now().Add(7 * 24 * time.Hour))}
	for _, t := range []struct {
		token  *string
		secret string
	}{{&c.token, c.secret}, {&c.forged, rand.Text() + rand.Text()}} {
		var err error
		if *t.token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(t.secret)); err != nil {
			return nil, fmt.Errorf("sign the token of http-chain: %w", err)
		}
	}
	return c, nil
}

// headers are the lines that a request has more than others.
func (c *Chain) headers() string {
	return "Authorization: Bearer " + c.token + "\r\nOrigin: " + chainOrigin + "\r\n"
}

// keySet is the secret as a JWK set (RFC 7517, RFC 7518 section 6.4).
func (c *Chain) keySet() string {
	return fmt.Sprintf(`{"keys": [{"kty": "oct", "alg": "HS256", "k": %q}]}`, base64.RawURLEncoding.EncodeToString([]byte(c.secret)))
}

// filters are a sluice's; CORS is before the token, since preflights have none.
func (c *Chain) filters(keySetFile string) string {
	return fmt.Sprintf(`[{request_id: {respond: true}}, {cors: {origins: ["%s"]}}, {jwt: {jwks_file: "%s", algorithms: [HS256]}}, `+
		`{rate_limit: {rate: %d/s, burst: %d}}, {headers: {request: {set: {%s: %s}}, response: {set: {%s: %s}, remove: [%s]}}}]`,
		chainOrigin, keySetFile, c.rate, c.rate, chainRequest, chainMark, chainAnswer, chainMark, chainRemoved)
}

// haproxy is a frontend's rules.
func (c *Chain) haproxy() string {
	return fmt.Sprintf(`  unique-id-format %%[uuid()]
  unique-id-header %[1]s
  stick-table type ip size 100k expire 10s store http_req_rate(1s)
  http-request set-var(txn.origin) req.hdr(Origin)
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify("HS256","%[2]s") -m int 1 }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt %[3]d }
  http-request del-header Authorization
  http-request set-header %[4]s %[5]s
  http-response del-header %[6]s
  http-response set-header %[7]s %[5]s
  http-response set-header %[1]s %%[unique-id]
  http-response set-header Access-Control-Allow-Origin %%[var(txn.origin)] if { var(txn.origin) -m str "%[8]s" }
  http-response add-header Vary Origin
`, chainID, c.secret, c.rate, chainRequest, chainMark, chainRemoved, chainAnswer, chainOrigin)
}

// nginx are directives of its http block, and those of a location.
func (c *Chain) nginx() (http, location string) {
	return fmt.Sprintf(`  map_hash_bucket_size 512;
  map $http_authorization $allowed { default 0; "Bearer %s" 1; }
  map $http_origin $allowed_origin { "%s" $http_origin; }
  limit_req_zone $binary_remote_addr zone=clients:10m rate=%dr/s; limit_req_status 429;
`, c.token, chainOrigin, c.rate), fmt.Sprintf(`      if ($allowed = 0) { return 401; }
      limit_req zone=clients burst=%d nodelay;
      proxy_set_header Authorization ""; proxy_set_header %s %s; proxy_set_header %[4]s $request_id;
      proxy_hide_header %[5]s; add_header %[6]s %[3]s; add_header %[4]s $request_id;
      add_header Access-Control-Allow-Origin $allowed_origin; add_header Vary Origin;
`, c.rate, chainRequest, chainMark, chainID, chainRemoved, chainAnswer)
}

// prove asks an address without a token, with a forged one and with the good one. The error says what its filters did not do.
func (c *Chain) prove(ctx context.Context, address string) error {
	for _, bad := range []struct{ with, token string }{{"without a token", ""}, {"with a forged token", c.forged}} {
		resp, _, err := c.ask(ctx, address, bad.token)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
			return fmt.Errorf("a request %s was not refused: status %d", bad.with, resp.StatusCode)
		}
	}
	resp, seen, err := c.ask(ctx, address, c.token)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a request with the token was refused: status %d", resp.StatusCode)
	}
	id := resp.Header.Get(chainID)
	if id == "" {
		return fmt.Errorf("the response has no %s", chainID)
	}
	for _, f := range []struct {
		of, name string
		in       http.Header
		want     string
	}{
		{"response", "Access-Control-Allow-Origin", resp.Header, chainOrigin},
		{"response", "Vary", resp.Header, "Origin"},
		{"response", chainAnswer, resp.Header, chainMark},
		{"response", chainRemoved, resp.Header, ""},
		{"request at the origin", chainRequest, seen, chainMark},
		{"request at the origin", chainID, seen, id},
		{"request at the origin", "Authorization", seen, ""},
	} {
		if got := strings.Join(f.in.Values(f.name), ", "); got != f.want {
			return fmt.Errorf("%s of the %s is %q, not %q", f.name, f.of, got, f.want)
		}
	}
	return nil
}

// ask sends one request: the response, and the header of the request as the origin has seen it if the status is 200.
func (c *Chain) ask(ctx context.Context, address, token string) (*http.Response, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+headPath, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Origin", chainOrigin)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, nil, err
	}
	seen, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(body)))
	if err != nil {
		return nil, nil, fmt.Errorf("the answer to %s is not the request: %w", headPath, err)
	}
	return resp, seen.Header, nil
}
