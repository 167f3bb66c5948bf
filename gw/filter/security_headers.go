package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// Off is the value of a field of SecurityHeaders that is not to be sent.
const Off = "off"

// SecurityHeaders tells browsers to be careful with responses, and others less of what made them. A field that the upstream has set
// is its own choice, and kept. What breaks pages that work without it is sent only if it is given.
type SecurityHeaders struct {
	// StrictTransportSecurity (RFC 6797) is sent to those that came by https; empty: max-age=31536000, a year.
	StrictTransportSecurity string `yaml:"strict_transport_security"`
	// ContentTypeOptions is empty: nosniff.
	ContentTypeOptions ContentTypeOptions `yaml:"content_type_options"`
	// FrameAncestors are who may show the page in a frame: none, self, or sources as of CSP (CSP 3, section 6.4.2); empty: self. It
	// is sent as a Content-Security-Policy, and as X-Frame-Options where that can say it.
	FrameAncestors string `yaml:"frame_ancestors"`
	// ContentSecurityPolicy is the rest of the policy; empty: none.
	ContentSecurityPolicy string `yaml:"content_security_policy"`
	// ReferrerPolicy is empty: strict-origin-when-cross-origin.
	ReferrerPolicy ReferrerPolicy `yaml:"referrer_policy"`
	// PermissionsPolicy is empty: not sent.
	PermissionsPolicy string `yaml:"permissions_policy"`
	// OpenerPolicy, EmbedderPolicy and ResourcePolicy are Cross-Origin-…-Policy; empty: not sent.
	OpenerPolicy   OpenerPolicy   `yaml:"cross_origin_opener_policy"`
	EmbedderPolicy EmbedderPolicy `yaml:"cross_origin_embedder_policy"`
	ResourcePolicy ResourcePolicy `yaml:"cross_origin_resource_policy"`
	// Override has what is given here win over what the upstream has set.
	Override bool `yaml:"override"`
	// Remove are fields of responses that go; not given: Server, X-Powered-By, X-AspNet-Version and X-AspNetMvc-Version.
	Remove []string `yaml:"remove"`
}

// ContentTypeOptions is X-Content-Type-Options (Fetch standard, section 3.6).
type ContentTypeOptions string

// Choices are the values that a file may have.
func (ContentTypeOptions) Choices() []string { return []string{"nosniff", Off} }

// ReferrerPolicy is Referrer-Policy.
type ReferrerPolicy string

// Choices are the values that a file may have.
func (ReferrerPolicy) Choices() []string {
	return []string{"no-referrer", "no-referrer-when-downgrade", "origin", "origin-when-cross-origin", "same-origin", "strict-origin",
		"strict-origin-when-cross-origin", "unsafe-url", Off}
}

// OpenerPolicy is Cross-Origin-Opener-Policy (HTML standard, section 7.1.3).
type OpenerPolicy string

// Choices are the values that a file may have.
func (OpenerPolicy) Choices() []string {
	return []string{"same-origin", "same-origin-allow-popups", "noopener-allow-popups", "unsafe-none", Off}
}

// EmbedderPolicy is Cross-Origin-Embedder-Policy (HTML standard, section 7.1.4).
type EmbedderPolicy string

// Choices are the values that a file may have.
func (EmbedderPolicy) Choices() []string {
	return []string{"require-corp", "credentialless", "unsafe-none", Off}
}

// ResourcePolicy is Cross-Origin-Resource-Policy (Fetch standard, section 3.7).
type ResourcePolicy string

// Choices are the values that a file may have.
func (ResourcePolicy) Choices() []string {
	return []string{"same-origin", "same-site", "cross-origin", Off}
}

