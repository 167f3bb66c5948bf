package engine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What comes too late for a stopped loop must not be written to whoever has the loop's descriptors by then.
func TestPostAfterStopReachesNobody(t *testing.T) {
	e := newEngine(t, Config{Loops: 1})
	l := e.Loops()[0]
	ran := make(chan struct{})
	l.Post(func() { close(ran) })
	<-ran
	was := l.poller.wakeFD
	e.Stop()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	if fd != was {
		if err := unix.Dup3(fd, was, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(was)
	}
	l.Post(func() { t.Error("a stopped loop runs what is posted") })
	var b [8]byte
	if n, err := unix.Read(fd, b[:]); err != unix.EAGAIN {
		t.Errorf("read %d bytes, %v: the post was written to a descriptor that is not the loop's", n, err)
	}
}

// Posts of many goroutines all run, each goroutine's in order.
func TestPostsRunInOrder(t *testing.T) {
	e := newEngine(t, Config{Loops: 1})
	l := e.Loops()[0]
	const posters, each = 8, 2000 // more than one turn's
	next := make([]int, posters)  // the loop's
	done := make(chan struct{}, posters)
	for p := range posters {
		go func() {
			for i := range each {
				l.Post(func() {
					if next[p] != i {
						t.Errorf("poster %d: %d ran when %d was due", p, i, next[p])
					}
					if next[p]++; next[p] == each {
						done <- struct{}{}
					}
				})
			}
		}()
	}
	for range posters {
		<-done
	}
}
