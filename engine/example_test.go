package engine_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"sluice/engine"
)

// forward dials an endpoint for each connection and relays.
type forward struct{ to []engine.Addr }

type session struct {
	engine.Relay
	client *engine.Conn
}

func (f forward) Accept(c *engine.Conn) {
	s := &session{client: c}
	c.SetHandler(s)
	if _, err := c.Loop().Dial(f.to, time.Second, s); err != nil {
		c.Reset()
	}
}

func (s *session) Ready(*engine.Conn)   {}
func (s *session) Timeout(*engine.Conn) {}
func (s *session) Connected(up *engine.Conn, err error) {
	if err != nil {
		s.client.Reset()
		return
	}
	s.Start(s.client, up, time.Minute, s)
}
func (s *session) Ended(*engine.Relay, error) {}

// A TCP proxy in one listener and one relay.
func Example() {
	origin, _ := net.Listen("tcp", "127.0.0.1:0")
	go func() {
		c, _ := origin.Accept()
		_, _ = io.WriteString(c, "from the origin")
		_ = c.Close()
		_ = origin.Close()
	}()

	e, _ := engine.New(engine.Config{Loops: 1}, slog.Default())
	e.Start()
	defer e.Stop()
	to, _ := engine.Resolve(context.Background(), origin.Addr().String())
	ln, _ := e.Listen("127.0.0.1:0", 0, forward{to})

	c, _ := net.Dial("tcp", ln.Bound())
	b, _ := io.ReadAll(c)
	_ = c.Close()
	fmt.Println(string(b))
	// Output: from the origin
}
