package tlslayer_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"

	"sluice/engine"
	"sluice/engine/tlslayer"
)

// greeter says hello over TLS, and what it thinks of plain HTTP.
type greeter struct {
	tls *tlslayer.Handshaker
	cfg *tls.Config
}

func (g *greeter) Accept(c *engine.Conn) {
	c.SetHandler(g)
	if err := g.tls.Server(c, g.cfg, g); err != nil {
		c.Reset()
	}
}

func (g *greeter) Secured(c *engine.Conn, state *tls.ConnectionState, err error) {
	switch {
	case errors.Is(err, tlslayer.ErrPlainHTTP):
		_, _ = c.Read(c.Loop().Scratch())
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		c.Close()
	case err != nil: // the connection is closed, and the failure counted
	default:
		_, _ = io.WriteString(c, "hello over "+tls.VersionName(state.Version))
		c.Close()
	}
}

func (g *greeter) Ready(*engine.Conn)            {}
func (g *greeter) Timeout(*engine.Conn)          {}
func (g *greeter) Connected(*engine.Conn, error) {}

// A listener that terminates TLS.
func Example() {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS() // for its certificate
	defer certified.Close()

	e, _ := engine.New(engine.Config{Loops: 1}, slog.Default())
	e.Start()
	defer e.Stop()
	g := &greeter{tls: tlslayer.New(tlslayer.Config{}), cfg: &tls.Config{Certificates: certified.TLS.Certificates}}
	ln, _ := e.Listen("127.0.0.1:0", 0, g)

	c, err := tls.Dial("tcp", ln.Bound(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := io.ReadAll(c)
	_ = c.Close()
	fmt.Println(string(b), err)
	fmt.Println(g.tls.Counters().Server.TLS13.Load(), "handshake")
	// Output:
	// hello over TLS 1.3 <nil>
	// 1 handshake
}
