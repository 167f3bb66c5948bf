package cli

import (
	"log/slog"
	"reflect"
	"strconv"

	"github.com/valyala/fasthttp"

	"sluice/gw"
	"sluice/gw/filter"
	"sluice/gw/route"
	"sluice/lb/certs"
)

// termination is what a listener needs to speak TLS. It outlives a reload that changes nothing of it.
type termination struct {
	store *certs.Store
	// challenges are the routes by which http listeners answer a CA that looks for a domain's proof.
	challenges []gw.Route
}

// newTermination takes over what old has, if it is of the same configuration; nil for no configuration.
func newTermination(cfg *certs.Config, old *listener, log *slog.Logger) (*termination, error) {
	switch {
	case cfg == nil:
		return nil, nil
	case old != nil && old.tls != nil && reflect.DeepEqual(cfg, old.cfg.TLS):
		old.tls.store.Refresh()
		return old.tls, nil
	}
	store, err := certs.New(*cfg, log)
	if err != nil {
		return nil, err
	}
	t := &termination{store: store}
	if cfg.ACME != nil {
		answer := filter.MakeHandler(func(ctx *fasthttp.RequestCtx) {
			body, ok := store.ACMEChallenge(string(ctx.Host()), string(ctx.Path()))
			if !ok {
				ctx.Error("not found\n", 404)
				return
			}
			ctx.SetBodyString(body)
		}, filter.HandlerConfig{Workers: 2}) // it may read a file
		for _, domain := range cfg.ACME.Domains {
			t.challenges = append(t.challenges, gw.Route{
				Name:    "acme " + domain,
				Match:   route.Match{Host: domain, PathPrefix: "/.well-known/acme-challenge/"},
				Filters: []filter.Config{filter.ByMaker("acme", answer)},
				Bare:    true,
			})
		}
	}
	return t, nil
}

// warn reports, by the path of the key, what is not wrong with f but should be known.
func (f *File) warn(report func(path, message string)) {
	for i := range f.Listeners {
		if t := f.Listeners[i].TLS; t != nil {
			t.Warn(under("listeners["+strconv.Itoa(i)+"].tls", report))
		}
	}
	for i := range f.Clusters {
		if t := f.Clusters[i].TLS; t != nil {
			t.Warn(under("clusters["+strconv.Itoa(i)+"].tls", report))
		}
	}
}

func under(at string, report func(path, message string)) func(path, message string) {
	return func(path, message string) { report(at+"."+path, message) }
}

func (t *termination) close() {
	if t != nil {
		t.store.Close()
	}
}

// challenges are the routes that a listener of the protocol answers CAs by: http-01 comes in clear (RFC 8555, section 8.3).
func (p *snapshot) challenges(of Protocol) (all []gw.Route) {
	for _, ln := range p.listeners {
		if of == HTTP && ln.tls != nil {
			all = append(all, ln.tls.challenges...)
		}
	}
	return all
}

// alpn are the protocols that the listener offers.
func (l *Listener) alpn() []string {
	if l.Protocol == HTTPS {
		return []string{"http/1.1"}
	}
	return l.TLS.ALPN
}
