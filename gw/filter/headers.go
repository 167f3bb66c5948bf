package filter

import (
	"fmt"

	"github.com/valyala/fasthttp"
)

// Headers changes headers of the request and of the response: remove, then set, then add.
type Headers struct {
	RequestEdit  Edit `yaml:"request"`
	ResponseEdit Edit `yaml:"response"`
}

// Edit is a change of headers.
type Edit struct {
	Set    map[string]string `yaml:"set"`
	Add    map[string]string `yaml:"add"`
	Remove []string          `yaml:"remove"`
}

func (f *Headers) validate(report func(path, message string)) {
	for _, e := range []struct {
		at string
		Edit
		response bool
	}{{"request", f.RequestEdit, false}, {"response", f.ResponseEdit, true}} {
		for k, v := range e.Set {
			if err := checkField(k, v, e.response); err != nil {
				report(e.at+".set."+k, err.Error())
			}
		}
		for k, v := range e.Add {
			if err := checkField(k, v, e.response); err != nil {
				report(e.at+".add."+k, err.Error())
			}
		}
		for at, m := range map[string]map[string]string{"set": e.Set, "add": e.Add} {
			if twice := twoSpellings(m); twice != "" {
				report(e.at+"."+at+"."+twice, fmt.Sprintf("%s is there twice, in two spellings", twice))
			}
		}
		for _, k := range e.Remove {
			if err := checkField(k, "", e.response); err != nil {
				report(e.at+".remove", err.Error())
			}
		}
	}
}

type header interface {
	Set(key, value string)
	Add(key, value string)
	Del(key string)
}

func (e *Edit) apply(h header) {
	for _, k := range e.Remove {
		h.Del(k)
	}
	for k, v := range e.Set {
		h.Del(k) // Set alone would keep cookies of other names
		h.Set(k, v)
	}
	for k, v := range e.Add {
		h.Add(k, v)
	}
}

// Request implements Filter.
func (f *Headers) Request(ctx *fasthttp.RequestCtx) Result {
	f.RequestEdit.apply(&ctx.Request.Header)
	return Continue
}

// Response implements Filter.
func (f *Headers) Response(ctx *fasthttp.RequestCtx) { f.ResponseEdit.apply(&ctx.Response.Header) }
