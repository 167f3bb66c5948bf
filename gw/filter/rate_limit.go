package filter

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"
	"weak"

	"github.com/valyala/fasthttp"

	"sluice/gw/limit"
)

// RateLimit refuses the requests of a key that has had all that it may have. It says so, and to the others what is left, in the
// fields RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10), in seconds that are rounded up. In any time t a
// key has no more than burst + rate·t.
type RateLimit struct {
	// Name has entries of the same name, rates, bursts and number of keys count together, on all routes, and keeps what they
	// have counted over a reload. Without it an entry counts alone, and a reload fills all buckets.
	Name string `yaml:"name"`
	// Rate is what comes back, as in 1000/s, 60/m, 5/h or 1M/d.
	Rate Rate `yaml:"rate"`
	// Burst is what may come at once; 0: the whole requests of one second, and at least 1.
	Burst int64 `yaml:"burst"`
	// Limits are in the place of rate and burst: up to four, all of which a request must be within.
	Limits []RateBurst `yaml:"limits"`
	// Key is client_ip, identity, route, header:NAME or expression:CEL; empty: client_ip, which also stands in for an identity or
	// a header that is not there, and for an expression that fails. What a client may write itself, as a header, is no bound to
	// it: it can have a new key each time.
	Key    LimitKey `yaml:"key"`
	Prefix Prefix   `yaml:"prefix"`
	// Cost is what a request takes, 1 if it is not given: a number, or expression:CEL. A request of which the expression fails,
	// or says less than 0 or more than 2^40, is answered 400, with the reason cost.
	Cost Cost `yaml:"cost"`
	// Shadow counts, and refuses nothing; see Shadowed.
	Shadow bool `yaml:"shadow"`
	// Status is 400 to 599; 0: 429.
	Status int `yaml:"status"`
	// Keys is how many keys are told apart at a time, up to 10 million; 0: 100,000. Each has 32 bytes, for each limit. If more
	// than those are in debt, new keys share a few buckets: see limit.Table.
	Keys int `yaml:"keys"`
	// Redis has all processes count together; it needs a name.
	Redis *SharedLimit `yaml:"redis"`
}

// RateBurst is one of several limits.
type RateBurst struct {
	Rate  Rate  `yaml:"rate"`
	Burst int64 `yaml:"burst"`
}

// burst is b's with the default.
func (b RateBurst) burst() int64 {
	if b.Burst == 0 {
		return max(1, int64(b.Rate))
	}
	return b.Burst
}

// limits are those of either form.
func (f *RateLimit) limits() []RateBurst {
	if len(f.Limits) > 0 {
		return f.Limits
	}
	return []RateBurst{{f.Rate, f.Burst}}
}

func (f *RateLimit) validate(report func(path, message string)) {
	at := ""
	switch {
	case len(f.Limits) > limit.MaxLimits:
		report("limits", fmt.Sprintf("%d limits: at most %d", len(f.Limits), limit.MaxLimits))
	case len(f.Limits) > 0 && (f.Rate != 0 || f.Burst != 0):
		report("limits", "takes the place of rate and burst: give one or the other")
	}
	for i, l := range f.limits() {
		if len(f.Limits) > 0 {
			at = fmt.Sprintf("limits[%d].", i)
		}
		if l.Rate == 0 {
			report(at+"rate", "a limit needs a rate, as in 1000/s")
			continue
		}
		if l.Burst < 0 {
			report(at+"burst", fmt.Sprintf("burst %d: 1 or more", l.Burst))
		} else if _, ok := limit.New(float64(l.Rate), l.burst()); !ok {
			report(at+"burst", fmt.Sprintf("burst %d takes more than 20 years to come back at %v", l.burst(), l.Rate))
		} else if f.Cost.Units > l.burst() {
			report("cost", fmt.Sprintf("a request of cost %d is never within a burst of %d", f.Cost.Units, l.burst()))
		}
	}
	f.Cost.validate(report)
	validateLimit(f.Key, f.Prefix, f.Status, f.Keys, report)
	if f.Redis != nil {
		f.Redis.validate(f.Name, under("redis", report))
	}
}

// rateLimit is a RateLimit, ready for use.
type rateLimit struct {
	*keyer
	name   string
	cost   coster
	table  *limit.Table
	status int
	shadow bool
	policy []byte   // of RateLimit-Policy
	items  [][]byte // of RateLimit, by limit: what stands before the figures
	now    func() int64
	told   sync.Pool

	// Of those that processes share:
	shared  *sharedTable
	release string // its key
	failure OnFailure
	nodes   int64 // while nothing is known of the others, a request costs so many times as much,
	most    int64 // but no more than the smallest burst: a share is at least one request
}

