package filter

import (
	"fmt"
	"maps"
	"slices"

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

// headers is a Headers, ready for use.
type headers struct{ request, response edit }

// edit is an Edit, with names as fasthttp spells them.
type edit struct {
	remove   []string
	set, add []field
}

type field struct{ name, value []byte }

func newHeaders(cfg Headers) *headers {
	return &headers{newEdit(cfg.RequestEdit), newEdit(cfg.ResponseEdit)}
}

func newEdit(cfg Edit) edit {
	fields := func(m map[string]string) (list []field) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			list = append(list, field{fasthttp.AppendNormalizedHeaderKey(nil, k), []byte(m[k])})
		}
		return list
	}
	return edit{cfg.Remove, fields(cfg.Set), fields(cfg.Add)}
}

// header is what requests and responses have in common.
type header interface {
	SetCanonical(key, value []byte)
	AddBytesKV(key, value []byte)
	Del(key string)
	DelBytes(key []byte)
}

func (e *edit) apply(h header) {
	for _, k := range e.remove {
		h.Del(k)
	}
	for i := range e.set {
		h.DelBytes(e.set[i].name) // to set alone would keep all but the first, and cookies of other names
		h.SetCanonical(e.set[i].name, e.set[i].value)
	}
	for i := range e.add {
		h.AddBytesKV(e.add[i].name, e.add[i].value)
	}
}

// Request implements Filter.
func (f *headers) Request(ctx *fasthttp.RequestCtx) Result {
	f.request.apply(&ctx.Request.Header)
	return Continue
}

// RequestNames implements Namer: of what is set or removed.
func (f *Headers) RequestNames() []string {
	return append(slices.Sorted(maps.Keys(f.RequestEdit.Set)), f.RequestEdit.Remove...)
}

// Response implements Filter.
func (f *headers) Response(ctx *fasthttp.RequestCtx) { f.response.apply(&ctx.Response.Header) }
