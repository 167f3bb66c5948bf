package filter

import (
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

func TestSharedLimitIsValidated(t *testing.T) {
	at := redis.Config{Address: "127.0.0.1:6379"}
	for _, c := range []struct {
		name string
		s    SharedLimit
		want []string
	}{
		{"a", SharedLimit{Config: at}, nil},
		{"a", SharedLimit{Config: at, Interval: time.Millisecond, OnFailure: Closed, Nodes: 3}, nil},
		{"", SharedLimit{Config: at}, []string{"rate_limit.redis: what processes share needs a name, in rate_limit"}},
		{"a", SharedLimit{}, []string{`rate_limit.redis.address: "" is not a host and a port, as in 127.0.0.1:6379`}},
		{"a", SharedLimit{Config: redis.Config{Address: "a:1", Username: "u"}}, []string{"rate_limit.redis.username: a user needs a password or a password_file"}},
		{"a", SharedLimit{Config: at, Interval: time.Microsecond}, []string{"rate_limit.redis.interval: interval 1µs: 1ms to 10s"}},
		{"a", SharedLimit{Config: at, Interval: time.Minute}, []string{"rate_limit.redis.interval: interval 1m0s: 1ms to 10s"}},
		{"a", SharedLimit{Config: at, OnFailure: "ajar"}, []string{`rate_limit.redis.on_failure: "ajar" is not one of local, open, closed`}},
		{"a", SharedLimit{Config: at, Nodes: -1}, []string{"rate_limit.redis.nodes: -1 nodes: 1 to 10000"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{RateLimit: &RateLimit{Name: c.name, Rate: 1, Redis: &c.s}})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.s, diff)
		}
	}
}

// nowhere is an address where nobody listens.
func nowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newShared(t *testing.T, cfg RateLimit, addr string, s SharedLimit) *rateLimit {
	t.Helper()
	s.Address, s.Interval = addr, time.Millisecond
	cfg.Name, cfg.Redis = t.Name(), &s
	f := New(Config{RateLimit: &cfg}).(*rateLimit)
	return f
}

// What each choice makes of a server that is not there. No request waits, and none is an error of ours.
func TestSharedLimitWithoutServer(t *testing.T) {
	for _, c := range []struct {
		choice        OnFailure
		nodes, passes int
		status        int
		why           *Refusal
	}{
		{"", 0, 12, 429, &overRate},
		{Local, 3, 4, 429, &overRate},
		{Local, 100, 1, 429, &overRate},
		{Open, 3, 20, 200, nil},
		{Closed, 3, 0, 503, &noLedger},
	} {
		f := newShared(t, RateLimit{Rate: 1.0 / 3600, Burst: 12}, nowhere(t), SharedLimit{OnFailure: c.choice, Nodes: c.nodes})
		passes, last := 0, from("192.0.2.1")
		for range 20 {
			last = from("192.0.2.1")
			if f.Request(last) == Continue {
				passes++
			}
		}
		if passes != c.passes || last.Response.StatusCode() != c.status || RefusalOf(last) != c.why || strings.Contains(string(last.Response.Body()), "127.0.0.1") {
			t.Errorf("%q: %d pass; then %d %s", c.choice, passes, last.Response.StatusCode(), last.Response.Body())
		}
		f.Close()
	}
}

// A reload does not forget what was counted, and does not leave the old filter's goroutine behind.
func TestSharedLimitOverReload(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	addr := nowhere(t)
	old := newShared(t, RateLimit{Rate: 1.0 / 3600, Burst: 2}, addr, SharedLimit{})
	old.Request(from("192.0.2.1"))
	next := newShared(t, RateLimit{Rate: 1.0 / 3600, Burst: 2}, addr, SharedLimit{OnFailure: Local})
	old.Close()
	if next.Request(from("192.0.2.1")) != Continue || next.Request(from("192.0.2.1")) != Answer {
		t.Error("the reload has changed what is left")
	}
	next.Close()
}

// The server is killed and comes back while requests come: each passes or is refused for its rate.
func TestSharedLimitServerKilled(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server here")
	}
	addr := nowhere(t)
	_, port, _ := net.SplitHostPort(addr)
	serve := func() *exec.Cmd {
		c := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	f := newShared(t, RateLimit{Rate: 1000, Burst: 10, Key: ByRoute}, addr, SharedLimit{Nodes: 2})
	defer f.Close()
	passed := 0
	ask := func(until func() bool) {
		t.Helper()
		ctx := &fasthttp.RequestCtx{}
		for end := time.Now().Add(10 * time.Second); !until(); time.Sleep(100 * time.Microsecond) {
			if time.Now().After(end) {
				t.Fatal("not in 10 s")
			}
			ctx.Response.Reset()
			if f.Request(ctx) == Continue {
				passed++
			} else if RefusalOf(ctx) != &overRate {
				t.Fatalf("refused: %s", ctx.Response.Body())
			}
			ctx.ResetUserValues()
		}
	}
	for range 2 {
		c := serve()
		ask(func() bool { return !f.shared.node.Down() })
		before := passed
		ask(func() bool { return passed > before+20 })
		c.Process.Kill()
		c.Wait()
		ask(f.shared.node.Down)
		before = passed
		ask(func() bool { return passed > before+20 })
	}
}

// Processes have the same hashes of the same keys, and others of other names.
func TestSharedKeys(t *testing.T) {
	a, b, c := newKeyer("", Prefix{}), newKeyer("", Prefix{}), newKeyer("", Prefix{})
	a.salt, b.salt, c.salt = saltOf("x"), saltOf("x"), saltOf("y")
	ctx := from("192.0.2.1")
	if a.hash(ctx) != b.hash(ctx) || a.hash(ctx) == c.hash(ctx) || a.hash(ctx) == a.hash(from("192.0.2.2")) {
		t.Error("hashes")
	}
}

func TestSharedLimitAllocatesNothing(t *testing.T) {
	f := newShared(t, RateLimit{Rate: 1e6, Burst: 1e6}, nowhere(t), SharedLimit{})
	defer f.Close()
	ctx := from("192.0.2.1")
	key := []byte("a key of some length")
	if n := testing.AllocsPerRun(1000, func() { f.table.Take(f.sum('h', key), f.now(), f.cost.units); f.hash(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
