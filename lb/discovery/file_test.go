package discovery

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tempFile is the path of a file with that text.
func tempFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "endpoints.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func watchFile(t testing.TB, path string) *watched {
	t.Helper()
	cfg := Config{File: &File{Path: path, Interval: minInterval}}
	return watchRun(t, cfg.Run)
}

// rename puts a file with that text in the place of path, at once.
func rename(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must(t, os.Rename(path+".new", path))
}

func TestFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.yaml")
	w := watchFile(t, path)
	w.says(`msg="discovery failed: no endpoints are known yet" source=file path=` + path)
	w.says("no such file")
	w.none()
	must(t, os.WriteFile(path, []byte("- address: 10.0.0.2:80\n- address: 10.0.0.1:80\n  weight: 2\n"), 0o600))
	w.next("10.0.0.1:80 weight 2", "10.0.0.2:80")
	w.says(`msg="discovery is good again" source=file path=` + path + " endpoints=2")
	must(t, os.WriteFile(path, []byte("- address: 10.0.0.3:80\n"), 0o600)) // in place
	w.next("10.0.0.3:80")
	rename(t, path, `[{"address":"10.0.0.4:80"}]`)
	w.next("10.0.0.4:80")
	rename(t, path, "[]") // in so many words
	w.next()
	w.none()
}

func TestBadFileKeepsTheLastGoodSet(t *testing.T) {
	path := tempFile(t, "- address: 10.0.0.1:80\n")
	w := watchFile(t, path)
	w.next("10.0.0.1:80")
	f := func(broken func(), reason string) {
		t.Helper()
		broken()
		w.says(reason)
	}
	write := func(text string) func() { return func() { rename(t, path, text) } }
	f(write("- address: 10.0.0.2:80\n  wieght: 1\n"), path+`:2:3: unknown key \"wieght\"`)
	f(write("- address: 10.0.0.2:80\n- address: 10.0.0.2:80\n"), path+`:2:12: endpoint 10.0.0.2:80 is there twice`)
	f(write("- address: 10.0.0.2\n"), path+`:1:12: bad address \"10.0.0.2\"`)
	f(write("- {"), path+":1:3: ")
	f(write(""), path+":1:1: no list")
	f(func() { must(t, os.Remove(path)) }, "no such file")
	f(func() { must(t, os.Mkdir(path, 0o700)) }, "not a regular file")
	f(func() { must(t, os.Remove(path)); must(t, os.Symlink(path, path)) }, "too many levels")
	must(t, os.Remove(path))
	huge := path + ".huge"
	must(t, os.WriteFile(huge, nil, 0o600))
	must(t, os.Truncate(huge, maxFile+1))
	f(func() { must(t, os.Rename(huge, path)) }, "larger than 16 MiB")
	w.none()
	rename(t, path, "- address: 10.0.0.1:80\n") // as it was
	w.says("discovery is good again")
	w.none()
	rename(t, path, "- address: 10.0.0.2:80\n")
	w.next("10.0.0.2:80")
}

// A FIFO without a writer would hold up whoever opens it.
func TestFIFOIsNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	must(t, syscall.Mkfifo(path, 0o600))
	watchFile(t, path).says("not a regular file")
}

// looks has f looked at until nothing is left to do, and describes what came of it.
func looks(f *fileSource) (sets []string) {
	for range 4 {
		if set := f.look(); set != nil {
			sets = append(sets, strings.Join(describe(set), ", "))
		}
	}
	return sets
}

