package health

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// GRPC asks for grpc.health.v1.Health/Check, over HTTP/2 in clear with prior knowledge (RFC 9113 section 3.3). An
// endpoint is up that answers SERVING. The protocol is described in gRPC's doc/health-checking.md, and how it lies in
// HTTP/2 in doc/PROTOCOL-HTTP2.md.
type GRPC struct {
	// Service that is asked for; empty: the server as a whole.
	Service string `yaml:"service"`
	// Authority is sent as :authority; empty: the address that is checked.
	Authority string `yaml:"authority"`
}

// maxMessage bounds an answer. It takes two bytes today; more is for fields to come.
const maxMessage = 4 << 10

// grpcProbe is GRPC, made ready.
type grpcProbe struct {
	request   []byte
	authority string
}

func (g *GRPC) build(report func(path, message string)) probe {
	switch {
	case !utf8.ValidString(g.Service):
		report("service", fmt.Sprintf("%q is not UTF-8", g.Service))
	case len(g.Service) > maxMessage:
		report("service", "is longer than 4 KiB")
	}
	if notVisible(g.Authority) {
		report("authority", fmt.Sprintf("%q is not an authority", g.Authority))
	}
	return (&grpcProbe{healthRequest(g.Service), g.Authority}).ask
}

func (p *grpcProbe) ask(ctx context.Context, conn net.Conn, authority string) error {
	if err := p.call(ctx, conn, or(p.authority, authority)); err != nil {
		return fmt.Errorf("grpc: %w", brief(err))
	}
	return nil
}

func (p *grpcProbe) call(ctx context.Context, conn net.Conn, authority string) error {
	// A transport for each check: no connection outlives it, and none is tried again behind its back.
	t := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocols:              new(http.Protocols),
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	const anywhere = "endpoint:80" // what is dialled is conn, and the request has its authority of its own
	c, err := t.NewClientConn(ctx, "http", anywhere)
	if err != nil {
		return err
	}
	defer c.Close()
	resp, err := c.RoundTrip((&http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Scheme: "http", Host: anywhere, Path: "/grpc.health.v1.Health/Check"},
		Host:   authority,
		Header: http.Header{
			"Content-Type": {"application/grpc"},
			"Te":           {"trailers"},
			"User-Agent":   {"sluice-health"},
		},
		Body:          io.NopCloser(bytes.NewReader(p.request)),
		ContentLength: int64(len(p.request)),
	}).WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %d", resp.StatusCode)
	}
	if s := resp.Header.Get("Content-Type"); s != "application/grpc" && !strings.HasPrefix(s, "application/grpc+") &&
		!strings.HasPrefix(s, "application/grpc;") {
		return fmt.Errorf("content type %s", quote(s))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return errors.New("an answer of more than 4 KiB")
	}
	if err := callStatus(resp); err != nil {
		return err
	}
	status, err := healthResponse(body)
	if err != nil {
		return err
	}
	if status != serving {
		return errors.New(serviceStatus(status))
	}
	return nil
}

// codes are gRPC's status codes by number (doc/statuscodes.md).
var codes = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// callStatus is what became of the call, by the trailers, which stand in the head if there is nothing else to say.
func callStatus(resp *http.Response) error {
	h := resp.Trailer
	if h.Get("Grpc-Status") == "" {
		h = resp.Header
	}
	text := h.Get("Grpc-Status")
	code, err := strconv.ParseUint(text, 10, 32)
	switch {
	case text == "":
		return errors.New("no grpc-status")
	case err != nil:
		return fmt.Errorf("grpc-status %s", quote(text))
	case code == 0:
		return nil
	}
	name := "status " + text
	if code < uint64(len(codes)) {
		name = codes[code]
	}
	message := h.Get("Grpc-Message")
	if plain, err := url.PathUnescape(message); err == nil {
		message = plain
	}
	if message == "" {
		return errors.New(name)
	}
	return fmt.Errorf("%s %s", name, quote(message))
}

// serving is the status of grpc.health.v1.HealthCheckResponse that means up.
const serving = 1

func serviceStatus(s uint64) string {
	names := [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if s < uint64(len(names)) {
		return names[s]
	}
	return "status " + strconv.FormatUint(s, 10)
}

// frameHead is what stands before a message: whether it is compressed, and its length in four bytes.
const frameHead = 5

// Of protobuf: a field's tag is its number and its wire type (protobuf.dev/programming-guides/encoding).
const (
	tagStatus  = 1 << 3   // HealthCheckResponse.status, a varint (wire type 0)
	tagService = 1<<3 | 2 // HealthCheckRequest.service, bytes after their length
)

// healthRequest is a framed HealthCheckRequest.
func healthRequest(service string) []byte {
	out := make([]byte, frameHead)
	if service != "" {
		out = binary.AppendUvarint(append(out, tagService), uint64(len(service)))
		out = append(out, service...)
	}
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-frameHead))
	return out
}

var errMessage = errors.New("malformed message")

// healthResponse is the status in a framed HealthCheckResponse: its last one if there are several, 0 if there is none,
// as protobuf has it.
func healthResponse(body []byte) (status uint64, err error) {
	if len(body) == 0 {
		return 0, errors.New("no message")
	}
	if len(body) < frameHead || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-frameHead) {
		return 0, errMessage
	}
	for b := body[frameHead:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>32 != 0 {
			return 0, errMessage
		}
		b = b[n:]
		var size uint64 // of a value that is skipped
		switch tag & 7 {
		case 0:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errMessage
			}
			if tag == tagStatus {
				status = uint64(uint32(v)) // an enum has 32 bits, whatever came
			}
			size = uint64(n)
		case 1:
			size = 8
		case 2:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, errMessage
			}
			b, size = b[n:], v
		case 5:
			size = 4
		default: // groups were never in this message
			return 0, errMessage
		}
		if size > uint64(len(b)) {
			return 0, errMessage
		}
		b = b[size:]
	}
	return status, nil
}
