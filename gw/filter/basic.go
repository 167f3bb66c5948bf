package filter

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter/source"
	"sluice/gw/h1"
)

// Basic lets in who has a name and a password (RFC 7617). Passwords are verified beside the loops, some at a time; those that were
// right are remembered.
type Basic struct {
	// Users are names with the hashes of their passwords: bcrypt ($2y$…, as htpasswd -B writes it) or argon2id ($argon2id$…).
	Users map[string]string `yaml:"users"`
	// File holds more of them, one a line: name:hash. It is looked at every second; what is wrong leaves the users as they were.
	File string `yaml:"file"`
	// Realm is what a browser shows; not given: restricted.
	Realm string `yaml:"realm"`
	// Remember is how long a password that was right is not verified again; 0: 5 min.
	Remember time.Duration `yaml:"remember"`
	// Waiting is how many requests may wait for their passwords to be verified; those above are answered 503. 0: 64.
	Waiting int `yaml:"waiting"`
	// ClaimsToHeaders tells the upstream: header → sub, the user's name. What a client sends under these names is removed.
	ClaimsToHeaders map[string]string `yaml:"claims_to_headers"`
	// Forward leaves Authorization in the request; else it is taken out.
	Forward bool `yaml:"forward"`
	// Optional lets in requests without a password, as nobody's.
	Optional bool `yaml:"optional"`
}

