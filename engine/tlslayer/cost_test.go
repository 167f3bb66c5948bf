package tlslayer

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine"
)

// echoConn answers what it hears, from one buffer of its own.
type echoConn struct {
	buf [16 << 10]byte
}

func (e *echoConn) Ready(c *engine.Conn) {
	for {
		n, err := c.Read(e.buf[:])
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			c.Close()
			return
		}
		_, _ = c.Write(e.buf[:n])
	}
}
func (e *echoConn) Timeout(*engine.Conn)          {}
func (e *echoConn) Connected(*engine.Conn, error) {}

// Reading a small message allocates what crypto/tls does, one value of 24 bytes for each time that it asks for bytes, and
// nothing of ours; writing nothing at all.
func TestSmallMessagesAllocateNothingOfOurs(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates")
	}
	p := newProxy(t, Config{}, serverConfig(t), nil, nil, engine.ListenOptions{})
	c, ours := secured(t, p, clientConfig())
	const rounds = 200
	msg := noise(100)
	reading := make([]byte, 1<<10)
	// All that is read is there before the measurement.
	for range rounds + 1 {
		_, err := c.Write(msg)
		must(t, err)
	}
	waiting := func() (n int) {
		b := make([]byte, 1<<20)
		on(ours, func() {
			ours.LookAgain()
			n, _ = ours.Peek(b)
		})
		return n
	}
	eventually(t, "all has come", func() bool { return waiting() >= (rounds+1)*len(msg) })
	on(ours, func() {
		if n := testing.AllocsPerRun(rounds, func() {
			if n, err := ours.Read(reading[:len(msg)]); n != len(msg) || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}); n > 1 {
			t.Errorf("%v allocations a read", n)
		}
		if n := testing.AllocsPerRun(rounds, func() {
			if n, err := ours.Write(msg); n != len(msg) || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}); n > 0 {
			t.Errorf("%v allocations a write", n)
		}
		bulk := make([]byte, 4<<10)
		if n := testing.AllocsPerRun(10, func() { _, _ = ours.Write(bulk) }); n > 0 {
			t.Errorf("%v allocations a write of several records", n)
		}
		ours.Close()
	})
}

// BenchmarkEcho is a small message there and back: one goroutine of crypto/tls, and the loop.
func BenchmarkEcho(b *testing.B) {
	for _, layered := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", layered), func(b *testing.B) {
			var front *tls.Config
			if layered {
				front = serverConfig(b)
			}
			p := newProxy(b, Config{}, front, nil, nil, engine.ListenOptions{})
			p.secured.Store(new(func(c *engine.Conn) { c.SetHandler(&echoConn{}) }))
			var c net.Conn = dial(b, p.Bound())
			if layered {
				c = tls.Client(c, clientConfig())
			}
			msg := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Write(msg)
				if _, err := io.ReadFull(c, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// loopCPU is the CPU time of the loop, which has a thread of its own.
func loopCPU(l *engine.Loop) time.Duration {
	var u unix.Rusage
	done := make(chan struct{})
	l.Post(func() { _ = unix.Getrusage(unix.RUSAGE_THREAD, &u); close(done) })
	<-done
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSend is bulk from the loop to a reader that does not decrypt, by the size of a Write.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newProxy(b, Config{}, serverConfig(b), nil, nil, engine.ListenOptions{})
			ours := make(chan *engine.Conn, 1)
			p.secured.Store(new(func(c *engine.Conn) { ours <- c }))
			client := dialTLS(b, p.Bound(), clientConfig())
			c := next(b, ours)
			go io.Copy(io.Discard, raw(client))
			must(b, raw(client).SetDeadline(time.Time{}))
			b.SetBytes(int64(size))
			done := make(chan struct{})
			s := &sender{left: b.N * size, piece: make([]byte, size), done: done}
			b.ReportAllocs()
			b.ResetTimer()
			before := loopCPU(c.Loop())
			c.Loop().Post(func() { c.SetHandler(s); s.Ready(c) })
			<-done
			b.StopTimer()
			b.ReportMetric(float64(loopCPU(c.Loop())-before)/float64(b.N), "cpu-ns/op")
			on(c, c.Reset)
		})
	}
}

type sender struct {
	left  int
	piece []byte
	off   int
	done  chan struct{}
}

func (s *sender) Ready(c *engine.Conn) {
	for range 64 {
		if s.left <= 0 || !c.Writable() {
			break
		}
		n, err := c.Write(s.piece[s.off:])
		s.left -= n
		s.off = (s.off + n) % len(s.piece)
		if err != nil && err != engine.ErrAgain {
			s.left = 0
		}
	}
	if s.left <= 0 && s.done != nil {
		close(s.done)
		s.done = nil
	} else if s.left > 0 && c.Writable() {
		c.Loop().Again(c)
	}
}
func (s *sender) Timeout(*engine.Conn)          {}
func (s *sender) Connected(*engine.Conn, error) {}

