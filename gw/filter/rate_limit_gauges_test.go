package filter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/limit/redis"
)

// shown are a filter's gauges, by name and labels.
func shown(f Filter) map[string]float64 {
	out := map[string]float64{}
	f.(Gauges).Gauges(func(name string, value float64, labels ...string) {
		out[strings.Join(append([]string{name}, labels...), " ")] = value
	})
	return out
}

func checkShown(t *testing.T, f Filter, want map[string]float64) {
	t.Helper()
	got := shown(f)
	for k, v := range want {
		if is, ok := got[k]; !ok || is != v {
			t.Errorf("%s: %v (%v), not %v", k, is, ok, v)
		}
	}
}

// A table shows how many keys are in debt, how many there is room for, and what had none; an expression how often it failed.
func TestGaugesOfTable(t *testing.T) {
	l := newLimiter(t, RateLimit{Rate: 1, Burst: 1, Keys: 1000, Key: "expression:identity.claims.tenant"})
	for _, tenant := range []any{"a", "b", "a", nil} {
		l.Request(asTenant("192.0.2.1", tenant))
	}
	checkShown(t, l.rateLimit, map[string]float64{
		"limit_entries filter rate_limit": 3, "limit_capacity filter rate_limit": 2048, "limit_crowded_total filter rate_limit": 0,
		"limit_key_errors_total filter rate_limit": 1,
	})
	l.at = 2 * time.Second // all is paid back
	checkShown(t, l.rateLimit, map[string]float64{"limit_entries filter rate_limit": 0})

	named := newLimiter(t, RateLimit{Rate: 1, Name: t.Name()})
	checkShown(t, named.rateLimit, map[string]float64{"limit_entries filter rate_limit name " + t.Name(): 0})
}

// A node shows whether its server is there, what is wrong, and what it was told.
func TestGaugesOfNode(t *testing.T) {
	addr := nowhere(t)
	f := newShared(t, RateLimit{Rate: 1.0 / 3600, Burst: 10}, addr, SharedLimit{})
	defer f.Close()
	label := " filter rate_limit name " + t.Name()
	until(t, "the server is known to be down", func() bool { return shown(f)["limit_redis_failures_total"+label] > 0 })
	checkShown(t, f, map[string]float64{"limit_redis_up" + label: 0, "limit_redis_error" + label + " kind connection": 1,
		"limit_redis_error" + label + " kind tls": 0, "limit_redis_charges_total" + label: 0, "limit_redis_lag_seconds" + label: 0})

	serveRedis(t, addr, t.TempDir())
	until(t, "the server is there", func() bool { return shown(f)["limit_redis_up"+label] == 1 })
	f.Request(&fasthttp.RequestCtx{})
	f.Request(from("192.0.2.1"))
	until(t, "both keys are told", func() bool { return shown(f)["limit_redis_charges_total"+label] == 2 })
	checkShown(t, f, map[string]float64{"limit_redis_error" + label + " kind connection": 0})
	if got := shown(f); got["limit_redis_lag_seconds"+label] <= 0 || got["limit_redis_round_seconds"+label] <= 0 || got["limit_redis_rounds_total"+label] < 1 {
		t.Errorf("%v", got)
	}
}

func TestGaugesOfQuota(t *testing.T) {
	at := time.Now()
	f := newCounted(t, nowhere(t), Quota{Requests: 5, Per: PerMonth, Keys: 16, Redis: &QuotaServer{Config: redis.Config{}}}, &at)
	defer f.Close()
	for i := range 40 {
		f.Request(from(fmt.Sprintf("192.0.2.%d", i)))
	}
	label := " filter quota name " + t.Name()
	checkShown(t, f, map[string]float64{"limit_entries" + label: 32, "limit_capacity" + label: 32, "limit_redis_up" + label: 0})
	if shown(f)["limit_crowded_total"+label] == 0 {
		t.Error("a crowd is not seen")
	}
}
