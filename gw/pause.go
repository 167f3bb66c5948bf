package gw

import (
	"sluice/engine"
	"sluice/gw/filter"
	"sluice/gw/h1"
)

// How an exchange stands still before it has an endpoint: a filter needs the whole of the request's body, or waits for somebody.
// The worker serves others meanwhile, so that what was in it is kept, and read once more.

// pause is what is kept of a request that stands still.
type pause struct {
	head   []byte // pooled: the request's head, and behind it its cookies as they came
	cookie int    // where those begin
	early  []byte // pooled: what came of the body behind the head
	next   int    // the filter that goes on
	waits  bool   // a filter does
	back   bool   // it is the response that waits, which is whole
	gone   bool   // nobody waits for the answer any more: it ends with the filter's wait
}

// stands says that the exchange stands still.
func (p *pause) stands() bool { return p.head != nil }

// stand keeps what the worker has of the request, and what came of its body.
func (x *exchange) stand(next int, data []byte) {
	l := x.w.loop
	x.pause.head = l.AppendBuffer(nil, x.w.req.Raw)
	x.pause.cookie = len(x.pause.head)
	x.pause.head = l.AppendBuffer(x.pause.head, x.w.parser.cookie)
	x.pause.next = next
	if len(data) > 0 {
		x.pause.early = l.AppendBuffer(nil, data)
	}
}

// goOn has the worker know the request again.
func (x *exchange) goOn() (next int, early []byte) {
	w, p := x.w, x.pause
	w.parser.cookie = append(w.parser.cookie[:0], p.head[p.cookie:]...)
	w.head, w.early = append(w.head[:0], p.head[:p.cookie]...), append(w.early[:0], p.early...)
	if _, err := w.req.Scan(w.head, &h1.Resume{}, &x.d.gw.limits); err != nil {
		panic("BUG: a head that was read cannot be read: " + err.Error())
	}
	w.loop.PutBuffer(p.head)
	w.loop.PutBuffer(p.early)
	x.pause = pause{}
	return p.next, w.early
}

// standBy has the exchange stand still until the filter before next knows more.
func (x *exchange) standBy(next int, data []byte) {
	x.stand(next, data)
	x.pause.waits = true
	x.by.client = 0
	x.arm()
}

// resumed: the filter knows more.
func (x *exchange) resumed(r filter.Result) {
	if x.pause.gone {
		x.w.release(x)
		return
	}
	if x.pause.back {
		next := x.pause.next
		x.pause = pause{}
		x.setDeadline()
		x.respond(next)
		return
	}
	next, data := x.goOn()
	x.setDeadline()
	if r == filter.Answer {
		x.filterAnswer(next - 1)
		return
	}
	x.filter(next, data)
}

// forsake parts with the client while a filter waits: with an answer, if status is one. The exchange ends with the wait.
func (x *exchange) forsake(status int, message string) {
	d, l := x.d, x.w.loop
	if status > 0 {
		x.w.out = appendReply(x.w.out[:0], l.Date(), status, message, x.id, true, x.http10, x.toHEAD)
		_, _ = d.conn.Write(x.w.out)
		x.count(status)
	} else {
		d.gw.counters(l).Aborted.Inc()
	}
	x.measure()
	x.pause.gone, x.d = true, nil
	d.x, d.began = nil, false
	if status > 0 {
		d.lingering()
	} else {
		d.close()
	}
}

// collect reads the rest of a body, for the filters.
func (x *exchange) collect(data []byte) {
	if x.w.req.Length > int64(x.requestWhole) { // before the client is told to send it
		x.refuseBody(x.wholeBy)
		return
	}
	x.ctx.Request.Header.Del("Expect")
	if !x.gather(data) {
		return
	}
	if x.body.Done() {
		x.filter(0, nil)
		return
	}
	x.stand(0, nil)
	if x.expect {
		// It is us who want the body.
		x.expect = false
		if !x.pass([]byte("HTTP/1.1 100 Continue\r\n\r\n")) {
			return
		}
	}
	x.collectMore()
}

// gather keeps a piece of the body. false: it was too much, and the exchange has ended.
func (x *exchange) gather(data []byte) bool {
	if len(x.ctx.Request.Body())+len(data) > x.requestWhole {
		x.refuseBody(x.wholeBy)
		return false
	}
	x.ctx.Request.AppendBody(data)
	return true
}

// collectMore reads what has come of the body, and goes on with the filters when it is whole.
func (x *exchange) collectMore() {
	l := x.w.loop
	for {
		if len(x.toClient) > 0 && !x.flush() {
			return
		}
		n, err := x.d.conn.Read(l.Scratch())
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			x.clientEnded(err)
			return
		}
		data, rest, err := x.body.Next(l.Scratch()[:n])
		if err != nil {
			x.refuse(400, err.Error())
			return
		}
		x.d.keep(rest)
		if !x.gather(data) {
			return
		}
		if x.body.Done() {
			next, _ := x.goOn()
			x.setDeadline()
			x.filter(next, nil)
			return
		}
	}
}
