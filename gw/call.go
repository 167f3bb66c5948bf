package gw

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
	"sluice/lb"
)

// maxCalls bounds the requests of filters that are under way: each has a goroutine.
const maxCalls = 1024

// caller sends the requests of filters, for one loop: to an endpoint that is picked there, by a goroutine and fasthttp's client,
// as they are few beside the requests that they are for. It implements filter.Caller.
type caller struct {
	gw *Gateway
	w  *worker
}

// calls is what the callers of a gateway share.
type calls struct {
	clusters map[string]*lb.Cluster
	clients  sync.Map // callClient → *fasthttp.HostClient
	running  atomic.Int64
}

type callClient struct {
	address string
	limit   int
	secured *tls.Config
}

var errCallsFull = errors.New("too many requests of filters are under way")

// Call implements filter.Caller. It is called on the loop.
func (c *caller) Call(_ *fasthttp.RequestCtx, cluster string, req *fasthttp.Request, timeout time.Duration, limit int, done func(*fasthttp.Response, error)) {
	all, l := &c.gw.calls, c.w.loop
	cl := all.clusters[cluster]
	if all.running.Add(1) > maxCalls {
		all.running.Add(-1)
		done(nil, errCallsFull)
		return
	}
	ep, err := cl.Take(l, c.w.rand.Uint64(), nil)
	if err != nil {
		all.running.Add(-1)
		done(nil, fmt.Errorf("cluster %s: %w", cluster, err))
		return
	}
	client := all.client(ep.String(), limit, cl.TLSConfig(ep))
	if client.IsTLS {
		req.URI().SetScheme("https") // fasthttp's client refuses others
	}
	go func() {
		resp := fasthttp.AcquireResponse()
		defer fasthttp.ReleaseResponse(resp)
		err := client.DoTimeout(req, resp, timeout)
		status := resp.StatusCode()
		l.Post(func() {
			if err != nil {
				cl.Failed(l, ep)
			} else {
				cl.Served(ep, status)
			}
			ep.End(l)
		})
		all.running.Add(-1)
		switch {
		case errors.Is(err, fasthttp.ErrTimeout):
			done(nil, filter.ErrCallTimeout)
		case errors.Is(err, fasthttp.ErrBodyTooLarge):
			done(nil, filter.ErrCallTooLarge)
		case err != nil:
			done(nil, fmt.Errorf("cluster %s, endpoint %s: %w", cluster, ep, err))
		default:
			done(resp, nil)
		}
	}()
}

func (a *calls) client(address string, limit int, secured *tls.Config) *fasthttp.HostClient {
	k := callClient{address, limit, secured}
	if c, ok := a.clients.Load(k); ok {
		return c.(*fasthttp.HostClient)
	}
	c, _ := a.clients.LoadOrStore(k, &fasthttp.HostClient{Addr: address, Name: "sluice", MaxConns: maxCalls, MaxResponseBodySize: limit,
		IsTLS: secured != nil, TLSConfig: secured,
		DisablePathNormalizing: true, DialTimeout: func(_ string, left time.Duration) (net.Conn, error) {
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				return net.DialTimeout("unix", path, left)
			}
			return net.DialTimeout("tcp", address, min(left, time.Second))
		}})
	return c.(*fasthttp.HostClient)
}

// Close ends what the gateway's filters do beside the loops, when no new connection meets it any more. Those that it has are still
// served.
func (g *Gateway) Close() {
	for _, f := range g.closers {
		f.Close()
	}
	g.calls.clients.Range(func(_, c any) bool {
		c.(*fasthttp.HostClient).CloseIdleConnections()
		return true
	})
}
