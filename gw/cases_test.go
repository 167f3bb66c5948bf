package gw

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gw/filter"
	"sluice/gw/h1"
)

// wireCase is one of testdata/h1.json or own.json: bytes that a client sends, and what must come of them. The files' "schema"
// says what the keys mean.
type wireCase struct {
	Name, Group, Level, Ref, Note, Config string

	Raw           latin1
	RawParts      []part `json:"raw_parts"`
	Then          latin1
	Fin           bool
	UpstreamRaw   *latin1 `json:"upstream_raw"`
	UpstreamParts []part  `json:"upstream_raw_parts"`
	UpstreamClose bool    `json:"upstream_close"`
	UpstreamEarly bool    `json:"upstream_early"`
	Expect        expectation
}

// latin1 is a string of which each character is a byte.
type latin1 string

func (s *latin1) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	out := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			return fmt.Errorf("%q is not latin-1", r)
		}
		out = append(out, byte(r))
	}
	*s = latin1(out)
	return nil
}

// part is a text and how often it is repeated.
type part struct {
	text latin1
	n    int
}

func (p *part) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &[]any{&p.text, &p.n}) }

func (c *wireCase) request() string {
	if c.RawParts == nil {
		return string(c.Raw)
	}
	return joinParts(c.RawParts)
}

func joinParts(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(strings.Repeat(string(p.text), p.n))
	}
	return b.String()
}

func (c *wireCase) response() string {
	switch {
	case c.UpstreamParts != nil:
		return joinParts(c.UpstreamParts)
	case c.UpstreamRaw != nil:
		return string(*c.UpstreamRaw)
	}
	return ok
}

func loadCases(t *testing.T) (cases []wireCase) {
	for _, name := range []string{"h1", "own"} {
		f, err := os.Open("testdata/" + name + ".json")
		must(t, err)
		defer f.Close()
		var all struct {
			About  string
			Schema map[string]any
			Cases  []wireCase
		}
		d := json.NewDecoder(f)
		d.DisallowUnknownFields() // an expectation that is not judged is none
		must(t, d.Decode(&all))
		if len(all.Cases) < 100 {
			t.Fatalf("%s: %d cases", name, len(all.Cases))
		}
		cases = append(cases, all.Cases...)
	}
	return cases
}

// known are the settings that cases name, and that every case runs with.
var known = []string{"", "listener without h2c", "request-line limit 8 KiB", "header block limit 64 KiB",
	"proxy adds X-Forwarded-For", "client not in trusted proxies",
	"rule: prefix /admin is denied with 403, everything else is proxied"}

// settings are what the case needs beside the known.
func (c *wireCase) settings(t *testing.T) (cfg Config, connect bool) {
	for s := range strings.SplitSeq(c.Config, "; ") {
		switch {
		case s == "duplicate slashes are kept":
			cfg.Slashes = h1.Keep
		case s == "duplicate slashes are refused":
			cfg.Slashes = h1.Refuse
		case s == "bodies of up to 16 bytes":
			cfg.MaxBody = 16
		case s == "the route takes CONNECT":
			connect = true
		case !slices.Contains(known, s):
			t.Fatalf("the case needs a setting that this test does not know: %s", s)
		}
	}
	return cfg, connect
}

func TestWireCases(t *testing.T) {
	for _, c := range loadCases(t) {
		for _, how := range []string{"whole", "by_byte"} {
			t.Run(c.Name+"/"+how, func(t *testing.T) {
				t.Parallel()
				problems := c.try(t, how == "by_byte")
				for _, p := range problems {
					if c.Level == "should" {
						t.Logf("should: %s", p)
					} else {
						t.Errorf("%s: %s", c.Level, p)
					}
				}
			})
		}
	}
}

// outcome is what came of a case.
type outcome struct {
	client    string // all bytes that the client got
	responses []answered
	closed    bool // by the proxy, of its own accord
	reqs      []seen
	raw       string // all bytes that the upstream got
}

type answered struct {
	status int
	header http.Header
	body   string
	whole  bool
	length bool // framed by Content-Length
}

func (c *wireCase) try(t *testing.T, byByte bool) []string {
	cfg, connect := c.settings(t)
	var rec *recorder
	ready := make(chan struct{})
	rec = record(t, func(n int, s *seen) (string, error) {
		<-ready
		if !c.UpstreamEarly {
			if rec.readBody(s); s.err != nil {
				return "", s.err
			}
		}
		if n > 0 && c.Then != "" {
			return ok, nil
		}
		if c.UpstreamClose {
			return c.response(), errHangUp
		}
		return c.response(), nil
	})
	close(ready)
	e := newEdge(t, cfg, []Route{
		{Match: prefix("/admin"), Filters: []filter.Config{{Respond: &filter.Respond{Status: 403, Body: "no\n"}}}},
		{Cluster: "c", Connect: connect},
	}, cluster("c", rec.address))

	var o outcome
	conn := e.dial(t)
	got := make(chan struct{})    // something has come
	closed := make(chan struct{}) // the connection has ended
	var buf bytes.Buffer          // may be read once closed
	var first string              // may be read once got
	go func() {
		defer close(closed)
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			if buf.Len() == 0 {
				first = string(b[:n])
				close(got)
			}
			buf.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	write(conn, c.request(), byByte)
	if c.Fin {
		_ = conn.CloseWrite()
	}
	if c.Then != "" {
		select {
		case <-got:
		case <-time.After(150 * time.Millisecond): // the schema's: some wait for 100 (Continue)
		}
		write(conn, string(c.Then), byByte)
	}
	mustClose := c.Expect.Close && !c.Expect.CloseOptional || c.Fin
	if c.Expect.CloseIf200 {
		<-got
		mustClose = strings.HasPrefix(first, "HTTP/1.1 200")
	}
	if mustClose {
		select {
		case <-closed:
			o.closed = true
		case <-time.After(patience):
		}
	}
	// The proxy answers what has come whole, and closes after the end of what it is sent.
	_ = conn.CloseWrite()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("the connection does not end")
	}
	o.client = buf.String()
	conn.Close()
	// Every byte for the upstream is there once the proxy has no connection any more.
	eventually(t, "the exchanges end", func() bool {
		busy := int64(0)
		for _, ep := range e.clusters["c"].Endpoints() {
			busy += ep.InFlight()
		}
		return busy == 0 && e.listener.Open() == 0
	})
	o.parse(c.request())
	eventually(t, "the upstream has read what it was sent", func() bool {
		o.reqs, o.raw = rec.requests()
		sent := uint64(0)
		for _, ep := range e.clusters["c"].Endpoints() {
			sent += ep.Local(e.engine.Loops()[0]).Sent.Load()
		}
		return uint64(len(o.raw)) >= sent || c.UpstreamClose || c.UpstreamEarly
	})
	return c.Expect.judge(&o)
}

func write(conn net.Conn, s string, byByte bool) {
	if !byByte {
		_, _ = conn.Write([]byte(s))
		return
	}
	for i := range len(s) {
		if _, err := conn.Write([]byte{s[i]}); err != nil {
			return // it was refused before its end
		}
	}
}

// parse reads the responses in what the client got.
func (o *outcome) parse(request string) {
	method, _, _ := strings.Cut(request, " ")
	r := bufio.NewReader(strings.NewReader(o.client))
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode < 200 {
			continue
		}
		o.responses = append(o.responses, answered{status: resp.StatusCode, header: resp.Header, body: string(body),
			whole: err == nil, length: resp.ContentLength >= 0})
	}
}
