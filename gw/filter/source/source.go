// Package source holds what a filter reads from elsewhere, a file or a URL: it is read again in the background, and what cannot
// be read or is wrong leaves the last good state in force.
package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxBytes bounds what is read: 1 MiB is some thousand keys, or tens of thousands of users.
	MaxBytes = 1 << 20
	// cooldown is the least time between two fetches of a URL, however many ask: a stranger's tokens must not become a load
	// on who issues the keys.
	cooldown = 10 * time.Second
	// glance is how often a file is looked at. A look is one stat.
	glance = time.Second
)

// Config says where from: File or URL.
type Config struct {
	File string
	URL  string
	// Refresh is the time between two fetches of the URL.
	Refresh time.Duration
	// Timeout bounds one fetch as a whole.
	Timeout time.Duration
}

// CheckURL says what is wrong with a URL to fetch from.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
		return errors.New("is not an http or https URL")
	}
	if u.User != nil {
		return errors.New("must not hold a password")
	}
	return nil
}

// Source is what was read last, parsed. For all loops at once.
type Source[T any] struct {
	cfg     Config
	parse   func([]byte) (*T, error)
	current atomic.Pointer[T]
	client  *http.Client
	ctx     context.Context
	cancel  context.CancelFunc
	group   sync.WaitGroup
	again   atomic.Int64 // the time, in Unix ns, before which nobody's asking has a URL fetched

	mu      sync.Mutex
	loading chan struct{} // closed when the load under way has ended; nil: there is none
	digest  [sha256.Size]byte
	failing bool
	closed  bool
}

// Open reads a file at once, an error being one to find at load; a URL is read in the background, and Get is nil until then.
// The parser's errors must not quote what they are of: they are logged.
func Open[T any](cfg Config, parse func([]byte) (*T, error)) *Source[T] {
	s := &Source[T]{cfg: cfg, parse: parse, client: &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		// Whom the operator has named is asked, and nobody whom that one names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.File != "" {
		seen, _ := os.Stat(cfg.File)
		s.load()
		s.group.Go(func() { s.watch(seen) })
		return s
	}
	s.Soon()
	s.group.Go(s.refresh)
	return s
}

// Get is the last good state; nil: there was none yet. It changes only when the content does.
func (s *Source[T]) Get() *T { return s.current.Load() }

// Soon has the URL fetched now, and returns what is closed when that has ended, well or not. nil: it was fetched a moment ago,
// or a file is what is read, which is looked at anyway.
func (s *Source[T]) Soon() <-chan struct{} {
	if s.cfg.URL == "" || time.Now().UnixNano() < s.again.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading != nil {
		return s.loading
	}
	if s.closed || time.Now().UnixNano() < s.again.Load() {
		return nil
	}
	done := make(chan struct{})
	s.loading = done
	s.group.Go(func() {
		s.load()
		s.again.Store(time.Now().Add(cooldown).UnixNano())
		s.mu.Lock()
		s.loading = nil
		s.mu.Unlock()
		close(done)
	})
	return done
}

// Failing says that the last reading went wrong.
func (s *Source[T]) Failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// Close ends the reading; what was read stays.
func (s *Source[T]) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.group.Wait()
}

// refresh fetches the URL every interval, and more often while it fails.
func (s *Source[T]) refresh() {
	for {
		wait := s.cfg.Refresh
		s.mu.Lock()
		if s.failing {
			wait = min(wait, cooldown+cooldown/10)
		}
		s.mu.Unlock()
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(wait):
			s.Soon()
		}
	}
}

// watch loads the file when it is another one, or was written.
func (s *Source[T]) watch(seen os.FileInfo) {
	t := time.NewTicker(glance)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		now, err := os.Stat(s.cfg.File)
		if err != nil || seen != nil && os.SameFile(now, seen) && now.Size() == seen.Size() && now.ModTime().Equal(seen.ModTime()) {
			continue // gone is a moment of its exchange
		}
		seen = now
		s.load()
	}
}

// load reads, and takes what it has read if it is good and new. One at a time runs.
func (s *Source[T]) load() {
	data, err := s.read()
	digest := sha256.Sum256(data)
	s.mu.Lock()
	same := digest == s.digest && s.current.Load() != nil
	s.mu.Unlock()
	var t *T
	if err == nil && !same {
		t, err = s.parse(data)
	}
	if s.ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.cfg.File + s.cfg.URL
	if err != nil {
		if !s.failing {
			slog.Error("not loaded, what was there before stays in force", "from", from, "error", err)
		}
		s.failing = true
		return
	}
	if s.failing {
		slog.Info("loaded again", "from", from)
	}
	s.failing = false
	if t != nil {
		s.digest = digest
		s.current.Store(t)
	}
}

func (s *Source[T]) read() ([]byte, error) {
	if s.cfg.File != "" {
		return ReadFile(s.cfg.File)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return limited(resp.Body)
}

// ReadFile reads a file of MaxBytes at most.
func ReadFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return limited(f)
}

func limited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err == nil && len(data) > MaxBytes {
		err = fmt.Errorf("more than %d bytes", MaxBytes)
	}
	return data, err
}
