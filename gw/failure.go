package gw

import (
	"io"

	"sluice/gw/h1"
)

// How an exchange goes on, or ends, when one of its sides fails: the upstream, or the client. Whether the client can be
// told depends on what it has got of a response already.

// upstreamTimeout: the endpoint has been silent for too long.
func (x *exchange) upstreamTimeout() {
	if len(x.toClient) > 0 || !x.body.Done() && x.sent == len(x.request) {
		// It is the client that keeps it waiting, and is timed for that.
		x.awaitUpstream()
		return
	}
	x.timedOut()
	x.failure()
	switch {
	case x.wrote:
		x.abandon()
	case x.rival != nil && x.unanswered():
		x.takeRival()
		x.run()
	case x.cl.Config().Retry.PerTry > 0 && x.maySendAgain():
		x.sendAgain()
	default:
		x.reply(504, "upstream did not answer in time")
	}
}

// overdue: the time for the whole exchange is over.
func (x *exchange) overdue() {
	if x.up != nil && !x.up.conn.Dialling() && !x.headed {
		x.failure()
	}
	if x.wrote {
		x.abandon()
		return
	}
	x.reply(504, "exchange not complete in time")
}

// evicted: the endpoint's sessions are ended.
func (x *exchange) evicted() {
	switch {
	case x.wrote:
		x.abandon()
	case x.rival != nil && x.unanswered():
		x.takeRival()
		x.run()
	case x.maySendAgain():
		x.sendAgain()
	default:
		x.reply(503, "endpoint was taken out of service")
	}
}

// upstreamEnded: the upstream's connection has ended, by FIN (io.EOF) or by an error.
func (x *exchange) upstreamEnded(err error) {
	switch {
	case x.headed:
		if err != io.EOF || !x.response.EOF() {
			x.failure()
			x.abandon()
			return
		}
		if x.responseWhole > 0 {
			x.collected()
			return
		}
		x.leave()
		out := x.w.out[:0]
		if len(x.transforms) > 0 {
			data, err := x.transformed(nil, true)
			if err != nil {
				x.abandon()
				return
			}
			if x.framing == inChunks {
				out = h1.AppendChunk(out, data)
			} else {
				out = append(out, data...)
			}
		}
		if x.framing == inChunks {
			out = h1.AppendLastChunk(out, nil)
		}
		if x.w.out = out; !x.pass(out) {
			return
		}
		x.download()
	case x.up.reused && x.whole && (x.idempotent || x.sent == 0) && x.unanswered() && x.rival == nil:
		// A warm connection that had gone stale: the endpoint closed it while the request was under way.
		x.d.gw.counters(x.w.loop).Retries.Inc()
		x.leave()
		x.fresh, x.lost, x.sent = true, nil, 0
		x.search()
	case x.rival != nil && x.unanswered():
		x.failure()
		x.takeRival()
		x.run()
	case x.maySendAgain():
		x.failure()
		x.sendAgain()
	default:
		x.failure()
		x.reply(502, "upstream closed the connection without a response")
	}
}

// maySendAgain says that the request can go to another endpoint, although this one may have seen it: that is no harm (RFC
// 9110, section 9.2.2), or it has seen nothing; all of it is at hand, nothing has been answered, and the cluster's budget
// allows it.
func (x *exchange) maySendAgain() bool {
	l, cl := x.w.loop, x.cl
	return (x.idempotent || x.sent == 0) && x.whole && x.unanswered() && int(x.sends) < cl.Config().Retry.Attempts &&
		cl.Pick(l, x.hash, append(x.tried, x.ep)) != nil && cl.MayRetry(l)
}

// sendAgain sends the request to another endpoint.
func (x *exchange) sendAgain() {
	x.sends++
	x.leave()
	x.tried = append(x.tried, x.ep)
	x.lost, x.sent = nil, 0
	x.search()
}

// spoiled: the upstream broke the protocol.
func (x *exchange) spoiled(message string) {
	x.failure()
	if x.wrote {
		x.abandon()
		return
	}
	x.reply(502, message)
}

func (x *exchange) failure() { x.cl.Failed(x.w.loop, x.ep) }

// refuse: the client broke the protocol or a limit, within the body.
func (x *exchange) refuse(status int, message string) {
	x.d.gw.counters(x.w.loop).Refused.Inc()
	x.keep = false
	if x.wrote {
		x.abandon()
		return
	}
	x.reply(status, message)
}

// refuseBody: the request's body is more than the filter at that place allows.
func (x *exchange) refuseBody(by int) {
	x.countTooLarge(by)
	x.refuse(413, "request body too large")
}

// countTooLarge counts a body that is more than a filter allows.
func (x *exchange) countTooLarge(by int) {
	if t := x.target; by < len(t.tooLarge) {
		x.refused(&x.d.gw.stats.refused, &t.tooLarge[by], 413, "request refused")
	}
}

// abandon ends the exchange without a whole response: the client learns by the end of its connection.
func (x *exchange) abandon() {
	x.d.gw.counters(x.w.loop).Aborted.Inc()
	x.measure()
	untilClose := x.wrote && x.framing == asIs && (x.response.UntilClose() || x.response.Chunked())
	x.headed = false
	x.leave()
	if untilClose {
		x.d.conn.Reset() // a FIN would pass for the body's end
	} else {
		x.d.conn.Close()
	}
	x.d.finished(false, false)
}
