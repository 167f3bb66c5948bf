package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lab is a network of namespaces: clients, a router that spreads flows over two nodes by their 4-tuples (ECMP), and
// endpoints behind them. Both nodes have the address 10.99.0.1 that clients connect to.
//
//	clients 10.1.0.0/24 ── router ──┬── node 1 ──┬── endpoints 10.3.0.0/24
//	                                └── node 2 ──┘
type lab struct {
	t    testing.TB
	name string // of the namespaces, before what they are
}

const vip = "10.99.0.1:80"

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it makes network namespaces, which takes root")
	}
	if out, err := exec.Command("ip", "netns", "add", fmt.Sprintf("sluice%d-", os.Getpid())).CombinedOutput(); err != nil {
		t.Skipf("network namespaces cannot be made here: %v: %s", err, out)
	}
	l := &lab{t, fmt.Sprintf("sluice%d-", os.Getpid())}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", l.name).Run() })
	for _, ns := range []string{"clients", "router", "node1", "node2", "endpoints"} {
		l.ip("netns add " + l.name + ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", l.name+ns).Run() })
		l.in(ns, "link set lo up")
	}
	l.link("clients", "c0", "10.1.0.1/24", "router", "c1", "10.1.0.254/24")
	l.link("router", "n1", "10.2.1.254/24", "node1", "r0", "10.2.1.1/24")
	l.link("router", "n2", "10.2.2.254/24", "node2", "r0", "10.2.2.1/24")
	for i := 2; i <= 40; i++ {
		l.in("clients", fmt.Sprintf("addr add 10.1.0.%d/24 dev c0", i))
	}
	l.in("clients", "route add default via 10.1.0.254")
	// The nodes and the endpoints are on one bridge.
	l.in("endpoints", "link add name br0 type bridge")
	for i := 1; i <= 4; i++ {
		l.in("endpoints", fmt.Sprintf("addr add 10.3.0.10%d/24 dev br0", i))
	}
	l.in("endpoints", "link set br0 up")
	for i, node := range []string{"node1", "node2"} {
		l.in("endpoints", fmt.Sprintf("link add e%d type veth peer name e0 netns %s", i, l.name+node))
		l.in("endpoints", fmt.Sprintf("link set e%d master br0 up", i))
		l.in(node, fmt.Sprintf("addr add 10.3.0.%d/24 dev e0", i+1))
		l.in(node, "link set e0 up")
		l.in(node, "addr add 10.99.0.1/32 dev lo")
		l.in(node, fmt.Sprintf("route add default via 10.2.%d.254", i+1))
	}
	l.run("router", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1")
	l.in("router", "route add 10.99.0.1/32 nexthop via 10.2.1.1 nexthop via 10.2.2.1")
	return l
}

func (l *lab) link(a, devA, addrA, b, devB, addrB string) {
	l.in(a, fmt.Sprintf("link add %s type veth peer name %s netns %s", devA, devB, l.name+b))
	l.in(a, fmt.Sprintf("addr add %s dev %s", addrA, devA))
	l.in(b, fmt.Sprintf("addr add %s dev %s", addrB, devB))
	l.in(a, "link set "+devA+" up")
	l.in(b, "link set "+devB+" up")
}

func (l *lab) ip(args string) {
	l.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

func (l *lab) in(ns, args string) { l.t.Helper(); l.ip("-n " + l.name + ns + " " + args) }

func (l *lab) run(ns string, command ...string) {
	l.t.Helper()
	all := append([]string{"netns", "exec", l.name + ns}, command...)
	if out, err := exec.Command("ip", all...).CombinedOutput(); err != nil {
		l.t.Fatalf("%v: %v: %s", all, err, out)
	}
}

// within runs f on a thread that is in the namespace: sockets that it opens stay there.
func (l *lab) within(ns string, f func() error) error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		h, err := os.Open("/run/netns/" + l.name + ns)
		if err == nil {
			err = unix.Setns(int(h.Fd()), unix.CLONE_NEWNET)
			h.Close()
		}
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	return <-failed
}

// endpoint answers each line with its name.
func (l *lab) endpoint(address string) {
	l.t.Helper()
	var ln net.Listener
	must(l.t, l.within("endpoints", func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	}))
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					fmt.Fprintln(c, address)
				}
			})
		}
	})
	l.t.Cleanup(func() { ln.Close(); running.Wait() })
}

