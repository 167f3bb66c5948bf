package filter

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"sluice/gw/limit/redis"
)

func TestQuotaIsValidated(t *testing.T) {
	good := func(edit func(*Quota)) Quota {
		q := Quota{Name: "a", Requests: 10, Per: PerDay, Redis: &QuotaServer{Config: redis.Config{Address: "127.0.0.1:6379"}}}
		edit(&q)
		return q
	}
	for _, c := range []struct {
		q    Quota
		want []string
	}{
		{good(func(*Quota) {}), nil},
		{good(func(q *Quota) {
			q.Timezone, q.Key, q.Cost.Units, q.Redis.OnFailure = "Europe/Berlin", ByIdentity, 10, Closed
		}), nil},
		{good(func(q *Quota) { q.Redis = nil }), []string{
			`quota.redis: a quota needs a Redis or Valkey, where its counts survive a restart: redis: {address: "127.0.0.1:6379"}`}},
		{good(func(q *Quota) { q.Name = "" }), []string{"quota.name: a quota needs a name, by which its counts are found again"}},
		{good(func(q *Quota) { q.Requests = 0 }), []string{"quota.requests: requests 0: 1 to 2^50"}},
		{good(func(q *Quota) { q.Requests = 1<<50 + 1 }), []string{"quota.requests: requests 1125899906842625: 1 to 2^50"}},
		{good(func(q *Quota) { q.Per = "year" }), []string{`quota.per: "year" is not one of minute, hour, day, week, month`}},
		{good(func(q *Quota) { q.Timezone = "Local" }), []string{`quota.timezone: "Local" is not a time zone, as in Europe/Berlin`}},
		{good(func(q *Quota) { q.Timezone = "Europe/Bärlin" }), []string{`quota.timezone: "Europe/Bärlin" is not a time zone, as in Europe/Berlin`}},
		{good(func(q *Quota) { q.Cost.Units = 11 }), []string{"quota.cost: a request of cost 11 is never within 10"}},
		{good(func(q *Quota) { q.Key = "x" }), []string{`quota.key: "x" is not one of client_ip, identity, route, header:NAME, expression:CEL`}},
		{good(func(q *Quota) { q.Redis.Address = "x" }), []string{`quota.redis.address: "x" is not a host and a port, as in 127.0.0.1:6379`}},
		{good(func(q *Quota) { q.Redis.Interval = time.Minute }), []string{"quota.redis.interval: interval 1m0s: 1ms to 10s"}},
		{good(func(q *Quota) { q.Redis.OnFailure = "ajar" }), []string{`quota.redis.on_failure: "ajar" is not one of local, open, closed`}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Quota: &c.q})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.q, diff)
		}
	}
}

// newCounted is a filter whose clock stands at an instant, at a server.
func newCounted(t *testing.T, addr string, cfg Quota, at *time.Time) *quota {
	t.Helper()
	cfg.Name = t.Name()
	if cfg.Redis == nil {
		cfg.Redis = &QuotaServer{}
	}
	cfg.Redis.Address = addr
	if cfg.Redis.Interval == 0 {
		cfg.Redis.Interval = time.Millisecond
	}
	if said := reports(Config{Quota: &cfg}); said != nil {
		t.Fatal(said)
	}
	f := New(Config{Quota: &cfg}).(*quota)
	f.counts.now = func() time.Time { return *at }
	return f
}

// quotaSaid is a request through a filter, and what it is told.
func quotaSaid(f Filter, ctx *fasthttp.RequestCtx) string {
	if f.Request(ctx) == Continue {
		f.Response(ctx)
	}
	h := &ctx.Response.Header
	return fmt.Sprintf("%d %s|%s|%s", ctx.Response.StatusCode(), h.Peek("RateLimit"), h.Peek("RateLimit-Policy"), h.Peek("Retry-After"))
}

