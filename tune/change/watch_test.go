package change

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watcher is the process that watches a root, by the environment that it was started with; 0 if none runs.
func watcher(root string) int {
	procs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(b), roleEnv+"=watch\x00") && strings.Contains(string(b), rootEnv+"="+root+"\x00") {
			pid, _ := strconv.Atoi(strings.Split(p, "/")[2])
			return pid
		}
	}
	return 0
}

func nothingWaits(root string) func() bool {
	c := changerAt(root)
	return func() bool {
		r, err := c.load(pendingName)
		return r == nil && err == nil && watcher(root) == 0
	}
}

func TestWatcherRevertsWhenNobodyConfirms(t *testing.T) {
	root := plant(t)
	before := contents(t, root)
	writePlan(t, root, everyKind...)
	run(t, root, "apply", 0, watchEn+"=300ms")
	eventually(t, "the watcher reverts", nothingWaits(root))
	if after := contents(t, root); after != before {
		t.Errorf("reverted, the tree is\n%s\nand was\n%s", after, before)
	}
	if log, _ := os.ReadFile(filepath.Join(changerAt(root).State, "watch.log")); !strings.Contains(string(log), "no confirmation within 300ms") {
		t.Errorf("the log says %s", log)
	}
}

func TestWatcherLeavesWhatIsConfirmed(t *testing.T) {
	root := plant(t)
	writePlan(t, root, everyKind...)
	run(t, root, "apply", 0, watchEn+"=1h")
	pid := watcher(root)
	if pid == 0 {
		t.Fatal("no watcher")
	}
	t.Cleanup(func() {
		if watcher(root) == pid {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if sid, _ := sessionOf(pid); sid != pid {
		t.Errorf("the watcher %d is of the session %d: the loss of a terminal would end it", pid, sid)
	}
	must(t, syscall.Kill(pid, syscall.SIGHUP))
	run(t, root, "confirm", 0)
	eventually(t, "the watcher goes", nothingWaits(root))
	if v := value(t, root, "proc/sys/net/core/somaxconn"); v != "65535" {
		t.Errorf("confirmed, and then %s", v)
	}
}

// sessionOf is field 6 of proc(5)'s stat.
func sessionOf(pid int) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return strconv.Atoi(f[3])
}

// The watcher is there before the first write, and reverts at once when the apply dies: it does not wait for its hour to pass.
func TestWatcherRevertsAnApplyThatDied(t *testing.T) {
	for _, step := range []int{4, 5, 20, 40} {
		root := plant(t)
		before := contents(t, root)
		writePlan(t, root, everyKind...)
		if done, _ := run(t, root, "apply", step, watchEn+"=1h"); done {
			t.Fatal("the apply has not died")
		}
		eventually(t, "the watcher reverts", nothingWaits(root))
		if after := contents(t, root); after != before {
			t.Errorf("step %d: reverted, the tree is\n%s\nand was\n%s", step, after, before)
		}
	}
}

func TestWatcherToldToEndReverts(t *testing.T) {
	root := plant(t)
	before := contents(t, root)
	c, said := listening(root)
	var id string
	_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: time.Hour, Watch: func(s string) error { id = s; return nil }})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	reverted, err := c.Watch(ctx, id, func() {})
	if err != nil || !reverted || contents(t, root) != before {
		t.Errorf("reverted %v, %v\n%s", reverted, err, said)
	}
}

// A watcher of a change that is over does nothing to the next one.
func TestWatcherOfAnotherChange(t *testing.T) {
	root := plant(t)
	c, _ := listening(root)
	_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Within: 0})
	must(t, err)
	if reverted, err := c.Watch(context.Background(), "another", func() {}); reverted || err != nil {
		t.Error(reverted, err)
	}
	if r, _ := c.load(pendingName); r == nil {
		t.Error("it was reverted")
	}
}

func TestNoChangeWithoutWatcher(t *testing.T) {
	root := plant(t)
	before := contents(t, root)
	c, _ := listening(root)
	_, err := c.Apply(writePlan(t, root, everyKind...), ApplyOptions{Watch: func(string) error {
		return Spawn(filepath.Join(c.State, "watch.log"), "/bin/false")
	}})
	if err == nil || !strings.Contains(err.Error(), "start the watcher") {
		t.Errorf("%v", err)
	}
	if r, _ := c.load(pendingName); r != nil || contents(t, root) != before {
		t.Error("something was written")
	}
}