func newRateLimit(cfg RateLimit) *rateLimit {
	status, keys := limitDefaults(cfg.Key, cfg.Status, cfg.Keys)
	f := &rateLimit{name: cfg.Name, keyer: newKeyer(cfg.Key, cfg.Prefix), cost: newCoster(cfg.Cost), status: status, shadow: cfg.Shadow, now: sinceStart}
	limits, id := tableOf(&cfg, keys)
	fresh := func() *limit.Table { return limit.NewTable(keys, limits...) }
	switch {
	case cfg.Redis != nil:
		f.shared, f.release = ledgers.get(&cfg, id, fresh)
		f.table, f.failure, f.nodes, f.most = f.shared.table, cfg.Redis.OnFailure, int64(max(1, cfg.Redis.Nodes)), math.MaxInt64
		f.salt = saltOf(id)
		for _, l := range cfg.limits() {
			f.most = min(f.most, l.burst())
		}
	case cfg.Name != "":
		f.table = tables.get(id, fresh)
	default:
		f.table = fresh()
	}
	for i, l := range cfg.limits() {
		if i > 0 {
			f.policy = append(f.policy, ", "...)
		}
		item := append(strconv.AppendQuote(nil, l.Rate.String()), ';')
		f.items = append(f.items, item)
		window := max(1, int64(math.Ceil(float64(l.burst())/float64(l.Rate))))
		f.policy = append(append(f.policy, item...), "q="...)
		f.policy = strconv.AppendInt(f.policy, max(l.burst(), int64(float64(l.Rate)*float64(window))), 10)
		f.policy = append(f.policy, ";w="...)
		f.policy = strconv.AppendInt(f.policy, window, 10)
	}
	f.told.New = func() any { return &told{by: f} }
	return f
}

// start is the instant from which limits count; a nanosecond before, as theirs are more than 0.
var start = time.Now().Add(-1)

func sinceStart() int64 { return int64(time.Since(start)) }

// told is what a request was told, for its response: a user value, which goes back to its filter when the exchange is over.
type told struct {
	by *rateLimit
	limit.Verdict
	room []byte
}

// Close implements io.Closer, for fasthttp.
func (t *told) Close() error {
	t.by.told.Put(t)
	return nil
}

// Request implements Filter.
func (f *rateLimit) Request(ctx *fasthttp.RequestCtx) Result {
	cost, ok := f.cost.of(ctx)
	switch {
	case !ok && f.shadow:
		ctx.SetUserValue(shadowKey{}, &noCost)
		return Continue
	case !ok:
		return Refuse(ctx, fasthttp.StatusBadRequest, "what the request costs is not known", &noCost)
	case cost == 0:
		return Continue
	}
	if f.shared != nil && f.shared.node.Down() {
		switch {
		case f.failure == Open || f.failure == Closed && f.shadow:
			return Continue
		case f.failure == Closed:
			return Refuse(ctx, fasthttp.StatusServiceUnavailable, "limits are not known", &noLedger)
		}
		cost = max(cost, min(cost*f.nodes, f.most))
	}
	v := f.table.Take(f.hash(ctx), f.now(), cost)
	if f.shadow {
		if !v.OK {
			ctx.SetUserValue(shadowKey{}, &overRate)
		}
		return Continue
	}
	t := f.told.Get().(*told)
	t.Verdict = v
	ctx.SetUserValue(f, t)
	if v.OK {
		return Continue
	}
	Refuse(ctx, f.status, "too many requests", &overRate)
	t.room = strconv.AppendInt(t.room[:0], seconds(v.Wait), 10)
	ctx.Response.Header.SetBytesV("Retry-After", t.room)
	f.Response(ctx)
	return Answer
}

// Response implements Filter. The fields are lists: those of another limit, the upstream's own or an earlier filter's, stay.
func (f *rateLimit) Response(ctx *fasthttp.RequestCtx) {
	t, ok := ctx.UserValue(f).(*told)
	if !ok {
		return
	}
	b := append(append(t.room[:0], f.items[t.Limit]...), "r="...)
	b = strconv.AppendInt(b, t.Left, 10)
	b = append(b, ";t="...)
	t.room = strconv.AppendInt(b, seconds(t.Full), 10)
	ctx.Response.Header.AddBytesV("RateLimit", t.room)
	ctx.Response.Header.AddBytesV("RateLimit-Policy", f.policy)
}

// seconds is d rounded up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// Close implements io.Closer: it ends what runs for the filter.
func (f *rateLimit) Close() error {
	if f.shared != nil {
		ledgers.release(f.release)
	}
	return nil
}

var overRate, noLedger, noCost = Refusal{"rate_limit", "rate"}, Refusal{"rate_limit", "redis"}, Refusal{"rate_limit", "cost"}

// registry finds the tables that have a name. It does not keep them: a table lives as long as a filter of it.
type registry struct {
	mu     sync.Mutex
	byName map[string]weak.Pointer[limit.Table]
}

var tables = registry{byName: map[string]weak.Pointer[limit.Table]{}}

// tableOf is what the table of a valid configuration has, and what it is called: the same for those that count together.
func tableOf(cfg *RateLimit, keys int) (limits []limit.Limit, id string) {
	id = fmt.Sprintf("%q %d", cfg.Name, keys)
	for _, l := range cfg.limits() {
		one, _ := limit.New(float64(l.Rate), l.burst())
		limits = append(limits, one)
		id += fmt.Sprint(" ", float64(l.Rate), " ", l.burst())
	}
	return limits, id
}

// get is the table that is called id.
func (r *registry) get(id string, fresh func() *limit.Table) *limit.Table {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.byName[id].Value(); t != nil {
		return t
	}
	for k, p := range r.byName {
		if p.Value() == nil {
			delete(r.byName, k)
		}
	}
	t := fresh()
	r.byName[id] = weak.Make(t)
	return t
}
