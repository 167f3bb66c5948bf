package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// limitLab is a Redis and nodes that share limits through it, all of them processes.
type limitLab struct {
	t      testing.TB
	binary string
	redis  string // its address
	dir    string
	server *exec.Cmd
}

func newLimitLab(t testing.TB) *limitLab {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server here")
	}
	l := &limitLab{t: t, dir: t.TempDir()}
	l.binary = filepath.Join(l.dir, "sluice")
	if out, err := exec.Command("go", "build", "-o", l.binary, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l.redis = l.ports(1)[0]
	t.Cleanup(l.killRedis)
	l.startRedis()
	return l
}

// ports are addresses that nobody listens on, all different.
func (l *limitLab) ports(n int) (out []string) {
	l.t.Helper()
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			l.t.Fatal(err)
		}
		defer ln.Close()
		out = append(out, ln.Addr().String())
	}
	return out
}

func (l *limitLab) until(what string, f func() bool) {
	l.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// startRedis starts it, with what it had written before.
func (l *limitLab) startRedis() {
	l.t.Helper()
	_, port, _ := net.SplitHostPort(l.redis)
	l.server = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", l.dir,
		"--appendonly", "yes", "--appendfsync", "always")
	if err := l.server.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.until("redis-server answers", func() bool { return l.ask("PING") == "+PONG" })
}

func (l *limitLab) killRedis() {
	if l.server != nil {
		l.server.Process.Kill()
		l.server.Wait()
		l.server = nil
	}
}

