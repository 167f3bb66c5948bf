package lb_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"

	"sluice/engine"
	"sluice/lb"
)

// A TCP load balancer before one endpoint.
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
	cluster, _ := lb.NewCluster(lb.Config{
		Name:      "origins",
		Picker:    lb.Maglev,
		Endpoints: []lb.EndpointConfig{{Address: origin.Addr().String()}},
	}, e.Loops(), slog.Default(), nil)
	cluster.Start()
	defer cluster.Stop(nil)
	stats := &lb.ProxyStats{Loops: make([]lb.ProxyCounters, 1)}
	ln, _ := e.Listen("127.0.0.1:0", 0, lb.NewProxy(lb.ProxyConfig{Cluster: "echo"}, "", func(string) *lb.Cluster { return cluster }, stats, slog.Default()))

	c, _ := net.Dial("tcp", ln.Bound())
	b, _ := io.ReadAll(c)
	_ = c.Close()
	fmt.Println(string(b))
	// Output: from the origin
}
