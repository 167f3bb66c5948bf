// Package health checks endpoints actively: it connects to them, or asks them over HTTP, and says when they come up
// or go down. It runs in goroutines, off the loops, and knows nothing of clusters.
package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// Config describes the checks: a connection, or with http a GET that must be answered with 2xx or 3xx.
type Config struct {
	HTTP *HTTP `yaml:"http"`
	// Interval between two checks of an endpoint; 0: 2 s.
	Interval time.Duration `yaml:"interval"`
	// Timeout of one check; 0: 1 s.
	Timeout time.Duration `yaml:"timeout"`
	// Rise and Fall are how many checks in a row must agree to bring an endpoint up (0: 2) or down (0: 3).
	Rise int `yaml:"rise"`
	Fall int `yaml:"fall"`
}

// HTTP is what to GET.
type HTTP struct {
	Path string `yaml:"path,required"`
	// Host is sent as Host; empty: the endpoint's address.
	Host string `yaml:"host"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c *Config) Validate(report func(path, message string)) {
	if h := c.HTTP; h != nil {
		if h.Path != "" && (h.Path[0] != '/' || strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f })) {
			report("http.path", fmt.Sprintf("%q is not a path", h.Path))
		}
		if strings.ContainsFunc(h.Host, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			report("http.host", fmt.Sprintf("%q is not a host", h.Host))
		}
	}
	for _, d := range []struct {
		key string
		bad bool
	}{{"interval", c.Interval < 0}, {"timeout", c.Timeout < 0}, {"rise", c.Rise < 0}, {"fall", c.Fall < 0}} {
		if d.bad {
			report(d.key, "must not be negative")
		}
	}
}

// Run checks the endpoint named address until ctx ends, and calls report each time that it changes, with why. healthy
// is what it is believed to be at the start.
func (c *Config) Run(ctx context.Context, address string, healthy bool, report func(up bool, why error)) {
	interval := or(c.Interval, 2*time.Second)
	rise, fall := or(c.Rise, 2), or(c.Fall, 3)
	// Checks of many endpoints are spread over the interval, from the first one on.
	wait := rand.N(interval/4 + 1)
	for against := 0; ; wait = interval - interval/10 + rand.N(interval/5+1) {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		err := c.check(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if up := err == nil; up == healthy {
			against = 0
			continue
		}
		against++
		if healthy && against >= fall || !healthy && against >= rise {
			healthy, against = !healthy, 0
			report(healthy, err)
		}
	}
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// maxHead bounds a response's head. It is twice what the gateway takes, and the reader must hold it whole.
const maxHead = 64 << 10

// check is one check of an endpoint.
func (c *Config) check(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, or(c.Timeout, time.Second))
	defer cancel()
	network, at := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, at = "unix", path
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, at)
	if err != nil {
		return err
	}
	defer conn.Close()
	// A check leaves nothing behind: RST instead of a TIME_WAIT.
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	if c.HTTP == nil {
		return nil
	}
	// The end of ctx, be it the timeout or Run's own, ends what conn waits for.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	host := or(c.HTTP.Host, address)
	if network == "unix" && c.HTTP.Host == "" {
		host = "localhost"
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sluice-health\r\nConnection: close\r\n\r\n", c.HTTP.Path, host); err != nil {
		return err
	}
	var h fasthttp.ResponseHeader
	if err := h.Read(bufio.NewReaderSize(io.LimitReader(conn, maxHead), maxHead)); err != nil {
		return fmt.Errorf("read response: %w", err)
	}
	if s := h.StatusCode(); s < 200 || s > 399 {
		return fmt.Errorf("answered %d", s)
	}
	return nil
}
