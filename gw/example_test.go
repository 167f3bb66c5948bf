package gw_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"sluice/engine"
	"sluice/gw"
	"sluice/gw/filter"
	"sluice/gw/route"
	"sluice/lb"
)

// A gateway with two routes: one to a cluster, one that it answers itself.
func Example() {
	orders := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s", r.URL.Path, r.Header.Get("X-Forwarded-For"))
	}))
	defer orders.Close()

	e, _ := engine.New(engine.Config{Loops: 1}, slog.Default())
	e.Start()
	defer e.Stop()
	cluster, _ := lb.NewCluster(lb.Config{
		Name:      "orders",
		Endpoints: []lb.EndpointConfig{{Address: orders.Listener.Addr().String()}},
	}, e.Loops(), slog.Default(), nil)
	defer cluster.Stop(nil)
	routes := []gw.Route{
		{Match: route.Match{PathPrefix: "/order"}, Cluster: "orders"},
		{Match: route.Match{PathPrefix: "/admin"}, Filters: []filter.Config{{Respond: &filter.Respond{Status: 403, Body: "no"}}}},
	}
	g := gw.New(gw.Config{}, "", routes, func(string) *lb.Cluster { return cluster }, gw.NewWorkers(e.Loops()),
		&gw.Stats{Loops: make([]gw.Counters, 1)}, func(*gw.Gateway) bool { return false }, slog.Default())
	ln, _ := e.Listen("127.0.0.1:0", 0, g)

	for _, path := range []string{"/order/7", "/admin"} {
		resp, _ := http.Get("http://" + ln.Bound() + path)
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Println(resp.StatusCode, string(b))
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 200 /order/7 for 127.0.0.1
	// 403 no
}
