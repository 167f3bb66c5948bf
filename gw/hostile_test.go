package gw

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"sluice/engine"
	"sluice/gw/filter"
	"sluice/lb"
)

// siege is an edge whose filters somebody means harm: /well has none, everything else has all of them. Both end at one upstream.
type siege struct {
	*edge
	up     *recorder
	other  *client // somebody who means no harm
	log    *book
	secret []string // what is in no answer to an attacker, and in no log
}

// book is a log that is kept.
type book struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// besiege runs an edge for the time of the test. At its end nothing is under way, and nothing secret has been logged.
func besiege(t testing.TB, up *recorder, filters []filter.Config, clusters ...lb.Config) *siege {
	t.Helper()
	s := &siege{up: up, log: &book{}}
	before, log := slog.Default(), slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	slog.SetDefault(log)
	t.Cleanup(func() {
		s.gateway.Close()
		slog.SetDefault(before)
		for _, secret := range s.secret {
			if strings.Contains(s.log.String(), secret) {
				t.Errorf("a secret is in the log: %s", s.log.String())
			}
		}
	})
	s.edge = newEdge(t, Config{}, []Route{{Match: prefix("/well"), Cluster: "c"}, {Match: prefix("/"), Filters: filters, Cluster: "c"}},
		append(clusters, cluster("c", up.address))...)
	s.on(func(*worker) { s.gateway.log = log })
	s.other = s.dial(t)
	t.Cleanup(func() { s.settles(t) })
	return s
}

// attack sends a request, or what looks like one, and wants it answered by this status, counted for this reason ("filter: reason", or
// nothing), and its connection and those of others as good as before. It returns the answer's body.
func (s *siege) attack(t testing.TB, name, raw string, status int, why string) string {
	t.Helper()
	return s.attackBy(t, s.dial(t), name, raw, status, why)
}

// attackBy attacks on a connection that is there.
func (s *siege) attackBy(t testing.TB, c *client, name, raw string, status int, why string) string {
	t.Helper()
	before := s.refused()
	method, _, _ := strings.Cut(raw, " ")
	go c.Write([]byte(raw)) // who is refused early need not read all of it
	resp, body := c.answer(method)
	after := s.refused()
	if resp.StatusCode != status {
		t.Errorf("%s: %d %.200s, not %d", name, resp.StatusCode, body, status)
	}
	var counted []string
	for k, n := range after {
		if n != before[k] {
			counted = append(counted, k)
		}
	}
	if got := strings.Join(counted, ", "); got != why {
		t.Errorf("%s: counted as %q, not %q", name, got, why)
	}
	for _, secret := range s.secret {
		if strings.Contains(body+fmt.Sprint(resp.Header), secret) && status >= 400 {
			t.Errorf("%s: the answer tells a secret: %v %s", name, resp.Header, body)
		}
	}
	if !resp.Close {
		if status, _ := c.get("/well"); status != 200 {
			t.Errorf("%s: after it the connection answers %d", name, status)
		}
	}
	if status, _ := s.other.get("/well"); status != 200 {
		t.Errorf("%s: others are answered %d", name, status)
	}
	return body
}

// refused is how often, by "filter: reason".
func (s *siege) refused() map[string]uint64 {
	all := map[string]uint64{}
	for k, n := range s.stats.Refusals() {
		all[k.Filter+": "+k.Reason] += n
	}
	return all
}

// last is the last request that came to the upstream, but for those that show that all is well.
func (s *siege) last(t testing.TB) seen {
	t.Helper()
	reqs, _ := s.up.requests()
	for i := len(reqs) - 1; i >= 0; i-- {
		if !strings.HasPrefix(reqs[i].RequestURI, "/well") {
			return reqs[i]
		}
	}
	t.Fatal("nothing came to the upstream")
	return seen{}
}

// takes runs f, which with all that it has done for it may allocate so many MiB in sum, and so never hold more.
func takes(t testing.TB, mib int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := int((after.TotalAlloc - before.TotalAlloc) >> 20); n > mib {
		t.Errorf("%d MiB were allocated, more than %d", n, mib)
	}
}

// ask is a GET of a target, with these header lines.
func ask(target string, fields ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: a.test\r\n" + fieldLines(fields) + "\r\n"
}

// post is a POST of a body, with these header lines.
func post(target, body string, fields ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a.test\r\n%sContent-Length: %d\r\n\r\n%s", target, fieldLines(fields), len(body), body)
}

func fieldLines(fields []string) (all string) {
	for _, f := range fields {
		all += f + "\r\n"
	}
	return all
}

func filterSize(n engine.Size) *engine.Size { return &n }
