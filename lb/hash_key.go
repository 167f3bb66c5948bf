package lb

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"sluice/lb/ring"
)

// HashKey names what the pickers that hash place a session or exchange by.
type HashKey string

// The keys. The client is who the PROXY header names, if one came, the peer who made the connection. What follows Path
// is of requests, as are header:NAME, cookie:NAME and query:NAME.
const (
	ClientIP HashKey = "client_ip"
	Client   HashKey = "client" // address and port
	PeerIP   HashKey = "peer_ip"
	SNI      HashKey = "sni"  // the name that the client asks for in its TLS hello; its address if there is none
	Path     HashKey = "path" // without the query
)

// Choices are the values that a file may have. Those that name something do so as k does, if it does.
func (k HashKey) Choices() []string {
	_, name, ok := strings.Cut(string(k), ":")
	if !ok {
		name = "NAME"
	}
	return []string{string(ClientIP), string(Client), string(PeerIP), string(SNI), string(Path),
		"header:" + name, "cookie:" + name, "query:" + name}
}

// HashKind is what kind of thing a HashKey names.
type HashKind uint8

// The kinds. Those from HashPath on are looked up in a request.
const (
	HashClientIP HashKind = iota
	HashClient
	HashPeerIP
	HashSNI
	HashPath
	HashHeader
	HashCookie
	HashQuery
)

// HashBy is a HashKey as it is looked up. The name is of a header, in lower case, a cookie or a query parameter.
type HashBy struct {
	Kind HashKind
	Name string
}

// OfRequest says that the key is in requests: no L4 session has it.
func (b HashBy) OfRequest() bool { return b.Kind >= HashPath }

// By is the key as it is looked up; the error says why it is none.
func (k HashKey) By() (HashBy, error) {
	kind, name, named := strings.Cut(string(k), ":")
	switch by := (HashBy{Name: name}); {
	case !named:
		switch k {
		case ClientIP:
			return HashBy{}, nil
		case Client:
			return HashBy{Kind: HashClient}, nil
		case PeerIP:
			return HashBy{Kind: HashPeerIP}, nil
		case SNI:
			return HashBy{Kind: HashSNI}, nil
		case Path:
			return HashBy{Kind: HashPath}, nil
		}
	case kind == "header":
		by.Kind, by.Name = HashHeader, strings.ToLower(name)
		return by, tokenIn("header", name)
	case kind == "cookie":
		by.Kind = HashCookie
		return by, tokenIn("cookie", name)
	case kind == "query":
		by.Kind = HashQuery
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("&=#", r) }) {
			return by, fmt.Errorf("%q names no query parameter", name)
		}
		return by, nil
	}
	return HashBy{}, fmt.Errorf("%q is not one of %s", k, strings.Join(k.Choices(), ", "))
}

// tokenIn says whether name is a token (RFC 9110, section 5.6.2), as names of headers and cookies are.
func tokenIn(what, name string) error {
	if name == "" {
		return errors.New("a " + what + " has a name")
	}
	for _, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return fmt.Errorf("%q names no %s: %q cannot be in one", name, what, c)
		}
	}
	return nil
}

// HashKey is what the cluster's picker places by. The gateway has HashBytes of what it finds under a key of requests, and
// Hash where there is nothing, or nothing to find.
func (c *Cluster) HashKey() HashBy { return c.by }

// Hash places a session or exchange by the cluster's key, of those that are known of a connection: client is who it is
// for, peer who made the connection, name the server that the client's TLS hello asks for, if it is known. 0 if the
// picker does not hash.
func (c *Cluster) Hash(client, peer netip.AddrPort, name []byte) uint64 {
	if !c.cfg.Picker.Hashes() {
		return 0
	}
	switch c.by.Kind {
	case HashSNI:
		if len(name) > 0 {
			return c.hash(name)
		}
	case HashPeerIP:
		client = peer
	}
	var key addrKey
	return c.hash(key.of(client, c.by.Kind == HashClient))
}

// HashBytes places an exchange by the value that it has for the cluster's key. 0 if the picker does not hash.
func (c *Cluster) HashBytes(value []byte) uint64 {
	if !c.cfg.Picker.Hashes() {
		return 0
	}
	return c.hash(value)
}

// hash is of any key. The ring's is libmemcached's, so that its placement is, too.
func (c *Cluster) hash(key []byte) uint64 {
	if c.cfg.Picker == Ring {
		return uint64(ring.Hash(key))
	}
	return xxhash.Sum64(key)
}

// addrKey is an address as the bytes that are hashed.
type addrKey struct {
	ip   [16]byte
	port [2]byte
}

func (k *addrKey) of(a netip.AddrPort, withPort bool) []byte {
	k.ip = a.Addr().As16()
	n := len(k.ip)
	if withPort {
		k.port = [2]byte{byte(a.Port() >> 8), byte(a.Port())}
		n += len(k.port)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(k)), n)
}
