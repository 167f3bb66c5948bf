// Command example is a sluice with two filters of its own; example.yaml beside it uses them.
//
//	go build -o example ./cmd/example && ./example run -c cmd/example/example.yaml
package main

import (
	"fmt"

	"github.com/valyala/fasthttp"

	"sluice/cmd/cli"
	"sluice/gw/filter"
)

// greet sees a request on its way in, and its response on its way out. Its fields are the keys of its configuration.
type greet struct {
	Name string `yaml:"name,required"`
}

func (g *greet) Request(ctx *fasthttp.RequestCtx) filter.Result {
	if len(ctx.UserAgent()) == 0 {
		ctx.Error("who are you?\n", 403)
		return filter.Answer
	}
	return filter.Continue
}

func (g *greet) Response(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.Set("X-Greeting", "hello from "+g.Name)
}

// echo is what fasthttp calls a handler: it answers. One that blocks would be given Workers.
func echo(ctx *fasthttp.RequestCtx) { fmt.Fprintf(ctx, "%s %s\n", ctx.Method(), ctx.Path()) }

func main() {
	cli.Main(filter.Own{
		"greet": filter.Make(func(g greet) filter.Filter { return &g }),
		"echo":  filter.MakeHandler(echo, filter.HandlerConfig{}),
	})
}
