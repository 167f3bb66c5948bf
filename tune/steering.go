package tune

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/tune/change"
	"sluice/tune/host"
)

// steeringKnobs are about which processor a packet comes to.
var steeringKnobs = []Knob{
	{
		Name: "nic.rss_indirection", Sets: "the table by which flows are spread over the receive queues",
		Advice: "each queue in it, none with twice another's share", Why: "a queue that is not in the table gets nothing, and the others its share", Source: []string{kernelScaling, ethtool8}, Cost: "none", Sure: Certain, Weight: 6,
		check: links(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			c, rss := n.Link.Channels, n.Link.RSS
			if c == nil || c.Receive() < 2 {
				return moot("one queue")
			}
			if rss == nil || len(rss.Indirection) == 0 {
				return untold(n, "rss")
			}
			slots := map[int]int{}
			for _, queue := range rss.Indirection {
				slots[queue]++
			}
			least, most := len(rss.Indirection), 0
			for queue := range min(c.Receive(), len(rss.Indirection)) {
				least, most = min(least, slots[queue]), max(most, slots[queue])
			}
			set := fmt.Sprintf("%d of %d queues, %d to %d slots each", len(slots), c.Receive(), least, most)
			if least > 0 && most <= 2*least {
				return good(set)
			}
			s := amiss(set, "all queues, evenly", nil)
			s[0].Do = fmt.Sprintf("ethtool -X %s equal %d", n.Name, c.Receive())
			return s
		}),
	},
	{
		Name: "nic.rss_key", Sets: "the key of the hash that flows are spread by",
		Advice: "random", Why: "with a key that is known or repeats, who chooses his ports chooses the queue, and can fill one", Source: []string{kernelScaling, "Woo and Park, Scalable TCP Session Monitoring with Symmetric Receive-side Scaling, 2012"}, Cost: "both directions of a flow come in different queues", Sure: Likely, Weight: 3,
		check: links(func(n *host.NIC, _ *host.Facts, _ Edge) []State {
			rss := n.Link.RSS
			switch {
			case rss == nil || rss.Key == "":
				return untold(n, "rss")
			case rss.Key == "random":
				return good("random")
			}
			s := amiss(rss.Key, "random", nil)
			s[0].Do = "ethtool -X " + n.Name + " hkey $(head -c 40 /dev/urandom | od -An -v -tx1 | tr -d '\\n' | sed 's/^ //; s/ /:/g'); the length that the driver wants is shown by ethtool -x"
			return s
		}),
	},
	{
		Name: "nic.rss_hash", Sets: "whether the interface passes its hash on with the packet",
		Advice: "on", Why: "RPS, RFS and the choice of a socket need the hash, and would compute it again", Source: []string{kernelScaling}, Cost: "none", Sure: Likely, Weight: 2,
		check: feature("rx-hashing", true),
	},
	{
		Name: "nic.rps", Sets: "whether packets are handed to other processors in software",
		Advice: "off where there is a queue for each loop; on, to all processors of the node, where there is but one queue, or four loops and more to each; else as you like", Why: "the handing over costs an interrupt between processors; without enough queues it is what spreads the work", Source: []string{kernelScaling}, Cost: "an interrupt between processors for a batch of packets", Sure: Likely, Weight: 5,
		check: nics(func(n *host.NIC, f *host.Facts, e Edge) []State {
			if len(n.RxQ) == 0 {
				return unseen("its queues are not shown in /sys")
			}
			near, on := local(f, n), handsOver(n)
			if len(near) < 2 || e.Loops < 2 {
				return moot("one loop or processor")
			}
			set := fmt.Sprintf("on in %d of %d queues", on, len(n.RxQ))
			mask, wanted := "0", "off: there are enough queues"
			switch {
			case len(n.RxQ) >= min(e.Loops, len(near)) && on > 0:
			case wantsRPS(n, f, e) && on < len(n.RxQ):
				mask, wanted = host.FormatMask(near), fmt.Sprintf("on, to processors %s: %s for %d loops", host.FormatList(near), count(len(n.RxQ), "queue"), e.Loops)
			default:
				return good(set)
			}
			var fix []Setting
			for i := range n.RxQ {
				fix = append(fix, setting(change.File, rxQueueFile(n, i, "rps_cpus"), mask))
			}
			return amiss(set, wanted, fix)
		}),
	},
	{
		Name: "nic.rfs", Sets: "the flows of which each queue remembers where they are read", Unit: "flows",
		Advice: "with RPS: the table's size divided by the queues; without: 0", Why: "RPS alone hands a packet to any processor; RFS to that on which the connection's loop is", Source: []string{kernelScaling}, Cost: "16 bytes each", Sure: Likely, Weight: 3,
		check: when(noRPS, nics(func(n *host.NIC, f *host.Facts, e Edge) []State {
			if !usesRFS(n, f, e) {
				return moot("RPS is off")
			}
			var fix []Setting
			least := -1
			for i, q := range n.RxQ {
				if least < 0 || q.Flow < least {
					least = q.Flow
				}
				fix = append(fix, setting(change.File, rxQueueFile(n, i, "rps_flow_cnt"), strconv.Itoa(rfsFlows/max(1, len(n.RxQ)))))
			}
			if least < 0 {
				return unseen("its queues are not shown in /sys")
			}
			if want := rfsFlows / len(n.RxQ); least < want {
				return amiss(strconv.Itoa(least), fmt.Sprintf("≥ %d", want), fix)
			}
			return good(strconv.Itoa(least))
		})),
	},
	{
		Name: "net.core.rps_sock_flow_entries", Sets: "the flows of which it is remembered where they are read", Unit: "flows",
		Advice: "≥ 32768 with RPS", Why: "it is the other half of nic.rfs", Source: []string{kernelScaling}, Cost: "4 bytes each", Sure: Likely, Weight: 3,
		check: when(noRPS, atLeast(constant(rfsFlows))),
	},
	{
		Name: "nic.xps", Sets: "which processors send through which queue",
		Advice: "each queue has processors, where there are several queues", Why: "without it the queue is chosen by a hash, processors share its lock, and what was sent is freed on another one", Source: []string{kernelScaling}, Cost: "none", Sure: Likely, Weight: 4,
		check: nics(func(n *host.NIC, f *host.Facts, e Edge) []State {
			if len(n.TxQ) < 2 || len(f.Allowed) < 2 {
				return moot("one queue or processor")
			}
			var empty []int
			for i, q := range n.TxQ {
				switch {
				case !q.Known:
					return unseen("xps_cpus of its queues cannot be read")
				case len(q.XPS) == 0:
					empty = append(empty, i)
				}
			}
			// Queues beyond the processors have nobody to serve.
			if len(n.TxQ)-len(empty) >= min(len(n.TxQ), len(f.CPUs)) {
				return good(fmt.Sprintf("%d queues have processors", len(n.TxQ)-len(empty)))
			}
			if queuesChange(n, e) {
				s := amiss("no processors for queues "+host.FormatList(empty), "processors for each queue", nil)
				s[0].Do = "first nic.queues, which makes other queues; then audit again"
				return s
			}
			by := make([][]int, len(n.TxQ))
			for i, cpu := range Placement(f, len(f.Allowed)) {
				by[i%len(by)] = append(by[i%len(by)], cpu)
			}
			var fix []Setting
			for i, cpus := range by {
				if len(cpus) > 0 {
					fix = append(fix, setting(change.File, fmt.Sprintf("/sys/class/net/%s/queues/tx-%d/xps_cpus", n.Name, i), host.FormatMask(cpus)))
				}
			}
			return amiss("no processors for queues "+host.FormatList(empty), "processors for each queue", fix)
		}),
	},
	{
		Name: "nic.irq_affinity", Sets: "the processors that the queues' interrupts come to",
		Advice: "on the interface's node, one processor for each queue, as evenly as they go", Why: "interrupts of several queues on one processor are handled one after the other, and memory of another node costs each packet some hundred ns", Source: []string{kernelScaling, mlxGuide, amdGuide, intelNIC}, Cost: "irqbalance must leave them alone", Sure: Certain, Weight: 7,
		check: nics(irqAffinity),
	},
	{
		Name: "nic.irqbalance", Sets: "whether a daemon moves interrupts from processor to processor",
		Advice: "not running, where the queues' interrupts have places", Why: "it undoes the affinity every ten seconds", Source: []string{"irqbalance(1)", mlxGuide}, Cost: "interrupts of other devices stay where they are", Sure: Likely, Weight: 5,
		check: when(func(f *host.Facts, _ Edge) string {
			if len(f.Allowed) < 2 {
				return "one processor"
			}
			return ""
		}, irqbalance),
	},
	{
		Name: "nic.flow_steering", Sets: "whether the interface can be told which flow goes to which queue (ntuple; aRFS uses it)",
		Advice: "on where RFS is on", Why: "with it the interface itself delivers to the loop's processor", Source: []string{kernelScaling, "Pesterev et al., Improving Network Connection Locality on Multicore Systems, EuroSys 2012"}, Cost: "filters are set as flows move", Sure: Depends, Weight: 2,
		check: links(func(n *host.NIC, f *host.Facts, e Edge) []State {
			if !usesRFS(n, f, e) {
				return moot("RFS is off")
			}
			return featureOf(n, "rx-ntuple-filter", true)
		}),
	},
}

