package redis

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/gw/limit"
)

// server is a Redis of its own, on the same port whenever it is started.
type server struct {
	t    *testing.T
	addr string
	args []string
	cmd  *exec.Cmd
}

func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: l.Addr().String(), args: args}
	l.Close()
	t.Cleanup(s.kill)
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", s.t.TempDir()}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	until(s.t, "redis-server answers", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 10 s: %s", what)
		}
	}
}

// process is a gateway's part: a table and its node.
type process struct {
	*Node
	table *limit.Table
	clock func() int64
}

func newProcess(t *testing.T, s *server, rate float64, burst int64, every time.Duration) *process {
	t.Helper()
	l, ok := limit.New(rate, burst)
	if !ok {
		t.Fatal("no limit")
	}
	p := &process{table: limit.NewTable(1000, l)}
	p.table.Share(func() { p.Wake() })
	began := time.Now().Add(-time.Duration(1+len(t.Name())) * time.Hour) // no two processes have the same
	p.clock = func() int64 { return int64(time.Since(began)) }
	p.Node = Start(Config{Address: s.addr}, "test", every, func(ctx context.Context, to *Ledger) (bool, error) {
		return p.table.Report(ctx, to, p.clock)
	})
	t.Cleanup(p.Close)
	until(t, "the server is known to be there", func() bool { return !p.Down() })
	return p
}

func (p *process) take(key uint64) bool { return p.table.Take(key, p.clock(), 1).OK }

// What one process has given, the other knows soon.
func TestProcessesShare(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := newServer(t)
	a, b := newProcess(t, s, 1.0/3600, 10, time.Millisecond), newProcess(t, s, 1.0/3600, 10, time.Millisecond)
	const key = 7 << 40
	for range 8 {
		a.take(key)
	}
	ledger, err := Open(Config{Address: s.addr}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	until(t, "a has told", func() bool {
		c := []limit.Charge{{Key: key}}
		return ledger.Charge(t.Context(), c) == nil && c[0].Ahead > 7*time.Hour
	})
	other := uint64(8 << 40)
	if !b.take(key) || !b.take(other) {
		t.Fatal("refused")
	}
	until(t, "b knows that one is left", func() bool { return b.table.Take(key, b.clock(), 100).Left == 1 })
	if !b.take(key) || b.take(key) {
		t.Error("not one more")
	}
	if v := b.table.Take(other, b.clock(), 100); v.Left != 9 {
		t.Errorf("another key has %d left, not 9", v.Left)
	}
	a.Close()
	b.Close()
	ledger.Close()
	s.kill()
}

// Two that are asked for far more than the limit, and tell each other so rarely that the interval alone would let through half as
// much again: what one of them gives, the other knows soon.
func TestOvershoot(t *testing.T) {
	s := newServer(t)
	const rate, burst, every = 10_000, 1000, time.Second
	var given, rounds atomic.Int64
	ps := []*process{newProcess(t, s, rate, burst, every), newProcess(t, s, rate, burst, every)}
	began := time.Now()
	done := make(chan struct{})
	for _, p := range ps {
		go func() {
			for time.Since(began) < 2*time.Second {
				for range 25 { // more than three times the limit, both together
					if p.take(7 << 40) {
						given.Add(1)
					}
				}
				time.Sleep(300 * time.Microsecond)
			}
			rounds.Add(int64(p.State().Rounds))
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	seconds := time.Since(began).Seconds()
	bound := burst + rate*seconds
	got := float64(given.Load())
	t.Logf("%.0f given of %.0f in %.2f s: %+.2f %%; %d rounds", got, bound, seconds, 100*(got/bound-1), rounds.Load())
	// Besides the bound, a machine that is busy: a round may take its whole timeout.
	if got > bound+rate*reportTimeout.Seconds() || got < 0.5*bound {
		t.Errorf("%.0f given of %.0f", got, bound)
	}
	if rounds.Load() < 20 {
		t.Errorf("%d rounds: nobody is woken", rounds.Load())
	}
}

// A server that is killed is known to be down, with an error that says no more than where; one that is back is used again.
func TestServerKilled(t *testing.T) {
	s := newServer(t)
	p := newProcess(t, s, 1.0/3600, 10, time.Millisecond)
	const key = 7 << 40
	p.take(key)
	s.kill()
	p.take(key)
	until(t, "the server is known to be down", p.Down)
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "redis") {
		t.Errorf("down for %v", err)
	}
	if !p.take(key) {
		t.Error("refused while the server is down")
	}
	s.start()
	until(t, "the server is known to be back", func() bool { return !p.Down() })
	q := newProcess(t, s, 1.0/3600, 10, time.Millisecond)
	p.take(key)
	q.take(key)
	// What was taken while it was down has been told too, but not what it has forgotten.
	until(t, "another process knows", func() bool { return q.table.Take(key, q.clock(), 100).Left <= 6 })
}

// Windows are counted apart, and their counts are kept for an hour after their end.
func TestWindows(t *testing.T) {
	s := newServer(t)
	l, err := Open(Config{Address: s.addr}, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start := time.Now().Truncate(time.Second)
	w, next := Window{l, start, start.Add(time.Hour)}, Window{l, start.Add(time.Hour), start.Add(2 * time.Hour)}
	for i, c := range []struct {
		w     Window
		taken int64
		total int64
	}{{w, 5, 5}, {w, 5, 10}, {next, 3, 3}, {w, 1, 11}} {
		sums := []limit.Sum{{Key: 7, Taken: c.taken}, {Key: 8, Taken: 1}}
		if err := c.w.Add(t.Context(), sums); err != nil || sums[0].Total != c.total {
			t.Errorf("step %d: %d, %v", i, sums[0].Total, err)
		}
	}
	for i, key := range []string{fmt.Sprintf("sluice:quota:{x}:%d:7", w.Start.Unix()), fmt.Sprintf("sluice:quota:{x}:%d:7", next.Start.Unix())} {
		left, err := l.client.Do(t.Context(), l.client.B().Ttl().Key(key).Build()).AsInt64()
		want := int64(2+i) * 3600
		if err != nil || left > want || left < want-60 {
			t.Errorf("%s is kept for %d s, %v", key, left, err)
		}
	}
	l.client.Do(t.Context(), l.client.B().Set().Key(fmt.Sprintf("sluice:quota:{x}:%d:9", w.Start.Unix())).Value("x").Build())
	if err := w.Add(t.Context(), []limit.Sum{{Key: 9, Taken: 1}}); Kind(err) != "answer" {
		t.Errorf("a value that is no count: %v", err)
	}
}

// A password that is wrong, or not there, is an error without the password.
func TestPassword(t *testing.T) {
	s := newServer(t, "--requirepass", "sesame")
	file := filepath.Join(t.TempDir(), "password")
	for _, c := range []struct {
		password string
		ok       bool
	}{{"sesame\n", true}, {"sesame", true}, {"mustard", false}} {
		if err := os.WriteFile(file, []byte(c.password), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(Config{Address: s.addr, PasswordFile: file}, "x")
		if err == nil {
			err = l.Ping(t.Context())
			l.Close()
		}
		if (err == nil) != c.ok || err != nil && strings.Contains(err.Error(), "mustard") {
			t.Errorf("%q: %v", c.password, err)
		}
	}
	if _, err := Open(Config{Address: s.addr, PasswordFile: file + "x"}, "x"); err == nil {
		t.Error("no file, no error")
	}
}
