package access

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

const patience = 20 * time.Second

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in %v it did not happen that %s", patience, what)
		}
	}
}

// logged is a log that can be read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), what)
}

// watch watches l's files for the time of the test.
func watch(t *testing.T, l *List) (<-chan *List, *logged) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	lists, log, done := make(chan *List, 64), &logged{}, make(chan struct{})
	go func() {
		defer close(done)
		l.Watch(ctx, time.Millisecond, slog.New(slog.NewTextHandler(log, nil)), func(l *List) { lists <- l })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return lists, log
}

func next(t *testing.T, lists <-chan *List) *List {
	t.Helper()
	select {
	case l := <-lists:
		return l
	case <-time.After(patience):
		t.Fatal("no list was reported")
		return nil
	}
}

func TestChangedFilesAreReadAgain(t *testing.T) {
	ours, theirs := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("11.0.0.1")
	file := write(t, "deny", "10.0.0.0/8")
	first := newList(t, Config{Deny: []string{"192.0.2.0/24"}, DenyFile: file})
	// It changes before anybody watches.
	write(t, file, "11.0.0.0/8")
	lists, log := watch(t, first)
	f := func(l *List, inOurs, inTheirs bool) {
		t.Helper()
		if l.Admits(ours) != inOurs || l.Admits(theirs) != inTheirs {
			t.Errorf("lets in %s: %v, %s: %v", ours, l.Admits(ours), theirs, l.Admits(theirs))
		}
		if l.Admits(netip.MustParseAddr("192.0.2.1")) {
			t.Error("what the configuration itself denies is let in")
		}
	}
	f(first, false, true)
	f(next(t, lists), true, false)
	// Another file of the same length takes its name, and is as old.
	st, err := os.Stat(file)
	must(t, err)
	write(t, file, "10.0.0.0/8")
	must(t, os.Chtimes(file, st.ModTime(), st.ModTime()))
	l := next(t, lists)
	for len(lists) > 0 { // changing its times was a change too
		l = next(t, lists)
	}
	f(l, false, true)

	// A bad file is logged once, and the list stays; so does it when there is none.
	for i, spoil := range []func(){
		func() { write(t, file, "10.0.0.0/8", "nonsense") },
		func() { must(t, os.Remove(file)) },
	} {
		spoil()
		eventually(t, "the error is logged", func() bool { return log.count("not reloaded") == i+1 })
	}
	if log.count(file+":2: ") != 1 || log.count("no such file") != 1 {
		t.Errorf("logged:\n%s", log.buf.String())
	}
	for len(lists) > 0 {
		f(next(t, lists), false, true)
	}
	write(t, file, "10.0.0.0/8", "11.0.0.0/8")
	f(next(t, lists), false, false)
	if n := log.count("not reloaded"); n != 2 {
		t.Errorf("%d errors logged:\n%s", n, log.buf.String())
	}
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	a, b := write(t, "allow", "10.0.0.0/8"), write(t, "deny", "10.1.0.0/16")
	lists, _ := watch(t, newList(t, Config{AllowFile: a, DenyFile: b}))
	write(t, b, "10.2.0.0/16")
	l := next(t, lists)
	if l.Admits(netip.MustParseAddr("10.2.0.1")) || !l.Admits(netip.MustParseAddr("10.1.0.1")) {
		t.Error("not what the file says")
	}
	write(t, a, "10.0.0.0/8", "11.0.0.0/8")
	if l := next(t, lists); !l.Admits(netip.MustParseAddr("11.0.0.1")) || len(lists) != 0 {
		t.Errorf("not what the file says, or %d lists more", len(lists))
	}
}

// Without files there is nothing to watch.
func TestWatchWithoutFilesReturns(t *testing.T) {
	newList(t, Config{Deny: []string{"::1"}}).Watch(context.Background(), 0, nil, nil)
}
