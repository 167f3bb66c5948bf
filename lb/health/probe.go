package health

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// probe asks an endpoint over a new connection, and answers nil if it is up. The connection's deadline passes when ctx
// ends; who called closes it. authority is the endpoint's name in a request.
type probe func(ctx context.Context, conn net.Conn, authority string) error

// probe connects to t, or to another port of its host if port is not 0, and asks.
func (t Target) probe(ctx context.Context, port int, ask probe) error {
	network, address, authority := t.where(port)
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return brief(err)
	}
	defer conn.Close()
	// A check leaves nothing behind: RST instead of a TIME_WAIT.
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	// The end of ctx, be it the timeout or Run's own, ends what conn waits for.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if len(t.Preface) > 0 {
		if _, err := conn.Write(t.Preface); err != nil {
			return brief(err)
		}
	}
	if t.TLS != nil {
		secured := tls.Client(conn, t.TLS())
		if err := secured.HandshakeContext(ctx); err != nil {
			return brief(err)
		}
		if ask == nil {
			return nil
		}
		return ask(ctx, secured, authority)
	}
	if ask == nil {
		return nil
	}
	return ask(ctx, conn, authority)
}

// where says what to dial for t, and what to call it in a request: a unix socket's path is no host.
func (t Target) where(port int) (network, address, authority string) {
	if path, ok := strings.CutPrefix(t.Address, "unix:"); ok {
		return "unix", path, "localhost"
	}
	host, own, err := net.SplitHostPort(t.Address)
	if err != nil {
		return "tcp", t.Address, t.Address // the dialler will say what is wrong with it
	}
	if port != 0 {
		own = strconv.Itoa(port)
	}
	// A zone means something to this machine alone (RFC 6874 section 1).
	bare, _, _ := strings.Cut(host, "%")
	return "tcp", net.JoinHostPort(host, own), net.JoinHostPort(bare, own)
}

const (
	quoteBytes  = 60  // of what an endpoint said, in a reason
	reasonBytes = 200 // of a library's error, which may quote all of what an endpoint said
)

// quote is the beginning of what an endpoint said.
func quote[T ~string | ~[]byte](said T) string {
	if len(said) > quoteBytes {
		return strconv.Quote(string(said[:quoteBytes])) + "…"
	}
	return strconv.Quote(string(said))
}

// brief is err without addresses, which who reads it has already, and no longer than a line.
func brief(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	text := err.Error()
	if len(text) <= reasonBytes && !strings.ContainsFunc(text, unicode.IsControl) {
		return err
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > reasonBytes {
		text = strings.ToValidUTF8(text[:reasonBytes], "") + "…"
	}
	return errors.New(text)
}
