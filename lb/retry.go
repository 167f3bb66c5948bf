package lb

import (
	"fmt"
	"slices"
	"time"
)

// Retry says which requests (http) are sent again, to another endpoint if there is one. Each time takes from the cluster's
// retry budget; whether a request may be sent twice at all is the gateway's to know.
type Retry struct {
	// Attempts is how often a request is sent again, at most; 0: 2, -1: never.
	Attempts int `yaml:"attempts"`
	// Statuses are those of responses after which another endpoint is asked; not given: none.
	Statuses []int `yaml:"statuses"`
	// PerTry bounds the wait for a response to begin, for one endpoint; 0: ResponseTimeout alone does.
	PerTry time.Duration `yaml:"per_try_timeout"`
	// MaxBody is how many bytes of a request's body are kept, so that it can be sent again: one with a larger body is not;
	// 0: 64 KiB, which nearly all API calls are below, -1: none.
	MaxBody int `yaml:"max_body"`
}

const (
	maxAttempts  = 10
	maxRetryBody = 1 << 24
)

func (r *Retry) validate(report func(path, message string)) {
	if r.Attempts < -1 || r.Attempts > maxAttempts {
		report("attempts", fmt.Sprintf("%d: 1 to %d times, or -1 for never", r.Attempts, maxAttempts))
	}
	for i, s := range r.Statuses {
		switch path := fmt.Sprintf("statuses[%d]", i); {
		case s < 400 || s > 599:
			report(path, fmt.Sprintf("%d is no status of a failure: 400 to 599", s))
		case slices.Contains(r.Statuses[:i], s):
			report(path, fmt.Sprintf("%d is there twice", s))
		}
	}
	if r.PerTry < 0 {
		report("per_try_timeout", "must not be negative")
	}
	if r.MaxBody < -1 || r.MaxBody > maxRetryBody {
		report("max_body", fmt.Sprintf("%d: 1 to %d bytes, or -1 for none", r.MaxBody, maxRetryBody))
	}
}

func (r Retry) withDefaults() Retry {
	switch r.Attempts {
	case 0:
		r.Attempts = 2
	case -1:
		r.Attempts = 0
	}
	switch r.MaxBody {
	case 0:
		r.MaxBody = 64 << 10
	case -1:
		r.MaxBody = 0
	}
	return r
}
