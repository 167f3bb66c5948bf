package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/engine"
	"sluice/gw/filter"
)

// question is a request that explain request is asked about.
type question struct {
	method, url, listener, from string
	headers                     []string
}

func explainRequestCommand(own filter.Own) *cobra.Command {
	var file string
	var live bool
	var q question
	cmd := &cobra.Command{
		Use:   "request -c FILE [flags] METHOD URL",
		Short: "Say what would become of a request: its route and why the others lost, filters, endpoint",
		Long: "Say what would become of a request: the routes that are considered and why each lost, what the filters make of it, the\n" +
			"endpoint and why it is the one. Nothing is sent. With --live it is the running process that answers, by the admin\n" +
			"address in the file: it knows which endpoints are up.",
		Example: "  sluice explain request -c edge.yaml GET https://api.test/order/7 -H 'X-Env: canary'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q.method, q.url = args[0], args[1]
			f, err := readFile(file, own)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			head, err := q.head()
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if live {
				err = explainLive(cmd.Context(), cmd.OutOrStdout(), f, q, head)
				if err != nil && f.Admin.Address != "" {
					return &exitError{exitFailed, err}
				}
			} else {
				err = explainOffline(cmd.OutOrStdout(), f, q, head)
			}
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "config", "c", "", "the configuration `file`")
	flags.StringArrayVarP(&q.headers, "header", "H", nil, "a header, `Name: value`")
	flags.StringVar(&q.listener, "listener", "", "the `name` of the http listener; not given: the first of the file")
	flags.StringVar(&q.from, "from", "192.0.2.1", "the `address` that the connection comes from, with or without a port")
	flags.BoolVar(&live, "live", false, "ask the running process")
	_ = cmd.MarkFlagRequired("config")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// head is the request as a client would send it, so that it is read as one.
func (q *question) head() ([]byte, error) {
	u, err := url.Parse(q.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an http or https URL with a host", q.url)
	}
	// The target as it was written: url.Parse has decoded it.
	_, rest, _ := strings.Cut(q.url, "://")
	rest, _, _ = strings.Cut(rest, "#")
	target := "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		target = rest[i:]
	}
	if target[0] == '?' {
		target = "/" + target
	}
	if q.method == http.MethodConnect {
		target = u.Host
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", q.method, target)
	if !slices.ContainsFunc(q.headers, func(h string) bool { return strings.HasPrefix(strings.ToLower(h), "host:") }) {
		fmt.Fprintf(&b, "Host: %s\r\n", u.Host)
	}
	for _, h := range q.headers {
		if strings.ContainsAny(h, "\r\n") || !strings.Contains(h, ":") {
			return nil, fmt.Errorf("%q is not a header, Name: value", h)
		}
		fmt.Fprintf(&b, "%s\r\n", h)
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}

// parseFrom is an address with or without a port.
func parseFrom(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, fmt.Errorf("%q is not an address", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// gatewayNamed is the http listener of a name, or the first one.
func (p *snapshot) gatewayNamed(name string) (*listener, error) {
	names := []string{}
	for _, ln := range p.listeners {
		if !ln.cfg.Protocol.http() {
			continue
		}
		if name == "" || ln.cfg.Name == name {
			return ln, nil
		}
		names = append(names, ln.cfg.Name)
	}
	if name == "" {
		return nil, errors.New("the file has no http listener")
	}
	return nil, errors.New(unknown("http listener", name, names))
}

// explain writes what ln's gateway would do with a request, as seen from loop l.
func (ln *listener) explain(w io.Writer, l *engine.Loop, head []byte, from netip.AddrPort) {
	fmt.Fprintf(w, "listener %s, routes %s\n", ln.cfg.Name, ln.cfg.HTTP.Routes)
	ln.serves().Explain(w, l, head, from)
}

func explainOffline(w io.Writer, f *File, q question, head []byte) error {
	from, err := parseFrom(q.from)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	s, err := newServer(f, log)
	if err != nil {
		return err
	}
	p, err := s.build(f, &snapshot{file: &File{}})
	if err != nil {
		return err
	}
	defer p.discard(&snapshot{})
	ln, err := p.gatewayNamed(q.listener)
	if err != nil {
		return err
	}
	ln.explain(w, s.engine.Loops()[0], head, from)
	return nil
}

// explainLive has the running process answer.
func explainLive(ctx context.Context, w io.Writer, f *File, q question, head []byte) error {
	address := f.Admin.Address
	if address == "" {
		return errors.New("--live needs an admin address in the file")
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}}}
	at := "http://admin/explain?" + url.Values{"listener": {q.listener}, "from": {q.from}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(head))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the running process: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fmt.Errorf("the running process at %s: %s", address, strings.TrimSpace(string(text)))
	}
	_, err = io.Copy(w, resp.Body)
	return err
}

// maxHeadAsked is more than any head that a gateway takes.
const maxHeadAsked = 64 << 10

// serveExplain is the admin's answer to explainLive.
func (s *server) serveExplain(w http.ResponseWriter, r *http.Request) {
	head, err := io.ReadAll(io.LimitReader(r.Body, maxHeadAsked))
	var from netip.AddrPort
	if err == nil {
		from, err = parseFrom(r.URL.Query().Get("from"))
	}
	p := s.current.Load()
	var ln *listener
	switch {
	case err != nil:
	case p == nil:
		err = errors.New("starting")
	default:
		ln, err = p.gatewayNamed(r.URL.Query().Get("listener"))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// Endpoints are picked on a loop.
	out := make(chan []byte, 1)
	l := s.engine.Loops()[0]
	l.Post(func() {
		var b bytes.Buffer
		ln.explain(&b, l, head, from)
		out <- b.Bytes()
	})
	select {
	case b := <-out:
		_, _ = w.Write(b)
	case <-r.Context().Done():
	}
}
