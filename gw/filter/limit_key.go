package filter

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter/expr"
	"sluice/gw/h1"
)

// LimitKey is what is limited: requests with the same key count together.
type LimitKey string

// The keys, besides header:NAME, which is the value of that header, and expression:CEL, which is what an expression of package expr
// makes of the request: a string, a number or a bool.
const (
	// ByClient is the client's address, or its network, as the gateway believes it: see trusted_proxies.
	ByClient LimitKey = "client_ip"
	// ByIdentity is who a filter before this one has found that the request comes from.
	ByIdentity LimitKey = "identity"
	// ByRoute is the same for all requests.
	ByRoute LimitKey = "route"

	byHeader     = "header:"
	byExpression = "expression:"
)

// header is the name of header:NAME, empty if k is another key.
func (k LimitKey) header() string {
	if name, ok := strings.CutPrefix(string(k), byHeader); ok {
		return name
	}
	return ""
}

func (k LimitKey) validate(report func(path, message string)) {
	if source, ok := strings.CutPrefix(string(k), byExpression); ok {
		if _, err := expr.Compile(source, expr.Key, 0); err != nil {
			report("key", err.Error())
		}
		return
	}
	switch name := k.header(); {
	case k == "", k == ByClient, k == ByIdentity, k == ByRoute:
	case name == "" || !h1.ValidName(name):
		report("key", fmt.Sprintf("%q is not one of client_ip, identity, route, header:NAME, expression:CEL", string(k)))
	}
}

// Cost is what a request takes: a number, or expression:CEL, whose whole number it is. An expression may say 0: such a request
// is free.
type Cost struct {
	Units      int64 // 0: 1
	Expression string
}

// maxCost bounds a number, and what an expression may say.
const maxCost = 1 << 40

// UnmarshalText takes either form.
func (c *Cost) UnmarshalText(text []byte) error {
	if source, ok := strings.CutPrefix(string(text), byExpression); ok {
		if _, err := expr.Compile(source, expr.Int, 0); err != nil {
			return err
		}
		c.Expression = source
		return nil
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(string(text), "_", ""), 10, 64)
	if err != nil || n < 1 || n > maxCost {
		return fmt.Errorf("%q is not a cost: a whole number from 1, or expression:CEL", text)
	}
	c.Units = n
	return nil
}

func (c Cost) validate(report func(path, message string)) {
	switch {
	case c.Expression != "":
		if _, err := expr.Compile(c.Expression, expr.Int, 0); err != nil {
			report("cost", err.Error())
		}
	case c.Units < 0 || c.Units > maxCost:
		report("cost", fmt.Sprintf("cost %d: 1 or more", c.Units))
	}
}

// coster knows what requests cost. Immutable.
type coster struct {
	units   int64
	program *expr.Program // nil: it is always units
}

func newCoster(c Cost) coster {
	if c.Expression == "" {
		return coster{units: max(1, c.Units)}
	}
	return coster{program: compiled(c.Expression, expr.Int)}
}

// of is what a request costs. false: the expression does not say. Then it is neither free nor to be guessed at: a guess that is low
// would have clients make it fail, one that is high would let them empty buckets that they share with others.
func (c *coster) of(ctx *fasthttp.RequestCtx) (int64, bool) {
	if c.program == nil {
		return c.units, true
	}
	in := inputOf(ctx)
	n, err := c.program.Int(&in)
	return n, err == nil && n >= 0 && n <= maxCost
}

// compiled is an expression that has been validated.
func compiled(source string, want expr.Result) *expr.Program {
	p, err := expr.Compile(source, want, 0)
	if err != nil {
		panic("BUG: an expression that is not valid: " + err.Error())
	}
	return p
}

// Prefix is how much of an address is a client: its network's length in bits.
type Prefix struct {
	// V4 is 1 to 32; 0: 32.
	V4 int `yaml:"v4"`
	// V6 is 1 to 128; 0: 64, which is what one customer has at least (RFC 6177).
	V6 int `yaml:"v6"`
}

