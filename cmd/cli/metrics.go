package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"sluice/engine"
	"sluice/engine/tlslayer"
	"sluice/gw"
	"sluice/gw/filter"
	"sluice/lb"
)

// writeMetrics writes everything in the Prometheus text format.
func (s *server) writeMetrics(w io.Writer) {
	metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_build_info{version=%q}", versionLine()), 1)
	metrics.WriteGaugeUint64(w, "sluice_loops", uint64(len(s.engine.Loops())))
	metrics.WriteGaugeUint64(w, "sluice_maxconn", uint64(s.engine.MaxConn()))
	metrics.WriteGaugeUint64(w, "sluice_memory_held_bytes", uint64(max(s.engine.Held(), 0)))
	metrics.WriteGaugeUint64(w, "sluice_memory_limit_bytes", uint64(s.engine.Memory()))
	metrics.WriteGaugeUint64(w, "sluice_draining", number(s.draining.Load()))
	metrics.WriteCounterUint64(w, `sluice_reloads_total{result="ok"}`, s.reloads.ok.Load())
	metrics.WriteCounterUint64(w, `sluice_reloads_total{result="failed"}`, s.reloads.failed.Load())
	metrics.WriteGaugeUint64(w, "sluice_reload_successful", number(s.reloads.lastOK.Load() > 0))
	metrics.WriteGaugeUint64(w, "sluice_config_loaded_timestamp_seconds", uint64(s.loaded.Load()))
	s.writeEngine(w)
	s.writeHandshakes(w)
	if p := s.current.Load(); p != nil {
		for _, ln := range p.listeners {
			ln.write(w)
		}
		for _, c := range p.clusters {
			writeCluster(w, c)
		}
	}
	metrics.WriteProcessMetrics(w)
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (s *server) writeEngine(w io.Writer) {
	total := func(of func(*engine.Counters) *engine.Counter) (n uint64) {
		for _, l := range s.engine.Loops() {
			n += of(l.Counters()).Load()
		}
		return n
	}
	metrics.WriteGaugeUint64(w, "sluice_connections_open", uint64(max(s.engine.Open(), 0)))
	for _, m := range []struct {
		name string
		of   func(*engine.Counters) *engine.Counter
	}{
		{"sluice_connections_accepted_total", func(c *engine.Counters) *engine.Counter { return &c.Accepted }},
		{"sluice_accept_errors_total", func(c *engine.Counters) *engine.Counter { return &c.AcceptErrors }},
		{"sluice_accept_paused_total", func(c *engine.Counters) *engine.Counter { return &c.AcceptPaused }},
		{"sluice_connections_dialled_total", func(c *engine.Counters) *engine.Counter { return &c.Dialled }},
		{"sluice_dial_errors_total", func(c *engine.Counters) *engine.Counter { return &c.DialErrors }},
		{"sluice_spliced_bytes_total", func(c *engine.Counters) *engine.Counter { return &c.Spliced }},
	} {
		metrics.WriteCounterUint64(w, m.name, total(m.of))
	}
}

// writeHandshakes writes those of all listeners, the server's side, and of all clusters, the client's.
func (s *server) writeHandshakes(w io.Writer) {
	c := s.handshakes.Counters()
	for _, side := range []struct {
		name string
		of   *tlslayer.Totals
	}{{"server", &c.Server}, {"client", &c.Client}} {
		for version, n := range map[string]uint64{"1.2": side.of.TLS12.Load(), "1.3": side.of.TLS13.Load()} {
			metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_tls_handshakes_total{side=%q,version=%q}", side.name, version), n)
		}
		metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_tls_resumed_total{side=%q}", side.name), side.of.Resumed.Load())
		for _, k := range tlslayer.Kinds() {
			metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_tls_handshakes_failed_total{side=%q,reason=%q}", side.name, k), side.of.Failed(k))
		}
	}
	metrics.WriteGaugeUint64(w, "sluice_tls_handshakes_under_way", uint64(max(c.UnderWay.Load(), 0)))
	metrics.WriteGaugeUint64(w, "sluice_tls_handshakes_queued", uint64(max(c.Queued.Load(), 0)))
}

// writeCertificates writes how long the listener's certificates are good for: less than 0, for how long they have not been.
func (ln *listener) writeCertificates(w io.Writer) {
	if ln.tls == nil {
		return
	}
	for _, c := range ln.tls.store.Certificates() {
		name := ""
		if len(c.Names) > 0 {
			name = c.Names[0]
		}
		label := fmt.Sprintf("{listener=%q,certificate=%q,name=%q}", ln.cfg.Name, c.Source, name)
		metrics.WriteGaugeFloat64(w, "sluice_tls_certificate_days"+label, math.Round(time.Until(c.NotAfter).Hours()/24*100)/100)
		metrics.WriteGaugeUint64(w, "sluice_tls_certificate_expired"+label, number(c.Expired))
		metrics.WriteGaugeUint64(w, "sluice_tls_certificate_stapled"+label, number(time.Now().Before(c.Stapled)))
	}
}

func (ln *listener) write(w io.Writer) {
	ln.writeCertificates(w)
	label := fmt.Sprintf("{listener=%q}", ln.cfg.Name)
	if ln.cfg.Protocol == UDP {
		ln.writeUDP(w, label)
		return
	}
	metrics.WriteGaugeUint64(w, "sluice_listener_connections_open"+label, uint64(max(ln.socket.Open(), 0)))
	for _, m := range []struct {
		name string
		of   func(*engine.ListenerCounters) *engine.Counter
	}{
		{"sluice_listener_denied_total", func(c *engine.ListenerCounters) *engine.Counter { return &c.Denied }},
		{"sluice_listener_refused_total", func(c *engine.ListenerCounters) *engine.Counter { return &c.Refused }},
		{"sluice_listener_untracked_total", func(c *engine.ListenerCounters) *engine.Counter { return &c.Untracked }},
		{"sluice_listener_paused_total", func(c *engine.ListenerCounters) *engine.Counter { return &c.Paused }},
	} {
		metrics.WriteCounterUint64(w, m.name+label, ln.socket.Total(m.of))
	}
	for _, m := range []struct {
		reason string
		of     func(*lb.PrefaceCounters) *engine.Counter
	}{
		{"malformed", func(c *lb.PrefaceCounters) *engine.Counter { return &c.Malformed }},
		{"untrusted", func(c *lb.PrefaceCounters) *engine.Counter { return &c.Untrusted }},
		{"timeout", func(c *lb.PrefaceCounters) *engine.Counter { return &c.Expired }},
	} {
		name := fmt.Sprintf("sluice_proxy_header_refused_total{listener=%q,reason=%q}", ln.cfg.Name, m.reason)
		metrics.WriteCounterUint64(w, name, sum(ln.preface.Loops, m.of))
	}
	if !ln.cfg.Protocol.http() {
		for _, m := range []struct {
			name string
			of   func(*lb.ProxyCounters) *engine.Counter
		}{
			{"sluice_sessions_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.Sessions }},
			{"sluice_sessions_no_endpoint_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.NoEndpoint }},
			{"sluice_session_retries_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.Retries }},
			{"sluice_sessions_failed_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.Failed }},
			{"sluice_sessions_idle_closed_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.IdleClosed }},
			{"sluice_sessions_queued_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.Queued }},
			{"sluice_sessions_queue_full_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.QueueFull }},
			{"sluice_sessions_queue_timeout_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.QueueTimeout }},
			{"sluice_sessions_bad_hello_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.BadHello }},
			{"sluice_sessions_no_name_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.NoName }},
			{"sluice_session_received_bytes_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.FromClients }},
			{"sluice_session_sent_bytes_total", func(c *lb.ProxyCounters) *engine.Counter { return &c.ToClients }},
		} {
			metrics.WriteCounterUint64(w, m.name+label, sum(ln.tcp.Loops, m.of))
		}
		return
	}
	for class := 2; class <= 5; class++ {
		name := fmt.Sprintf("sluice_http_responses_total{listener=%q,class=\"%dxx\"}", ln.cfg.Name, class)
		metrics.WriteCounterUint64(w, name, sum(ln.http.Loops, func(c *gw.Counters) *engine.Counter { return &c.Responses[class] }))
	}
	for _, m := range []struct {
		name string
		of   func(*gw.Counters) *engine.Counter
	}{
		{"sluice_http_refused_total", func(c *gw.Counters) *engine.Counter { return &c.Refused }},
		{"sluice_http_aborted_total", func(c *gw.Counters) *engine.Counter { return &c.Aborted }},
		{"sluice_http_retries_total", func(c *gw.Counters) *engine.Counter { return &c.Retries }},
		{"sluice_http_timeouts_total", func(c *gw.Counters) *engine.Counter { return &c.Timeouts }},
		{"sluice_http_shed_total", func(c *gw.Counters) *engine.Counter { return &c.Shed }},
		{"sluice_http_hedges_total", func(c *gw.Counters) *engine.Counter { return &c.Hedges }},
		{"sluice_http_mirrored_total", func(c *gw.Counters) *engine.Counter { return &c.Mirrored }},
		{"sluice_http_mirror_failed_total", func(c *gw.Counters) *engine.Counter { return &c.MirrorFailed }},
		{"sluice_http_tunnels_total", func(c *gw.Counters) *engine.Counter { return &c.Tunnels }},
	} {
		metrics.WriteCounterUint64(w, m.name+label, sum(ln.http.Loops, m.of))
	}
	open := sum(ln.http.Loops, func(c *gw.Counters) *engine.Counter { return &c.Tunnels })
	open -= min(open, sum(ln.http.Loops, func(c *gw.Counters) *engine.Counter { return &c.TunnelsEnded }))
	metrics.WriteGaugeUint64(w, "sluice_http_tunnels_open"+label, open)
	ln.writeRefusals(w, "sluice_filter_refused_total", ln.http.Refusals())
	ln.writeRefusals(w, "sluice_filter_shadowed_total", ln.http.Shadowed())
	ln.writeGauges(w)
	ln.writeRoutes(w)
}

func (ln *listener) writeRefusals(w io.Writer, name string, all map[filter.Refusal]uint64) {
	for _, r := range slices.SortedFunc(maps.Keys(all), func(a, b filter.Refusal) int {
		return cmp.Or(strings.Compare(a.Filter, b.Filter), strings.Compare(a.Reason, b.Reason))
	}) {
		metrics.WriteCounterUint64(w, fmt.Sprintf("%s{listener=%q,filter=%q,reason=%q}", name, ln.cfg.Name, r.Filter, r.Reason), all[r])
	}
}

// writeGauges writes what filters show of their state. Those with a name count together, whatever listeners and routes they are on:
// they are written by all of these, and the same.
func (ln *listener) writeGauges(w io.Writer) {
	g := ln.serves()
	if g == nil {
		return
	}
	seen := map[string]bool{}
	g.Gauges(func(name string, value float64, route string, place int, labels []string) {
		text := fmt.Sprintf("sluice_%s{listener=%q", name, ln.cfg.Name)
		named := false
		for i := 0; i+1 < len(labels); i += 2 {
			text += fmt.Sprintf(",%s=%q", labels[i], labels[i+1])
			named = named || labels[i] == "name"
		}
		if !named {
			text += fmt.Sprintf(",route=%q,place=\"%d\"", route, place)
		}
		if text += "}"; !seen[text] {
			seen[text] = true
			metrics.WriteGaugeFloat64(w, text, value)
		}
	})
}

// writeRoutes writes what the routes that have had requests did, and how long their exchanges took.
func (ln *listener) writeRoutes(w io.Writer) {
	totals := ln.http.Routes()
	for _, name := range slices.Sorted(maps.Keys(totals)) {
		t := totals[name]
		label := fmt.Sprintf("listener=%q,route=%q", ln.cfg.Name, name)
		for class := 1; class <= 5; class++ {
			if n := t.Responses[class]; n > 0 {
				metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_route_responses_total{%s,class=\"%dxx\"}", label, class), n)
			}
		}
		n := uint64(0)
		for i, bound := range gw.Buckets {
			n += t.Took[i]
			metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_route_duration_seconds_bucket{%s,le=\"%v\"}", label, bound.Seconds()), n)
		}
		n += t.Took[len(gw.Buckets)]
		metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_route_duration_seconds_bucket{%s,le=\"+Inf\"}", label), n)
		metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_route_duration_seconds_count{%s}", label), n)
		metrics.WriteCounterFloat64(w, fmt.Sprintf("sluice_route_duration_seconds_sum{%s}", label), float64(t.Nanoseconds)/1e9)
	}
}

func (ln *listener) writeUDP(w io.Writer, label string) {
	var open uint64
	for _, m := range []struct {
		name string
		of   func(*lb.UDPCounters) *engine.Counter
	}{
		{"sluice_udp_flows_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Flows }},
		{"sluice_udp_flows_ended_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Ended }},
		{"sluice_udp_flows_expired_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Expired }},
		{"sluice_udp_flows_evicted_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Evicted }},
		{"sluice_udp_flows_answered_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Answered }},
		{"sluice_udp_received_datagrams_total", func(c *lb.UDPCounters) *engine.Counter { return &c.FromClients }},
		{"sluice_udp_sent_datagrams_total", func(c *lb.UDPCounters) *engine.Counter { return &c.ToClients }},
		{"sluice_udp_received_bytes_total", func(c *lb.UDPCounters) *engine.Counter { return &c.BytesFromClients }},
		{"sluice_udp_sent_bytes_total", func(c *lb.UDPCounters) *engine.Counter { return &c.BytesToClients }},
		{"sluice_udp_no_endpoint_total", func(c *lb.UDPCounters) *engine.Counter { return &c.NoEndpoint }},
		{"sluice_udp_unreachable_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Refused }},
		{"sluice_udp_retries_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Retries }},
		{"sluice_udp_dropped_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Dropped }},
		{"sluice_udp_denied_total", func(c *lb.UDPCounters) *engine.Counter { return &c.Denied }},
	} {
		n := sum(ln.udp.Loops, m.of)
		switch m.name {
		case "sluice_udp_flows_total":
			open += n
		case "sluice_udp_flows_ended_total":
			open -= min(n, open)
		}
		metrics.WriteCounterUint64(w, m.name+label, n)
	}
	metrics.WriteGaugeUint64(w, "sluice_udp_flows_open"+label, open)
}

// sum adds up a counter over the loops.
func sum[T any](loops []T, of func(*T) *engine.Counter) (n uint64) {
	for i := range loops {
		n += of(&loops[i]).Load()
	}
	return n
}

func writeCluster(w io.Writer, c *lb.Cluster) {
	label := fmt.Sprintf("{cluster=%q}", c.Name())
	metrics.WriteGaugeUint64(w, "sluice_cluster_eligible_endpoints"+label, uint64(c.Eligible()))
	metrics.WriteGaugeUint64(w, "sluice_cluster_queued"+label, uint64(max(c.Queued(), 0)))
	if n := c.ConcurrencyLimit(); n > 0 {
		metrics.WriteGaugeUint64(w, "sluice_cluster_concurrency_limit"+label, uint64(n))
	}
	metrics.WriteCounterUint64(w, "sluice_cluster_rebuilds_total"+label, c.Rebuilt())
	for _, ep := range c.Endpoints() {
		label := fmt.Sprintf("{cluster=%q,endpoint=%q}", c.Name(), ep.String())
		metrics.WriteGaugeUint64(w, "sluice_endpoint_healthy"+label, number(ep.Healthy()))
		metrics.WriteGaugeUint64(w, "sluice_endpoint_ejected"+label, number(ep.Ejected()))
		metrics.WriteGaugeUint64(w, "sluice_endpoint_leaving"+label, number(ep.Leaving()))
		metrics.WriteCounterUint64(w, "sluice_endpoint_up_total"+label, ep.Up.Load())
		metrics.WriteCounterUint64(w, "sluice_endpoint_down_total"+label, ep.Down.Load())
		metrics.WriteCounterUint64(w, "sluice_endpoint_ejections_total"+label, ep.Ejections.Load())
		metrics.WriteGaugeUint64(w, "sluice_endpoint_in_flight"+label, uint64(max(ep.InFlight(), 0)))
		metrics.WriteGaugeUint64(w, "sluice_endpoint_connections"+label, uint64(max(ep.Connections(), 0)))
		metrics.WriteGaugeUint64(w, "sluice_endpoint_pending"+label, uint64(max(ep.Pending(), 0)))
		for _, m := range []struct {
			limit string
			of    func(*lb.Local) *engine.Counter
		}{
			{"max_requests", func(l *lb.Local) *engine.Counter { return &l.Overflow.Requests }},
			{"max_connections", func(l *lb.Local) *engine.Counter { return &l.Overflow.Connections }},
			{"max_pending", func(l *lb.Local) *engine.Counter { return &l.Overflow.Pending }},
		} {
			name := fmt.Sprintf("sluice_endpoint_overflow_total{cluster=%q,endpoint=%q,limit=%q}", c.Name(), ep.String(), m.limit)
			metrics.WriteCounterUint64(w, name, ep.Total(m.of))
		}
		for _, m := range []struct {
			name string
			of   func(*lb.Local) *engine.Counter
		}{
			{"sluice_endpoint_requests_total", func(l *lb.Local) *engine.Counter { return &l.Requests }},
			{"sluice_endpoint_connect_errors_total", func(l *lb.Local) *engine.Counter { return &l.ConnectErrors }},
			{"sluice_endpoint_failures_total", func(l *lb.Local) *engine.Counter { return &l.Failures }},
			{"sluice_endpoint_sent_bytes_total", func(l *lb.Local) *engine.Counter { return &l.Sent }},
			{"sluice_endpoint_received_bytes_total", func(l *lb.Local) *engine.Counter { return &l.Received }},
		} {
			metrics.WriteCounterUint64(w, m.name+label, ep.Total(m.of))
		}
	}
}
