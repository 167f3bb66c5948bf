package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Protocol is what a target has to speak for a scenario.
type Protocol string

// The protocols of scenarios.
const (
	HTTP Protocol = "http"
	TCP  Protocol = "tcp" // L4: bytes are relayed, whatever they mean
	UDP  Protocol = "udp" // L4: datagrams are
	// TLS ends at the target in both; what it passes on is in clear.
	HTTPS Protocol = "https"
	TLS   Protocol = "tls" // L4: bytes are relayed, whatever they mean
)

// Load is what the generator does with its connections.
type Load int

// The loads.
const (
	KeepAlive Load = iota // requests one after the other on each connection
	PerConn               // a connection for each request
	PingPong              // 64 bytes there, 64 bytes back, on each connection
	PerConnPP             // a connection for each ping and pong
	Idle                  // open connections that do nothing: their memory is what is measured
	Datagrams             // 64 bytes there and back; a connection is a source address
)

// Scenario is one kind of load.
type Scenario struct {
	Name     string
	About    string
	Protocol Protocol
	Load     Load
	Answer   int // bytes of the body that the origin answers
	Upload   int // bytes of the body that is sent
	Conns    int // connections, unless the caller says otherwise
	Burst    int // datagrams that a flow sends one after the other before it waits for their answers
	// Resume says that connections are resumed by tickets (RFC 8446, section 2.2); the others have full handshakes.
	Resume bool
	// Chain says that targets run their filters: requests have Headers, lines with CRLF that the suite fills in.
	Chain   bool
	Headers string
	// Beside is the scenario that this one adds to: reports compare them, target by target. Unlike says by target what it
	// does otherwise than the others.
	Beside string
	Unlike map[string]string
	// Missing says why no target can do it yet; empty if it can be run.
	Missing string
}

// smallAnswer is the size of the small responses, those of DESIGN.md's figures.
const smallAnswer = 33

// Scenarios are all there are, in the order in which they are run.
var Scenarios = []Scenario{
	{Name: "http-keepalive", About: "33-byte answers on keep-alive connections", Protocol: HTTP, Load: KeepAlive, Answer: smallAnswer, Conns: 64},
	{Name: "http-1k", About: "1 KiB answers", Protocol: HTTP, Load: KeepAlive, Answer: 1 << 10, Conns: 64},
	{Name: "http-64k", About: "64 KiB answers", Protocol: HTTP, Load: KeepAlive, Answer: 64 << 10, Conns: 32},
	{Name: "http-1m", About: "1 MiB answers", Protocol: HTTP, Load: KeepAlive, Answer: 1 << 20, Conns: 16},
	{Name: "http-upload-1m", About: "1 MiB request bodies", Protocol: HTTP, Load: KeepAlive, Answer: smallAnswer, Upload: 1 << 20, Conns: 16},
	{Name: "http-close", About: "a connection for each request", Protocol: HTTP, Load: PerConn, Answer: smallAnswer, Conns: 32},
	{Name: "http-chain", About: "http-keepalive through filters: JWT (HS256), rate limit by client, changed headers, CORS, request id", Protocol: HTTP,
		Load: KeepAlive, Answer: smallAnswer, Conns: 64, Chain: true, Beside: "http-keepalive", Unlike: chainUnlike},
	{Name: "http-idle", About: "memory of idle keep-alive connections", Protocol: HTTP, Load: Idle, Answer: smallAnswer, Conns: 5000},
	{Name: "tcp-pingpong", About: "64 bytes there and back through an L4 relay", Protocol: TCP, Load: PingPong, Conns: 64},
	{Name: "tcp-bulk", About: "1 MiB answers through an L4 relay", Protocol: TCP, Load: KeepAlive, Answer: 1 << 20, Conns: 16},
	{Name: "tcp-close", About: "an L4 session for each 64 bytes there and back", Protocol: TCP, Load: PerConnPP, Conns: 32},
	{Name: "https-keepalive", About: "http-keepalive over TLS", Protocol: HTTPS, Load: KeepAlive, Answer: smallAnswer, Conns: 64, Beside: "http-keepalive"},
	{Name: "https-close", About: "http-close over TLS, with full handshakes: 1.3, ECDSA on P-256, X25519", Protocol: HTTPS, Load: PerConn, Answer: smallAnswer,
		Conns: 32, Beside: "http-close", Unlike: ticketsUnlike},
	{Name: "https-resume", About: "the same, resumed by tickets", Protocol: HTTPS, Load: PerConn, Answer: smallAnswer, Conns: 32, Resume: true, Beside: "http-close"},
	{Name: "https-1m", About: "http-1m over TLS, AES-128-GCM", Protocol: HTTPS, Load: KeepAlive, Answer: 1 << 20, Conns: 16, Beside: "http-1m"},
	{Name: "tls-bulk", About: "1 MiB answers through an L4 relay at which TLS ends", Protocol: TLS, Load: KeepAlive, Answer: 1 << 20, Conns: 16, Beside: "tcp-bulk"},
	{Name: "h2-keepalive", About: "http-keepalive over HTTP/2", Protocol: HTTP, Missing: "it needs HTTP/2"},
	{Name: "udp-pps", About: "64-byte datagrams of 1,000 flows through an L4 relay, four at a time of a flow", Protocol: UDP, Load: Datagrams, Conns: 1000, Burst: datagramBurst},
	{Name: "udp-single", About: "the same, one at a time of a flow", Protocol: UDP, Load: Datagrams, Conns: 1000, Burst: 1},
}

