package lb

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"

	"sluice/engine"
	"sluice/lb/discovery"
)

// Sticky knows a cluster's clients again by a signed cookie (http): they stay with their endpoint while it may be used, or
// drains. What the cookie holds reveals no address, and cannot be made without the key; nodes that have the same key, and
// the same name for the cluster, agree about it. Immutable, safe for all loops.
type Sticky struct {
	cluster    *Cluster
	cfg        StickyConfig
	id, mac    hmacKey
	head, tail string // of the Set-Cookie field, but for the value
}

// The value is base64url of a version (1 byte), the endpoint's id (8), when it expires in seconds since 1970 or 0 for
// never (8, big endian), and a MAC of all that (16). These are multiples of three bytes, so that every bit counts.
const (
	stickyVersion = 1
	stickySigned  = 1 + 8 + 8
	stickyBytes   = stickySigned + 16
	stickyText    = stickyBytes / 3 * 4
)

func newSticky(c *Cluster, secret []byte) *Sticky {
	s := &Sticky{cluster: c, cfg: *c.cfg.Sticky}
	master := newHMACKey(secret)
	derive := func(what string) hmacKey {
		k := master.sum([]byte(what + "\x00" + c.cfg.Name))
		return newHMACKey(k[:])
	}
	s.id, s.mac = derive("sluice endpoint"), derive("sluice cookie")
	s.head, s.tail = "Set-Cookie: "+s.cfg.Cookie+"=", s.cfg.attributes()
	return s
}

// idOf is what stands for an endpoint in cookies.
func (s *Sticky) idOf(ep *Endpoint) uint64 {
	sum := s.id.sum([]byte(ep.address))
	return binary.BigEndian.Uint64(sum[:])
}

// Sticky is how the cluster knows its clients again; nil: it does not.
func (c *Cluster) Sticky() *Sticky { return c.sticky }

// Find is the value of the cookie in a Cookie field (RFC 6265, section 4.2.1); nil if it is not there.
func (s *Sticky) Find(field []byte) []byte {
	name := s.cfg.Cookie
	for len(field) > 0 {
		pair := field
		if i := slices.Index(field, ';'); i >= 0 {
			pair, field = field[:i], field[i+1:]
		} else {
			field = nil
		}
		for len(pair) > 0 && (pair[0] == ' ' || pair[0] == '\t') {
			pair = pair[1:]
		}
		if n := len(name); len(pair) > n && pair[n] == '=' && string(pair[:n]) == name {
			return pair[n+1:]
		}
	}
	return nil
}

// Endpoint is the one that a cookie names; nil if it was not made with the key, has expired, or names one that is gone,
// in maintenance, down or ejected. It allocates nothing.
func (s *Sticky) Endpoint(value []byte, now time.Time) *Endpoint {
	if len(value) != stickyText {
		return nil
	}
	var b [stickyBytes]byte
	if n, err := base64.RawURLEncoding.Decode(b[:], value); err != nil || n != len(b) { // it passes over line breaks
		return nil
	}
	mac := s.mac.sum(b[:stickySigned])
	if subtle.ConstantTimeCompare(mac[:stickyBytes-stickySigned], b[stickySigned:]) != 1 || b[0] != stickyVersion {
		return nil
	}
	if expires := int64(binary.BigEndian.Uint64(b[9:])); expires > 0 && now.Unix() >= expires {
		return nil
	}
	m := s.cluster.table.Load().ids[binary.BigEndian.Uint64(b[1:])]
	if m == nil || !m.keeps() {
		return nil
	}
	return m.Endpoint
}

// AppendSetCookie appends the field, with its CRLF, that has the client come back to ep.
func (s *Sticky) AppendSetCookie(dst []byte, ep *Endpoint, now time.Time) []byte {
	var b [stickyBytes]byte
	b[0] = stickyVersion
	binary.BigEndian.PutUint64(b[1:], s.idOf(ep))
	if s.cfg.TTL > 0 {
		binary.BigEndian.PutUint64(b[9:], uint64(now.Add(s.cfg.TTL).Unix()))
	}
	mac := s.mac.sum(b[:stickySigned])
	copy(b[stickySigned:], mac[:])
	dst = append(dst, s.head...)
	dst = base64.RawURLEncoding.AppendEncode(dst, b[:])
	return append(dst, s.tail...)
}

// keeps says that the endpoint may be used by those who are its clients already, though it drains.
func (ep *Endpoint) keeps() bool {
	return ep.Healthy() && !ep.Ejected() && ep.addrs.Load() != nil
}

// keep notes in the table whom cookies may name, of all members.
func (t *table) keep(s *Sticky, all []member) {
	t.ids, t.kept = make(map[uint64]*member, len(all)), make(map[*Endpoint]*member, len(all))
	for i := range all {
		if m := &all[i]; m.cfg.State != discovery.Maint {
			t.ids[s.idOf(m.Endpoint)], t.kept[m.Endpoint] = m, m
		}
	}
}

// TakeEndpoint is Take of the endpoint that the client's cookie named. The error is ErrFull, ErrShed, or ErrNoEndpoint
// if it may not be used any more, or was tried.
func (c *Cluster) TakeEndpoint(l *engine.Loop, ep *Endpoint, tried []*Endpoint) error {
	t := c.table.Load()
	m := t.kept[ep]
	if m == nil || !m.keeps() || slices.Contains(tried, ep) {
		return ErrNoEndpoint
	}
	if !c.admits(l) {
		return ErrShed
	}
	s, most := &c.shared.loops[l.ID()], int64(math.MaxInt64)
	if m.max > 0 {
		most = m.max
	}
	if t.dials && !t.limits.connects(ep, l.ID()) || !ep.begin(l, most) {
		t.limits.overflow(m, l.ID())
		return ErrFull
	}
	if len(tried) == 0 {
		c.earn(s)
	}
	return nil
}

// hmacKey is a key of HMAC-SHA256 (RFC 2104), ready to be used without an allocation.
type hmacKey struct{ inner, outer [sha256.BlockSize]byte }

func newHMACKey(key []byte) (k hmacKey) {
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	copy(k.inner[:], key)
	k.outer = k.inner
	for i := range k.inner {
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	return k
}

func (k *hmacKey) sum(m []byte) [sha256.Size]byte {
	var b [3 * sha256.BlockSize]byte
	in := sha256.Sum256(append(append(b[:0], k.inner[:]...), m...))
	return sha256.Sum256(append(append(b[:0], k.outer[:]...), in[:]...))
}

// attributes are what follows the cookie's value.
func (c *StickyConfig) attributes() string {
	out := "; Path=" + c.Path
	if c.Domain != "" {
		out += "; Domain=" + c.Domain
	}
	if c.TTL > 0 {
		out += "; Max-Age=" + strconv.FormatInt(int64(c.TTL/time.Second), 10)
	}
	out += "; HttpOnly"
	if c.Secure {
		out += "; Secure"
	}
	switch c.SameSite {
	case SameSiteStrict:
		out += "; SameSite=Strict"
	case SameSiteNone:
		out += "; SameSite=None"
	default:
		out += "; SameSite=Lax"
	}
	return out + "\r\n"
}