func (f *SecurityHeaders) validate(report func(path, message string)) {
	if s := f.StrictTransportSecurity; s != "" && s != Off {
		if err := checkHSTS(s); err != nil {
			report("strict_transport_security", err.Error())
		}
	}
	for _, c := range []struct {
		key, value string
		choices    []string
	}{
		{"content_type_options", string(f.ContentTypeOptions), f.ContentTypeOptions.Choices()},
		{"referrer_policy", string(f.ReferrerPolicy), f.ReferrerPolicy.Choices()},
		{"cross_origin_opener_policy", string(f.OpenerPolicy), f.OpenerPolicy.Choices()},
		{"cross_origin_embedder_policy", string(f.EmbedderPolicy), f.EmbedderPolicy.Choices()},
		{"cross_origin_resource_policy", string(f.ResourcePolicy), f.ResourcePolicy.Choices()},
	} {
		if c.value != "" && !slices.Contains(c.choices, c.value) {
			report(c.key, fmt.Sprintf("%q is not one of %s", c.value, strings.Join(c.choices, ", ")))
		}
	}
	for key, value := range map[string]string{"frame_ancestors": f.FrameAncestors, "content_security_policy": f.ContentSecurityPolicy,
		"permissions_policy": f.PermissionsPolicy} {
		if err := checkField("x", value, true); err != nil {
			report(key, "it has a control character, or a space at an end")
		}
	}
	if strings.ContainsAny(f.FrameAncestors, ";,") {
		report("frame_ancestors", fmt.Sprintf("%q: sources with spaces between them", f.FrameAncestors))
	}
	if f.FrameAncestors != "" && f.FrameAncestors != Off && hasDirective(f.ContentSecurityPolicy, "frame-ancestors") {
		report("frame_ancestors", "content_security_policy has frame-ancestors too: one of them can be given")
	}
	for i, name := range f.Remove {
		if err := checkField(name, "", true); err != nil {
			report(fmt.Sprintf("remove[%d]", i), err.Error())
		}
	}
}

// checkHSTS says what is wrong with a Strict-Transport-Security (RFC 6797, section 6.1).
func checkHSTS(s string) error {
	age, sub, preload := -1, false, false
	for d := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		switch strings.ToLower(name) {
		case "max-age":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || age >= 0 {
				return fmt.Errorf("%q: max-age is a number of seconds, once", s)
			}
			age = int(n)
		case "includesubdomains":
			sub = true
		case "preload":
			preload = true
		default:
			return fmt.Errorf("%q: %q is not one of max-age=seconds, includeSubDomains, preload", s, name)
		}
	}
	switch {
	case age < 0:
		return fmt.Errorf("%q has no max-age", s)
	case preload && (!sub || age < 31536000):
		return fmt.Errorf("%q: preload wants includeSubDomains, and a max-age of 31536000 or more", s)
	}
	return nil
}

// hasDirective says that a policy has it, by CSP 3, section 2.2.1.
func hasDirective(policy, name string) bool {
	for d := range strings.FieldsFuncSeq(policy, func(r rune) bool { return r == ';' || r == ',' }) {
		if f := strings.Fields(d); len(f) > 0 && strings.EqualFold(f[0], name) {
			return true
		}
	}
	return false
}

// securityHeaders is a SecurityHeaders, ready for use.
type securityHeaders struct {
	remove                         []string
	set                            []securityHeader
	hsts                           securityHeader
	policy, ancestors, frameOption securityHeader
}

// securityHeader is a field to be sent; none if it has no value.
type securityHeader struct {
	name, value string
	override    bool
}

const (
	cspName   = "Content-Security-Policy"
	frameName = "X-Frame-Options"
)

