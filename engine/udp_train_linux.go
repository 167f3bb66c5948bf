package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// packetBatch is the most datagrams, or trains of them, that one system call moves.
	packetBatch = 64
	// maxSegments bounds the datagrams of a train, and maxTrain its bytes: UDP_MAX_SEGMENTS of the kernels before 6.9,
	// and what fits an IPv4 packet.
	maxSegments = 64
	maxTrain    = 65507
	// slotSize holds any datagram, and any train that the kernel hands over whole.
	slotSize = 64 << 10
	// slotStride sets slots apart by three cache lines more, so that small datagrams do not all fall into the same set of
	// the caches.
	slotStride = slotSize + 192
)

// train is several datagrams for the same receiver that go as one to the end of the kernel's way, where they are cut
// apart: all are of one size, the last may be shorter. For small ones that halves the cost, since nine tenths of it are
// per packet.
type train struct {
	size     int // of a datagram
	bytes    int
	segments int
	ended    bool // by a shorter one
}

// start begins with a datagram, or several of size segment that came as one.
func (t *train) start(n, segment int) {
	if segment == 0 || segment >= n {
		*t = train{size: n, bytes: n, segments: 1}
		return
	}
	*t = train{size: segment, bytes: n, segments: (n + segment - 1) / segment, ended: n%segment != 0}
}

// add joins more; false if that cannot be.
func (t *train) add(n, segment int) bool {
	if segment == 0 || segment > n {
		segment = n
	}
	if t.ended || n == 0 || segment > t.size || segment < n && segment != t.size {
		return false
	}
	k := (n + t.size - 1) / t.size
	if t.segments+k > maxSegments || t.bytes+n > maxTrain {
		return false
	}
	t.segments += k
	t.bytes += n
	t.ended = n%t.size != 0
	return true
}

// area is memory for a batch of datagrams. It is not of Go's heap, which would clear it: only the pages that datagrams
// reach take memory.
type area []byte

func newArea() (area, error) {
	return unix.Mmap(-1, 0, packetBatch*slotStride, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
}

func (a area) slot(i int) []byte { return a[i*slotStride:][:slotSize:slotSize] }

func (a area) release() {
	if a != nil {
		_ = unix.Munmap(a)
	}
}

func recvmmsg(fd int, vec []unix.Mmsghdr) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(vec))), uintptr(len(vec)), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

func sendmmsg(fd int, vec []unix.Mmsghdr) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(vec))), uintptr(len(vec)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

func sendmsg(fd int, h *unix.Msghdr) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return e
}

// iovec describes p, which may be empty.
func iovec(p []byte) unix.Iovec { return unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))} }

// bytesOf is what an iovec describes.
func bytesOf(v *unix.Iovec) []byte { return unsafe.Slice(v.Base, v.Len) }

// ofTrain says whether an error of a train may be one of its form. One by one, its datagrams can be sent.
func ofTrain(e unix.Errno) bool {
	return e == unix.EINVAL || e == unix.EMSGSIZE || e == unix.EIO || e == unix.EOPNOTSUPP
}

// shorter is the size from which on datagrams are not joined any more, after a train of size failed: they are longer
// than packets may be (EINVAL), or the device cannot cut any.
func shorter(size int, e unix.Errno) int {
	if e == unix.EIO || e == unix.EOPNOTSUPP {
		return 0
	}
	return size
}