// A key has what it may have in each window, and is told where it stands; without a server each process counts by itself.
func TestQuotaTells(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	at := time.Date(2026, 10, 25, 12, 0, 0, 1, time.UTC)
	f := newCounted(t, nowhere(t), Quota{Requests: 3, Per: PerDay, Timezone: "Europe/Berlin", Cost: Cost{Units: 2}}, &at)
	defer f.Close()
	const policy = `|"3/day";q=3;w=90000|` // the clocks go back: 25 hours
	for i, want := range []string{`200 "3/day";r=1;t=39600` + policy, `429 "3/day";r=1;t=39600` + policy + "39600"} {
		if got := quotaSaid(f, from("192.0.2.1")); got != want {
			t.Errorf("request %d: %s", i, got)
		}
	}
	if got := quotaSaid(f, from("192.0.2.2")); !strings.HasPrefix(got, "200") {
		t.Errorf("another client: %s", got)
	}
	at = time.Date(2026, 10, 25, 22, 59, 59, 999_999_999, time.UTC)
	if got, want := quotaSaid(f, from("192.0.2.1")), `429 "3/day";r=1;t=1`+policy+"1"; got != want {
		t.Errorf("in the end: %s", got)
	}
	at = at.Add(1)
	if got, want := quotaSaid(f, from("192.0.2.1")), `200 "3/day";r=1;t=86400|"3/day";q=3;w=86400|`; got != want {
		t.Errorf("the next day: %s", got)
	}
	at = at.Add(-1) // a clock that is set back
	if got := quotaSaid(f, from("192.0.2.3")); !strings.Contains(got, ";t=1"+policy) {
		t.Errorf("back again: %s", got)
	}
}

// What each choice makes of a server that is not there.
func TestQuotaWithoutServer(t *testing.T) {
	for _, c := range []struct {
		choice         OnFailure
		shadow         bool
		passes, status int
		why            *Refusal
	}{
		{"", false, 3, 429, &overQuota}, {Local, false, 3, 429, &overQuota}, {Open, false, 5, 200, nil}, {Closed, false, 0, 503, &noCounts},
		{Closed, true, 5, 200, nil}, {Local, true, 5, 200, nil},
	} {
		at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
		f := newCounted(t, nowhere(t), Quota{Requests: 3, Per: PerDay, Shadow: c.shadow, Redis: &QuotaServer{OnFailure: c.choice}}, &at)
		passes, last := 0, from("192.0.2.1")
		for range 5 {
			last = from("192.0.2.1")
			if f.Request(last) == Continue {
				passes++
			}
		}
		if passes != c.passes || last.Response.StatusCode() != c.status || RefusalOf(last) != c.why || (Shadowed(last) != nil) != (c.shadow && c.choice == Local) {
			t.Errorf("%q: %d pass; then %d %s", c.choice, passes, last.Response.StatusCode(), last.Response.Body())
		}
		f.Close()
	}
}

// serveRedis is a Redis of its own at addr.
func serveRedis(t *testing.T, addr, dir string, args ...string) (kill func()) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server here")
	}
	_, port, _ := net.SplitHostPort(addr)
	c := exec.Command("redis-server", append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir}, args...)...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	dead := false
	kill = func() {
		if !dead {
			dead = true
			c.Process.Kill()
			c.Wait()
		}
	}
	t.Cleanup(kill)
	return kill
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 10 s: %s", what)
		}
	}
}

