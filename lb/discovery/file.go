package discovery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// File is a watched file of endpoints: a list as the configuration's, in YAML or JSON.
//
// It is watched by looking at it. inotify sees neither what another host does to a shared file system nor, without
// a watch on each directory of the path, the swap of a symbolic link by which Kubernetes updates a ConfigMap; a stat
// sees all of them and costs microseconds.
//
// A file is best replaced by renaming another over it. One that is written in place may be seen half written, which can
// be a good list of too few: it is read when two looks in a row find it the same.
type File struct {
	Path string `yaml:"path,required"`
	// Interval between two looks; 0: 1 s.
	Interval time.Duration `yaml:"interval"`
}

// minInterval is what file systems' clocks can tell apart, and a machine does not feel.
const minInterval = 10 * time.Millisecond

// maxFile bounds a file of endpoints, in bytes: 65,535 endpoints of 256. The parser needs some hundred times as much for
// a moment.
const maxFile = 16 << 20

func (f *File) validate(report func(path, message string)) {
	if f.Interval != 0 && f.Interval < minInterval {
		report("interval", fmt.Sprintf("%v: at least %v", f.Interval, minInterval))
	}
}

// fileSource is a file and what was seen of it last.
type fileSource struct {
	path     string
	interval time.Duration
	seen     os.FileInfo // at the last look; nil: it was not there
	read     os.FileInfo // when it was read last; nil: it has to be
	young    bool        // read so soon after its time that a change since may have the same time
	text     []byte      // what was read last, good or bad; nil: nothing
	err      error       // what is wrong
}

func newFileSource(f *File) *fileSource {
	return &fileSource{path: f.Path, interval: or(f.Interval, time.Second)}
}

func (f *fileSource) sayAgain() bool { return true }

func (f *fileSource) ask(context.Context) ([]Endpoint, time.Duration, error) {
	set := f.look()
	return set, f.interval, f.err
}

// look reads the file if it has changed. The set is nil if there is none or it is the same.
func (f *fileSource) look() []Endpoint {
	now, err := os.Stat(f.path)
	switch {
	case err != nil:
	case !now.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", f.path) // a FIFO would block, a device never end
	case now.Size() > maxFile:
		err = fmt.Errorf("%s is larger than %d MiB", f.path, maxFile>>20)
	}
	if err != nil {
		return f.fail(err)
	}
	before := f.seen
	f.seen = now
	if before != nil && os.SameFile(before, now) && !same(before, now) {
		f.read = nil
		return nil // it is being written
	}
	if f.read != nil && same(f.read, now) && !f.young {
		return nil
	}
	text, err := read(f.path)
	if err != nil {
		return f.fail(err)
	}
	f.read = now
	f.young = time.Since(now.ModTime()) < 2*time.Second // FAT counts in these; others in milliseconds, the kernel's tick
	if f.text != nil && bytes.Equal(text, f.text) {
		return nil
	}
	f.text = text
	set, err := parseList(f.path, text)
	f.err = err
	return set
}

// fail forgets what was read, so that its return is noticed.
func (f *fileSource) fail(err error) []Endpoint {
	f.seen, f.read, f.text, f.err = nil, nil, nil, err
	return nil
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read reads no more than a file may have, however it grows.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}
