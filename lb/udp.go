package lb

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine"
)

// UDPConfig is the part of a udp listener's configuration that is its own.
type UDPConfig struct {
	// Responses is how many datagrams answer one of the client's. A flow ends when it has all its answers: 1 is for
	// DNS. 0 is for one-way protocols, such as syslog: nothing is waited for. Not given: flows end by their idle timeout.
	Responses *int `yaml:"responses"`
	// MaxFlows bounds the listener's flows, the loops having equal shares: the one that was idle for longest makes room
	// for a new one. 0: 65,536. Each has a socket of its own, whose port is one of net.ipv4.ip_local_port_range:
	// 28,232 by default.
	MaxFlows int `yaml:"max_flows"`
}

const (
	// defaultFlowTimeout is how long a flow may be idle: NATs on the way forget it after 30 s to 2 min as well (RFC
	// 4787, section 4.3).
	defaultFlowTimeout = 30 * time.Second
	defaultMaxFlows    = 65536
	// drainIdle is how long a flow may be idle while the listener drains.
	drainIdle = time.Second
)

// Validate reports what is wrong with c, by the path of the key.
func (c *UDPConfig) Validate(report func(path, message string)) {
	if c.Responses != nil && (*c.Responses < 0 || *c.Responses > 1<<16) {
		report("responses", fmt.Sprintf("%d answers for each datagram: 0 to %d", *c.Responses, 1<<16))
	}
	if c.MaxFlows < 0 || c.MaxFlows > 1<<24 {
		report("max_flows", fmt.Sprintf("%d flows: 1 to %d", c.MaxFlows, 1<<24))
	}
}

// UDPProxy is what a udp listener does with datagrams: each client has a flow to an endpoint, of which it gets the
// answers. Flows belong to the listener's sockets: another proxy that takes over a listener has those of the one before.
//
// With a picker that hashes, which endpoint a client has depends on its address and the endpoints that are up, not on
// the table of flows: whoever loses it, or is another node, places the client on the same one.
type UDPProxy struct {
	// Admit says whether an address may have a flow; nil lets all. It is called on all loops. To be set before the proxy
	// is used.
	Admit func(netip.Addr) bool

	cluster   *Cluster
	idle      time.Duration
	responses int // negative: any number
	maxFlows  int // of one loop
	stats     *UDPStats
	log       *slog.Logger
}

// UDPStats are a listener's totals by loop; they outlive a reload.
type UDPStats struct{ Loops []UDPCounters }

// UDPCounters is one loop's share, written by it alone.
type UDPCounters struct {
	_ [64]byte
	// Flows have begun, Ended of them are over: Expired because they were idle, Evicted to make room for others, Answered
	// because they had all their answers.
	Flows, Ended, Expired, Evicted, Answered engine.Counter
	// FromClients and ToClients count datagrams, BytesFromClients and BytesToClients what was in them.
	FromClients, ToClients, BytesFromClients, BytesToClients engine.Counter
	// NoEndpoint are datagrams that found none, or none that they could be sent to. Refused counts the ICMP errors that
	// came back from endpoints, Retries the flows that went on to another one for them.
	NoEndpoint, Refused, Retries engine.Counter
	// Dropped could not be sent: a buffer was full, or the network refused them. Denied are those of clients that may
	// have no flow, or none any more, since the listener drains.
	Dropped, Denied engine.Counter
	_               [64]byte
}

// NewUDPProxy serves a listener of a valid configuration with cluster. A flow ends when it was idle for the timeout, 0:
// 30 s.
func NewUDPProxy(cfg UDPConfig, cluster *Cluster, timeout time.Duration, stats *UDPStats, log *slog.Logger) *UDPProxy {
	p := &UDPProxy{cluster: cluster, idle: timeout, responses: -1, maxFlows: cfg.MaxFlows, stats: stats, log: log}
	if p.idle == 0 {
		p.idle = defaultFlowTimeout
	}
	if cfg.Responses != nil {
		p.responses = *cfg.Responses
	}
	if p.maxFlows == 0 {
		p.maxFlows = defaultMaxFlows
	}
	p.maxFlows = max(1, p.maxFlows/len(stats.Loops))
	return p
}

// flows is the table of a listener's socket. Owned by its loop.
type flows struct {
	proxy    *UDPProxy
	socket   *engine.PacketSocket
	loop     *engine.Loop
	count    *UDPCounters
	by       map[engine.Path]*flow
	list     flow // the head of a circular list: its next is the latest used, its prev was idle for longest
	free     *flow
	alarm    *engine.Alarm // for the flow that was idle for longest
	draining bool
}

