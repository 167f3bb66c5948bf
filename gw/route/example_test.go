package route_test

import (
	"fmt"
	"net/netip"

	"sluice/gw/h1"
	"sluice/gw/route"
)

// Three routes, a request, and why it goes where it goes.
func Example() {
	prod := "prod"
	routes, err := route.Build([]route.Entry[string]{
		{Match: route.Match{PathPrefix: "/users"}, Value: "users"},
		{Match: route.Match{Host: "*.test", PathTemplate: "/users/{id}/orders/{n}"}, Value: "orders"},
		{Match: route.Match{Host: "api.test", PathPrefix: "/users", Headers: []route.Condition{{Name: "X-Env", Value: &prod}}}, Value: "users-prod"},
	})
	if err != nil {
		panic(err)
	}
	var q h1.Request
	head := "GET /users/7/orders/12 HTTP/1.1\r\nHost: api.test\r\nX-Env: dev\r\n\r\n"
	if _, err := q.Scan([]byte(head), &h1.Resume{}, &h1.DefaultLimits); err != nil {
		panic(err)
	}
	path, client := h1.MatchPath(q.Path, nil), netip.MustParseAddr("192.0.2.1")
	var found route.Captures
	to, _ := routes.Find(&q, q.Hostname(), path, client, &found)
	id, _ := found.Get(path, "id")
	fmt.Printf("%s, id %s\n", to, id)
	considered, _ := routes.Explain(&q, q.Hostname(), path, client, 0)
	for _, c := range considered {
		fmt.Printf("#%d %s\n", c.Index, c.Why)
	}
	// Output:
	// orders, id 7
	// #2 header X-Env is "dev", not "prod"
	// #1 matches *.test /users/{id}/orders/{n}
	// #0 matches any host /users, but comes after #1
}
