package redis

import (
	"context"
	"sync/atomic"
	"time"

	"sluice/gw/limit"
)

const (
	// reportTimeout bounds how long a server that hangs is believed to be there; requests are not waiting.
	reportTimeout = 250 * time.Millisecond
	// idle is how often the server is asked whether it is there when there is nothing to tell.
	idle = time.Second
	// again is how long to wait after a failure: a server that is back is to be used soon.
	again = 200 * time.Millisecond
)

// Node reports what a table gives to a server, in a goroutine of its own. Safe for concurrent use.
type Node struct {
	down   atomic.Bool
	err    atomic.Pointer[error]
	cancel context.CancelFunc
	done   chan struct{}
}

// Start has a shared table report every so often, under a name that all its processes have. clock is the table's.
func Start(cfg Config, name string, table *limit.Table, every time.Duration, clock func() int64) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{cancel: cancel, done: make(chan struct{})}
	n.down.Store(true)
	go n.run(ctx, cfg, name, table, every, clock)
	return n
}

// Down says that the server does not answer, or has not yet: the table knows of no other process.
func (n *Node) Down() bool { return n.down.Load() }

// Err is why it is down; nil if it is not, or not known yet.
func (n *Node) Err() error {
	if e := n.err.Load(); e != nil {
		return *e
	}
	return nil
}

// Close ends the reports, the last of which may not have been made.
func (n *Node) Close() {
	n.cancel()
	<-n.done
}

func (n *Node) run(ctx context.Context, cfg Config, name string, table *limit.Table, every time.Duration, clock func() int64) {
	defer close(n.done)
	var ledger *Ledger
	defer func() {
		if ledger != nil {
			ledger.Close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := func() (err error) {
			if ledger == nil {
				if ledger, err = Open(cfg, name); err != nil {
					ledger = nil
					return err
				}
			}
			ctx, cancel := context.WithTimeout(ctx, reportTimeout)
			defer cancel()
			if told, err := table.Report(ctx, ledger, clock); told || err != nil {
				heard = time.Now()
				return err
			}
			if n.Down() || time.Since(heard) > idle {
				heard = time.Now()
				return ledger.Ping(ctx)
			}
			return nil
		}()
		if err == nil {
			n.err.Store(nil)
			timer.Reset(every)
		} else {
			n.err.Store(&err)
			timer.Reset(again)
		}
		n.down.Store(err != nil)
	}
}