// Each kind of change is noticed by itself, and each distinct error is one.
func TestChangesAreNoticed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "endpoints.yaml")
	const one, two = "- address: 10.0.0.1:80\n", "- address: 10.0.0.2:80\n" // of one size
	old := time.Now().Add(-time.Hour)
	put := func(path, text string, at time.Time) {
		t.Helper()
		must(t, os.WriteFile(path, []byte(text), 0o600))
		must(t, os.Chtimes(path, at, at))
	}
	s := newFileSource(&File{Path: path})
	f := func(what, want string) {
		t.Helper()
		if got := strings.Join(looks(s), " then "); got != want {
			t.Errorf("%s: saw %q, want %q", what, got, want)
		}
	}
	put(path, one, old)
	f("the first look", "10.0.0.1:80")
	f("no change", "")
	put(path, two, old.Add(time.Second))
	f("another time", "10.0.0.2:80")
	put(path, one+two, old.Add(time.Second))
	f("another size", "10.0.0.1:80, 10.0.0.2:80")
	put(path+".new", one+"- address: 10.0.0.3:80\n", old.Add(time.Second))
	must(t, os.Rename(path+".new", path))
	f("another file of the same time and size", "10.0.0.1:80, 10.0.0.3:80")
	must(t, os.Chtimes(path, old.Add(time.Minute), old.Add(time.Minute)))
	f("touched", "")
	must(t, os.Rename(path, path+".away"))
	f("gone", "")
	if s.err == nil {
		t.Error("gone: no error")
	}
	must(t, os.Rename(path+".away", path))
	f("back, as it was", "10.0.0.1:80, 10.0.0.3:80")
	if s.err != nil {
		t.Errorf("back, as it was: %v", s.err)
	}

	// A ConfigMap's update: the file's own link stays, that of a directory on the way is swapped.
	for _, v := range []string{"v1", "v2"} {
		must(t, os.Mkdir(filepath.Join(dir, v), 0o700))
	}
	put(filepath.Join(dir, "v1", "e"), one, old)
	put(filepath.Join(dir, "v2", "e"), two, old)
	must(t, os.Symlink("v1", filepath.Join(dir, "data")))
	must(t, os.Symlink("data/e", filepath.Join(dir, "e")))
	s = newFileSource(&File{Path: filepath.Join(dir, "e")})
	f("by links", "10.0.0.1:80")
	must(t, os.Symlink("v2", filepath.Join(dir, "data.new")))
	must(t, os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "data")))
	f("links swapped", "10.0.0.2:80")

	// Written again so soon that neither the time nor the size tells.
	now := time.Now().Add(time.Second)
	s = newFileSource(&File{Path: path})
	put(path, one, now)
	f("young", "10.0.0.1:80")
	put(path, two, now)
	f("young, and changed", "10.0.0.2:80")
}

// A half of a list may be a good list.
func TestFileIsNotReadWhileItIsWritten(t *testing.T) {
	path := tempFile(t, "- address: 10.0.0.1:80\n")
	s := newFileSource(&File{Path: path})
	looks(s)
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	defer out.Close()
	for _, part := range []string{"", "- address: 10.0.0.2:80\n", "- address: 10.0.0.3:80\n"} {
		_, err := out.WriteString(part)
		must(t, err)
		if set := s.look(); set != nil || s.err != nil {
			t.Fatalf("with %q written: %q, %v", part, describe(set), s.err)
		}
	}
	if got := strings.Join(looks(s), " then "); got != "10.0.0.2:80, 10.0.0.3:80" {
		t.Errorf("the whole is %s", got)
	}
}

// A file is read when it has changed, not at each look.
func TestUnchangedFileIsNotRead(t *testing.T) {
	path := tempFile(t, "- address: 10.0.0.1:80\n")
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(path, old, old))
	s := newFileSource(&File{Path: path})
	looks(s)
	must(t, os.WriteFile(path, []byte("- address: 10.0.0.9:80\n"), 0o600)) // of the same size, and its time is put back
	must(t, os.Chtimes(path, old, old))
	if got := looks(s); got != nil {
		t.Errorf("read again: %q", got)
	}
}

func TestNoSourceReportsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	new(Config).Run(ctx, slog.New(slog.DiscardHandler), func([]Endpoint) { t.Error("a report") })
}
