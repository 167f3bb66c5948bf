package filter

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

func TestConcurrencyIsValidated(t *testing.T) {
	for _, c := range []struct {
		c    Concurrency
		want []string
	}{
		{Concurrency{Max: 1}, nil},
		{Concurrency{Max: 1<<20 - 1, Key: ByRoute, Status: 503}, nil},
		{Concurrency{}, []string{"concurrency.max: max 0: 1 to 1048575"}},
		{Concurrency{Max: 1 << 20}, []string{"concurrency.max: max 1048576: 1 to 1048575"}},
		{Concurrency{Max: 1, Status: 300, Keys: -1, Key: "x", Prefix: Prefix{V4: 64}}, []string{
			"concurrency.status: status 300: 400 to 599", "concurrency.keys: -1 keys: 1 to 10000000",
			`concurrency.key: "x" is not one of client_ip, identity, route, header:NAME, expression:CEL`, "concurrency.prefix.v4: prefix of 64 bits: 1 to 32",
		}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{Concurrency: &c.c})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.c, diff)
		}
	}
}

func from(ip string) *fasthttp.RequestCtx {
	ctx := &fasthttp.RequestCtx{}
	ctx.Init2(nil, nil, false)
	ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP(ip)})
	return ctx
}

// A request is under way until its exchange is over: neither its response's head nor another's end makes room.
func TestConcurrency(t *testing.T) {
	f := New(Config{Concurrency: &Concurrency{Max: 2}})
	a, b, c, d := from("192.0.2.1"), from("192.0.2.1"), from("192.0.2.1"), from("192.0.2.2")
	if f.Request(a) != Continue || f.Request(b) != Continue || f.Request(d) != Continue {
		t.Fatal("refused")
	}
	f.Response(a)
	if f.Request(c) != Answer || c.Response.StatusCode() != 429 || RefusalOf(c) == nil || *RefusalOf(c) != atOnce {
		t.Errorf("a third: %v", &c.Response)
	}
	c.ResetUserValues()
	d.ResetUserValues()
	if f.Request(c) != Answer {
		t.Error("room where nobody has left")
	}
	a.ResetUserValues()
	a.ResetUserValues()
	if f.Request(c) != Continue {
		t.Error("no room where one has left")
	}
	if f.Request(a) != Answer {
		t.Error("leaving twice makes room twice")
	}
}

func TestConcurrencyInShadow(t *testing.T) {
	f := New(Config{Concurrency: &Concurrency{Max: 1, Shadow: true, Key: ByRoute}})
	a, b := from("192.0.2.1"), from("192.0.2.2")
	if f.Request(a) != Continue || f.Request(b) != Continue || Shadowed(a) != nil || Shadowed(b) == nil {
		t.Errorf("%v %v", Shadowed(a), Shadowed(b))
	}
}

func TestConcurrencyFromAllLoops(t *testing.T) {
	f := New(Config{Concurrency: &Concurrency{Max: 2, Key: ByRoute, Status: 503}})
	var inside, refused atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ctx := from("192.0.2.1")
			for range 2000 {
				if f.Request(ctx) == Answer {
					refused.Add(1)
				} else {
					if inside.Add(1) > 2 {
						t.Error("more than two")
					}
					inside.Add(-1)
				}
				ctx.ResetUserValues()
			}
		})
	}
	wg.Wait()
	a, b := from("192.0.2.1"), from("192.0.2.1")
	if f.Request(a) != Continue || f.Request(b) != Continue {
		t.Error("some are left over")
	}
}

func TestConcurrencyAllocatesNothing(t *testing.T) {
	f := New(Config{Concurrency: &Concurrency{Max: 2}})
	ctx := from("192.0.2.1")
	if n := testing.AllocsPerRun(1000, func() {
		f.Request(ctx)
		f.Response(ctx)
		ctx.ResetUserValues()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
