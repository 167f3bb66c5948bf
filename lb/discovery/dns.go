package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"sluice/engine"
)

// DNS is a name that is asked for again as its records' time to live ends.
//
// The last good endpoints stay whenever there is no good answer: NXDOMAIN, an answer without records, SERVFAIL, REFUSED,
// silence and garbage are all what broken or half-configured servers say of names that are well. One answer alone is
// taken as "no endpoints": an SRV record whose target is "." (RFC 2782: the service is decidedly not available).
type DNS struct {
	// Name is taken as fully qualified, with or without the last dot: the search domains of resolv.conf are not applied.
	Name string     `yaml:"name,required"`
	Type RecordType `yaml:"type"`
	// Port is the endpoints', for A and AAAA; SRV records have their own.
	Port int `yaml:"port"`
	// Resolvers are asked in turn until one answers: IP addresses, with a port or without; none given: those of
	// /etc/resolv.conf, read anew each time.
	Resolvers []string `yaml:"resolvers"`
	// MinTTL and MaxTTL bound the time to live that is believed. 0: 1 s, so that records of no time to live do not
	// become a stream of questions; 0: 5 m, so that a change of a record given for a day is seen today.
	MinTTL time.Duration `yaml:"min_ttl"`
	MaxTTL time.Duration `yaml:"max_ttl"`
	// Timeout of one question to one resolver; 0: 2 s.
	Timeout time.Duration `yaml:"timeout"`
}

// RecordType names what to ask for; empty: A and AAAA.
type RecordType string

// The record types.
const (
	A    RecordType = "A"
	AAAA RecordType = "AAAA"
	SRV  RecordType = "SRV"
)

// Choices are the values that a file may have.
func (RecordType) Choices() []string { return []string{string(A), string(AAAA), string(SRV)} }

func (d *DNS) validate(report func(path, message string)) {
	bare := strings.TrimSuffix(d.Name, ".")
	_, notIP := netip.ParseAddr(bare)
	switch _, ok := dns.IsDomainName(d.Name); {
	case d.Name == "": // said already: it is required
	case notIP == nil:
		report("name", fmt.Sprintf("%q is an address, and needs no DNS: put it into endpoints", d.Name))
	case !ok || bare == "" || strings.ContainsFunc(bare, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
		report("name", fmt.Sprintf("%q is not a domain name", d.Name))
	}
	switch {
	case d.Type != "" && !slices.Contains(d.Type.Choices(), string(d.Type)):
		report("type", fmt.Sprintf("%q is not one of %s", d.Type, strings.Join(d.Type.Choices(), ", ")))
	case d.Type == SRV && d.Port != 0:
		report("port", "SRV records have their own")
	case d.Type != SRV && d.Port == 0:
		report("port", "is missing: A and AAAA records have none")
	case d.Type != SRV && (d.Port < 1 || d.Port > 65535):
		report("port", fmt.Sprintf("port %d: 1 to 65535", d.Port))
	}
	for i, s := range d.Resolvers {
		if _, err := resolverAddr(s); err != nil {
			report("resolvers["+strconv.Itoa(i)+"]", err.Error())
		}
	}
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"min_ttl", d.MinTTL}, {"max_ttl", d.MaxTTL}, {"timeout", d.Timeout}} {
		if t.d < 0 {
			report(t.key, "must not be negative")
		} else if t.d > week {
			report(t.key, "is more than a week")
		}
	}
	if lo, hi := or(d.MinTTL, defMinTTL), or(d.MaxTTL, defMaxTTL); d.MinTTL >= 0 && d.MaxTTL >= 0 && lo > hi {
		report("max_ttl", fmt.Sprintf("%v is less than min_ttl, %v", hi, lo))
	}
}

const (
	defMinTTL = time.Second
	defMaxTTL = 5 * time.Minute
	week      = 7 * 24 * time.Hour
)

// dnsSource is a name and what was good of it last. It is owned by the goroutine that asks.
type dnsSource struct {
	name     string // lower case, with the last dot
	kinds    []uint16
	port     uint16
	min, max time.Duration
	client   client
	// kept are the addresses that each question had last, for when it fails while others do well.
	kept  map[question][]netip.Addr
	retry backoff
}