// Main are the scenarios that a comparison with peers runs if none are named.
var Main = []string{"http-keepalive", "http-1m", "http-close", "tcp-pingpong", "tcp-bulk", "tcp-close", "udp-pps"}

// Find names scenarios: none or "all" are all. An unknown name is an error that tells the nearest ones.
func Find(names []string) ([]Scenario, error) {
	if len(names) == 0 || slices.Contains(names, "all") {
		return Scenarios, nil
	}
	var out []Scenario
	for _, n := range names {
		i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == n })
		if i < 0 {
			return nil, fmt.Errorf("no scenario named %q; did you mean %s?", n, strings.Join(nearest(n), " or "))
		}
		out = append(out, Scenarios[i])
	}
	return out, nil
}

// nearest are the names that share the most with n: the longest common subsequence, over both lengths.
func nearest(n string) []string {
	type near struct {
		name string
		like float64
	}
	var all []near
	for _, s := range Scenarios {
		all = append(all, near{s.Name, 2 * float64(common(n, s.Name)) / float64(len(n)+len(s.Name))})
	}
	slices.SortStableFunc(all, func(a, b near) int {
		switch {
		case a.like > b.like:
			return -1
		case a.like < b.like:
			return 1
		}
		return 0
	})
	return []string{all[0].name, all[1].name}
}

func common(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range a {
		diagonal := 0
		for j := range b {
			up := row[j+1]
			if a[i] == b[j] {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(up, row[j])
			}
			diagonal = up
		}
	}
	return row[len(b)]
}

// secure says that it is over TLS.
func (s *Scenario) secure() bool { return s.Protocol == HTTPS || s.Protocol == TLS }

// perConn says that each request has a connection of its own.
func (s *Scenario) perConn() bool { return s.Load == PerConn || s.Load == PerConnPP }

// request is what is sent, once for each exchange, to a target at host.
func (s *Scenario) request(host string) []byte {
	if s.Load == PingPong || s.Load == PerConnPP {
		return []byte(strings.Repeat("p", pingSize))
	}
	end := "\r\n"
	if s.Load == PerConn {
		end = "Connection: close\r\n\r\n"
	}
	path := answerPath
	if s.Chain {
		path = chainPath
	}
	if s.Upload > 0 {
		head := fmt.Sprintf("POST %s%d HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s%s", path, s.Answer, host, s.Upload, s.Headers, end)
		return append([]byte(head), make([]byte, s.Upload)...)
	}
	return fmt.Appendf(nil, "GET %s%d HTTP/1.1\r\nHost: %s\r\n%s%s", path, s.Answer, host, s.Headers, end)
}

// pingSize is the size of a ping and of its pong. Pings begin with a letter that no HTTP method begins with.
const pingSize = 64
