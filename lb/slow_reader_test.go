package lb

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// octets is the part of a stream that says 0 to 255 over and over.
func octets(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// held is how many bytes for its client a session has taken from its endpoint, and not yet given to the kernel.
func (f *front) held(s *session, fd int) (n int64) {
	f.t.Helper()
	on(f.loop(), func() {
		for {
			_, taken := s.Bytes()
			waiting, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			must(f.t, err)
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			must(f.t, err)
			// An acknowledgement between the two would count bytes in both.
			if again, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil && again == waiting {
				n = int64(taken) - int64(info.Bytes_acked) - int64(waiting)
				return
			}
		}
	})
	return n
}

// descriptor is the edge's of the connection whose other end is c, once it is accepted; -1: not yet.
func descriptor(t testing.TB, c net.Conn) int {
	t.Helper()
	mine, theirs := c.LocalAddr().(*net.TCPAddr).Port, c.RemoteAddr().(*net.TCPAddr).Port
	for fd := range 4096 {
		peer, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		own, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		p, ok1 := peer.(*unix.SockaddrInet4)
		o, ok2 := own.(*unix.SockaddrInet4)
		if ok1 && ok2 && p.Port == mine && o.Port == theirs {
			return fd
		}
	}
	return -1
}

// Readers that do not read stall a sender that is faster, and cost the process no more than 256 KiB each. The others
// are served meanwhile, and what was held is theirs when they read on.
func TestSlowReadersStallTheSender(t *testing.T) {
	const readers = 20
	var sent atomic.Int64
	sender := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		word := make([]byte, 1)
		if _, err := io.ReadFull(c, word); err != nil {
			return
		}
		if word[0] == 'e' {
			_, _ = io.Copy(c, c)
			return
		}
		for chunk := octets(64 << 10); ; {
			n, err := c.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	f := newFront(t, frontConfig{}, of(RoundRobin, sender))
	slow := map[*net.TCPConn]int{}
	for range readers {
		c := f.dial("")
		_, err := io.WriteString(c, "f")
		must(t, err)
		eventually(t, "it is accepted", func() bool {
			slow[c] = descriptor(t, c)
			return slow[c] >= 0
		})
	}
	of := map[int]*session{}
	eventually(t, "all sessions are under way", func() bool {
		on(f.loop(), func() {
			for h := f.cluster.Endpoints()[0].Local(f.loop()).held; h != nil; h = h.next {
				s := h.session
				for c, fd := range slow {
					if s.stage == relaying && s.client.Peer().String() == c.LocalAddr().String() {
						of[fd] = s
					}
				}
			}
		})
		return len(of) == readers
	})
	bounded := func() (most int64) {
		t.Helper()
		for fd, s := range of {
			n := f.held(s, fd)
			if n > 256<<10 {
				t.Fatalf("a session holds %d bytes", n)
			}
			most = max(most, n)
		}
		return most
	}
	was, since := int64(-1), time.Now()
	eventually(t, "the sender stalls", func() bool {
		bounded()
		if now := sent.Load(); now != was {
			was, since = now, time.Now()
		}
		return was > 0 && time.Since(since) > 200*time.Millisecond
	})
	if bounded() == 0 {
		t.Error("nothing is held: nobody was stalled")
	}
	// The others:
	c := f.dial("")
	_, err := io.WriteString(c, "e")
	must(t, err)
	for range 10 {
		_, err = io.WriteString(c, "hello")
		must(t, err)
		_, err = io.ReadFull(c, make([]byte, 5))
		must(t, err)
	}
	for c := range slow {
		got := make([]byte, 1<<20)
		_, err := io.ReadFull(c, got)
		must(t, err)
		if string(got) != string(octets(len(got))) {
			t.Error("a reader got other bytes than were sent")
		}
	}
	bounded()
	for c := range slow {
		must(t, c.Close())
	}
	must(t, c.Close())
	eventually(t, "all sessions end", func() bool { return f.engine.Open() == 0 })
}
