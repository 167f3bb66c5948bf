package filter

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/engine"
)

func TestBodyLimit(t *testing.T) {
	for _, c := range []struct {
		max    engine.Size
		field  string
		status int // 0: goes on
	}{
		{10, "Content-Length: 10", 0},
		{10, "Content-Length: 11", 413},
		{10, "Content-Length: 9223372036854775807", 413},
		{0, "Content-Length: 0", 0},
		{0, "Content-Length: 1", 413},
		{10, "X: no body", 0},
		{10, "Transfer-Encoding: chunked", 0}, // ended on its way
	} {
		ctx := parsed(t, "Host: a", c.field)
		f := New(Config{BodyLimit: &BodyLimit{Max: &c.max}})
		status := 0
		if f.Request(ctx) == Answer {
			status = ctx.Response.StatusCode()
			if w := RefusalOf(ctx); w == nil || *w != (Refusal{"body_limit", "too large"}) {
				t.Errorf("%s: refused for %v", c.field, w)
			}
		}
		if status != c.status {
			t.Errorf("%d, %s: %d, not %d", c.max, c.field, status, c.status)
		}
		if got := f.(BodyBound).MaxBody(); got != int64(c.max) {
			t.Errorf("bound %d, not %d", got, c.max)
		}
		if n := testing.AllocsPerRun(100, func() {
			if c.status == 0 {
				f.Request(ctx)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.field, n)
		}
	}
	if diff := cmp.Diff([]string{"body_limit.max: is missing: the most bytes that a request's body may have"},
		reports(Config{BodyLimit: &BodyLimit{}})); diff != "" {
		t.Error(diff)
	}
}
