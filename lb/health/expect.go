package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
)

// Expect is a conversation in bytes, for protocols with a greeting or a ping: an endpoint is up that says Receive. Both
// may have the escapes of Go's strings in them: \r, \n, \t, \\, \x00.
type Expect struct {
	// Send is sent first; empty: the endpoint has to speak first.
	Send string `yaml:"send"`
	// Receive must be contained in the first 64 KiB of what comes, wherever packets end.
	Receive string `yaml:"receive,required"`
}

// expectProbe is Expect, made ready.
type expectProbe struct{ send, receive []byte }

func (e *Expect) build(report func(path, message string)) probe {
	p := &expectProbe{}
	for _, side := range []struct {
		key, text string
		into      *[]byte
	}{{"send", e.Send, &p.send}, {"receive", e.Receive, &p.receive}} {
		var err error
		*side.into, err = unescape(side.text)
		switch {
		case err != nil:
			report(side.key, err.Error())
		case len(*side.into) > maxBody:
			report(side.key, "is longer than 64 KiB")
		}
	}
	if e.Receive == "" {
		report("receive", "must not be empty: anything would do, even silence")
	}
	return p.ask
}

// unescape is s with its escapes resolved. Bytes that belong to no escape stay as they are, so that a text which YAML's
// own quotes have unescaped already does not change.
func unescape(s string) ([]byte, error) {
	var out []byte
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out = append(out, s[i])
			i++
			continue
		}
		c, multibyte, tail, err := strconv.UnquoteChar(s[i:], 0)
		if err != nil {
			return nil, fmt.Errorf(`bad escape %.4q at byte %d: known are \r, \n, \t, \\, \xNN`, s[i:], i)
		}
		if multibyte {
			out = append(out, string(c)...)
		} else {
			out = append(out, byte(c))
		}
		i = len(s) - len(tail)
	}
	return out, nil
}

func (p *expectProbe) ask(_ context.Context, conn net.Conn, _ string) error {
	if len(p.send) > 0 {
		if _, err := conn.Write(p.send); err != nil {
			return brief(err)
		}
	}
	var got []byte
	for len(got) < maxBody {
		got = slices.Grow(got, 512)
		n, err := conn.Read(got[len(got):min(cap(got), maxBody)])
		// It may have begun in what came before.
		from := max(0, len(got)-len(p.receive)+1)
		got = got[:len(got)+n]
		switch {
		case bytes.Contains(got[from:], p.receive):
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("received %s", quote(got))
		case err != nil && len(got) == 0:
			return fmt.Errorf("received nothing: %w", brief(err))
		case err != nil:
			return fmt.Errorf("received %s: %w", quote(got), brief(err))
		}
	}
	return fmt.Errorf("received %s", quote(got))
}
