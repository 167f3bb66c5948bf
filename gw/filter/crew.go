package filter

import (
	"runtime"
	"sync/atomic"
	"time"
)

// crew does what takes long, a hash or many signatures, off the loops: half of the CPUs' worth at a time, so that the loops keep
// the others, and with a bounded queue.
type crew struct {
	running chan struct{}
	waiting atomic.Int64
	most    int64
}

func newCrew(most int) *crew {
	return &crew{running: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), most: int64(most)}
}

// do has job run some time; false: too many wait already.
func (c *crew) do(job func()) bool {
	if c.waiting.Add(1) > c.most {
		c.waiting.Add(-1)
		return false
	}
	go func() {
		c.running <- struct{}{}
		defer func() {
			<-c.running
			c.waiting.Add(-1)
		}()
		job()
	}()
	return true
}

// pace lets so many through per second, and as many at once as come together in a hundredth of one: of 1000 signatures that is less
// than a millisecond for which a loop does nothing else, in a tenth it was seven. For all loops at once. It is the
// generic cell rate algorithm in its one word: the time at which all that was let through is over.
type pace struct {
	each int64 // ns
	over atomic.Int64
}

func newPace(perSecond int) *pace { return &pace{each: int64(time.Second) / int64(perSecond)} }

func (p *pace) take(now time.Time) bool {
	for t := now.UnixNano(); ; {
		over := p.over.Load()
		if over > t+int64(time.Second)/100 {
			return false
		}
		if p.over.CompareAndSwap(over, max(over, t)+p.each) {
			return true
		}
	}
}
