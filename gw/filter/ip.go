package filter

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"sluice/lb/access"
)

// IP lets clients in by their addresses: of who the request is for, which is the connection's peer unless a trusted proxy names
// another. See access for which prefix decides.
type IP struct {
	access.Config `yaml:",inline"`
}

func (f *IP) validate(report func(path, message string)) {
	f.Validate(report)
	if len(f.Allow) == 0 && len(f.Deny) == 0 && f.AllowFile == "" && f.DenyFile == "" {
		report("", "lets everybody in: give allow, deny, allow_file or deny_file")
	}
	files := access.Config{AllowFile: f.AllowFile, DenyFile: f.DenyFile}
	if _, err := access.New(files); err != nil {
		report("", err.Error())
	}
}

type ipFilter struct {
	list atomic.Pointer[access.List]
	stop context.CancelFunc
	done chan struct{}
}

// newIP denies everybody if the files have gone since they were validated: until the next reload.
func newIP(cfg IP) *ipFilter {
	f := &ipFilter{done: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	l, err := access.New(cfg.Config)
	if err != nil {
		slog.Error("access list cannot be read, nobody is let in", "error", err)
		l, _ = access.New(access.Config{Deny: []string{"0.0.0.0/0", "::/0"}})
	}
	f.list.Store(l)
	go func() {
		defer close(f.done)
		l.Watch(ctx, 0, slog.Default(), f.list.Store)
	}()
	return f
}

// Request implements Filter.
func (f *ipFilter) Request(ctx *fasthttp.RequestCtx) Result {
	// A client of a Unix socket has no address: it is not on a list of whom to allow.
	var addr netip.Addr
	if a, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		addr, _ = netip.AddrFromSlice(a.IP)
	}
	if !f.list.Load().Admits(addr) {
		return Refuse(ctx, 403, "address is not let in", &ipDenied)
	}
	return Continue
}

// Response implements Filter.
func (f *ipFilter) Response(*fasthttp.RequestCtx) {}

// Close ends the watch over the files.
func (f *ipFilter) Close() error {
	f.stop()
	<-f.done
	return nil
}

var ipDenied = Refusal{"ip", "address"}
