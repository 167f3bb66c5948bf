package discovery

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsmasq runs the real server on addr, with those records, until the end of the test or stop.
func dnsmasq(t *testing.T, addr string, records ...string) (stop func()) {
	t.Helper()
	path := "/usr/sbin/dnsmasq"
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("dnsmasq"); err != nil {
			t.Fatal("dnsmasq is missing: install the package dnsmasq-base")
		}
	}
	host, port, err := net.SplitHostPort(addr)
	must(t, err)
	cmd := exec.Command(path, slices.Concat([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=root", "--no-resolv", "--no-hosts", "--local=/test/",
		"--bind-interfaces", "--listen-address=" + host, "--port=" + port, "--log-facility=-",
	}, records)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			<-done
		}
	}
	t.Cleanup(stop)
	c := client{timeout: 100 * time.Millisecond}
	eventually(t, "dnsmasq answers", func() bool {
		select {
		case err := <-done:
			ended = true
			t.Fatalf("dnsmasq ends: %v\n%s", err, out.String())
		default:
		}
		_, err := c.exchange(context.Background(), addr, question{"up.test.", dns.TypeA})
		return err == nil
	})
	return stop
}

func TestRealServer(t *testing.T) {
	pc, ln := bothPorts(t)
	addr := ln.Addr().String()
	pc.Close()
	ln.Close()
	stop := dnsmasq(t, addr, "--host-record=app.test,10.0.0.1,2001:db8::1", "--host-record=b.test,10.0.0.2",
		"--cname=www.test,app.test", "--srv-host=_http._tcp.app.test,b.test,8080,5,10", "--srv-host=_http._tcp.app.test,app.test,8081,1,20",
		"--srv-host=_none._tcp.app.test")
	f := func(name string, kind RecordType, err string, want ...string) {
		t.Helper()
		d := DNS{Name: name, Type: kind}
		if kind != SRV {
			d.Port = 80
		}
		resolves(t, asking(d, addr), err, want...)
	}
	f("app.test", "", "", "10.0.0.1:80", "[2001:db8::1]:80")
	f("b.test", "", "", "10.0.0.2:80")
	f("www.test", A, "", "10.0.0.1:80")
	f("_http._tcp.app.test", SRV, "", "10.0.0.1:8081 weight 20", "10.0.0.2:8080 weight 20 priority 1", "[2001:db8::1]:8081 weight 20")
	f("_none._tcp.app.test", SRV, "") // a target "."
	f("b.test", AAAA, "AAAA b.test.: no such records")
	f("nowhere.test", A, "A nowhere.test.: NXDOMAIN")

	cfg := Config{DNS: &DNS{Name: "app.test", Type: A, Port: 80, Resolvers: []string{addr}, MinTTL: 10 * time.Millisecond}}
	w := watchRun(t, cfg.Run)
	w.next("10.0.0.1:80")
	stop()
	w.says("discovery failed: the last good endpoints are kept")
	w.says("connection refused")
	w.none()
	dnsmasq(t, addr, "--host-record=app.test,10.0.0.3")
	w.next("10.0.0.3:80")
	w.says("discovery is good again")
	if n := strings.Count(w.log.String(), "\n"); n != 1 {
		t.Errorf("logged\n%v", w.log)
	}
}