func (p Prefix) validate(report func(path, message string)) {
	if p.V4 < 0 || p.V4 > 32 {
		report("prefix.v4", fmt.Sprintf("prefix of %d bits: 1 to 32", p.V4))
	}
	if p.V6 < 0 || p.V6 > 128 {
		report("prefix.v6", fmt.Sprintf("prefix of %d bits: 1 to 128", p.V6))
	}
}

const (
	defaultKeys = 100_000
	maxKeys     = 10_000_000
)

// validateLimit reports on what all limits have.
func validateLimit(k LimitKey, p Prefix, status, keys int, report func(path, message string)) {
	if status != 0 && (status < 400 || status > 599) {
		report("status", fmt.Sprintf("status %d: 400 to 599", status))
	}
	if keys < 0 || keys > maxKeys {
		report("keys", fmt.Sprintf("%d keys: 1 to %d", keys, maxKeys))
	}
	k.validate(report)
	p.validate(report)
}

// limitDefaults are status and keys as they are meant.
func limitDefaults(k LimitKey, status, keys int) (int, int) {
	if status == 0 {
		status = fasthttp.StatusTooManyRequests
	}
	switch {
	case k == ByRoute:
		keys = 1
	case keys == 0:
		keys = defaultKeys
	}
	return status, keys
}

// keySeed makes hashes that no client can foresee; one for all, as limits of one name share their keys.
var keySeed = maphash.MakeSeed()

// keyer hashes a request's key.
type keyer struct {
	key     LimitKey
	header  string
	program *expr.Program // of an expression
	failed  atomic.Uint64 // how often it did not say
	prefix  Prefix
	salt    []byte // not nil: the hashes are those of all processes with the same
}

// saltOf is the salt of a name.
func saltOf(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:16]
}

// sum hashes a key of some kind. What processes share they call by SHA-256: no client can make a key that counts with another's.
func (k *keyer) sum(kind byte, key []byte) uint64 {
	if k.salt == nil {
		return maphash.Bytes(keySeed, key) + uint64(kind)*0x9E3779B97F4A7C15
	}
	var room [128]byte
	b := append(append(append(room[:0], k.salt...), kind), key...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

func newKeyer(k LimitKey, p Prefix) *keyer {
	if k == "" {
		k = ByClient
	}
	if p.V4 == 0 {
		p.V4 = 32
	}
	if p.V6 == 0 {
		p.V6 = 64
	}
	keyer := &keyer{key: k, header: k.header(), prefix: p}
	if source, ok := strings.CutPrefix(string(k), byExpression); ok {
		keyer.program = compiled(source, expr.Key)
	}
	return keyer
}

// hash is the key's. Requests that do not have one, no identity, no such header, or an expression that fails or is empty, have
// that of their client: they are not free, and do not take from each other.
func (k *keyer) hash(ctx *fasthttp.RequestCtx) uint64 {
	switch {
	case k.program != nil:
		var room [64]byte
		in := inputOf(ctx)
		b, err := k.program.AppendKey(room[:0], &in)
		switch {
		case err != nil:
			k.failed.Add(1)
		case len(b) > 0:
			return k.sum('e', b)
		}
	case k.header != "":
		if v := ctx.Request.Header.Peek(k.header); len(v) > 0 {
			return k.sum('h', v)
		}
	case k.key == ByRoute:
		return k.sum('r', nil)
	case k.key == ByIdentity:
		if id := IdentityOf(ctx); id != nil {
			var room [64]byte
			b := append(append(append(room[:0], id.By...), 0), id.Subject...)
			return k.sum('i', b)
		}
	}
	return k.client(ctx)
}

// client hashes the network of the client's address. All of a Unix socket, which has none, are one client.
func (k *keyer) client(ctx *fasthttp.RequestCtx) uint64 {
	var b [16]byte
	if a, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			b = ip.As16()
			length := k.prefix.V6
			if ip.Unmap().Is4() {
				length = 96 + k.prefix.V4
			}
			hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
			// In Go a shift by 64 or more leaves nothing.
			binary.BigEndian.PutUint64(b[:8], hi&^(^uint64(0)>>min(length, 64)))
			binary.BigEndian.PutUint64(b[8:], lo&^(^uint64(0)>>max(length-64, 0)))
		}
	}
	return k.sum('c', b[:])
}