// ask is the first line that Redis answers to a command.
func (l *limitLab) ask(command string) string {
	c, err := net.Dial("tcp", l.redis)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

// counted is the sum of all quotas' counts.
func (l *limitLab) counted() string {
	return l.ask(`EVAL "local s=0 for _,k in ipairs(redis.call('keys','sluice:quota:*')) do s=s+redis.call('get',k) end return s" 0`)
}

// limitNode is a Sluice with one listener, whose only route has a filter and answers.
type limitNode struct {
	*exec.Cmd
	url, admin string
}

func (l *limitLab) node(filter string) *limitNode {
	l.t.Helper()
	free := l.ports(2)
	address, admin := free[0], free[1]
	file := filepath.Join(l.dir, strings.ReplaceAll(address, ":", "_")+".yaml")
	text := fmt.Sprintf(`
listeners: [{name: a, address: "%s", protocol: http, routes: r}]
routes:
  r:
    - match: {path_prefix: /}
      filters:
        - %s
        - respond: {status: 200, body: "ok\n"}
admin: {address: "%s"}
engine: {loops: 1}
`, address, strings.ReplaceAll(filter, "REDIS", l.redis), admin)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	n := &limitNode{exec.Command(l.binary, "run", "-c", file), "http://" + address + "/", "http://" + admin}
	n.Stderr = os.Stderr
	if testing.Verbose() {
		n.Stdout = os.Stdout
	}
	if err := n.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(n.kill)
	l.until("the node is ready", func() bool {
		resp, err := http.Get(n.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	l.t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return n
}

// kill ends it at once, if it has not ended.
func (n *limitNode) kill() {
	if n.ProcessState == nil {
		n.Process.Kill()
		n.Wait()
	}
}

func (n *limitNode) stop() {
	n.Process.Signal(syscall.SIGTERM)
	n.Wait()
}

// get is a status, and how many units the node says are left.
func (n *limitNode) get() (status, left int, err error) {
	resp, err := http.Get(n.url)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	_, rest, _ := strings.Cut(resp.Header.Get("RateLimit"), ";r=")
	number, _, _ := strings.Cut(rest, ";")
	left, _ = strconv.Atoi(number)
	return resp.StatusCode, left, errors.Join(err)
}

// A quota goes on where it was when the node is stopped or killed, and when Redis is; and while Redis is gone every answer is 200 or
// 429.
func TestQuotaOverRestarts(t *testing.T) {
	l := newLimitLab(t)
	const quota = `quota: {name: plan, requests: 100, per: month, timezone: Europe/Berlin, key: route, redis: {address: "REDIS"}}`
	given := 0
	take := func(n *limitNode) (left int, ok bool) {
		t.Helper()
		status, left, err := n.get()
		if err != nil || status != 200 && status != 429 {
			t.Fatalf("%d, %v", status, err)
		}
		if status == 200 {
			given++
		}
		return left, status == 200
	}
	known := func(n *limitNode) { // what was taken before
		t.Helper()
		l.until("the node knows what was taken", func() bool { left, _ := take(n); return left == 100-given })
	}
	n := l.node(quota)
	for range 20 {
		take(n)
	}
	n.stop()
	if got := l.counted(); got != ":20" {
		t.Errorf("stopped, and %s are counted, not 20", got)
	}
	n = l.node(quota)
	known(n)
	l.until("all is told", func() bool { return l.counted() == ":"+strconv.Itoa(given) })
	n.kill()
	n = l.node(quota)
	known(n)
	l.until("all is told", func() bool { return l.counted() == ":"+strconv.Itoa(given) })
	l.killRedis()
	for range 20 {
		take(n)
	}
	l.startRedis()
	l.until("what was taken meanwhile is told", func() bool { return l.counted() == ":"+strconv.Itoa(given) })
	other := l.node(quota)
	known(other)
	for ok := true; ok; {
		_, ok = take(other)
	}
	// The other node may not know all of that, but has one round for each that it gives.
	l.until("both refuse", func() bool {
		_, ok := take(n)
		l.until("all is told", func() bool { return l.counted() == ":"+strconv.Itoa(given) })
		return !ok
	})
	if given < 100 || given > 103 {
		t.Errorf("%d given, of 100", given)
	}
}

// press is load on nodes from connections of its own, until stop is closed: what it was answered.
type press struct {
	ok, refused, failed atomic.Int64
	stop                chan struct{}
	done                sync.WaitGroup
}

// pressOn asks each node perSecond times a second.
func pressOn(nodes []*limitNode, perSecond int) *press {
	p := &press{stop: make(chan struct{})}
	const conns = 4
	for _, n := range nodes {
		for range conns {
			p.done.Go(func() { p.run(strings.Trim(strings.TrimPrefix(n.url, "http:"), "/"), perSecond/conns) })
		}
	}
	return p
}

// run pipelines what is due every few milliseconds.
func (p *press) run(address string, perSecond int) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		p.failed.Add(1)
		return
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	began, sent := time.Now(), 0
	for {
		select {
		case <-p.stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		due := min(int(time.Since(began).Seconds()*float64(perSecond))-sent, 500)
		sent += due
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", due)); err != nil {
			p.failed.Add(1)
			return
		}
		for range due {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				p.failed.Add(1)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			switch resp.StatusCode {
			case 200:
				p.ok.Add(1)
			case 429:
				p.refused.Add(1)
			default:
				p.failed.Add(1)
			}
		}
	}
}

const sharedRate = `rate_limit: {name: plan, rate: %d/s, burst: %d, key: route, redis: {address: "REDIS", nodes: 2}}`

// Two nodes share a limit, and Redis is killed and comes back under load: every answer is 200 or 429, and both have no more than
// their share then.
func TestSharedLimitOverRestart(t *testing.T) {
	l := newLimitLab(t)
	const rate, burst = 1000, 100
	filter := fmt.Sprintf(sharedRate, rate, burst)
	nodes := []*limitNode{l.node(filter), l.node(filter)}
	began := time.Now()
	p := pressOn(nodes, 3*rate/2)
	more := func(n int64) { // requests are granted
		t.Helper()
		enough := p.ok.Load() + n
		l.until("requests are granted", func() bool { return p.ok.Load() >= enough })
	}
	more(500)
	l.killRedis()
	more(800)
	l.startRedis()
	more(500)
	close(p.stop)
	p.done.Wait()
	took := time.Since(began)
	// In what Redis has counted there may be nothing of the rounds that it did not answer: a burst for each change.
	bound := 3*burst + rate*(took+time.Second/4).Seconds()
	if ok := float64(p.ok.Load()); p.failed.Load() != 0 || p.refused.Load() == 0 || ok > bound {
		t.Errorf("%.0f granted in %v, %d refused, %d failed; bound %.0f", ok, took, p.refused.Load(), p.failed.Load(), bound)
	}
}

// What two nodes let through in ten seconds at three times their limit, and with Redis killed after five.
func BenchmarkSharedLimit(b *testing.B) {
	for _, kill := range []bool{false, true} {
		b.Run(fmt.Sprintf("kill=%v", kill), func(b *testing.B) {
			l := newLimitLab(b)
			const rate, burst = 10_000, 1000
			filter := fmt.Sprintf(sharedRate, rate, burst)
			nodes := []*limitNode{l.node(filter), l.node(filter)}
			for range 100 { // both know that the server is there
				_, _, _ = nodes[0].get()
				_, _, _ = nodes[1].get()
			}
			began := time.Now()
			p := pressOn(nodes, 3*rate/2)
			for time.Since(began) < 10*time.Second {
				time.Sleep(10 * time.Millisecond)
				if kill && time.Since(began) > 5*time.Second {
					l.killRedis()
				}
			}
			ok, refused := float64(p.ok.Load()), float64(p.refused.Load())
			bound := burst + rate*time.Since(began).Seconds()
			close(p.stop)
			p.done.Wait()
			b.ReportMetric(100*(ok/bound-1), "%over")
			b.ReportMetric((ok+refused)/time.Since(began).Seconds(), "asked/s")
			b.ReportMetric(float64(p.failed.Load()), "errors")
		})
	}
}