// of is the socket's table, which p serves from now on.
func (p *UDPProxy) of(s *engine.PacketSocket) *flows {
	t, _ := s.State().(*flows)
	if t == nil {
		t = &flows{socket: s, loop: s.Loop(), by: map[engine.Path]*flow{}}
		t.list.next, t.list.prev = &t.list, &t.list
		t.alarm = t.loop.NewAlarm(t.expire)
		s.SetState(t)
	}
	if t.proxy != p {
		t.proxy, t.count = p, &p.stats.Loops[t.loop.ID()]
		t.wake()
	}
	return t
}

// Datagram implements engine.PacketHandler.
func (p *UDPProxy) Datagram(s *engine.PacketSocket, from *engine.Path, b []byte, segment int) {
	t := p.of(s)
	n := datagrams(len(b), segment)
	f := t.by[*from]
	switch {
	case f == nil:
		if f = t.begin(from, n); f == nil {
			return
		}
	case !f.ep.Healthy() || f.ep.Leaving():
		f.connect()
	}
	f.use()
	f.asked += n
	t.count.FromClients.Add(n)
	t.count.BytesFromClients.Add(uint64(len(b)))
	f.local.Sent.Add(uint64(len(b)))
	f.Queue(b, segment)
}

// datagrams is how many there are in what came as one.
func datagrams(bytes, segment int) uint64 {
	if segment == 0 || segment >= bytes {
		return 1
	}
	return uint64((bytes + segment - 1) / segment)
}

// Lost implements engine.PacketHandler.
func (p *UDPProxy) Lost(s *engine.PacketSocket, n int) { p.of(s).count.Dropped.Add(uint64(n)) }

// Draining implements engine.PacketHandler: clients that have a flow keep it until it was idle for a second; one-way
// flows end at once.
func (p *UDPProxy) Draining(s *engine.PacketSocket) {
	t := p.of(s)
	t.draining = true
	t.expire()
}

// timeout is how long a flow may be idle.
func (t *flows) timeout() time.Duration {
	switch {
	case !t.draining:
		return t.proxy.idle
	case t.proxy.responses == 0:
		return 0
	}
	return min(t.proxy.idle, drainIdle)
}

// expire ends the flows that were idle for too long, and waits for the next one.
func (t *flows) expire() {
	now := t.loop.Now()
	for f := t.list.prev; f != &t.list && f.used+t.timeout() <= now; f = t.list.prev {
		t.count.Expired.Inc()
		f.end()
	}
	t.wake()
}

// wake sets the alarm for the flow that was idle for longest. A socket that drains and has none is closed.
func (t *flows) wake() {
	switch f := t.list.prev; {
	case f != &t.list:
		t.alarm.Set(f.used + t.timeout() - t.loop.Now())
	case t.draining:
		t.alarm.Stop()
		t.socket.Close()
	default:
		t.alarm.Stop()
	}
}

// begin makes a client's flow; nil if it cannot have one: n datagrams are lost then.
func (t *flows) begin(from *engine.Path, n uint64) *flow {
	p := t.proxy
	if client := from.Client(); t.draining || p.Admit != nil && !p.Admit(client.Addr()) {
		t.count.Denied.Add(n)
		return nil
	}
	for len(t.by) >= p.maxFlows && t.evict(nil) {
	}
	f := t.free
	if f == nil {
		f = &flow{flows: t}
	} else {
		t.free = f.next
	}
	client := from.Client()
	f.path, f.hash = *from, p.cluster.Hash(client, client, nil)
	if !f.connect() {
		t.count.NoEndpoint.Add(n)
		f.release()
		return nil
	}
	if p.cluster.Timed() {
		f.began = t.loop.Clock()
	}
	t.count.Flows.Inc()
	t.by[f.path] = f
	f.used = t.loop.Now()
	f.link()
	if t.list.prev == f {
		t.wake()
	}
	return f
}

// evict ends the flow that was idle for longest, with what it has to send; false if there is none but the one that asks.
func (t *flows) evict(asks *flow) bool {
	f := t.list.prev
	if f == &t.list || f == asks {
		return false
	}
	t.count.Evicted.Inc()
	f.Flush()
	if f.ep != nil { // the flush may have been its end
		f.end()
	}
	return true
}

// scarce says that a connection could not be opened for want of what flows hold: descriptors, ports, memory.
func scarce(err error) bool {
	for _, e := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.EAGAIN, unix.EADDRNOTAVAIL, unix.ENOBUFS, unix.ENOMEM, unix.ENOSPC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