// BenchmarkReceive is bulk from a crypto/tls writer to the loop, with the loop's 64 KiB at a time.
func BenchmarkReceive(b *testing.B) {
	p := newProxy(b, Config{}, serverConfig(b), nil, nil, engine.ListenOptions{})
	s := &sink{done: make(chan struct{})}
	loop := make(chan *engine.Loop, 1)
	p.secured.Store(new(func(c *engine.Conn) { c.SetHandler(s); loop <- c.Loop() }))
	client := dialTLS(b, p.Bound(), clientConfig())
	must(b, raw(client).SetDeadline(time.Time{}))
	piece := make([]byte, 64<<10)
	b.SetBytes(int64(len(piece)))
	b.ReportAllocs()
	l := next(b, loop)
	before := loopCPU(l)
	b.ResetTimer()
	for range b.N {
		if _, err := client.Write(piece); err != nil {
			b.Fatal(err)
		}
	}
	must(b, client.CloseWrite())
	<-s.done
	b.StopTimer()
	b.ReportMetric(float64(loopCPU(l)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(s.reads)/float64(b.N), "reads/op")
}

type sink struct {
	reads int
	done  chan struct{}
}

func (s *sink) Ready(c *engine.Conn) {
	for range 64 {
		_, err := c.Read(c.Loop().Scratch())
		if err == engine.ErrAgain {
			return
		}
		if err != nil {
			c.Close()
			close(s.done)
			return
		}
		s.reads++
	}
	c.Loop().Again(c)
}
func (s *sink) Timeout(*engine.Conn)          {}
func (s *sink) Connected(*engine.Conn, error) {}

// BenchmarkHandshake is full handshakes of 8 clients in this process, which have their half of the work.
func BenchmarkHandshake(b *testing.B) {
	p := newProxy(b, Config{}, serverConfig(b), nil, nil, engine.ListenOptions{})
	p.secured.Store(new(func(c *engine.Conn) { c.Close() }))
	var all sync.WaitGroup
	turns := make(chan struct{})
	for range 8 {
		all.Go(func() {
			for range turns {
				c, err := tls.Dial("tcp", p.Bound(), clientConfig())
				if err == nil {
					_, _ = c.Read(make([]byte, 1))
					c.Close()
				}
			}
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	all.Wait()
}

// residentBytes is the process's RSS.
func residentBytes() (n int) {
	b, _ := os.ReadFile("/proc/self/statm")
	_, _ = fmt.Sscan(strings.Fields(string(b))[1], &n)
	return n * os.Getpagesize()
}

// taken is what the process has, of heap and stacks and in all.
func taken() (heap, resident int) {
	var m runtime.MemStats
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse), residentBytes()
}

// BenchmarkUnderWay is what a handshake takes that waits: for the ClientHello, and in the middle.
func BenchmarkUnderWay(b *testing.B) {
	const conns = 1000
	for _, middle := range []bool{false, true} {
		b.Run(fmt.Sprintf("middle=%v", middle), func(b *testing.B) {
			for range b.N {
				p := newProxy(b, Config{}, serverConfig(b), nil, nil, engine.ListenOptions{})
				heap, resident := taken()
				clients := make([]net.Conn, conns)
				for i := range clients {
					c, err := net.Dial("tcp", p.Bound())
					must(b, err)
					if clients[i] = c; middle {
						must(b, tls.Client(&holder{Conn: c, pass: 1}, clientConfig()).Handshake())
					}
				}
				eventually(b, "all are under way", func() bool { return p.crew.Counters().UnderWay.Load() == conns })
				heap2, resident2 := taken()
				b.ReportMetric(float64(heap2-heap)/conns, "heap-B/conn")
				b.ReportMetric(float64(resident2-resident)/conns, "RSS-B/conn")
				for _, c := range clients {
					c.Close()
				}
			}
		})
	}
}

// BenchmarkIdle is what a connection takes that has said one message: of the heap and of the process, without the kernel's
// part. The client's half is a bare socket by then; what the plain case takes is that, and the engine's part.
func BenchmarkIdle(b *testing.B) {
	const conns = 2000
	all := append(versions[:len(versions):len(versions)], struct {
		name string
		set  func(*tls.Config)
	}{"plain", nil})
	for _, v := range all {
		for _, size := range []int{100, 16 << 10} {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(v.name, " ", ""), size), func(b *testing.B) {
				for range b.N {
					front := serverConfig(b)
					if v.set == nil {
						front = nil
					}
					p := newProxy(b, Config{}, front, nil, nil, engine.ListenOptions{})
					p.secured.Store(new(func(c *engine.Conn) { c.SetHandler(onceEcho{}) }))
					cfg := clientConfig()
					clients := make([]net.Conn, conns)
					message := string(make([]byte, size))
					heap, resident := taken()
					for i := range clients {
						raw, err := net.Dial("tcp", p.Bound())
						must(b, err)
						clients[i] = raw
						if v.set != nil {
							v.set(cfg)
							raw = tls.Client(raw, cfg)
						}
						exchange(b, raw, message)
					}
					heap2, resident2 := taken()
					b.ReportMetric(float64(heap2-heap)/conns, "heap-B/conn")
					b.ReportMetric(float64(resident2-resident)/conns, "RSS-B/conn")
					for _, c := range clients {
						c.Close()
					}
				}
			})
		}
	}
}

// onceEcho is echoConn with the loop's buffer.
type onceEcho struct{}

func (onceEcho) Ready(c *engine.Conn) {
	if n, err := c.Read(c.Loop().Scratch()); err == nil {
		_, _ = c.Write(c.Loop().Scratch()[:n])
	} else if err != engine.ErrAgain {
		c.Close()
	}
}
func (onceEcho) Timeout(*engine.Conn)          {}
func (onceEcho) Connected(*engine.Conn, error) {}
