package access

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// read calls add for each prefix of a file, as far as the file is right.
func read(r io.Reader, name string, add func(netip.Prefix)) error {
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := parse(text)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
		add(p)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	return nil
}

// stamp tells one state of a file from another: which file it is, its length, and when it was changed. The last is
// the inode's time, which nobody can set back, as a copy that keeps the time of writing does.
type stamp struct {
	dev, inode uint64
	size       int64
	changed    syscall.Timespec
}

// stamps are those of the allow file and the deny file; zero of one that is not there.
type stamps [2]stamp

func stampsOf(c Config) (s stamps) {
	for i, name := range []string{c.AllowFile, c.DenyFile} {
		if name == "" {
			continue
		}
		st, err := os.Stat(name)
		if err != nil {
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			s[i] = stamp{sys.Dev, sys.Ino, sys.Size, sys.Ctim}
		}
	}
	return s
}

// Watch looks at the list's files every interval, 0: every second, until ctx ends, and reports the list anew when one
// has changed since l was made. If it cannot be read, that is logged once, and nothing is reported before it is right
// again. Files are best exchanged by a rename: one that is written in place may be read half, and then again when it is
// whole.
func (l *List) Watch(ctx context.Context, interval time.Duration, log *slog.Logger, report func(*List)) {
	if l.cfg.AllowFile == "" && l.cfg.DenyFile == "" {
		return
	}
	if interval <= 0 {
		interval = time.Second
	}
	t := time.NewTicker(interval)
	defer t.Stop()
	for seen := l.files; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := stampsOf(l.cfg)
		if now == seen {
			continue
		}
		seen = now
		next, err := New(l.cfg)
		if err != nil {
			log.Error("access list not reloaded, the one before stays in force", "error", err)
			continue
		}
		seen = next.files
		log.Info("access list reloaded", "prefixes", next.Size())
		report(next)
	}
}