func newSecurityHeaders(cfg SecurityHeaders) *securityHeaders {
	field := func(name, given, otherwise string) securityHeader {
		h := securityHeader{name: name, value: given, override: cfg.Override && given != ""}
		switch given {
		case "":
			h.value = otherwise
		case Off:
			h.value = ""
		}
		return h
	}
	f := &securityHeaders{
		remove: cfg.Remove,
		hsts:   field("Strict-Transport-Security", cfg.StrictTransportSecurity, "max-age=31536000"),
		policy: field(cspName, cfg.ContentSecurityPolicy, ""),
	}
	if cfg.Remove == nil {
		f.remove = []string{"Server", "X-Powered-By", "X-AspNet-Version", "X-AspNetMvc-Version"}
	}
	for _, h := range []securityHeader{
		field("X-Content-Type-Options", string(cfg.ContentTypeOptions), "nosniff"),
		field("Referrer-Policy", string(cfg.ReferrerPolicy), "strict-origin-when-cross-origin"),
		field("Permissions-Policy", cfg.PermissionsPolicy, ""),
		field("Cross-Origin-Opener-Policy", string(cfg.OpenerPolicy), ""),
		field("Cross-Origin-Embedder-Policy", string(cfg.EmbedderPolicy), ""),
		field("Cross-Origin-Resource-Policy", string(cfg.ResourcePolicy), ""),
	} {
		if h.value != "" {
			f.set = append(f.set, h)
		}
	}
	f.setFrame(field("", cfg.FrameAncestors, "self"))
	return f
}

// setFrame fills in what is said of frames.
func (f *securityHeaders) setFrame(who securityHeader) {
	if hasDirective(f.policy.value, "frame-ancestors") || who.value == "" {
		return
	}
	f.ancestors, f.frameOption = who, who
	f.ancestors.name, f.frameOption.name = cspName, frameName
	switch who.value {
	case "none":
		f.ancestors.value, f.frameOption.value = "frame-ancestors 'none'", "DENY"
	case "self":
		f.ancestors.value, f.frameOption.value = "frame-ancestors 'self'", "SAMEORIGIN"
	default:
		f.ancestors.value, f.frameOption.value = "frame-ancestors "+who.value, ""
	}
	if f.policy.value != "" {
		f.policy.value += "; " + f.ancestors.value
	}
}

// Request implements Filter.
func (f *securityHeaders) Request(*fasthttp.RequestCtx) Result { return Continue }

// Response implements Filter.
func (f *securityHeaders) Response(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	for _, name := range f.remove {
		h.Del(name)
	}
	for i := range f.set {
		f.set[i].apply(h)
	}
	// Others are to ignore it, and none is to be taught it by who sits in between (RFC 6797, section 7.2).
	if f.hsts.value != "" && string(ctx.Request.Header.Peek("X-Forwarded-Proto")) == string(HTTPS) {
		f.hsts.apply(h)
	}
	f.applyPolicy(h)
}

func (s *securityHeader) apply(h *fasthttp.ResponseHeader) {
	if s.override || len(h.Peek(s.name)) == 0 {
		h.Del(s.name)
		h.Set(s.name, s.value)
	}
}

// applyPolicy has the upstream's policy stand beside what is said of frames: a browser keeps to all that it is given (CSP 3, section
// 3.1), unless the upstream says of frames itself.
func (f *securityHeaders) applyPolicy(h *fasthttp.ResponseHeader) {
	theirs := h.PeekAll(cspName)
	ruled := false // by the upstream
	for _, v := range theirs {
		ruled = ruled || saysOfFrames(v)
	}
	ruled = ruled || len(h.Peek(frameName)) > 0
	if f.frameOption.override {
		h.Del(frameName)
	}
	switch ours := f.ancestors.value != "" && (!ruled || f.ancestors.override); {
	case f.policy.value != "" && (len(theirs) == 0 || f.policy.override):
		h.Del(cspName)
		h.Set(cspName, f.policy.value)
	case ours:
		h.Add(cspName, f.ancestors.value)
	}
	if f.frameOption.value != "" && (!ruled || f.frameOption.override) {
		h.Set(frameName, f.frameOption.value)
	}
}

// saysOfFrames is hasDirective of a response, without an allocation.
func saysOfFrames(policy []byte) bool {
	const name = "frame-ancestors"
	start := true
	for i, c := range policy {
		if start && len(policy)-i >= len(name) && equalFold(policy[i:i+len(name)], name) {
			return true
		}
		start = c == ';' || c == ',' || start && (c == ' ' || c == '\t')
	}
	return false
}