// rfsFlows is the size of RFS's table that the kernel's document advises for a server of moderate load.
const rfsFlows = 32768

// handsOver is how many of an interface's queues RPS is on in.
func handsOver(n *host.NIC) (on int) {
	for _, q := range n.RxQ {
		if len(q.RPS) > 0 {
			on++
		}
	}
	return on
}

// wantsRPS says whether an interface has so few queues that one processor would have the packets of many loops.
func wantsRPS(n *host.NIC, f *host.Facts, e Edge) bool {
	loops := min(e.Loops, len(local(f, n)))
	queues := len(n.RxQ)
	if n.Link != nil && n.Link.Channels != nil {
		queues = max(queues, min(loops, n.Link.Channels.MaxReceive())) // it can have more: see nic.queues
	}
	return queues == 1 && loops > 1 || queues > 0 && queues*4 < loops
}

// usesRFS says whether it is of use to know where an interface's flows are read: its packets are handed over, or should
// be, or it delivers by that itself (aRFS).
func usesRFS(n *host.NIC, f *host.Facts, e Edge) bool {
	return handsOver(n) > 0 || wantsRPS(n, f, e) || slices.ContainsFunc(n.RxQ, func(q host.RxQueue) bool { return q.Flow > 0 })
}

// noRPS says why the table of RFS is moot: no interface uses it.
func noRPS(f *host.Facts, e Edge) string {
	for i := range f.NICs {
		if n := &f.NICs[i]; n.Up && n.Device && usesRFS(n, f, e) {
			return ""
		}
	}
	return "RPS is off"
}

