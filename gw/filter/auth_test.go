package filter

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// passed runs a request phase as the gateway does, and waits where it waits.
func passed(t testing.TB, f Filter, ctx *fasthttp.RequestCtx) Result {
	t.Helper()
	resumed := make(chan Result, 1)
	SetResume(ctx, func(r Result) { resumed <- r })
	r := f.Request(ctx)
	if r != Wait {
		return r
	}
	select {
	case r = <-resumed:
	case <-time.After(20 * time.Second):
		t.Fatal("is not resumed")
	}
	return r
}

// outcome is Continue as "", or why it was refused, with the status.
func outcome(t testing.TB, f Filter, ctx *fasthttp.RequestCtx) string {
	t.Helper()
	if passed(t, f, ctx) == Continue {
		return ""
	}
	why := RefusalOf(ctx)
	if why == nil {
		t.Fatal("answered without a reason")
	}
	status := string(fasthttp.AppendUint(nil, ctx.Response.StatusCode()))
	if !strings.HasPrefix(string(ctx.Response.Body()), `{"status":`+status) {
		t.Errorf("body %s", ctx.Response.Body())
	}
	if status == "401" && why.Filter != "api_key" && len(ctx.Response.Header.Peek("WWW-Authenticate")) == 0 {
		t.Error("a 401 without WWW-Authenticate")
	}
	return status + " " + why.Reason
}

// made is the filter of a valid configuration, closed at the end.
func made(t testing.TB, c Config) Filter {
	t.Helper()
	c.Validate(func(p, m string) { t.Fatalf("%s: %s", p, m) })
	f := New(c)
	if f, ok := f.(io.Closer); ok {
		t.Cleanup(func() { _ = f.Close() })
	}
	return f
}

// said is what validation says, a line each.
func said(c Config) string {
	var all []string
	c.Validate(func(p, m string) { all = append(all, p+": "+m) })
	return strings.Join(all, "\n")
}

// written is a file of this content.
func written(t testing.TB, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	rewritten(t, name, content)
	return name
}

// rewritten exchanges a file's content by a rename.
func rewritten(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until it holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

// allocatesNothing runs the request phase of a request that is made anew each time, outside of what is counted but for its head.
func allocatesNothing(t *testing.T, f Filter, head string) {
	t.Helper()
	var ctx fasthttp.RequestCtx
	set := func() {
		ctx.ResetUserValues()
		ctx.Request.Header.Reset()
		for line := range strings.SplitSeq(head, "\n") {
			name, value, ok := strings.Cut(line, ": ")
			if ok {
				ctx.Request.Header.Set(name, value)
			} else {
				ctx.Request.Header.SetRequestURI(line)
			}
		}
	}
	set()
	if f.Request(&ctx) != Continue {
		t.Fatalf("refused: %v", RefusalOf(&ctx))
	}
	if n := testing.AllocsPerRun(200, func() {
		set()
		if f.Request(&ctx) != Continue {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
