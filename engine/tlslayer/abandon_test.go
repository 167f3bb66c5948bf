package tlslayer

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"sluice/engine"
)

// halfway has a client stop in the middle of its handshake.
func halfway(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c := dial(t, addr)
	cfg := clientConfig()
	cfg.MinVersion = tls.VersionTLS13
	must(t, tls.Client(&holder{Conn: c, pass: 1}, cfg).Handshake())
	return c
}

// refuser never hears of its handshakes.
type refuser struct {
	crew  *Handshaker
	cfg   *tls.Config
	conns chan *engine.Conn
	t     *testing.T
}

func (r *refuser) Accept(c *engine.Conn) {
	c.SetHandler(r)
	if err := r.crew.Server(c, r.cfg, r); err != nil {
		r.t.Error(err)
	}
	r.conns <- c
}
func (r *refuser) Ready(*engine.Conn)            {}
func (r *refuser) Timeout(*engine.Conn)          {}
func (r *refuser) Connected(*engine.Conn, error) {}
func (r *refuser) Secured(*engine.Conn, *tls.ConnectionState, error) {
	r.t.Error("the owner of a closed connection was called")
}

func TestOwnerMayCloseInTheMiddle(t *testing.T) {
	e := newEngine(t, 1)
	r := &refuser{crew: New(Config{}), cfg: serverConfig(t), conns: make(chan *engine.Conn, 1), t: t}
	ln, err := e.Listen("127.0.0.1:0", 0, r)
	must(t, err)
	for _, end := range []func(*engine.Conn){(*engine.Conn).Close, (*engine.Conn).Reset} {
		dial(t, ln.Bound()) // nothing said
		c := next(t, r.conns)
		on(c, func() { end(c) })
		halfway(t, ln.Bound())
		c = next(t, r.conns)
		on(c, func() {
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != engine.ErrAgain {
				t.Errorf("read before the end of the handshake: %d, %v", n, err)
			}
			if n, err := c.Write(make([]byte, 1)); n != 0 || err != engine.ErrAgain {
				t.Errorf("write before the end of the handshake: %d, %v", n, err)
			}
			end(c)
		})
	}
	eventually(t, "none is under way", func() bool { return r.crew.Counters().UnderWay.Load() == 0 })
	eventually(t, "nothing is held", func() bool { return e.Held() == 0 && e.Open() == 0 })
	ln.Close()
}

// The handshakes' goroutines end with the engine: goleak looks.
func TestEngineMayStopInTheMiddle(t *testing.T) {
	e, err := engine.New(engine.Config{Loops: 2}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	must(t, err)
	e.Start()
	r := &refuser{crew: New(Config{}), cfg: serverConfig(t), conns: make(chan *engine.Conn, 100), t: t}
	ln, err := e.Listen("127.0.0.1:0", 0, r)
	must(t, err)
	for range 20 {
		halfway(t, ln.Bound())
		dial(t, ln.Bound())
	}
	for range 40 {
		next(t, r.conns)
	}
	e.Stop()
	eventually(t, "none is under way", func() bool { return r.crew.Counters().UnderWay.Load() == 0 })
}

func TestTimeoutAndHandlerAreTheOwnersAgain(t *testing.T) {
	p := newProxy(t, Config{Timeout: 200 * time.Millisecond}, serverConfig(t), nil, nil, engine.ListenOptions{})
	c, ours := secured(t, p, clientConfig())
	on(ours, func() {
		if _, ok := ours.Handler().(*session); !ok {
			t.Errorf("the handler is a %T", ours.Handler())
		}
	})
	// It outlives the handshake's timeout, as another's handshake shows that takes as long.
	dial(t, p.Bound())
	if k := Classify(next(t, p.failed)); k != Timeout {
		t.Errorf("failed by %v", k)
	}
	if n := p.timeouts.Load(); n > 0 {
		t.Error("the owner was told of a timeout that is not its own")
	}
	on(ours, func() { _, _ = ours.Write([]byte("still here")) })
	b := make([]byte, 10)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Error(err)
	}
	on(ours, ours.Close)
}

// Answers to KeyUpdate that nobody takes stop the reading that causes them.
func TestAnswersThatWaitStopReading(t *testing.T) {
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	c, ours := secured(t, p, clientConfig())
	_, err := io.WriteString(c, "hello")
	must(t, err)
	b := make([]byte, 10)
	on(ours, func() {
		y := p.layer.Load()
		y.out, y.answers = ours.Loop().AppendBuffer(nil, nil), answersMost+1
		if n, err := ours.Read(b); n != 0 || err != engine.ErrAgain {
			t.Errorf("%d, %v", n, err)
		}
		y.Flush(ours)
	})
	eventually(t, "it is read once they are out", func() (ok bool) {
		on(ours, func() {
			n, _ := ours.Read(b)
			ok = string(b[:n]) == "hello"
		})
		return ok
	})
	on(ours, ours.Close)
}

func TestConfigIsChecked(t *testing.T) {
	var paths []string
	report := func(path, _ string) { paths = append(paths, path) }
	Config{}.Validate(report)
	Config{Handshakes: 1, Running: 1, Queue: 1, Timeout: 1}.Validate(report)
	if len(paths) > 0 {
		t.Errorf("%v", paths)
	}
	Config{Handshakes: -1, Running: -1, Queue: 1 << 30, Timeout: -1}.Validate(report)
	if len(paths) != 4 {
		t.Errorf("%v", paths)
	}
}
