package filter

import (
	"fmt"
	"regexp"

	"github.com/valyala/fasthttp"

	"sluice/gw/h1"
)

// Rewrite changes what the upstream is asked for: the host, and the path by one of path, path_prefix, and regexp with
// substitution. The query stays. The upstream still learns by X-Forwarded-Host what the client asked for. Filters that follow see
// the new path, but what a route captures is of the first.
//
// A path that captures would give a dot segment, an empty segment, or a hidden slash is answered with 400, and so is one
// that is longer than a request line may be.
type Rewrite struct {
	// Host is with or without a port.
	Host string `yaml:"host"`
	// Path is in the place of the whole path; {name} in it is what the route's match has captured, escapes as they came.
	Path string `yaml:"path"`
	// PathPrefix is in the place of the prefix that the route has matched: / takes it off.
	PathPrefix string `yaml:"path_prefix"`
	// Regexp (RE2) is for the whole path, as match.path_regexp is; one that it does not match stays.
	Regexp string `yaml:"regexp"`
	// Substitution is in the path's place then: $1, ${1} and ${name} are groups of Regexp, $$ is a dollar sign, {name} is as in
	// Path.
	Substitution string `yaml:"substitution"`
}

func (f *Rewrite) validate(report func(path, message string)) {
	if f.Host != "" && !h1.ValidAuthority([]byte(f.Host)) {
		report("host", fmt.Sprintf("%q is not a host, with or without a port", f.Host))
	}
	checkPaths(f.Path, f.PathPrefix, report)
	switch {
	case f.Regexp != "":
		if f.Path != "" || f.PathPrefix != "" {
			report("regexp", "path or path_prefix is given too: one of them can be")
		}
		if f.Substitution == "" {
			report("substitution", "is what regexp needs")
		}
		re, err := whole(f.Regexp)
		if err != nil {
			report("regexp", err.Error())
		} else if f.Substitution != "" {
			if _, err := parseText(f.Substitution, re); err != nil {
				report("substitution", err.Error())
			}
		}
	case f.Substitution != "":
		report("regexp", "is what substitution needs")
	case f.Host == "" && f.Path == "" && f.PathPrefix == "":
		report("", "changes nothing: give host, path, path_prefix, or regexp and substitution")
	}
}

// whole compiles a pattern for the whole of a path. It is compiled alone first: "a)|(b" is none, though it would be one in
// parentheses.
func whole(pattern string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// rewrite is a Rewrite, ready for use.
type rewrite struct {
	host string
	change
	regexp       *regexp.Regexp // nil: none
	substitution text
}

func newRewrite(cfg Rewrite) *rewrite {
	f := &rewrite{host: cfg.Host, change: newChange(cfg.Path, cfg.PathPrefix)}
	if cfg.Regexp != "" {
		re, err := whole(cfg.Regexp)
		if err != nil {
			panic("BUG: a regexp that is not valid: " + err.Error())
		}
		f.regexp, f.substitution = re, mustText(cfg.Substitution, re)
	}
	return f
}

// Request implements Filter. A regexp allocates, and so does an escape in a path that is put together; nothing else does.
func (f *rewrite) Request(ctx *fasthttp.RequestCtx) Result {
	path, query := pathOf(ctx)
	if string(path) != "*" { // of OPTIONS, which is no path
		m := matchedOf(ctx)
		uri, ok := f.append(m.room[:0], path, m)
		if !ok {
			return Refuse(ctx, 400, "path cannot be rewritten", &badRewrite)
		}
		m.room = append(uri, query...)
		ctx.Request.SetRequestURIBytes(m.room)
	}
	if f.host != "" {
		ctx.Request.Header.SetHost(f.host)
	}
	return Continue
}

// append appends what becomes of path; false: nothing that can be forwarded.
func (f *rewrite) append(dst, path []byte, m *Matched) ([]byte, bool) {
	if f.regexp != nil {
		groups := f.regexp.FindSubmatchIndex(path)
		if groups == nil {
			return append(dst, path...), true
		}
		return canonical(f.substitution.append(dst, m, path, groups), len(dst))
	}
	return f.change.append(dst, path, m)
}

// Response implements Filter.
func (f *rewrite) Response(*fasthttp.RequestCtx) {}

var badRewrite = Refusal{"rewrite", "path"}