func (f *Basic) validate(report func(path, message string)) {
	if len(f.Users) == 0 && f.File == "" {
		report("", "lets nobody in: give users or file")
	}
	headers := newClaimHeaders(f.ClaimsToHeaders)
	for _, name := range slices.Sorted(maps.Keys(f.Users)) {
		if err := (&userTable{}).add(name, f.Users[name], headers); err != nil {
			report("users."+name, err.Error())
		}
	}
	if f.File != "" {
		data, err := source.ReadFile(f.File)
		if err == nil {
			_, err = readUsers(data, nil, headers)
		}
		if err != nil {
			report("file", err.Error())
		}
	}
	if !h1.ValidValue(f.Realm) || strings.ContainsAny(f.Realm, `"\`) {
		report("realm", "must not have quotes, backslashes or control characters")
	}
	if f.Remember < 0 || f.Remember > 24*time.Hour {
		report("remember", "0 to 24h")
	}
	if f.Waiting < 0 || f.Waiting > 10_000 {
		report("waiting", "0 to 10000")
	}
	checkClaimHeaders(f.ClaimsToHeaders, report)
}

// userTable is users by name. Immutable once made.
type userTable struct {
	users  map[string]*user
	hashes []passwordHash // of all
}

type user struct {
	hash    passwordHash
	id      *Identity
	headers []string
}

func (t *userTable) add(name, hash string, headers claimHeaders) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }) {
		return fmt.Errorf("%q is not a user's name", name)
	}
	if t.users[name] != nil {
		return fmt.Errorf("%s is there twice", name)
	}
	h, err := parseHash(hash)
	if err != nil {
		return fmt.Errorf("what %s has %w", name, err)
	}
	u := &user{hash: h, id: &Identity{Subject: name, By: "basic"}}
	var ok bool
	if u.headers, ok = headers.values(u.id); !ok {
		return fmt.Errorf("%q cannot be a header's value", name)
	}
	if t.users == nil {
		t.users = map[string]*user{}
	}
	t.users[name], t.hashes = u, append(t.hashes, u.hash)
	return nil
}

func readUsers(data []byte, more map[string]string, headers claimHeaders) (*userTable, error) {
	t := &userTable{}
	for _, name := range slices.Sorted(maps.Keys(more)) {
		if err := t.add(name, more[name], headers); err != nil {
			return nil, err
		}
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(text, ":")
		if !ok {
			return nil, fmt.Errorf("line %d: not name:hash", n)
		}
		if err := t.add(name, hash, headers); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return t, nil
}

// standIn is the hash that is computed for a name that is nobody's: one of the users', and always the same one. One of another kind
// or cost each time would tell that there is no such user. nil: there are no users.
func (t *userTable) standIn(seed maphash.Seed, name string) passwordHash {
	if len(t.hashes) == 0 {
		return nil
	}
	return t.hashes[maphash.String(seed, name)%uint64(len(t.hashes))]
}

// basicFilter is a Basic, ready for use.
type basicFilter struct {
	headers   claimHeaders
	forward   bool
	optional  bool
	remember  time.Duration
	challenge string
	fixed     *userTable                // without a file
	file      *source.Source[userTable] // nil: none
	crew      *crew
	known     *memory[*user]
	macs      sync.Pool // of *mac
	seed      maphash.Seed
}

// mac digests credentials with a key of the process's own: the table of those that were right holds nothing that a password could
// be tried against.
type mac struct {
	hash.Hash
	room [256]byte
	sum  [sha256.Size]byte
}

const rememberedUsers = 4096

func newBasic(cfg Basic) *basicFilter {
	f := &basicFilter{
		headers:   newClaimHeaders(cfg.ClaimsToHeaders),
		forward:   cfg.Forward,
		optional:  cfg.Optional,
		remember:  cfg.Remember,
		challenge: `Basic realm="restricted", charset="UTF-8"`,
		known:     newMemory[*user](rememberedUsers),
		seed:      maphash.MakeSeed(),
	}
	if cfg.Realm != "" {
		f.challenge = `Basic realm="` + cfg.Realm + `", charset="UTF-8"`
	}
	if f.remember == 0 {
		f.remember = 5 * time.Minute
	}
	if cfg.Waiting == 0 {
		cfg.Waiting = 64
	}
	f.crew = newCrew(cfg.Waiting)
	key := make([]byte, sha256.Size)
	rand.Read(key)
	f.macs.New = func() any { return &mac{Hash: hmac.New(sha256.New, key)} }
	if cfg.File == "" {
		f.fixed, _ = readUsers(nil, cfg.Users, f.headers)
		return f
	}
	f.file = source.Open(source.Config{File: cfg.File}, func(data []byte) (*userTable, error) { return readUsers(data, cfg.Users, f.headers) })
	return f
}

// Close ends the watch over the file.
func (f *basicFilter) Close() error {
	if f.file != nil {
		f.file.Close()
	}
	return nil
}

// Request implements Filter.
func (f *basicFilter) Request(ctx *fasthttp.RequestCtx) Result {
	f.headers.clear(ctx)
	values := ctx.Request.Header.PeekAll(fasthttp.HeaderAuthorization)
	if len(values) > 1 {
		return Refuse(ctx, 400, "more than one Authorization", &basicTwice)
	}
	var given []byte
	if len(values) == 1 {
		given = afterScheme(values[0], "basic")
	}
	if len(given) == 0 {
		if f.optional {
			return Continue
		}
		return f.refuse(ctx, "a password is required", &basicMissing)
	}
	users := f.fixed
	if f.file != nil {
		users = f.file.Get()
	}
	if users == nil { // the file has gone since it was validated
		return Refuse(ctx, 503, "passwords cannot be verified now", &basicNone)
	}
	m := f.macs.Get().(*mac)
	defer f.macs.Put(m)
	if base64.StdEncoding.DecodedLen(len(given)) > maxPassword {
		return f.refuse(ctx, "credentials are not valid", &basicMalformed)
	}
	pair, err := base64.StdEncoding.AppendDecode(m.room[:0], given)
	name, password, ok := bytes.Cut(pair, []byte{':'})
	if err != nil || !ok {
		return f.refuse(ctx, "credentials are not valid", &basicMalformed)
	}
	u := users.users[string(name)]
	var standIn passwordHash
	if u == nil {
		standIn = users.standIn(f.seed, string(name))
	}
	m.Reset()
	m.Write(pair)
	key := m.Sum(m.sum[:0])
	digest := binary.LittleEndian.Uint64(key)
	now := time.Now().Unix()
	// Another user of the same name, after a reload, may have another password.
	if known, ok := f.known.get(digest, key, now); ok && known == u {
		clear(pair)
		return f.accept(ctx, u)
	}
	return f.verify(ctx, u, standIn, bytes.Clone(password), bytes.Clone(key))
}

// RequestNames implements Namer.
func (f *basicFilter) RequestNames() []string { return f.headers.RequestNames() }

// Response implements Filter.
func (f *basicFilter) Response(*fasthttp.RequestCtx) {}

// verify has the password hashed. One of nobody takes as long as somebody's: who is a user is not told.
func (f *basicFilter) verify(ctx *fasthttp.RequestCtx, u *user, standIn passwordHash, password, key []byte) Result {
	decide := func() Result {
		defer clear(password)
		if u == nil {
			if standIn != nil {
				standIn.matches(password)
			}
			return f.refuse(ctx, "credentials are not valid", &basicWrong)
		}
		if !u.hash.matches(password) {
			return f.refuse(ctx, "credentials are not valid", &basicWrong)
		}
		now := time.Now()
		f.known.put(binary.LittleEndian.Uint64(key), key, now.Unix(), now.Add(f.remember).Unix(), u)
		return f.accept(ctx, u)
	}
	resume := Resume(ctx)
	if resume == nil { // nobody is held up: the request is explained, not served
		return decide()
	}
	if !f.crew.do(func() { resume(decide()) }) {
		ctx.Response.Header.Set("Retry-After", "1")
		return Refuse(ctx, 503, "too many passwords to verify", &basicBusy)
	}
	return Wait
}

func (f *basicFilter) accept(ctx *fasthttp.RequestCtx, u *user) Result {
	if !f.forward {
		ctx.Request.Header.Del(fasthttp.HeaderAuthorization)
	}
	f.headers.set(ctx, u.headers)
	SetIdentity(ctx, u.id)
	return Continue
}

func (f *basicFilter) refuse(ctx *fasthttp.RequestCtx, message string, why *Refusal) Result {
	ctx.Response.Header.Set("WWW-Authenticate", f.challenge)
	return Refuse(ctx, 401, message, why)
}

var (
	basicMissing   = Refusal{"basic", "missing"}
	basicTwice     = Refusal{"basic", "more than one password"}
	basicMalformed = Refusal{"basic", "malformed"}
	basicWrong     = Refusal{"basic", "wrong"}
	basicNone      = Refusal{"basic", "no users"}
	basicBusy      = Refusal{"basic", "too many waiting"}
)
