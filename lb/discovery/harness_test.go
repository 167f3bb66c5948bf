package discovery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// eventually waits for cond, which must come true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not happen that %s", patience, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// journal is a log that tests can read: one line an entry, its level and time left out.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func (j *journal) lines() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.text.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(j.text.String(), "\n"), "\n")
}

func (j *journal) String() string { return strings.Join(j.lines(), "\n") }

// watched is a source that is followed.
type watched struct {
	t    testing.TB
	sets chan []Endpoint
	log  *journal
	stop func()
}

// watch follows s until the end of the test, or stop.
func watch(t testing.TB, s source) *watched {
	t.Helper()
	return watchRun(t, func(ctx context.Context, log *slog.Logger, report func([]Endpoint)) { follow(ctx, log, s, report) })
}

func watchRun(t testing.TB, run func(context.Context, *slog.Logger, func([]Endpoint))) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watched{t: t, sets: make(chan []Endpoint, 100), log: &journal{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx, w.log.logger(), func(set []Endpoint) { w.sets <- set })
	}()
	w.stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Run goes on after its context has ended")
		}
	}
	t.Cleanup(w.stop)
	return w
}

// next wants the next set that is reported to be want, which describe describes.
func (w *watched) next(want ...string) {
	w.t.Helper()
	select {
	case set := <-w.sets:
		if got := describe(set); strings.Join(got, ", ") != strings.Join(want, ", ") {
			w.t.Fatalf("reported %q, want %q\n%v", got, want, w.log)
		}
	case <-time.After(patience):
		w.t.Fatalf("in %v nothing was reported, want %q\n%v", patience, want, w.log)
	}
}

// none wants that nothing more has been reported.
func (w *watched) none() {
	w.t.Helper()
	if len(w.sets) > 0 {
		w.t.Fatalf("reported %q, which is no change\n%v", describe(<-w.sets), w.log)
	}
}

// says waits for the log to say text.
func (w *watched) says(text string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("the log says %q", text), func() bool { return strings.Contains(w.log.String(), text) })
}

// describe writes endpoints as "address", and what they have beyond.
func describe(set []Endpoint) []string {
	out := []string{}
	for _, e := range set {
		s := e.Address
		if e.Weight != nil {
			s += fmt.Sprint(" weight ", *e.Weight)
		}
		if e.Priority != 0 {
			s += fmt.Sprint(" priority ", e.Priority)
		}
		if e.Backup {
			s += " backup"
		}
		if e.Zone != "" {
			s += " zone " + e.Zone
		}
		if e.State != "" {
			s += " " + string(e.State)
		}
		if e.MaxConn != 0 {
			s += fmt.Sprint(" maxconn ", e.MaxConn)
		}
		out = append(out, s)
	}
	return out
}
