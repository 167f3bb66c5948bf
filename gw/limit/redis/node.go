package redis

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// reportTimeout bounds how long a server that hangs is believed to be there; requests are not waiting.
	reportTimeout = 250 * time.Millisecond
	// idle is how often the server is asked whether it is there when there is nothing to tell.
	idle = time.Second
	// again is how long to wait after a failure: a server that is back is to be used soon.
	again = 200 * time.Millisecond
	// breath is the least time between two rounds that are woken. Four times that of a round is the other bound: a node is a fifth
	// of the time with the server at most.
	breath = time.Millisecond
)

// Node reports to a server what is given here, in a goroutine of its own. Safe for concurrent use.
type Node struct {
	down   atomic.Bool
	err    atomic.Pointer[error]
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{}

	rounds, failures, charges atomic.Uint64

	took, heard atomic.Int64 // ns that the last round that went well took, and ns since 1970 of its end
}

// Report tells a ledger what there is to tell; told says that there was something. One call at a time.
type Report func(ctx context.Context, to *Ledger) (told bool, err error)

// Start has report called every so often, and when it is woken, under a name that all processes that share have. When the node is
// closed it is called once more.
func Start(cfg Config, name string, every time.Duration, report Report) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	n.down.Store(true)
	go n.run(ctx, cfg, name, every, report)
	return n
}

// Down says that the server does not answer, or has not yet: nothing is known of other processes.
func (n *Node) Down() bool { return n.down.Load() }

// Err is why it is down; nil if it is not, or not known yet.
func (n *Node) Err() error {
	if e := n.err.Load(); e != nil {
		return *e
	}
	return nil
}

// Wake has the next report made soon. It does not wait.
func (n *Node) Wake() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// State is how a node fares.
type State struct {
	Down bool
	Err  error // the last one, while it is down
	// Rounds had something to tell and have told it; Failures were in vain.
	Rounds, Failures uint64
	// Charges are the keys' counts that were told in rounds.
	Charges uint64
	// Took is how long the last round took; Lag the time since the server answered last, 0 if it never has.
	Took, Lag time.Duration
}

// State is how the node fares now.
func (n *Node) State() State {
	s := State{Down: n.Down(), Err: n.Err(), Rounds: n.rounds.Load(), Failures: n.failures.Load(),
		Charges: n.charges.Load(), Took: time.Duration(n.took.Load())}
	if at := n.heard.Load(); at != 0 {
		s.Lag = max(0, time.Since(time.Unix(0, at)))
	}
	return s
}

// Close ends the reports. The last one may not have been made, if the server does not answer.
func (n *Node) Close() {
	n.cancel()
	<-n.done
}

func (n *Node) run(ctx context.Context, cfg Config, name string, every time.Duration, report Report) {
	defer close(n.done)
	var ledger *Ledger
	defer func() {
		if ledger != nil {
			ledger.Close()
		}
	}()
	// A round is not cut short by Close: the server may have what it was told, and would be told again.
	round := func() (err error) {
		if ledger == nil {
			if ledger, err = Open(cfg, name); err != nil {
				ledger = nil
				return err
			}
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTimeout)
		defer cancel()
		began := time.Now()
		told, err := report(ctx, ledger)
		n.charges.Store(ledger.charges)
		if !told && err == nil {
			if !n.Down() && began.Sub(time.Unix(0, n.heard.Load())) < idle {
				return nil
			}
			err = ledger.Ping(ctx)
		}
		if err == nil {
			now := time.Now()
			n.took.Store(int64(now.Sub(began)))
			n.heard.Store(now.UnixNano())
		}
		if told && err == nil {
			n.rounds.Add(1)
		}
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		err := round()
		pause, rest := again, time.Duration(0)
		if err == nil {
			n.err.Store(nil)
			pause = min(every, max(breath, 4*time.Duration(n.took.Load())))
			rest = every - pause
		} else {
			n.failures.Add(1)
			n.err.Store(&err)
		}
		n.down.Store(err != nil)
		timer.Reset(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
			if rest > 0 {
				timer.Reset(rest)
				select {
				case <-ctx.Done():
				case <-timer.C:
				case <-n.wake:
				}
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	if n.Err() == nil { // else it would hold up who closes
		_ = round()
	}
}
