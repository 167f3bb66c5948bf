package change

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Devices are the network devices of the namespace that the process runs in. The zero value is ready.
type Devices struct{}

// Get implements Device.
func (Devices) Get(s Setting) (string, error) {
	nic, name := s.device()
	if s.Kind == Link {
		return linkValue(nic, name)
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return "", err
	}
	defer e.Close()
	v, err := openNIC(e, nic).get(name)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return "", fmt.Errorf("%s: %w (%w)", s, fs.ErrNotExist, err)
	}
	return v, err
}

// Set implements Device.
func (Devices) Set(s Setting, value string) error {
	nic, name := s.device()
	if s.Kind == Link {
		return setLink(nic, name, value)
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return openNIC(e, nic).set(name, value)
}

// Check implements Device.
func (Devices) Check(s Setting, current string) error {
	nic, name := s.device()
	if s.Kind == Link {
		// A qdisc that somebody has set has parameters and classes, which replacing it would lose; these have none.
		if name == "qdisc" && !strings.HasSuffix(current, ownChoice) && current != "pfifo_fast" && current != "mq" && current != "noqueue" {
			return fmt.Errorf("the qdisc %s was set by hand, and could not be set again with its parameters: remove it first", current)
		}
		return nil
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return openNIC(e, nic).check(name, s.Value)
}

// nic is one device by ethtool's ioctl.
type nic struct {
	*ethtool.Ethtool
	name string
}

func openNIC(e *ethtool.Ethtool, name string) nic { return nic{e, name} }

// number finds a numeric setting in what the driver tells, and the largest value; 0 if the driver knows none.
func number(name string, r *ethtool.Ring, ch *ethtool.Channels, co *ethtool.Coalesce) (at *uint32, most uint32) {
	switch name {
	case "rx-ring":
		return &r.RxPending, r.RxMaxPending
	case "tx-ring":
		return &r.TxPending, r.TxMaxPending
	case "combined":
		return &ch.CombinedCount, ch.MaxCombined
	case "rx-queues":
		return &ch.RxCount, ch.MaxRx
	case "tx-queues":
		return &ch.TxCount, ch.MaxTx
	case "rx-usecs":
		return &co.RxCoalesceUsecs, 0
	case "tx-usecs":
		return &co.TxCoalesceUsecs, 0
	case "rx-frames":
		return &co.RxMaxCoalescedFrames, 0
	case "tx-frames":
		return &co.TxMaxCoalescedFrames, 0
	case "adaptive-rx":
		return &co.UseAdaptiveRxCoalesce, 1
	case "adaptive-tx":
		return &co.UseAdaptiveTxCoalesce, 1
	}
	return nil, 0
}

// group reads what name belongs to, and returns how to write it back.
func (n nic) group(name string) (at *uint32, most uint32, write func() error, err error) {
	var r ethtool.Ring
	var ch ethtool.Channels
	var co ethtool.Coalesce
	switch name {
	case "rx-ring", "tx-ring":
		r, err = n.GetRing(n.name)
		write = func() error { _, err := n.SetRing(n.name, r); return err }
	case "combined", "rx-queues", "tx-queues":
		ch, err = n.GetChannels(n.name)
		write = func() error { _, err := n.SetChannels(n.name, ch); return err }
	default:
		co, err = n.GetCoalesce(n.name)
		write = func() error { _, err := n.SetCoalesce(n.name, co); return err }
	}
	at, most = number(name, &r, &ch, &co)
	return at, most, write, err
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (n nic) get(name string) (string, error) {
	if f, ok := strings.CutPrefix(name, "feature/"); ok {
		all, err := n.FeaturesWithState(n.name)
		if err != nil {
			return "", err
		}
		state, has := all[feature(f)]
		if !has {
			return "", fmt.Errorf("%s has no feature %s: %w", n.name, f, fs.ErrNotExist)
		}
		return onOff(state.Active), nil
	}
	if f, ok := strings.CutPrefix(name, "flag/"); ok {
		all, err := n.PrivFlags(n.name)
		if err != nil {
			return "", err
		}
		on, has := all[f]
		if !has {
			return "", fmt.Errorf("%s has no private flag %s: %w", n.name, f, fs.ErrNotExist)
		}
		return onOff(on), nil
	}
	at, _, _, err := n.group(name)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(name, "adaptive-") {
		return onOff(*at != 0), nil
	}
	return strconv.FormatUint(uint64(*at), 10), nil
}

func (n nic) set(name, value string) error {
	if f, ok := strings.CutPrefix(name, "feature/"); ok {
		return named("set feature", n.Change(n.name, map[string]bool{feature(f): value == "on"}))
	}
	if f, ok := strings.CutPrefix(name, "flag/"); ok {
		return named("set private flag", n.UpdatePrivFlags(n.name, map[string]bool{f: value == "on"}))
	}
	at, _, write, err := n.group(name)
	if err != nil {
		return err
	}
	if *at, err = parseNumber(value); err != nil {
		return err
	}
	return named("set "+name, write())
}

func parseNumber(value string) (uint32, error) {
	switch value {
	case "on":
		return 1, nil
	case "off":
		return 0, nil
	}
	v, err := strconv.ParseUint(value, 10, 32)
	return uint32(v), err
}

func (n nic) check(name, value string) error {
	if f, ok := strings.CutPrefix(name, "feature/"); ok {
		all, err := n.FeaturesWithState(n.name)
		if state := all[feature(f)]; err == nil && onOff(state.Active) != value && (!state.Available || state.NeverChanged) {
			return fmt.Errorf("%s: the driver does not let the feature be changed", n.name)
		}
		return err
	}
	if strings.HasPrefix(name, "flag/") {
		return nil
	}
	_, most, _, err := n.group(name)
	if err != nil {
		return err
	}
	v, err := parseNumber(value)
	if err != nil {
		return err
	}
	if most > 0 && v > most {
		return fmt.Errorf("%d is above %d, the driver's most", v, most)
	}
	if v == 0 && (name == "combined" || strings.HasSuffix(name, "-ring")) {
		return errors.New("0 leaves the device nothing to work with")
	}
	return nil
}

func linkNamed(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("no device %s: %w", name, fs.ErrNotExist)
	}
	return l, err
}

func linkValue(nic, name string) (string, error) {
	l, err := linkNamed(nic)
	if err != nil {
		return "", err
	}
	switch name {
	case "mtu":
		return strconv.Itoa(l.Attrs().MTU), nil
	case "txqlen":
		return strconv.Itoa(l.Attrs().TxQLen), nil
	}
	list, err := netlink.QdiscList(l)
	if err != nil {
		return "", err
	}
	for _, q := range list {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			// The kernel's own have no handle.
			if q.Attrs().Handle == 0 {
				return q.Type() + ownChoice, nil
			}
			return q.Type(), nil
		}
	}
	return "noqueue" + ownChoice, nil
}

func setLink(nic, name, value string) error {
	l, err := linkNamed(nic)
	if err != nil {
		return err
	}
	if name == "qdisc" {
		root := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT}
		if strings.HasSuffix(value, ownChoice) {
			// ENOENT, or EINVAL of older kernels: it is the kernel's own already.
			err := netlink.QdiscDel(&netlink.GenericQdisc{QdiscAttrs: root})
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
				return nil
			}
			return named("delete the qdisc", err)
		}
		// The handle tells it from the kernel's own.
		root.Handle = netlink.MakeHandle(0x51, 0)
		return named("set the qdisc", netlink.QdiscReplace(&netlink.GenericQdisc{QdiscAttrs: root, QdiscType: value}))
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	if name == "mtu" {
		return named("set the mtu", netlink.LinkSetMTU(l, n))
	}
	return named("set txqlen", netlink.LinkSetTxQLen(l, n))
}

// named names the operation of an error.
func named(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
