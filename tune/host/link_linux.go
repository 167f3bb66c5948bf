package host

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernel answers for the interfaces of this process's network namespace. Nothing that it asks needs root.
type kernel struct {
	ethtool *ethtool.Ethtool // nil if there is no socket
	qdiscs  map[int][]netlink.Qdisc
	err     error // why qdiscs is empty
}

func newKernel() *kernel {
	k := &kernel{qdiscs: map[int][]netlink.Qdisc{}}
	k.ethtool, _ = ethtool.NewEthtool()
	all, err := netlink.QdiscList(nil)
	k.err = err
	for _, q := range all {
		at := q.Attrs().LinkIndex
		k.qdiscs[at] = append(k.qdiscs[at], q)
	}
	return k
}

func (k *kernel) close() {
	if k.ethtool != nil {
		k.ethtool.Close()
	}
}

func (k *kernel) link(name string) (*Link, error) {
	l := &Link{}
	unknown := func(what string, err error) bool {
		if err != nil {
			l.Unknown = append(l.Unknown, fmt.Sprintf("%s: %v", what, err))
		}
		return err != nil
	}
	if k.ethtool == nil {
		unknown("ethtool", errors.New("no socket for it"))
	} else {
		if d, err := k.ethtool.DriverInfo(name); !unknown("driver", err) {
			l.Driver, l.Bus = d.Driver, d.BusInfo
		}
		if c, err := k.ethtool.GetChannels(name); !unknown("channels", err) {
			l.Channels = &Channels{Combined: int(c.CombinedCount), Rx: int(c.RxCount), Tx: int(c.TxCount),
				MaxCombined: int(c.MaxCombined), MaxRx: int(c.MaxRx), MaxTx: int(c.MaxTx)}
		}
		if r, err := k.ethtool.GetRing(name); !unknown("rings", err) {
			l.Rings = &Rings{Rx: int(r.RxPending), Tx: int(r.TxPending), MaxRx: int(r.RxMaxPending), MaxTx: int(r.TxMaxPending)}
		}
		if c, err := k.ethtool.GetCoalesce(name); !unknown("coalesce", err) {
			l.Coalesce = &Coalesce{AdaptiveRx: c.UseAdaptiveRxCoalesce != 0, AdaptiveTx: c.UseAdaptiveTxCoalesce != 0,
				RxUsecs: int(c.RxCoalesceUsecs), RxFrames: int(c.RxMaxCoalescedFrames),
				TxUsecs: int(c.TxCoalesceUsecs), TxFrames: int(c.TxMaxCoalescedFrames)}
		}
		if all, err := k.ethtool.FeaturesWithState(name); !unknown("features", err) {
			l.Features = map[string]string{}
			for feature, s := range all {
				state := "off"
				if s.Active {
					state = "on"
				}
				if !s.Available || s.NeverChanged {
					state += " [fixed]"
				}
				l.Features[feature] = state
			}
		}
		rss, err := rxfh(name)
		if !unknown("rss", err) {
			l.RSS = rss
		}
	}
	k.route(l, name, unknown)
	return l, nil
}

// route adds what netlink says.
func (k *kernel) route(l *Link, name string, unknown func(string, error) bool) {
	link, err := netlink.LinkByName(name)
	if unknown("netlink", err) {
		return
	}
	if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
		l.XDP = map[uint32]string{nl.XDP_ATTACHED_DRV: "native", nl.XDP_ATTACHED_SKB: "generic", nl.XDP_ATTACHED_HW: "offload"}[xdp.AttachMode]
	}
	if addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL); !unknown("addresses", err) {
		for _, a := range addresses {
			l.Addresses = append(l.Addresses, a.IPNet.String())
		}
	}
	if unknown("qdisc", k.err) {
		return
	}
	for _, q := range k.qdiscs[link.Attrs().Index] {
		switch {
		case q.Attrs().Parent == netlink.HANDLE_ROOT:
			l.Qdisc = q.Type()
		case q.Attrs().Parent != netlink.HANDLE_INGRESS && q.Attrs().Parent != netlink.HANDLE_CLSACT:
			if !slices.Contains(l.Leaves, q.Type()) {
				l.Leaves = append(l.Leaves, q.Type())
			}
		}
	}
}

// rxfh asks for the indirection table and the hash key: ETHTOOL_GRSSH, which the ethtool package has not (its GetIndir
// gives the table only).
func rxfh(name string) (*RSS, error) {
	const most = 2048 // entries of a table, and bytes of a key; mlx5 has 512 and 40
	var request struct {
		cmd, context, tableSize, keySize uint32
		function, transform              uint8
		_                                [2]uint8
		_                                uint32
		table                            [most]uint32 // and the key after it
	}
	ask := func() error {
		request.cmd = unix.ETHTOOL_GRSSH
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		var raw struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}
		copy(raw.name[:], ifr.Name())
		raw.data = unsafe.Pointer(&request)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&raw)))
		runtime.KeepAlive(&request)
		if errno != 0 {
			return errno
		}
		return nil
	}
	// The first question, with room for nothing, is for the sizes.
	if err := ask(); err != nil {
		return nil, err
	}
	if request.tableSize+(request.keySize+3)/4 > most {
		return nil, fmt.Errorf("a table of %d entries", request.tableSize)
	}
	if request.tableSize == 0 && request.keySize == 0 {
		return nil, unix.EOPNOTSUPP
	}
	table, key := int(request.tableSize), int(request.keySize)
	if err := ask(); err != nil {
		return nil, err
	}
	rss := &RSS{}
	for _, queue := range request.table[:table] {
		rss.Indirection = append(rss.Indirection, int(queue))
	}
	if key > 0 {
		words := request.table[table : table+(key+3)/4]
		rss.Key = keyKind(unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), key))
	}
	return rss, nil
}

// keyKind says what a hash key is like: zero, repeating (every two bytes: flows are spread the same in both directions,
// and by anybody who knows that) or random.
func keyKind(key []byte) string {
	repeats, zero := true, true
	for i, b := range key {
		zero = zero && b == 0
		repeats = repeats && b == key[i%2]
	}
	switch {
	case zero:
		return "zero"
	case repeats:
		return "repeating"
	}
	return "random"
}
