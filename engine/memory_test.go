package engine

import (
	"io"
	"math"
	"net"
	"testing"
	"testing/fstest"
)

func TestSizes(t *testing.T) {
	f := func(text string, want Size, shown string) {
		t.Helper()
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v; want %d", text, int64(s), err, int64(want))
		}
		if got := s.String(); got != shown {
			t.Errorf("%q: shown as %q, want %q", text, got, shown)
		}
	}
	f("0", 0, "0")
	f("4096", 4096, "4KiB")
	f("4097", 4097, "4097")
	f("64KiB", 64<<10, "64KiB")
	f("256MiB", 256<<20, "256MiB")
	f("2048MiB", 2<<30, "2GiB")
	f("1TiB", 1<<40, "1TiB")
	f("8388607TiB", 8388607<<40, "8388607TiB")
	f("9223372036854775807", math.MaxInt64, "9223372036854775807")
	for _, bad := range []string{"", "MiB", "-1", "+1", "1.5GiB", "1 MiB", "1MB", "1mib", "0x10", "1_000", "8388608TiB", "9223372036854775808", "1KiBKiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(bad)); err == nil || s != 0 {
			t.Errorf("%q: %v, %v", bad, s, err)
		}
	}
}

// What is shown can be read, and is the same size.
func FuzzSize(f *testing.F) {
	for _, s := range []string{"0", "4096", "256MiB", "8388608TiB", "-1", "01KiB", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s || s < 0 {
			t.Errorf("%q is %d, shown as %q, read again as %d, %v", text, int64(s), s, int64(again), err)
		}
	})
}

func TestMemoryLimitIsTheLeastAround(t *testing.T) {
	f := func(name string, want int64, files map[string]string) {
		t.Helper()
		root := fstest.MapFS{}
		for name, text := range files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := memoryLimit(root); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	const machine = "MemTotal:       1000 kB\nMemFree:        10 kB\n"
	f("the machine", 1000<<10, map[string]string{"proc/meminfo": machine})
	f("nothing known", math.MaxInt64, nil)
	f("version 2, its own", 4096, map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a/b\n",
		"sys/fs/cgroup/a/b/memory.max": "4096\n", "sys/fs/cgroup/a/memory.max": "max\n"})
	f("version 2, its parent's", 8192, map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a/b\n",
		"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "8192\n"})
	f("version 2, in a container", 8192, map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n",
		"sys/fs/cgroup/memory.max": "8192\n"})
	f("version 1, of a container that sees the host's path", 4096, map[string]string{"proc/meminfo": machine,
		"proc/self/cgroup": "9:cpu:/x\n4:memory:/docker/1\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n"})
	f("version 1, none set", 1000<<10, map[string]string{"proc/meminfo": machine,
		"proc/self/cgroup": "4:memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n"})
}

func TestMemoryConfig(t *testing.T) {
	f := func(c Config, valid bool) {
		t.Helper()
		ok := true
		c.Validate(func(path, message string) { ok = ok && path != "memory" })
		if ok != valid {
			t.Errorf("%+v: valid is %v", c, ok)
		}
	}
	f(Config{Loops: 4}, true)
	f(Config{Loops: 4, Memory: 4 << 20}, true)
	f(Config{Loops: 4, Memory: 4<<20 - 1}, false)
	f(Config{Loops: 4, Memory: -1}, false)
	if e := newEngine(t, Config{Loops: 2}); e.Memory() < 2*minShare {
		t.Errorf("the default is %d", e.Memory())
	}
}

// A loop is short while more than its share is held, be it in buffers or, by sessions whose readers are slow, in pipes.
func TestLoopIsShortWhileMoreThanItsShareIsHeld(t *testing.T) {
	read := make(chan struct{})
	p := newProxy(t, Config{Loops: 1, Memory: 1 << 20}, upstream(t, func(c *net.TCPConn) {
		<-read
		_, _ = io.Copy(io.Discard, c)
	}), 0)
	l, e := p.engine.Loops()[0], p.engine
	var taken [][]byte
	take := func(sizes ...int) {
		for _, n := range sizes {
			taken = append(taken, l.GetBuffer(n))
		}
	}
	on(l, func() { take(100, TinyBuffer+1, LargeBuffer+1) })
	const some = TinyBuffer + SmallBuffer + LargeBuffer + 1
	eventually(t, "others are told what is held", func() bool { return e.Held() == some })
	on(l, func() {
		if take(1<<20 - some); l.Short() {
			t.Errorf("short with %d held", l.held)
		}
	})
	var clients []*net.TCPConn
	piped := false
	for range 32 {
		c := client(t, p.Bound())
		clients = append(clients, c)
		stall(t, c)
		on(l, func() { piped = p.last.Load().ab.piped > 0 })
		if piped {
			break
		}
	}
	on(l, func() {
		for _, b := range taken {
			l.PutBuffer(b)
		}
		if n := p.last.Load().ab.held(); !piped || l.held < int64(n) {
			t.Errorf("in a pipe: %v; the loop counts %d, and the last session has %d", piped, l.held, n)
		}
		taken = append(taken[:0], l.GetBuffer(1<<20-int(l.held)+1))
		if !l.Short() {
			t.Errorf("not short with %d held", l.held)
		}
		l.PutBuffer(taken[0])
	})
	_ = clients[len(clients)-1].SetLinger(0) // what a session that is reset has is given back as well
	clients[len(clients)-1].Close()
	eventually(t, "the session ends", func() bool { return p.ended.Load() == 1 })
	close(read)
	for _, c := range clients {
		_ = c.CloseWrite()
	}
	eventually(t, "nothing is held", func() bool { return e.Held() == 0 && p.relays.Load() == 0 })
}
