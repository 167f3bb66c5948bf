package host

import (
	"errors"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// NIC is a network interface that packets of other machines come through.
type NIC struct {
	Name   string
	Device bool // it has a device; a container's veth has none
	Up     bool
	Node   int // NUMA node; -1: none, or unknown
	MTU    int
	Speed  int    // Mbit/s; 0: unknown
	Duplex string // full, half; empty: unknown
	TxLen  int    // tx_queue_len

	PCIe  PCIe
	Link  *Link
	Why   string // why Link is nil
	RxQ   []RxQueue
	TxQ   []TxQueue
	IRQs  []IRQ             // of its receive queues, in their order
	Count map[string]uint64 // /sys/class/net/NAME/statistics
}

// PCIe is how the interface hangs on the bus; widths are 0 if they are unknown.
type PCIe struct {
	Width, MaxWidth int
	Speed, MaxSpeed string // 8.0 GT/s PCIe
}

// RxQueue is a receive queue's steering in software.
type RxQueue struct {
	RPS  []int // processors that packets are handed to; none: RPS is off
	Flow int   // entries of the flow table (RFS)
}

// TxQueue is a transmit queue's steering.
type TxQueue struct {
	XPS   []int // processors that send through it
	Known bool  // false: one queue only, or no XPS in the kernel
}

// IRQ is the interrupt of a queue.
type IRQ struct {
	Number   int
	Name     string
	Affinity []int // where it may be delivered
	On       []int // where it is delivered; empty: unknown
}

// softwareOnly are interfaces that stand for no way out of the machine, by the begin of their names.
var softwareOnly = []string{"lo", "ifb", "dummy", "sit", "ip6tnl", "tunl", "gre", "erspan", "docker", "br-", "virbr", "veth", "cali", "cilium", "cni", "flannel", "tap", "tun"}

func (f *Facts) readNICs() {
	interrupts := f.readInterrupts()
	for _, name := range f.Names("sys/class/net") {
		dir := "sys/class/net/" + name + "/"
		n := NIC{Name: name, Device: f.Has(dir + "device"), Node: -1}
		isSoftware := slices.ContainsFunc(softwareOnly, func(begin string) bool { return strings.HasPrefix(name, begin) })
		if state := f.Text(dir + "operstate"); !state.Known() || !n.Device && isSoftware {
			continue // no interface (bonding_masters), or none that matters
		} else if n.Up = state.Text == "up" || state.Text == "unknown"; !n.Up && !n.Device {
			continue
		}
		number := func(path string, otherwise int) int {
			if v, ok := f.Int(dir + path); ok {
				return int(v)
			}
			return otherwise
		}
		n.MTU, n.TxLen = number("mtu", 0), number("tx_queue_len", 0)
		n.Speed = max(0, number("speed", 0))
		n.Duplex = f.Text(dir + "duplex").Text
		n.Node = number("device/numa_node", -1)
		n.PCIe = PCIe{Width: number("device/current_link_width", 0), MaxWidth: number("device/max_link_width", 0),
			Speed: f.Text(dir + "device/current_link_speed").Text, MaxSpeed: f.Text(dir + "device/max_link_speed").Text}
		n.Count = map[string]uint64{}
		for _, counter := range f.Names(dir + "statistics") {
			if v, ok := f.Int(dir + "statistics/" + counter); ok {
				n.Count[counter] = uint64(v)
			}
		}
		var err error
		if n.Link, err = f.links.link(name); err != nil {
			n.Why = name + ": " + err.Error()
			if errors.Is(err, fs.ErrNotExist) {
				n.Why = "the recording has no " + linkFile(name)
			}
		}
		f.readQueues(&n, dir)
		f.findInterrupts(&n, dir, interrupts)
		f.NICs = append(f.NICs, n)
	}
}

func (f *Facts) readQueues(n *NIC, dir string) {
	for _, queue := range f.queueNames(dir, "rx-") {
		at := dir + "queues/" + queue + "/"
		var q RxQueue
		q.RPS, _ = ParseMask(f.Text(at + "rps_cpus").Text)
		if flow, ok := f.Int(at + "rps_flow_cnt"); ok {
			q.Flow = int(flow)
		}
		n.RxQ = append(n.RxQ, q)
	}
	for _, queue := range f.queueNames(dir, "tx-") {
		var q TxQueue
		text := f.Text(dir + "queues/" + queue + "/xps_cpus") // of a single queue it cannot be read
		q.XPS, q.Known = ParseMask(text.Text)
		q.Known = q.Known && text.Known()
		n.TxQ = append(n.TxQ, q)
	}
}

// queueNames are rx-0, rx-1, …, by their numbers.
func (f *Facts) queueNames(dir, prefix string) []string {
	names := slices.DeleteFunc(f.Names(dir+"queues"), func(name string) bool { return !strings.HasPrefix(name, prefix) })
	slices.SortFunc(names, func(a, b string) int {
		x, _ := strconv.Atoi(a[len(prefix):])
		y, _ := strconv.Atoi(b[len(prefix):])
		return x - y
	})
	return names
}

// interrupt is a line of /proc/interrupts: its number, and what follows the counts.
type interrupt struct {
	number int
	about  string // "PCI-MSIX-0000:3b:00.0 1-edge mlx5_comp0@pci:0000:3b:00.0"
}

func (f *Facts) readInterrupts() (all []interrupt) {
	for line := range strings.Lines(f.Text("proc/interrupts").Text) {
		number, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.Atoi(number)
		if !ok || err != nil {
			continue // the heading, and the processors' own
		}
		fields := strings.Fields(rest)
		for len(fields) > 0 && strings.Trim(fields[0], "0123456789") == "" {
			fields = fields[1:] // counts
		}
		all = append(all, interrupt{n, strings.Join(fields, " ")})
	}
	return all
}

// A queue's interrupt has the queue's number in its name, which each driver words in its own way: mlx5_comp3@pci:…,
// ens5-Tx-Rx-3, eth0-TxRx-3, i40e-eth0-TxRx-3, virtio4-input.3, eth0-rx-3, bnxt: eth0-3.
var queueInterrupt = regexp.MustCompile(`(?i)(?:comp|tx-?rx-|input[.-]|rx-?|-)(\d+)(?:@\S+)?$`)

// Interrupts of an interface that are no receive queue's.
var otherInterrupt = regexp.MustCompile(`(?i)async|config|mgmnt|mgmt|admin|control|event|fdir|misc|output|[-.]tx-\d+$`)

// findInterrupts finds the interrupts of n's receive queues: by its device's list, by the name of the device on the bus,
// or by the interface's own name.
func (f *Facts) findInterrupts(n *NIC, dir string, interrupts []interrupt) {
	listed := f.Names(dir + "device/msi_irqs")
	bus := ""
	if n.Link != nil {
		bus = n.Link.Bus
	}
	if len(listed) == 0 && bus != "" {
		listed = f.Names("sys/bus/pci/devices/" + bus + "/msi_irqs")
	}
	byQueue := map[int]IRQ{}
	for _, i := range interrupts {
		words := strings.Fields(i.about)
		if len(words) == 0 {
			continue
		}
		name := words[len(words)-1]
		ours := slices.Contains(listed, strconv.Itoa(i.number)) || bus != "" && strings.Contains(i.about, bus) ||
			slices.ContainsFunc(strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '@' || r == ':' }), func(part string) bool { return part == n.Name })
		if !ours || otherInterrupt.MatchString(name) {
			continue
		}
		queue := 0 // the only one, if the interrupt has the interface's own name
		if name != n.Name {
			m := queueInterrupt.FindStringSubmatch(name)
			if m == nil {
				continue
			}
			queue, _ = strconv.Atoi(m[1])
		}
		if _, twice := byQueue[queue]; twice {
			continue
		}
		irq := IRQ{Number: i.number, Name: name}
		at := "proc/irq/" + strconv.Itoa(i.number) + "/"
		irq.Affinity, _ = ParseList(f.Text(at + "smp_affinity_list").Text)
		irq.On, _ = ParseList(f.Text(at + "effective_affinity_list").Text)
		byQueue[queue] = irq
	}
	for _, queue := range slices.Sorted(maps.Keys(byQueue)) {
		n.IRQs = append(n.IRQs, byQueue[queue])
	}
}
