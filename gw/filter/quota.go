package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/limit/redis"
)

// Quota refuses the requests of a key that has had all that it may have in a window of the calendar. All processes that have a
// quota of the same name count together, and go on where they were after a restart: the counts are in a Redis or Valkey. No
// request waits for it: each process decides by what it knows, and tells and asks every interval, and at once for a key that it
// has not seen in the window, or when it has given a four-hundredth of what there is. In a window, n processes let through no more than
//
//	requests + (n-1)·(what a key asks of one of them in an interval and a round trip)
//
// and one that has been restarted, besides, what is asked of it in the first round trip. It tells what RateLimit tells, in the same
// fields.
type Quota struct {
	// Name has entries of the same name, window and number of keys count together, on all routes and in all processes.
	Name string `yaml:"name,required"`
	// Requests is what a key has in a window, or units of cost.
	Requests int64 `yaml:"requests,required"`
	// Per is the window, and Timezone whose calendar it is of, as in Europe/Berlin; empty: UTC.
	Per      Per    `yaml:"per,required"`
	Timezone string `yaml:"timezone"`
	// Key, Prefix and Cost are as in RateLimit.
	Key    LimitKey `yaml:"key"`
	Prefix Prefix   `yaml:"prefix"`
	Cost   Cost     `yaml:"cost"`
	// Shadow counts, and refuses nothing; see Shadowed.
	Shadow bool `yaml:"shadow"`
	// Status is 400 to 599; 0: 429.
	Status int `yaml:"status"`
	// Keys is how many keys are told apart at a time, up to 10 million; 0: 100,000. Each has 48 bytes. More share a few counts, for
	// a second: then those in use are read again.
	Keys int `yaml:"keys"`
	// Redis is where the counts are.
	Redis *QuotaServer `yaml:"redis"`
}

// QuotaServer says where counts are, and what happens without it.
type QuotaServer struct {
	redis.Config `yaml:",inline"`
	// Interval is 1 ms to 10 s; 0: 20 ms.
	Interval time.Duration `yaml:"interval"`
	// OnFailure is what happens while the server does not answer, from the beginning on; empty: local, which goes on from what was
	// known last.
	OnFailure OnFailure `yaml:"on_failure"`
}

func (f *Quota) validate(report func(path, message string)) {
	if f.Name == "" {
		report("name", "a quota needs a name, by which its counts are found again")
	}
	if f.Requests < 1 || f.Requests > 1<<50 {
		report("requests", fmt.Sprintf("requests %d: 1 to 2^50", f.Requests))
	}
	if !slices.Contains(f.Per.Choices(), string(f.Per)) {
		report("per", fmt.Sprintf("%q is not one of %s", string(f.Per), strings.Join(f.Per.Choices(), ", ")))
	}
	if _, err := time.LoadLocation(f.Timezone); err != nil || f.Timezone == "Local" {
		report("timezone", fmt.Sprintf("%q is not a time zone, as in Europe/Berlin", f.Timezone))
	}
	f.Cost.validate(report)
	if f.Cost.Units > f.Requests && f.Requests > 0 {
		report("cost", fmt.Sprintf("a request of cost %d is never within %d", f.Cost.Units, f.Requests))
	}
	validateLimit(f.Key, f.Prefix, f.Status, f.Keys, report)
	if f.Redis == nil {
		report("redis", "a quota needs a Redis or Valkey, where its counts survive a restart: redis: {address: \"127.0.0.1:6379\"}")
		return
	}
	report = under("redis", report)
	f.Redis.Validate(report)
	validateInterval(f.Redis.Interval, report)
	f.Redis.OnFailure.validate(report)
}

// quota is a Quota, ready for use.
type quota struct {
	*keyer
	cost    coster
	counts  *quotaCounts
	release string // its key
	most    int64
	status  int
	shadow  bool
	failure OnFailure
	item    []byte // of both fields: the policy's name
	told    sync.Pool
}

func newQuota(cfg Quota) *quota {
	status, keys := limitDefaults(cfg.Key, cfg.Status, cfg.Keys)
	f := &quota{keyer: newKeyer(cfg.Key, cfg.Prefix), cost: newCoster(cfg.Cost), most: cfg.Requests, status: status, shadow: cfg.Shadow,
		failure: cfg.Redis.OnFailure}
	f.counts, f.release = takeQuotaCounts(&cfg, keys)
	f.salt = saltOf(f.counts.name)
	f.item = append(strconv.AppendQuote(nil, strconv.FormatInt(cfg.Requests, 10)+"/"+string(cfg.Per)), ';')
	f.told.New = func() any { return &quotaTold{by: f} }
	return f
}

// quotaTold is what a request was told, for its response: a user value, which goes back to its filter when the exchange is over.
type quotaTold struct {
	by                   *quota
	left, window, length int64 // units; seconds to the window's end, and of it
	room                 []byte
}

// Close implements io.Closer, for fasthttp.
func (t *quotaTold) Close() error {
	t.by.told.Put(t)
	return nil
}

// Request implements Filter.
func (f *quota) Request(ctx *fasthttp.RequestCtx) Result {
	cost, ok := f.cost.of(ctx)
	switch {
	case !ok && f.shadow:
		ctx.SetUserValue(shadowKey{}, &noQuotaCost)
		return Continue
	case !ok:
		return Refuse(ctx, fasthttp.StatusBadRequest, "what the request costs is not known", &noQuotaCost)
	case cost == 0:
		return Continue
	}
	if f.counts.node.Down() {
		switch {
		case f.failure == Open || f.failure == Closed && f.shadow:
			return Continue
		case f.failure == Closed:
			return Refuse(ctx, fasthttp.StatusServiceUnavailable, "quotas are not known", &noCounts)
		}
	}
	now := f.counts.now()
	w := f.counts.at(now)
	left, ok, due := w.tally.Take(f.hash(ctx), cost, f.most)
	if due {
		f.counts.node.Wake()
	}
	if f.shadow {
		if !ok {
			ctx.SetUserValue(shadowKey{}, &overQuota)
		}
		return Continue
	}
	t := f.told.Get().(*quotaTold)
	t.left, t.window, t.length = left, max(1, seconds(w.end.Sub(now))), seconds(w.end.Sub(w.start))
	ctx.SetUserValue(f, t)
	if ok {
		return Continue
	}
	Refuse(ctx, f.status, "quota used up", &overQuota)
	t.room = strconv.AppendInt(t.room[:0], t.window, 10)
	ctx.Response.Header.SetBytesV("Retry-After", t.room)
	f.Response(ctx)
	return Answer
}

// Response implements Filter. The fields are lists, as RateLimit's.
func (f *quota) Response(ctx *fasthttp.RequestCtx) {
	t, ok := ctx.UserValue(f).(*quotaTold)
	if !ok {
		return
	}
	b := append(append(t.room[:0], f.item...), "r="...)
	b = strconv.AppendInt(b, t.left, 10)
	b = append(b, ";t="...)
	t.room = strconv.AppendInt(b, t.window, 10)
	ctx.Response.Header.AddBytesV("RateLimit", t.room)
	b = append(append(t.room[:0], f.item...), "q="...)
	b = strconv.AppendInt(b, f.most, 10)
	b = append(b, ";w="...)
	t.room = strconv.AppendInt(b, t.length, 10)
	ctx.Response.Header.AddBytesV("RateLimit-Policy", t.room)
}

// Close ends what runs for the filter.
func (f *quota) Close() error {
	f.counts.close(f.release)
	return nil
}

var overQuota, noCounts, noQuotaCost = Refusal{"quota", "used"}, Refusal{"quota", "redis"}, Refusal{"quota", "cost"}
