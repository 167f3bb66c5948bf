package certs

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

const (
	// maxFile bounds what is read: bundles of CAs have some 200 KiB, revocation lists of large CAs some MiB.
	maxFile = 32 << 20
	// glance is how often files are looked at. A look is one stat for each.
	glance = time.Second
)

// readFile reads a file of maxFile bytes at most.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", name, maxFile)
	}
	return data, err
}

// stamp tells one state of a file from another: which file it is, its length, and when its inode was changed, which nobody can set
// back as the time of writing can be. The zero stamp is a file that is not there.
type stamp struct {
	dev, inode uint64
	size       int64
	changed    syscall.Timespec
}

func stampOf(name string) stamp {
	st, err := os.Stat(name)
	if err != nil {
		return stamp{}
	}
	sys := st.Sys().(*syscall.Stat_t)
	return stamp{sys.Dev, sys.Ino, sys.Size, sys.Ctim}
}

// files are some that are read together.
type files struct {
	names []string
	seen  []stamp
}

// filesOf are those of names that are not empty, as they are now. It comes before they are read, so that none changes unseen.
func filesOf(names ...string) files {
	var f files
	for _, n := range names {
		if n != "" {
			f.names = append(f.names, n)
			f.seen = append(f.seen, stampOf(n))
		}
	}
	return f
}

// changed says that one of them is another than it was, since the last time. One that is gone is in the middle of its exchange.
func (f *files) changed() (yes bool) {
	for i, n := range f.names {
		if now := stampOf(n); now != f.seen[i] && now != (stamp{}) {
			f.seen[i], yes = now, true
		}
	}
	return yes
}
