package source

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func text(data []byte) (*string, error) {
	s := string(data)
	if s == "bad" {
		return nil, errors.New("bad")
	}
	return &s, nil
}

func TestLastGoodStateStays(t *testing.T) {
	var status atomic.Int64
	var body atomic.Value
	answer := func(code int64, text string) { status.Store(code); body.Store(text) }
	from := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		io.WriteString(w, body.Load().(string))
	}))
	defer from.Close()
	answer(503, "one")
	s := Open(Config{URL: from.URL, Refresh: time.Hour, Timeout: 5 * time.Second}, text)
	defer s.Close()
	// fetch has it fetched now, whenever that was last.
	fetch := func() *string {
		s.again.Store(0)
		done := s.Soon()
		if done == nil {
			t.Fatal("is not fetched")
		}
		<-done
		return s.Get()
	}
	if got := fetch(); got != nil || !s.Failing() {
		t.Fatalf("of a 503: %v", got)
	}
	answer(200, "one")
	for s.Get() == nil { // the first fetch may be the one that was under way
		fetch()
	}
	one := s.Get()
	if *one != "one" || s.Failing() {
		t.Fatalf("%q", *one)
	}
	if fetch() != one {
		t.Error("what is the same is not kept")
	}
	for _, bad := range []struct {
		status int64
		text   string
	}{{500, "two"}, {200, "bad"}} {
		answer(bad.status, bad.text)
		if fetch() != one || !s.Failing() {
			t.Errorf("%v takes its place", bad)
		}
	}
	answer(200, "two")
	if got := fetch(); *got != "two" || s.Failing() {
		t.Errorf("%q", *got)
	}
	if s.Soon() != nil {
		t.Error("fetched again at once")
	}
}

func TestCloseEndsAFetch(t *testing.T) {
	asked := make(chan struct{})
	from := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer from.Close()
	s := Open(Config{URL: from.URL, Refresh: time.Hour, Timeout: time.Hour}, text)
	<-asked
	s.Close()
	s.again.Store(0)
	if s.Soon() != nil {
		t.Error("fetched after its end")
	}
}
