package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Status is a code, or a range of codes with a hyphen.
type Status string

// UnmarshalText takes anything: a file may have a code as a number. Validate says whether it is one.
func (s *Status) UnmarshalText(text []byte) error {
	*s = Status(text)
	return nil
}

// HTTP is a request, in HTTP/1.1 and in clear, and what its response must be like.
type HTTP struct {
	Path string `yaml:"path,required"`
	// Method; empty: GET. The request has no body.
	Method string `yaml:"method"`
	// Host is sent as Host; empty: the address that is checked.
	Host string `yaml:"host"`
	// Statuses of an endpoint that is up: codes and ranges of codes, as in "404" and "200-299"; none: 200-399.
	Statuses []Status `yaml:"statuses"`
	// Body is a regular expression (RE2's syntax) that must match in the first 64 KiB of the body; empty: the body is
	// not read. An answer that is cut off within them is none.
	Body string `yaml:"body"`
}

const (
	// maxHead bounds a response's head. It is twice what the gateway takes.
	maxHead = 64 << 10
	// maxBody is how much of a body, or of an answer in bytes, is looked at.
	maxBody = 64 << 10
)

// httpProbe is HTTP, made ready.
type httpProbe struct {
	method, path, host string
	statuses           statusSet
	body               *regexp.Regexp // nil: any
}

func (h *HTTP) build(report func(path, message string)) probe {
	p := &httpProbe{method: or(h.Method, http.MethodGet), path: or(h.Path, "/"), host: h.Host}
	if p.path[0] != '/' || notVisible(p.path) {
		report("path", fmt.Sprintf("%q is not a path", h.Path))
	}
	switch {
	case strings.ContainsFunc(p.method, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '-' }):
		report("method", fmt.Sprintf("%q is not a method", h.Method))
	case p.method == http.MethodConnect: // its target is no path, and its response no response
		report("method", "CONNECT asks for a tunnel, which says nothing of an endpoint")
	}
	if notVisible(p.host) {
		report("host", fmt.Sprintf("%q is not a host", h.Host))
	}
	for i, s := range h.Statuses {
		if !p.statuses.add(string(s)) {
			report(fmt.Sprintf("statuses[%d]", i), fmt.Sprintf("%q is neither a status nor a range of them, from 200 to 599", s))
		}
	}
	if len(h.Statuses) == 0 {
		p.statuses.add("200-399")
	}
	if h.Body == "" {
		return p.ask
	}
	var err error
	if p.body, err = regexp.Compile(h.Body); err != nil {
		report("body", err.Error())
	}
	if p.method == http.MethodHead {
		report("body", "HEAD is answered without a body")
	}
	return p.ask
}

// notVisible says that s has something in it that could bring a second line, or a second request, into the check.
func notVisible(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// statusSet is the set of statuses by which an endpoint is up. Those below 200 are not in it: they are no answers yet
// (RFC 9110 section 15.2).
type statusSet [600]bool

// add takes in a status, or a range with both its ends.
func (s *statusSet) add(text string) bool {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	lo, err1 := strconv.Atoi(from)
	hi, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil || len(from) != 3 || len(to) != 3 || lo < 200 || lo > hi || hi >= len(s) {
		return false
	}
	for ; lo <= hi; lo++ {
		s[lo] = true
	}
	return true
}

func (s *statusSet) has(status int) bool { return status >= 0 && status < len(s) && s[status] }

func (p *httpProbe) ask(_ context.Context, conn net.Conn, authority string) error {
	length := ""
	switch p.method {
	case http.MethodPost, http.MethodPut, http.MethodPatch: // they mean a body, so that it is none must be said (RFC 9110 section 8.6)
		length = "Content-Length: 0\r\n"
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sluice-health\r\n%sConnection: close\r\n\r\n",
		p.method, p.path, or(p.host, authority), length); err != nil {
		return brief(err)
	}
	limit := &io.LimitedReader{R: conn, N: maxHead}
	resp, err := finalResponse(bufio.NewReader(limit))
	if err != nil {
		if limit.N <= 0 {
			err = errors.New("a head of more than 64 KiB")
		}
		return fmt.Errorf("read response: %w", brief(err))
	}
	if !p.statuses.has(resp.StatusCode) {
		return fmt.Errorf("answered %d", resp.StatusCode)
	}
	if p.body == nil {
		return nil
	}
	// From here on the body's bound holds; how much its framing may add to it is net/http's to bound.
	limit.N = math.MaxInt64
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read body: %w", brief(err))
	}
	if !p.body.Match(body) {
		return errors.New("body does not match")
	}
	return nil
}

// finalResponse reads the head of a response, after those that come before it (RFC 9110 section 15.2).
func finalResponse(r *bufio.Reader) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, nil) // as if to GET: of HEAD no body is read
		if err != nil || resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}
