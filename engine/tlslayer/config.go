package tlslayer

import (
	"fmt"
	"runtime"
	"time"
)

// Config bounds the handshakes of a process.
type Config struct {
	// Handshakes bounds those under way at a time, of both sides; a connection beyond is shed. One that has not said its
	// ClientHello takes about 1 KiB, one that waits for its peer in the middle about 30. 0: 16384.
	Handshakes int `yaml:"handshakes"`
	// Running bounds those that compute at a time; one that waits for its peer does not count. 0: half of the CPUs that the
	// process may use, so that the loops have the others: with all of them, a flood of hellos made the p99 of established
	// connections four times what it is now.
	Running int `yaml:"running"`
	// Queue bounds those that wait to begin computing; one beyond is shed. Those that have begun go first. 0: 4096, which
	// is some 2 s of one CPU with RSA certificates, and half a second with ECDSA.
	Queue int `yaml:"queue"`
	// Timeout bounds a handshake, from the call of Server or Client on. 0: 10 s.
	Timeout time.Duration `yaml:"timeout"`
}

// Validate reports what is wrong with c, by the path of the key.
func (c Config) Validate(report func(path, message string)) {
	bound := func(key string, n, most int) {
		if n < 0 || n > most {
			report(key, fmt.Sprintf("%d: 0 (the default) to %d", n, most))
		}
	}
	bound("handshakes", c.Handshakes, 1<<20)
	bound("running", c.Running, 1024)
	bound("queue", c.Queue, 1<<20)
	if c.Timeout < 0 || c.Timeout > time.Hour {
		report("timeout", fmt.Sprintf("%v: 0 (the default) to 1h", c.Timeout))
	}
}

func (c Config) filled() Config {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&c.Handshakes, 16384)
	def(&c.Running, (runtime.GOMAXPROCS(0)+1)/2)
	def(&c.Queue, 4096)
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return c
}