// dial is a connection from a client's address to the address that both nodes have.
func (l *lab) dial(client string) (c net.Conn, err error) {
	err = l.within("clients", func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}, Timeout: patience}
		c, err = d.Dial("tcp", vip)
		return err
	})
	return c, err
}

// ask is which endpoint answers on a connection.
func ask(c net.Conn) (string, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "who\n"); err != nil {
		return "", err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

// Two nodes that know nothing of each other place a client on the same endpoint, and when one of them dies its own
// connections break, and no others.
func TestNodesAgree(t *testing.T) {
	l := newLab(t)
	for i := 1; i <= 4; i++ {
		l.endpoint(fmt.Sprintf("10.3.0.10%d:9000", i))
	}
	dir := t.TempDir()
	var nodes []*running
	for _, node := range []string{"node1", "node2"} {
		file := filepath.Join(dir, node+".yaml")
		must(t, os.WriteFile(file, []byte(`
listeners:
  - {name: edge, address: "`+vip+`", protocol: tcp, cluster: endpoints}
clusters:
  - name: endpoints
    picker: maglev
    hash_key: client_ip
    endpoints: [address: "10.3.0.101:9000", address: "10.3.0.102:9000", address: "10.3.0.103:9000", address: "10.3.0.104:9000"]
admin: {address: "unix:`+filepath.Join(dir, node)+`"}
engine: {loops: 1}
`), 0o600))
		r := launchBy(t, []string{"ip", "netns", "exec", l.name + node}, "run", "-c", file)
		r.says("running")
		nodes = append(nodes, r)
	}

	const clients, each = 40, 6
	type conn struct {
		net.Conn
		client, endpoint string
		node             int // that serves it
	}
	var conns []conn
	served := func(node int) int { return sessions(t, filepath.Join(dir, fmt.Sprintf("node%d", node+1))) }
	used := map[string]bool{}
	split := 0
	for i := 1; i <= clients; i++ {
		client := fmt.Sprintf("10.1.0.%d", i)
		var on [2]int
		for range each {
			before := served(0)
			c, err := l.dial(client)
			must(t, err)
			defer c.Close()
			endpoint, err := ask(c)
			must(t, err)
			x := conn{c, client, endpoint, 1}
			if served(0) > before {
				x.node = 0
			}
			on[x.node]++
			if len(conns) > 0 {
				if last := conns[len(conns)-1]; last.client == client && last.endpoint != endpoint {
					t.Errorf("%s is on %s by node %d, and on %s by node %d", client, last.endpoint, last.node+1, endpoint, x.node+1)
				}
			}
			conns = append(conns, x)
			used[endpoint] = true
		}
		if on[0] > 0 && on[1] > 0 {
			split++
		}
	}
	if len(used) != 4 || split < clients/2 {
		t.Fatalf("%d endpoints used, and %d of %d clients had connections by both nodes: the test shows little", len(used), split, clients)
	}

	// Node 1 dies, and the router learns it.
	must(t, nodes[0].Process.Signal(syscall.SIGKILL))
	<-nodes[0].done
	l.in("router", "route replace 10.99.0.1/32 via 10.2.2.1")
	broken := 0
	for _, c := range conns {
		endpoint, err := ask(c)
		switch {
		case c.node == 0 && err == nil:
			t.Errorf("a connection of %s by the dead node goes on", c.client)
		case c.node == 0:
			broken++
		case err != nil || endpoint != c.endpoint:
			t.Errorf("a connection of %s by the other node: %q, %v", c.client, endpoint, err)
		}
	}
	if broken == 0 || broken == len(conns) {
		t.Errorf("%d of %d connections broke", broken, len(conns))
	}
	for i := range clients {
		old := conns[i*each]
		c, err := l.dial(old.client)
		must(t, err)
		endpoint, err := ask(c)
		c.Close()
		if err != nil || endpoint != old.endpoint {
			t.Errorf("%s is on %q (%v) now, and was on %s", old.client, endpoint, err, old.endpoint)
		}
	}
}

// sessions is how many sessions the process with this admin socket has accepted.
func sessions(t testing.TB, socket string) (n int) {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	r, err := h.Get("http://admin/metrics")
	must(t, err)
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), `sluice_sessions_total{listener="edge"} `); ok {
			_, err := fmt.Sscan(v, &n)
			must(t, err)
			return n
		}
	}
	must(t, errors.New("no sluice_sessions_total"))
	return 0
}
