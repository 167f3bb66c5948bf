package filter

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMaintenance(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    Maintenance
		ip     string
		fields []string
		passes bool
	}{
		{"all", Maintenance{}, "192.0.2.1", nil, false},
		{"an address", Maintenance{Allow: []string{"192.0.2.0/24"}}, "192.0.2.1", nil, true},
		{"IPv4 in IPv6", Maintenance{Allow: []string{"192.0.2.0/24"}}, "::ffff:192.0.2.1", nil, true},
		{"another address", Maintenance{Allow: []string{"192.0.2.0/24"}}, "192.0.3.1", nil, false},
		{"no address", Maintenance{Allow: []string{"0.0.0.0/0", "::/0"}}, "", nil, false},
		{"the header", Maintenance{Header: "X-Door", Value: "s3same"}, "192.0.2.1", []string{"x-door: s3same"}, true},
		{"a prefix of it", Maintenance{Header: "X-Door", Value: "s3same"}, "192.0.2.1", []string{"X-Door: s3sam"}, false},
		{"it is empty", Maintenance{Header: "X-Door", Value: "s3same"}, "192.0.2.1", []string{"X-Door:"}, false},
		{"it is second", Maintenance{Header: "X-Door", Value: "s3same"}, "192.0.2.1", []string{"X-Door: a", "X-Door: s3same"}, false},
		{"the address forged in a header", Maintenance{Allow: []string{"10.0.0.1"}}, "192.0.2.1", []string{"X-Forwarded-For: 10.0.0.1"}, false},
	} {
		ctx := parsed(t, append([]string{"Host: a"}, c.fields...)...)
		if c.ip != "" {
			ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP(c.ip).To16(), Port: 1})
		} else {
			ctx.SetRemoteAddr(&net.UnixAddr{Name: "@"})
		}
		f := New(Config{Maintenance: &c.cfg})
		if passes := f.Request(ctx) == Continue; passes != c.passes {
			t.Errorf("%s: passes is %v", c.name, passes)
		}
		if c.cfg.Header != "" && len(ctx.Request.Header.PeekAll(c.cfg.Header)) > 0 {
			t.Errorf("%s: the header goes on", c.name)
		}
		if w := RefusalOf(ctx); (w == nil) != c.passes {
			t.Errorf("%s: refusal %v", c.name, w)
		}
		if n := testing.AllocsPerRun(100, func() {
			if c.passes && c.cfg.Header == "" {
				f.Request(ctx)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestMaintenanceAnswers(t *testing.T) {
	for _, c := range []struct {
		cfg               Maintenance
		after, kind, body string
	}{
		{Maintenance{}, "", "application/json", `{"status":503,"error":"down for maintenance","request_id":""}` + "\n"},
		{Maintenance{RetryAfter: 1500 * time.Millisecond, Body: "<p>soon"}, "2", "text/html; charset=utf-8", "<p>soon"},
		{Maintenance{RetryAfter: time.Hour, Body: "{}", ContentType: "application/json"}, "3600", "application/json", "{}"},
	} {
		ctx := parsed(t)
		if New(Config{Maintenance: &c.cfg}).Request(ctx) != Answer || ctx.Response.StatusCode() != 503 {
			t.Errorf("%+v: status %d", c.cfg, ctx.Response.StatusCode())
		}
		h := &ctx.Response.Header
		got := []string{string(h.Peek("Retry-After")), string(h.ContentType()), string(ctx.Response.Body()), string(h.Peek("Cache-Control"))}
		if diff := cmp.Diff([]string{c.after, c.kind, c.body, "no-store"}, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestMaintenanceIsValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  Maintenance
		want string
	}{
		{Maintenance{RetryAfter: -1}, "maintenance.retry_after: must not be negative"},
		{Maintenance{ContentType: "a\nb", Body: "x"}, "maintenance.content_type: has a control"},
		{Maintenance{ContentType: "a/b"}, "maintenance.content_type: is for a body"},
		{Maintenance{Allow: []string{"10.0.0.1/8"}}, "maintenance.allow[0]: "},
		{Maintenance{Header: "X"}, "maintenance.value: is missing"},
		{Maintenance{Value: "secret"}, "maintenance.value: is of a header"},
		{Maintenance{Header: "X A", Value: "secret"}, "maintenance.header: "},
		{Maintenance{Header: "Connection", Value: "secret"}, "maintenance.header: "},
	} {
		all := strings.Join(reports(Config{Maintenance: &c.cfg}), "\n")
		if !strings.HasPrefix(all, c.want) || strings.Contains(all, "secret") {
			t.Errorf("%+v: %q", c.cfg, all)
		}
	}
}
