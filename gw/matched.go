package gw

import (
	"regexp"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter"
	"sluice/gw/route"
)

// showMatched shows the filters of ctx what the route has taken of the path. It copies: the loop's next lookup is made in the
// same place.
func (x *exchange) showMatched(ctx *fasthttp.RequestCtx) {
	w := x.w
	if x.shown == nil {
		x.shown = &filter.Matched{}
	}
	x.shown.Attach(ctx)
	x.shown.Prefix = x.target.prefix
	for i := range w.found.Len() {
		name, start, end := w.found.At(i)
		x.shown.Add(name, w.match[start:end])
	}
}

// captured are the names of what m captures, if it is valid.
func captured(m *route.Match) (names []string) {
	if m.PathRegexp != "" {
		re, err := regexp.Compile(m.PathRegexp)
		if err != nil {
			return nil
		}
		names = re.SubexpNames() // those without a name too: nobody asks for ""
	}
	for s := range strings.SplitSeq(m.PathTemplate, "/") {
		if name, ok := strings.CutPrefix(s, "{"); ok {
			names = append(names, strings.TrimSuffix(strings.TrimSuffix(name, "}"), "..."))
		}
	}
	return names
}
