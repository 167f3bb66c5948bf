package filter

import (
	"fmt"
	"sync"

	"github.com/valyala/fasthttp"

	"sluice/gw/limit"
)

// Concurrency refuses a key's requests while as many of its own are under way as may be. One is under way until its exchange is
// over, with or without a response: until ctx.ResetUserValues.
type Concurrency struct {
	// Max is 1 to 1048575.
	Max int `yaml:"max"`
	// Key and Prefix are as in RateLimit.
	Key    LimitKey `yaml:"key"`
	Prefix Prefix   `yaml:"prefix"`
	// Shadow counts, and refuses nothing; see Shadowed.
	Shadow bool `yaml:"shadow"`
	// Status is 400 to 599; 0: 429.
	Status int `yaml:"status"`
	// Keys is how many keys with requests under way are told apart, up to 10 million; 0: 100,000. Each has 16 bytes. More share a
	// few counts.
	Keys int `yaml:"keys"`
}

func (f *Concurrency) validate(report func(path, message string)) {
	if f.Max < 1 || f.Max > limit.MaxCount {
		report("max", fmt.Sprintf("max %d: 1 to %d", f.Max, limit.MaxCount))
	}
	validateLimit(f.Key, f.Prefix, f.Status, f.Keys, report)
}

// concurrency is a Concurrency, ready for use.
type concurrency struct {
	*keyer
	counts *limit.Counts
	status int
	shadow bool
	places sync.Pool
}

func newConcurrency(cfg Concurrency) *concurrency {
	status, keys := limitDefaults(cfg.Key, cfg.Status, cfg.Keys)
	f := &concurrency{keyer: newKeyer(cfg.Key, cfg.Prefix), counts: limit.NewCounts(keys, cfg.Max), status: status, shadow: cfg.Shadow}
	f.places.New = func() any { return &stay{by: f} }
	return f
}

// stay is a request that is under way: a user value, which ends with the exchange.
type stay struct {
	limit.Place
	by *concurrency
}

// Close implements io.Closer, for fasthttp.
func (p *stay) Close() error {
	p.Leave()
	p.by.places.Put(p)
	return nil
}

// Request implements Filter.
func (f *concurrency) Request(ctx *fasthttp.RequestCtx) Result {
	entered, ok := f.counts.Enter(f.hash(ctx))
	switch {
	case ok:
		p := f.places.Get().(*stay)
		p.Place = entered
		ctx.SetUserValue(f, p)
		return Continue
	case f.shadow:
		ctx.SetUserValue(shadowKey{}, &atOnce)
		return Continue
	}
	return Refuse(ctx, f.status, "too many requests at once", &atOnce)
}

// Response implements Filter.
func (f *concurrency) Response(*fasthttp.RequestCtx) {}

var atOnce = Refusal{"concurrency", "max"}
