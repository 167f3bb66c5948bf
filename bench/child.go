package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process that the suite has started.
type child struct {
	cmd  *exec.Cmd
	said lockedBuffer
	done chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lastLine is the last line that was written.
func (l *lockedBuffer) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.b.String()), "\n")
	return lines[len(lines)-1]
}

// spawn starts a process, which ends with this one at the latest, and waits until it listens on the addresses, of TCP
// or, with udp before them, of UDP.
func spawn(ctx context.Context, addresses []string, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(name, args...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	// A group of its own: Ctrl-C on the terminal is the suite's to handle.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The process ends with the thread that starts it, to be exact: this one, which stays for so long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			_ = c.cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if err := c.listens(ctx, a); err != nil {
			c.stop()
			return nil, err
		}
	}
	return c, nil
}

// udp marks an address of UDP among those of TCP.
const udp = "udp "

// startTime is how long a process may take until it listens.
const startTime = 10 * time.Second

func (c *child) listens(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("does not listen on %s in %v: %s", address, startTime, c.said.lastLine()))
	defer cancel()
	for {
		if at, ok := strings.CutPrefix(address, udp); ok {
			if pids, _ := listenersOf(UDP, at); len(pids) > 0 {
				return nil
			}
		} else if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("has ended: %s", c.said.lastLine())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop ends the process and those of its group.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	<-c.done
}

// freePort is an address on the loopback that nobody listens on now, over TCP or UDP. It is below the ports that the kernel hands
// out to whoever asks for any, here or with net.ipv4.ip_local_port_range as the audit wants it: a target that is restarted finds
// its own again.
func freePort() (string, error) {
	const first, end, tries = 2048, 10240, 200
	for n := 0; ; n++ {
		port := first + rand.IntN(end-first)
		if n >= tries {
			port = 0
		}
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) && port > 0 {
			continue
		}
		if err != nil {
			return "", err
		}
		p, err := net.ListenPacket("udp", ln.Addr().String())
		ln.Close()
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", err
		}
		p.Close()
		return ln.Addr().String(), nil
	}
}

// freePorts are n of them, all different.
func freePorts(n int) ([]string, error) {
	seen := map[string]bool{}
	var out []string
	for len(out) < n {
		a, err := freePort()
		if err != nil {
			return nil, err
		}
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out, nil
}

// version is the first line of what a program says of itself.
func version(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// built says whether a program, asked by flag, tells that it has a part.
func built(name, flag, part string) bool {
	out, err := exec.Command(name, flag).CombinedOutput()
	return err == nil && bytes.Contains(out, []byte(part))
}

// look finds a program, also where Debian keeps those for root.
func look(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p, nil
		}
	}
	return "", errors.New("not installed: make bench-deps does that")
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o644) }
