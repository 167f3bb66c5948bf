package filter

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSecurityHeaders(t *testing.T) {
	const (
		usual = "X-Content-Type-Options: nosniff\nReferrer-Policy: strict-origin-when-cross-origin\n"
		frame = "Content-Security-Policy: frame-ancestors 'self'\nX-Frame-Options: SAMEORIGIN\n"
	)
	bare := func(s SecurityHeaders) SecurityHeaders { // what is not under test is off
		for _, p := range []*string{&s.StrictTransportSecurity, (*string)(&s.ContentTypeOptions), &s.FrameAncestors, (*string)(&s.ReferrerPolicy)} {
			if *p == "" {
				*p = Off
			}
		}
		return s
	}
	for _, c := range []struct {
		name   string
		cfg    SecurityHeaders
		proto  string
		fields []string
		want   string
	}{
		{"defaults", SecurityHeaders{}, "http", nil, usual + frame},
		{"by https", SecurityHeaders{}, "https", nil, usual + "Strict-Transport-Security: max-age=31536000\n" + frame},
		{"all off", bare(SecurityHeaders{}), "https", []string{"X-A: 1"}, "X-A: 1\n"},
		{"who made it", bare(SecurityHeaders{}), "http", []string{"Server: s/1", "X-Powered-By: p", "x-powered-by: q", "X-Aspnet-Version: 4", "X-AspNetMvc-Version: 5"}, ""},
		{"who made it may stay", bare(SecurityHeaders{Remove: []string{}}), "http", []string{"X-Powered-By: p"}, "X-Powered-By: p\n"},
		{"something else goes", bare(SecurityHeaders{Remove: []string{"via-inner"}}), "http", []string{"X-Powered-By: p", "Via-Inner: p"}, "X-Powered-By: p\n"},
		{"the upstream knows better", SecurityHeaders{}, "https",
			[]string{"X-Content-Type-Options: x", "Referrer-Policy: origin", "X-Frame-Options: DENY", "Strict-Transport-Security: max-age=1"},
			"X-Content-Type-Options: x\nReferrer-Policy: origin\nX-Frame-Options: DENY\nStrict-Transport-Security: max-age=1\n"},
		{"the upstream does not know better", SecurityHeaders{StrictTransportSecurity: "max-age=2", ContentTypeOptions: "nosniff", ReferrerPolicy: "no-referrer", FrameAncestors: "none", Override: true}, "https",
			[]string{"X-Content-Type-Options: x", "Referrer-Policy: origin", "Referrer-Policy: unsafe-url", "X-Frame-Options: ALLOW", "Strict-Transport-Security: max-age=1"},
			"Referrer-Policy: no-referrer\nX-Content-Type-Options: nosniff\nStrict-Transport-Security: max-age=2\nContent-Security-Policy: frame-ancestors 'none'\nX-Frame-Options: DENY\n"},
		{"only what is given wins", SecurityHeaders{ReferrerPolicy: "no-referrer", Override: true}, "http",
			[]string{"X-Content-Type-Options: x", "Referrer-Policy: origin", "X-Frame-Options: DENY"},
			"X-Content-Type-Options: x\nX-Frame-Options: DENY\nReferrer-Policy: no-referrer\n"},
		{"all that is there", bare(SecurityHeaders{StrictTransportSecurity: "max-age=31536000; includeSubDomains; preload", PermissionsPolicy: "camera=()", OpenerPolicy: "same-origin",
			EmbedderPolicy: "require-corp", ResourcePolicy: "same-site"}), "https", nil,
			"Permissions-Policy: camera=()\nCross-Origin-Opener-Policy: same-origin\nCross-Origin-Embedder-Policy: require-corp\nCross-Origin-Resource-Policy: same-site\n" +
				"Strict-Transport-Security: max-age=31536000; includeSubDomains; preload\n"},
		{"a policy", bare(SecurityHeaders{ContentSecurityPolicy: "default-src 'self'", FrameAncestors: "none"}), "http", nil,
			"Content-Security-Policy: default-src 'self'; frame-ancestors 'none'\nX-Frame-Options: DENY\n"},
		{"a policy that says of frames", bare(SecurityHeaders{ContentSecurityPolicy: "Frame-Ancestors https://a.test"}), "http", nil, "Content-Security-Policy: Frame-Ancestors https://a.test\n"},
		{"frames of others", bare(SecurityHeaders{FrameAncestors: "'self' https://a.test"}), "http", nil, "Content-Security-Policy: frame-ancestors 'self' https://a.test\n"},
		{"beside the upstream's policy", bare(SecurityHeaders{FrameAncestors: "self"}), "http", []string{"Content-Security-Policy: img-src *"},
			"Content-Security-Policy: img-src *\nContent-Security-Policy: frame-ancestors 'self'\nX-Frame-Options: SAMEORIGIN\n"},
		{"the upstream's policy says of frames", bare(SecurityHeaders{FrameAncestors: "self"}), "http", []string{"Content-Security-Policy: img-src *", "Content-Security-Policy: a;  FRAME-ancestors *"},
			"Content-Security-Policy: img-src *\nContent-Security-Policy: a;  FRAME-ancestors *\n"},
		{"a source of that name", bare(SecurityHeaders{FrameAncestors: "self"}), "http", []string{"Content-Security-Policy: img-src x-frame-ancestors frame-ancestors"},
			"Content-Security-Policy: img-src x-frame-ancestors frame-ancestors\nContent-Security-Policy: frame-ancestors 'self'\nX-Frame-Options: SAMEORIGIN\n"},
		{"the upstream's policy stays", bare(SecurityHeaders{ContentSecurityPolicy: "default-src 'self'", FrameAncestors: "self"}), "http", []string{"Content-Security-Policy: img-src *"},
			"Content-Security-Policy: img-src *\nContent-Security-Policy: frame-ancestors 'self'\nX-Frame-Options: SAMEORIGIN\n"},
		{"the upstream's policy goes", bare(SecurityHeaders{ContentSecurityPolicy: "default-src 'self'", FrameAncestors: "self", Override: true}), "http", []string{"Content-Security-Policy: img-src *; frame-ancestors *"},
			"Content-Security-Policy: default-src 'self'; frame-ancestors 'self'\nX-Frame-Options: SAMEORIGIN\n"},
	} {
		if diff := cmp.Diff([]string(nil), reports(Config{SecurityHeaders: &c.cfg})); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		ctx := asked(t, "/", nil, "X-Forwarded-Proto: "+c.proto)
		if diff := cmp.Diff(c.want, responded(t, New(Config{SecurityHeaders: &c.cfg}), ctx, c.fields...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestSecurityHeadersAreValidated(t *testing.T) {
	for _, c := range []struct {
		cfg  SecurityHeaders
		want []string
	}{
		{SecurityHeaders{}, nil},
		{SecurityHeaders{StrictTransportSecurity: "Max-Age=0;includesubdomains"}, nil},
		{SecurityHeaders{StrictTransportSecurity: "includeSubDomains"}, []string{`security_headers.strict_transport_security: "includeSubDomains" has no max-age`}},
		{SecurityHeaders{StrictTransportSecurity: "max-age=1y"}, []string{`security_headers.strict_transport_security: "max-age=1y": max-age is a number of seconds, once`}},
		{SecurityHeaders{StrictTransportSecurity: "max-age=1; max-age=2"}, []string{`security_headers.strict_transport_security: "max-age=1; max-age=2": max-age is a number of seconds, once`}},
		{SecurityHeaders{StrictTransportSecurity: "max-age=1; sub"}, []string{`security_headers.strict_transport_security: "max-age=1; sub": "sub" is not one of max-age=seconds, includeSubDomains, preload`}},
		{SecurityHeaders{StrictTransportSecurity: "max-age=31536000; preload"},
			[]string{`security_headers.strict_transport_security: "max-age=31536000; preload": preload wants includeSubDomains, and a max-age of 31536000 or more`}},
		{SecurityHeaders{ContentTypeOptions: "sniff"}, []string{`security_headers.content_type_options: "sniff" is not one of nosniff, off`}},
		{SecurityHeaders{OpenerPolicy: "no"}, []string{`security_headers.cross_origin_opener_policy: "no" is not one of same-origin, same-origin-allow-popups, noopener-allow-popups, unsafe-none, off`}},
		{SecurityHeaders{PermissionsPolicy: "a\r\nX: y"}, []string{"security_headers.permissions_policy: it has a control character, or a space at an end"}},
		{SecurityHeaders{FrameAncestors: "a; script-src *"}, []string{`security_headers.frame_ancestors: "a; script-src *": sources with spaces between them`}},
		{SecurityHeaders{FrameAncestors: "self", ContentSecurityPolicy: "img-src *; frame-ancestors *"},
			[]string{"security_headers.frame_ancestors: content_security_policy has frame-ancestors too: one of them can be given"}},
		{SecurityHeaders{Remove: []string{"Date"}}, []string{"security_headers.remove[0]: date is the gateway's own to set"}},
	} {
		if diff := cmp.Diff(c.want, reports(Config{SecurityHeaders: &c.cfg})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.cfg, diff)
		}
	}
}

func TestSecurityHeadersAllocateNothing(t *testing.T) {
	f := New(Config{SecurityHeaders: &SecurityHeaders{}})
	ctx := asked(t, "/", nil, "X-Forwarded-Proto: https")
	if n := testing.AllocsPerRun(100, func() {
		ctx.Response.Header.Reset()
		ctx.Response.Header.Set("X-Powered-By", "p")
		ctx.Response.Header.Set("Content-Security-Policy", "img-src *")
		f.Request(ctx)
		f.Response(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