func newDNSSource(d *DNS) *dnsSource {
	s := &dnsSource{
		name: dns.CanonicalName(d.Name), kinds: []uint16{dns.TypeA, dns.TypeAAAA}, port: uint16(d.Port),
		min: or(d.MinTTL, defMinTTL), max: or(d.MaxTTL, defMaxTTL),
		client: client{resolvers: d.Resolvers, resolvConf: "/etc/resolv.conf", timeout: or(d.Timeout, 2*time.Second)},
		retry:  backoff{first: retryFirst, most: retryMost},
	}
	switch d.Type {
	case A:
		s.kinds = s.kinds[:1]
	case AAAA:
		s.kinds = s.kinds[1:]
	case SRV:
		s.kinds = []uint16{dns.TypeSRV}
	}
	return s
}

func (s *dnsSource) sayAgain() bool { return false }

// ask asks after the time to live, never before: a cache would answer with what is left of it. A failure in part is
// tried again as one of the whole is, but what did well may be due earlier.
func (s *dnsSource) ask(ctx context.Context) ([]Endpoint, time.Duration, error) {
	set, ttl, err := s.resolve(ctx)
	wait := min(max(ttl, s.min), s.max)
	wait += rand.N(wait/10 + 1)
	if err == nil {
		s.retry.reset()
		return set, wait, nil
	}
	again := s.retry.next()
	if set != nil {
		again = min(again, wait)
	}
	return set, again, err
}

// resolve asks once. The set is nil if nothing good was said; with a set, err is what failed of it.
func (s *dnsSource) resolve(ctx context.Context) (set []Endpoint, ttl time.Duration, err error) {
	servers, err := s.client.servers()
	if err != nil {
		return nil, 0, err
	}
	if s.kinds[0] == dns.TypeSRV {
		set, ttl, err = s.services(ctx, servers)
	} else {
		found := s.hosts(ctx, servers, []string{s.name}, s.kinds)[s.name]
		if ttl, err = found.ttl, found.err; !found.fresh {
			return nil, 0, err
		}
		for _, a := range found.addrs {
			set = append(set, Endpoint{Address: netip.AddrPortFrom(a, s.port).String()})
		}
	}
	if set = unique(set); len(set) > MaxEndpoints {
		return nil, 0, fmt.Errorf("%d endpoints: at most %d", len(set), MaxEndpoints)
	}
	return set, ttl, err
}

// services resolves SRV records, and the addresses of their targets: those that came with the answer, and for targets
// that had none those that they have themselves. A target that cannot be resolved keeps the addresses that it had, or
// has none; the others go on.
func (s *dnsSource) services(ctx context.Context, servers []string) (set []Endpoint, ttl time.Duration, err error) {
	q := question{s.name, dns.TypeSRV}
	ans, err := s.client.lookup(ctx, servers, q)
	if err != nil {
		return nil, 0, fmt.Errorf("%v: %w", q, err)
	}
	records := slices.DeleteFunc(ans.srvs, func(r *dns.SRV) bool { return r.Target == "." })
	if len(records) == 0 {
		return []Endpoint{}, ans.ttl, nil
	}
	var ask []string
	for _, r := range records {
		if len(ans.extra[dns.CanonicalName(r.Target)]) == 0 {
			ask = append(ask, dns.CanonicalName(r.Target))
		}
	}
	slices.Sort(ask)
	found := s.hosts(ctx, servers, slices.Compact(ask), []uint16{dns.TypeA, dns.TypeAAAA})
	s.keep(records, ans.extra)
	ttl = ans.ttl
	var errs []error
	var targets []target
	for _, r := range records {
		name := dns.CanonicalName(r.Target)
		t := target{srv: r, addrs: ans.extra[name]}
		if h, asked := found[name]; asked {
			if t.addrs = h.addrs; h.fresh {
				ttl = min(ttl, h.ttl)
			}
			if errs = append(errs, h.err); len(h.addrs) == 0 {
				continue
			}
		}
		address := net.JoinHostPort(t.addrs[0].String(), strconv.Itoa(int(r.Port)))
		if err := engine.CheckAddr(address, false); err != nil {
			errs = append(errs, fmt.Errorf("%v: bad address %w", q, err))
			continue
		}
		targets = append(targets, t)
	}
	if err = first(errs); len(targets) == 0 {
		return nil, 0, err
	}
	return endpoints(targets), ttl, err
}

