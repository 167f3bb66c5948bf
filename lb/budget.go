package lb

import (
	"time"

	"sluice/engine"
)

// The bounds of a retry budget, on each loop: what may be saved up while all is well, and what is earned by the second
// where there are few requests.
const (
	budgetMax       = 100
	budgetPerSecond = 10
)

// budget bounds how many requests are sent again: a part of those that are sent at all, so that a cluster in trouble is
// not given more to do for being in trouble (Finagle's RetryBudget is the model). Owned by the loop.
type budget struct {
	left float64
	at   time.Duration // when the seconds were counted last, on the loop's clock
}

func (b *budget) earn(part float64) {
	if b.left < budgetMax {
		b.left += part
	}
}

func (b *budget) spend(now time.Duration) bool {
	if b.at == 0 {
		b.left += budgetPerSecond
	} else {
		b.left += (now - b.at).Seconds() * budgetPerSecond
	}
	b.left, b.at = min(b.left, budgetMax), now
	return b.take()
}

// take is spend with nothing earned but by requests.
func (b *budget) take() bool {
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// MayRetry takes one retry out of the cluster's budget on loop l; false if it is used up. It is for requests that an
// endpoint may have seen: one that could not be connected to costs nobody anything.
func (c *Cluster) MayRetry(l *engine.Loop) bool {
	return c.shared.loops[l.ID()].budget.spend(l.Now())
}

// earn counts a request that is sent for the first time into the loop's budgets.
func (c *Cluster) earn(s *loopState) {
	s.budget.earn(c.retryPart)
	if c.hedgePart > 0 {
		s.hedges.earn(c.hedgePart)
	}
}
