package gw

import (
	"bytes"
	"strconv"
	"time"

	"sluice/gw/h1"
	"sluice/lb"
)

// What an exchange waits for, and how long. The client's connection times the client, the whole exchange and the place in the
// queue; the upstream's times the endpoint. All are on the loop's clock, which is 25 ms behind at most.

// timing are the deadlines that the client's connection keeps; 0: none.
type timing struct {
	client time.Duration // when the client is to have read, or sent on
	whole  time.Duration // when the exchange is to be over
	queue  time.Duration // when there is to be room
	// unbounded: nobody has said how long the whole may take. Else the endpoint is told, at these places in the request.
	unbounded, grpc bool
	toldAt, grpcAt  int32
}

// defaultWhole is how long an exchange may take of which nobody has said how long: what goes on longer has been forgotten.
const defaultWhole = time.Hour

// timeFor times the exchange whose request is in the worker: by its route, and by its client if that is sooner.
func (x *exchange) timeFor(t *target) {
	whole, told := t.timeout, t.timeout > 0
	q := &x.w.req
	for i := range q.Fields {
		var d time.Duration
		switch f := &q.Fields[i]; f.Kind {
		case h1.Deadline:
			d = parseTimeout(q.Value(f))
		case h1.GRPCDeadline:
			d = parseGRPCTimeout(q.Value(f))
			x.by.grpc = x.by.grpc || d > 0
		}
		if d > 0 && (!told || d < whole) {
			whole, told = d, true
		}
	}
	if x.by.unbounded = !told; x.by.unbounded {
		whole = defaultWhole
	}
	x.by.whole = x.w.loop.Now() + whole
}

// parseTimeout is the value of X-Request-Timeout: seconds, of which there may be a fraction, with or without the unit s, or
// milliseconds with ms. 0: it says nothing.
func parseTimeout(v []byte) time.Duration {
	unit := time.Second
	if s, ok := bytes.CutSuffix(v, []byte("ms")); ok {
		v, unit = s, time.Millisecond
	} else {
		v = bytes.TrimSuffix(v, []byte("s"))
	}
	var n, scale float64
	for i, c := range v {
		switch {
		case i > 16, c != '.' && (c < '0' || c > '9'), c == '.' && (scale > 0 || i == 0 || i == len(v)-1):
			return 0
		case c == '.':
			scale = 1
		default:
			n, scale = n*10+float64(c-'0'), scale*10
		}
	}
	return saturate(n/max(scale, 1), unit)
}

// parseGRPCTimeout is the value of grpc-timeout: up to eight digits and a unit (gRPC over HTTP/2, Requests). 0: it is none.
func parseGRPCTimeout(v []byte) time.Duration {
	n := 0
	if len(v) < 2 || len(v) > 9 {
		return 0
	}
	for _, c := range v[:len(v)-1] {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	switch v[len(v)-1] {
	case 'H':
		return saturate(float64(n), time.Hour)
	case 'M':
		return saturate(float64(n), time.Minute)
	case 'S':
		return saturate(float64(n), time.Second)
	case 'm':
		return saturate(float64(n), time.Millisecond)
	case 'u':
		return saturate(float64(n), time.Microsecond)
	case 'n':
		return saturate(float64(n), time.Nanosecond)
	}
	return 0
}

// maxTold is the longest time that is believed, and passed on.
const maxTold = 24 * time.Hour

func saturate(n float64, unit time.Duration) time.Duration {
	if n *= float64(unit); n < float64(maxTold) {
		return time.Duration(n)
	}
	return maxTold
}

// The endpoint is told in a field of this width, so that what is left can be written when it is sent.
const toldWidth = len("86400.000")

// appendTimeout makes room for what the endpoint is told.
func (x *exchange) appendTimeout(dst []byte) []byte {
	if x.by.unbounded {
		return dst
	}
	dst = append(dst, "X-Request-Timeout: "...)
	x.by.toldAt = int32(len(dst))
	dst = append(dst, "         \r\n"...)
	if x.by.grpc {
		dst = append(dst, "grpc-timeout: "...)
		x.by.grpcAt = int32(len(dst))
		dst = append(dst, "         \r\n"...)
	}
	return dst
}

// tell writes what is left of the time into the request, which is whole and about to be sent. White space before a value
// is none of it (RFC 9110, section 5.5).
func (x *exchange) tell() {
	left := min(max(x.by.whole-x.w.loop.Moment(), time.Millisecond), maxTold).Milliseconds()
	var room [2 * toldWidth]byte
	put := func(at int32, text []byte) {
		field := x.request[at : int(at)+toldWidth]
		for i := range field {
			field[i] = ' '
		}
		copy(field[toldWidth-len(text):], text)
	}
	text := strconv.AppendInt(room[:0], left/1000, 10)
	frac := left % 1000
	text = append(text, '.', byte('0'+frac/100), byte('0'+frac/10%10), byte('0'+frac%10))
	put(x.by.toldAt, text)
	if x.by.grpcAt > 0 {
		put(x.by.grpcAt, append(strconv.AppendInt(room[:0], left, 10), 'm'))
	}
}

// setDeadline times what is waited for from the client: that it reads, or sends the rest of its request.
func (x *exchange) setDeadline() {
	cfg := &x.d.gw.cfg
	switch {
	case len(x.toClient) > 0:
		x.by.client = x.w.loop.Now() + cfg.IdleTimeout
	case !x.body.Done():
		x.by.client = max(x.d.start+cfg.RequestTimeout, 1)
	default:
		x.by.client = 0
	}
	x.arm()
}

// arm has the client's connection wake the exchange at the first of its deadlines.
func (x *exchange) arm() {
	first := time.Duration(0)
	for _, t := range [...]time.Duration{x.by.client, x.by.whole, x.by.queue} {
		if t > 0 && (first == 0 || t < first) {
			first = t
		}
	}
	if first > 0 {
		first = max(first-x.w.loop.Now(), 1)
	}
	x.d.conn.SetTimeout(first)
}

// awaitUpstream times the endpoint anew: how long it may take to begin its response, or to go on with it.
func (x *exchange) awaitUpstream() {
	cfg := x.cl.Config()
	d := cfg.ResponseTimeout
	switch {
	case x.headed:
		d = cfg.BodyTimeout
	case cfg.Retry.PerTry > 0:
		d = min(d, cfg.Retry.PerTry)
	}
	x.up.conn.SetTimeout(d)
}

// downstreamTimeout: one of the deadlines has passed.
func (x *exchange) downstreamTimeout() {
	now := x.w.loop.Now()
	due := func(t time.Duration) bool { return t > 0 && t <= now }
	switch {
	case due(x.by.queue):
		x.timedOut()
		x.noEndpoint(lb.ErrFull)
	case due(x.by.client) && len(x.toClient) > 0:
		x.timedOut()
		x.d.conn.Reset() // it does not read; what it has is not whole
		x.abandon()
	case due(x.by.client) && !x.body.Done():
		x.timedOut()
		x.refuse(408, "request not complete in time")
	case due(x.by.whole) && x.pause.waits:
		x.timedOut()
		x.forsake(504, "exchange not complete in time")
	case due(x.by.whole):
		x.timedOut()
		x.overdue()
	default:
		x.arm()
	}
}

func (x *exchange) timedOut() { x.d.gw.counters(x.w.loop).Timeouts.Inc() }
