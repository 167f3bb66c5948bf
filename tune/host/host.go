// Package host reads the facts of a machine: its processors, memory, network interfaces, limits and kernel settings.
//
//	host.go      a Host: the running machine, or the recording of one
//	value.go     one fact, known or not, and why not
//	facts.go     all of them, read once
//	cpu.go       processors, caches, NUMA nodes
//	nic.go       network interfaces, their queues and interrupts
//	link.go      what of an interface /sys does not say; link_linux.go asks the kernel
//	cgroup.go    what a container leaves of the machine
//	record.go    a recording is what was read, and nothing else
//	archive.go   a recording in one file
//
// Files are read through an fs.FS whose root holds proc, sys and etc, so that a recorded host is read by the same code as
// a running one. (That is why the files are not left to prometheus/procfs: it wants a directory.) A fact that is not
// there, or that this user may not see, is unknown and says so; it is never an error.
package host

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Host is where facts are read: a running machine or a recorded one.
type Host struct {
	fsys  fs.FS
	links prober
}

// prober asks the kernel what of an interface is in no file.
type prober interface {
	link(name string) (*Link, error)
	close()
}

// Live is the machine that this process runs on.
func Live() *Host { return &Host{fsys: os.DirFS("/"), links: newKernel()} }

// Recorded is the host that fsys holds a recording of, made by Record or by hand.
func Recorded(fsys fs.FS) *Host { return &Host{fsys: fsys, links: recordedLinks{fsys}} }

// Open is the recorded host in a directory, or in an archive (see Archive), whose name ends in .txtar.
func Open(name string) (*Host, error) {
	if strings.HasSuffix(name, ".txtar") {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		fsys, err := Archive(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return Recorded(fsys), nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: neither a directory nor a .txtar archive", name)
	}
	return Recorded(os.DirFS(name)), nil
}

// Close gives back what a live host holds.
func (h *Host) Close() { h.links.close() }

// recordedLinks are read from ethtool/NAME.json.
type recordedLinks struct{ fsys fs.FS }

func (r recordedLinks) link(name string) (*Link, error) {
	data, err := fs.ReadFile(r.fsys, linkFile(name))
	if err != nil {
		return nil, err
	}
	l := &Link{}
	if err := json.Unmarshal(data, l); err != nil {
		return nil, fmt.Errorf("%s: %w", linkFile(name), err)
	}
	return l, nil
}

func (recordedLinks) close() {}

func linkFile(name string) string { return "ethtool/" + name + ".json" }

// Files are what the host is read from, proc, sys and etc at their root.
func (h *Host) Files() fs.FS { return h.fsys }