// A process that begins anew goes on where the last one was, at the cost of one request; and so does a server that keeps a log.
func TestQuotaSurvives(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	addr, dir := nowhere(t), t.TempDir()
	log := []string{"--appendonly", "yes", "--appendfsync", "always"}
	kill := serveRedis(t, addr, dir, log...)
	at := time.Now()
	cfg := Quota{Requests: 10, Per: PerMonth}
	left := func(f *quota) (n int64) { // without taking any
		f.counts.at(at)
		n, _, _ = f.counts.current.Load().tally.Take(f.hash(from("192.0.2.1")), 1<<40, f.most)
		return n
	}
	f := newCounted(t, addr, cfg, &at)
	until(t, "the server is there", func() bool { return !f.counts.node.Down() })
	for range 6 {
		f.Request(from("192.0.2.1"))
	}
	f.Close() // tells all
	f = newCounted(t, addr, cfg, &at)
	until(t, "the server is there", func() bool { return !f.counts.node.Down() })
	f.Request(from("192.0.2.1"))
	until(t, "it is known that 7 were taken", func() bool { return left(f) == 3 })

	kill()
	until(t, "the server is known to be gone", func() bool { return f.counts.node.Down() })
	if f.Request(from("192.0.2.1")) != Continue || left(f) != 2 {
		t.Error("what was known last does not go on")
	}
	kill = serveRedis(t, addr, dir, log...)
	until(t, "the server is back", func() bool { return !f.counts.node.Down() })
	f.Close()
	f = newCounted(t, addr, cfg, &at)
	defer f.Close()
	until(t, "the server is there", func() bool { return !f.counts.node.Down() })
	f.Request(from("192.0.2.1"))
	until(t, "it is known that 9 were taken", func() bool { return left(f) == 1 })
	kill()
}

// What was taken at the end of a window is told when the next one has begun, as that window's; and a key that is new, or has
// taken much, is told at once, whatever the interval is.
func TestQuotaTellsServer(t *testing.T) {
	addr := nowhere(t)
	serveRedis(t, addr, t.TempDir())
	at := time.Now()
	f := newCounted(t, addr, Quota{Requests: 1000, Per: PerHour, Redis: &QuotaServer{Interval: 10 * time.Second}}, &at)
	defer f.Close()
	until(t, "the server is there", func() bool { return !f.counts.node.Down() })
	told := func() uint64 { return f.counts.node.State().Charges }
	f.Request(from("192.0.2.1"))
	until(t, "a new key is told", func() bool { return told() == 1 })
	f.Request(from("192.0.2.1"))
	f.Request(from("192.0.2.1")) // a four-hundredth
	until(t, "a share is told", func() bool { return told() == 2 })
	f.Request(from("192.0.2.1"))
	at = f.counts.current.Load().end
	f.Request(from("192.0.2.1"))
	until(t, "both windows are told", func() bool { return told() == 4 })
	until(t, "the old one is forgotten", func() bool {
		f.counts.node.Wake()
		f.counts.mu.Lock()
		defer f.counts.mu.Unlock()
		return len(f.counts.past) == 0
	})
}

// A table that is full is left for an empty one, and those keys that come again are as they were.
func TestQuotaOfManyKeys(t *testing.T) {
	addr := nowhere(t)
	serveRedis(t, addr, t.TempDir())
	at := time.Now()
	f := newCounted(t, addr, Quota{Requests: 5, Per: PerMonth, Keys: 1}, &at)
	defer f.Close()
	until(t, "the server is there", func() bool { return !f.counts.node.Down() })
	for range 5 {
		f.Request(from("192.0.2.1"))
	}
	first := f.counts.current.Load()
	for i := range 100 {
		f.Request(from(fmt.Sprintf("198.51.100.%d", i)))
	}
	until(t, "the full table is left", func() bool { return f.counts.current.Load() != first })
	until(t, "the known key is refused", func() bool { return f.Request(from("192.0.2.1")) == Answer })
	if f.Request(from("203.0.113.1")) != Continue {
		t.Error("a new key is refused")
	}
}

func TestQuotaAllocatesNothing(t *testing.T) {
	at := time.Now()
	f := newCounted(t, nowhere(t), Quota{Requests: 1 << 40, Per: PerMonth, Timezone: "Europe/Berlin"}, &at)
	defer f.Close()
	f.counts.now = time.Now
	ctx := from("192.0.2.1")
	if n := testing.AllocsPerRun(1000, func() {
		f.Request(ctx)
		ctx.Response.Header.Reset()
		f.Response(ctx)
		ctx.ResetUserValues()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