// queuesChange says whether nic.queues has something to say, so that settings of single queues would not last.
func queuesChange(n *host.NIC, e Edge) bool {
	return n.Link != nil && n.Link.Channels != nil && n.Link.Channels.Receive() < min(e.Loops, n.Link.Channels.MaxReceive())
}

func rxQueueFile(n *host.NIC, queue int, file string) string {
	return fmt.Sprintf("/sys/class/net/%s/queues/rx-%d/%s", n.Name, queue, file)
}

// irqAffinity judges where an interface's interrupts are delivered: where the kernel says, or else where they may be.
func irqAffinity(n *host.NIC, f *host.Facts, e Edge) []State {
	near := local(f, n)
	switch {
	case len(n.IRQs) == 0:
		return unseen("none of /proc/interrupts is known to be of its queues")
	case len(near) < 2:
		return moot("one processor")
	}
	load := map[int]int{}
	var wide, far []int
	for _, irq := range n.IRQs {
		on := irq.On
		if len(on) == 0 {
			on = irq.Affinity
		}
		if len(on) != 1 {
			wide = append(wide, irq.Number)
			continue
		}
		load[on[0]]++
		if n.Node >= 0 && len(f.Nodes) > 1 && f.NodeOf(on[0]) != n.Node {
			far = append(far, irq.Number)
		}
	}
	each := (len(n.IRQs) + len(near) - 1) / len(near)
	busiest, most := -1, 0
	for cpu, count := range load {
		if count > most || count == most && cpu < busiest {
			busiest, most = cpu, count
		}
	}
	var wrong []string
	if most > each {
		wrong = append(wrong, fmt.Sprintf("%d of %d on processor %d", most, len(n.IRQs), busiest))
	}
	if len(far) > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %d on another node", len(far), len(n.IRQs)))
	}
	if len(wide) > 0 && len(wide) == len(n.IRQs) && len(n.IRQs) > 1 {
		wrong = append(wrong, "not bound to a processor")
	}
	if len(wrong) == 0 {
		return good(fmt.Sprintf("%d interrupts on %d processors", len(n.IRQs), max(1, len(load))))
	}
	if queuesChange(n, e) {
		s := amiss(strings.Join(wrong, ", "), "one for each processor", nil)
		s[0].Do = "first nic.queues, which makes other interrupts; then audit again"
		return s
	}
	var fix []Setting
	places := slices.DeleteFunc(Placement(f, len(f.Allowed)), func(cpu int) bool { return !slices.Contains(near, cpu) })
	for i, irq := range n.IRQs {
		fix = append(fix, setting(change.File, fmt.Sprintf("/proc/irq/%d/smp_affinity_list", irq.Number), strconv.Itoa(places[i%len(places)])))
	}
	wanted := "one for each processor"
	if each > 1 {
		wanted = fmt.Sprintf("≤ %d for each processor", each)
	}
	if n.Node >= 0 && len(f.Nodes) > 1 {
		wanted += fmt.Sprintf(" of node %d", n.Node)
	}
	return amiss(strings.Join(wrong, ", "), wanted, fix)
}

// irqbalance looks for the daemon among the processes.
func irqbalance(_ string, f *host.Facts, _ Edge) []State {
	seen := 0
	for _, name := range f.Names("proc") {
		if strings.Trim(name, "0123456789") != "" {
			continue
		}
		comm := f.Text("proc/" + name + "/comm")
		if comm.Known() {
			seen++
		}
		if comm.Text == "irqbalance" {
			s := amiss("running, process "+name, "not running, or told to leave these interrupts alone", nil)
			s[0].Do = "systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST in /etc/default/irqbalance"
			return s
		}
	}
	if seen == 0 || f.Container() {
		return unseen("the machine's processes are not seen from here")
	}
	return good("not running")
}
