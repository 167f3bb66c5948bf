package host

import "strings"

// Link is what the kernel says of an interface by ethtool's ioctls and by netlink. What the driver does not know is nil
// or empty, and named in Unknown. It holds no hardware address and no hash key.
type Link struct {
	Driver string `json:"driver,omitempty"`
	Bus    string `json:"bus,omitempty"` // the PCI address, if it is a PCI device

	Channels *Channels `json:"channels,omitempty"`
	Rings    *Rings    `json:"rings,omitempty"`
	Coalesce *Coalesce `json:"coalesce,omitempty"`
	RSS      *RSS      `json:"rss,omitempty"`
	// Features are on, off, "on [fixed]" or "off [fixed]", by ethtool's names for the kernel's bits: rx-gro, rx-lro,
	// tx-generic-segmentation.
	Features map[string]string `json:"features,omitempty"`

	Qdisc     string   `json:"qdisc,omitempty"`  // the root queueing discipline: mq, fq, fq_codel, noqueue
	Leaves    []string `json:"leaves,omitempty"` // the kinds below an mq
	XDP       string   `json:"xdp,omitempty"`    // native, generic, offload: the mode of an attached program
	Addresses []string `json:"addresses,omitempty"`

	// Unknown says what could not be asked, and why.
	Unknown []string `json:"unknown,omitempty"`
}

// Channels are an interface's queues as they are, and the most that there can be.
type Channels struct {
	Combined    int `json:"combined"`
	Rx          int `json:"rx"`
	Tx          int `json:"tx"`
	MaxCombined int `json:"max_combined"`
	MaxRx       int `json:"max_rx"`
	MaxTx       int `json:"max_tx"`
}

// Receive is how many queues packets can arrive in.
func (c *Channels) Receive() int { return c.Combined + c.Rx }

// MaxReceive is the most that Receive can be.
func (c *Channels) MaxReceive() int { return max(c.MaxCombined, c.MaxRx) }

// Rings are the descriptors of each queue.
type Rings struct {
	Rx    int `json:"rx"`
	Tx    int `json:"tx"`
	MaxRx int `json:"max_rx"`
	MaxTx int `json:"max_tx"`
}

// Coalesce is how long interrupts wait for more packets.
type Coalesce struct {
	AdaptiveRx bool `json:"adaptive_rx"`
	AdaptiveTx bool `json:"adaptive_tx"`
	RxUsecs    int  `json:"rx_usecs"`
	RxFrames   int  `json:"rx_frames"`
	TxUsecs    int  `json:"tx_usecs"`
	TxFrames   int  `json:"tx_frames"`
}

// RSS is how the interface spreads flows over queues.
type RSS struct {
	Indirection []int  `json:"indirection,omitempty"` // the queue of each slot
	Key         string `json:"key,omitempty"`         // random, repeating or zero: what it is like, not what it is
}

// Feature is whether a feature is on and whether it can be changed; known is false if the driver does not have it.
func (l *Link) Feature(name string) (on, fixed, known bool) {
	text, known := l.Features[name]
	state, rest, _ := strings.Cut(text, " ")
	return state == "on", rest != "", known
}
