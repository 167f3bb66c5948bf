package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"sluice/lb/access"
)

// watchEvery is how often the files of access lists are looked at.
const watchEvery = time.Second

// guard is a listener's access list, which follows its files.
type guard struct {
	cfg    access.Config
	list   atomic.Pointer[access.List]
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// newGuard reads the lists of cfg. It is old if that has the same ones, and nil if everyone is let in.
func newGuard(cfg access.Config, old *listener) (*guard, error) {
	if reflect.DeepEqual(cfg, access.Config{}) {
		return nil, nil
	}
	if old != nil && old.guard != nil && reflect.DeepEqual(old.guard.cfg, cfg) {
		return old.guard, nil
	}
	list, err := access.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("access list: %w", err)
	}
	g := &guard{cfg: cfg}
	g.list.Store(list)
	return g, nil
}

// watch follows the files until stop.
func (g *guard) watch(log *slog.Logger) {
	if g == nil || g.cancel != nil || g.cfg.AllowFile == "" && g.cfg.DenyFile == "" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.done.Go(func() { g.list.Load().Watch(ctx, watchEvery, log, g.list.Store) })
}

func (g *guard) stop() {
	if g != nil && g.cancel != nil {
		g.cancel()
		g.done.Wait()
	}
}

// admits is what listeners ask; nil if everyone is let in.
func (g *guard) admits() func(netip.Addr) bool {
	if g == nil {
		return nil
	}
	return func(a netip.Addr) bool { return g.list.Load().Admits(a) }
}
