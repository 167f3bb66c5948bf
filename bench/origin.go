package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// Where the origin answers: answerPath + N is N bytes, chainPath + N the same with a header that says what it is, and headPath
// the request's own head.
const (
	answerPath = "/bytes/"
	chainPath  = "/chain/"
	headPath   = chainPath + "head"
)

// maxAnswer bounds what the origin is asked for.
const maxAnswer = 64 << 20

// Origin answers whatever the scenarios ask, on one port: HTTP/1.1 requests for answerPath + N with N bytes, whatever
// body they have, bytes that do not begin as HTTP does with themselves, and datagrams too. Over TCP it stands on gnet.
type Origin struct {
	gnet.BuiltinEventEngine
	engine    gnet.Engine
	datagrams *datagramOrigin
	started   chan struct{}
	ended     chan error
}

// StartOrigin serves on address, with so many event loops.
func StartOrigin(address string, loops int) (*Origin, error) {
	datagrams, err := startDatagramOrigin(address, loops)
	if err != nil {
		return nil, fmt.Errorf("origin on %s: %w", address, err)
	}
	o := &Origin{datagrams: datagrams, started: make(chan struct{}), ended: make(chan error, 1)}
	go func() {
		o.ended <- gnet.Run(o, "tcp://"+address, gnet.WithNumEventLoop(loops), gnet.WithReusePort(loops > 1), gnet.WithReuseAddr(true),
			gnet.WithLockOSThread(true), gnet.WithLogger(silent{}))
	}()
	select {
	case <-o.started:
		return o, nil
	case err := <-o.ended:
		datagrams.end()
		return nil, fmt.Errorf("origin on %s: %w", address, err)
	}
}

// Stop ends the origin.
func (o *Origin) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = o.engine.Stop(ctx)
	<-o.ended
	o.datagrams.end()
}

// OnBoot implements gnet.EventHandler.
func (o *Origin) OnBoot(e gnet.Engine) gnet.Action {
	o.engine = e
	close(o.started)
	return gnet.None
}

// asked is a connection to the origin.
type asked struct {
	skip   int // bytes of a request's body that are still to come
	path   []byte
	answer []byte // to the last path, which the next request most likely has too
	close  bool   // after the body that is being skipped
	out    []byte // answers to pipelined requests, which go out together
}

// OnOpen implements gnet.EventHandler.
func (o *Origin) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(&asked{})
	return nil, gnet.None
}

// OnTraffic implements gnet.EventHandler.
func (o *Origin) OnTraffic(c gnet.Conn) gnet.Action {
	a := c.Context().(*asked)
	b, _ := c.Peek(-1)
	all := len(b)
	action := gnet.None
	for len(b) > 0 && action == gnet.None {
		if a.skip > 0 {
			n := min(a.skip, len(b))
			b = b[n:]
			if a.skip -= n; a.skip == 0 {
				action = a.reply(c)
			}
			continue
		}
		if b[0] < 'A' || b[0] > 'Z' {
			_, _ = c.Write(b)
			b = nil
			break
		}
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			if len(b) > 64<<10 {
				return gnet.Close
			}
			break
		}
		head := b[:i+2]
		b = b[i+4:]
		if !a.understand(head) {
			return gnet.Close
		}
		if a.skip == 0 {
			action = a.reply(c)
		}
	}
	discard(c, all-len(b))
	if len(a.out) > 0 {
		_, _ = c.Write(a.out)
		a.out = a.out[:0]
	}
	if action == gnet.Close && c.OutboundBuffered() > 0 {
		return gnet.None // whoever asked for it will
	}
	return action
}

// discard takes n bytes off what has come. gnet's Discard takes all for 0.
func discard(c gnet.Conn, n int) {
	if n > 0 {
		_, _ = c.Discard(n)
	}
}

// understand reads a request's head, which ends with CRLF. false: the origin does not serve it.
func (a *asked) understand(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	_, rest, _ := bytes.Cut(line, []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	a.close = bytes.Contains(head, []byte("\r\nConnection: close\r\n"))
	a.skip = max(contentLength(head), 0)
	if bytes.Equal(path, a.path) {
		return true
	}
	extra := ""
	size, sized := bytes.CutPrefix(path, []byte(answerPath))
	if !sized {
		if size, sized = bytes.CutPrefix(path, []byte(chainPath)); sized {
			extra = chainRemoved + ": sluice bench\r\n"
		}
	}
	if string(path) == headPath {
		a.path = nil // the next one may have another head
		a.answer = answerOf(extra, append(bytes.Clone(head), "\r\n"...))
		return true
	}
	n := smallAnswer
	if sized {
		var err error
		if n, err = strconv.Atoi(string(size)); err != nil || n < 0 || n > maxAnswer {
			return false
		}
	}
	a.path = bytes.Clone(path)
	a.answer = answerOf(extra, bytes.Repeat([]byte("x"), n))
	return true
}

// answerOf is a whole response; extra is lines of its head.
func answerOf(extra string, body []byte) []byte {
	head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%sContent-Length: %d\r\n\r\n", extra, len(body))
	return append(head, body...)
}

// gather is the size up to which answers are put together.
const gather = 4 << 10

// reply answers the last request.
func (a *asked) reply(c gnet.Conn) gnet.Action {
	if len(a.answer) <= gather {
		a.out = append(a.out, a.answer...)
	} else {
		if len(a.out) > 0 {
			_, _ = c.Write(a.out)
			a.out = a.out[:0]
		}
		_, _ = c.Write(a.answer)
	}
	if a.close {
		return gnet.Close
	}
	return gnet.None
}

// contentLength is the value of Content-Length in a head; -1 if it has none.
func contentLength(head []byte) int {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if len(line) > 15 && (line[0] == 'C' || line[0] == 'c') && bytes.EqualFold(line[:15], []byte("content-length:")) {
			n, err := strconv.Atoi(string(bytes.TrimSpace(line[15:])))
			if err != nil || n < 0 {
				return -1
			}
			return n
		}
	}
	return -1
}

// silent is gnet's logger: what is worth saying comes back as errors.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}