// keep keeps the addresses of targets that came with the answer, as if they had been asked for.
func (s *dnsSource) keep(records []*dns.SRV, extra map[string][]netip.Addr) {
	for _, r := range records {
		name := dns.CanonicalName(r.Target)
		for kind, is := range map[uint16]func(netip.Addr) bool{dns.TypeA: netip.Addr.Is4, dns.TypeAAAA: netip.Addr.Is6} {
			if of := slices.DeleteFunc(slices.Clone(extra[name]), func(a netip.Addr) bool { return !is(a) }); len(of) > 0 {
				s.kept[question{name, kind}] = of
			}
		}
	}
}

// first is the first error of errs, and how many more there are.
func first(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w (and %d more)", errs[0], len(errs)-1)
}

// target is a service's record and its addresses.
type target struct {
	srv   *dns.SRV
	addrs []netip.Addr
}

// endpoints are the targets' addresses (RFC 2782). Priorities are ranked, from 0. A weight is the target's: where targets
// have different numbers of addresses, each address has its part.
func endpoints(targets []target) (set []Endpoint) {
	var tiers []uint16
	scale, most := 1, 1.0
	for _, t := range targets {
		tiers = append(tiers, t.srv.Priority)
		// The least common multiple makes all parts whole; past a weight's range they are rounded.
		if scale <= maxWeight {
			scale = lcm(scale, len(t.addrs))
		}
		most = max(most, t.part())
	}
	slices.Sort(tiers)
	tiers = slices.Compact(tiers)
	by := min(float64(scale), maxWeight/most)
	for _, t := range targets {
		rank, _ := slices.BinarySearch(tiers, t.srv.Priority)
		weight := max(1, int(t.part()*by+0.5))
		for _, a := range t.addrs {
			set = append(set, Endpoint{
				Address:  netip.AddrPortFrom(a, t.srv.Port).String(),
				Weight:   &weight,
				Priority: min(rank, maxPriority),
			})
		}
	}
	return set
}

const maxWeight = 65535

// part is the weight of one of t's addresses. Weight 0 is SRV's "hardly ever" (and what zones without weights have): 1.
func (t target) part() float64 { return float64(max(t.srv.Weight, 1)) / float64(len(t.addrs)) }

func lcm(a, b int) int {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// host is what is known of a name.
type host struct {
	addrs []netip.Addr // also those kept of questions that failed
	fresh bool         // some question was answered well
	ttl   time.Duration
	err   error // what failed
}

// hosts asks for the addresses of names. A name that has one kind of address and not the other is the ordinary case,
// and no failure. If the question for one kind fails and the other does not, the failed one's addresses stay.
func (s *dnsSource) hosts(ctx context.Context, servers, names []string, kinds []uint16) map[string]host {
	var questions []question
	for _, n := range names {
		for _, k := range kinds {
			questions = append(questions, question{n, k})
		}
	}
	answers := s.client.lookupAll(ctx, servers, questions)
	kept := make(map[question][]netip.Addr, len(questions))
	out := make(map[string]host, len(names))
	for i := 0; i < len(questions); i += len(kinds) {
		h := host{ttl: s.max}
		for _, a := range answers[i : i+len(kinds)] {
			h.fresh = h.fresh || a.err == nil
		}
		var errs []error
		for j, a := range answers[i : i+len(kinds)] {
			q := questions[i+j]
			switch {
			case a.err == nil:
				kept[q] = a.addrs
				h.ttl = min(h.ttl, a.ttl)
			case h.fresh && errors.Is(a.err, errNoData):
			default:
				errs = append(errs, fmt.Errorf("%v: %w", q, a.err))
				if old := s.kept[q]; len(old) > 0 {
					kept[q] = old
				}
			}
			h.addrs = append(h.addrs, kept[q]...)
		}
		h.err = first(errs)
		out[questions[i].name] = h
	}
	s.kept = kept // names that are not asked for any more are forgotten
	return out
}
