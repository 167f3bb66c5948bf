package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/gw/filter/source"
)

// APIKey lets in who has one of the keys. They are held as SHA-256: they are long and random, so that nobody can try them out, as
// passwords can be.
type APIKey struct {
	// From is where a key may be, the first that is there counts; not given: header:X-API-Key.
	From []Credential `yaml:"from"`
	Keys []NamedKey   `yaml:"keys"`
	// File holds more of them, one a line: name, SHA-256, and attributes as name=value, with spaces between; a line from # on is a
	// comment. It is looked at every second; what is wrong leaves the keys as they were.
	File string `yaml:"file"`
	// ClaimsToHeaders tells the upstream: header → attribute, or sub: the key's name. What a client sends under these names is
	// removed.
	ClaimsToHeaders map[string]string `yaml:"claims_to_headers"`
	// Forward leaves the key in the request; else it is taken out.
	Forward bool `yaml:"forward"`
	// Optional lets in requests without a key, as nobody's.
	Optional bool `yaml:"optional"`
}

// NamedKey is a key, and whose it is.
type NamedKey struct {
	Name string `yaml:"name"`
	// SHA256 is the key's, in hex: printf %s KEY | sha256sum.
	SHA256 string `yaml:"sha256"`
	// Attributes are the identity's claims.
	Attributes map[string]string `yaml:"attributes"`
}

func (f *APIKey) validate(report func(path, message string)) {
	if len(f.Keys) == 0 && f.File == "" {
		report("", "lets nobody in: give keys or file")
	}
	table := keyTable{}
	headers := newClaimHeaders(f.ClaimsToHeaders)
	for i, k := range f.Keys {
		if err := table.add(k, headers); err != nil {
			report(fmt.Sprintf("keys[%d]", i), err.Error())
		}
	}
	if f.File != "" {
		data, err := source.ReadFile(f.File)
		if err == nil {
			_, err = readKeys(data, f.Keys, headers)
		}
		if err != nil {
			report("file", err.Error())
		}
	}
	checkCredentials(f.From, report)
	checkClaimHeaders(f.ClaimsToHeaders, report)
}

// keyTable leads from a key's hash to whose it is. Immutable once made. The look-up's time depends on the hash, of which nobody
// can choose even the first bytes to match a key's: it tells nothing of the keys.
type keyTable map[[sha256.Size]byte]*keyHolder

type keyHolder struct {
	id      *Identity
	headers []string
}

func (t keyTable) add(k NamedKey, headers claimHeaders) error {
	if k.Name == "" {
		return errors.New("a key needs a name")
	}
	digest, err := hex.DecodeString(k.SHA256)
	if err != nil || len(digest) != sha256.Size {
		return fmt.Errorf("the sha256 of %s is not one in hex", k.Name)
	}
	h := &keyHolder{id: &Identity{Subject: k.Name, By: "api_key"}}
	if t[[sha256.Size]byte(digest)] != nil {
		return fmt.Errorf("the key of %s is there twice", k.Name)
	}
	if len(k.Attributes) > 0 {
		h.id.Claims = make(map[string]any, len(k.Attributes))
		for name, v := range k.Attributes {
			h.id.Claims[name] = v
		}
	}
	var ok bool
	if h.headers, ok = headers.values(h.id); !ok {
		return fmt.Errorf("an attribute of %s cannot be a header's value", k.Name)
	}
	t[[sha256.Size]byte(digest)] = h
	return nil
}

// readKeys are those of a file and of the configuration. Errors name the line, and nothing that may be a key.
func readKeys(data []byte, more []NamedKey, headers claimHeaders) (*keyTable, error) {
	t := keyTable{}
	for _, k := range more {
		if err := t.add(k, headers); err != nil {
			return nil, err
		}
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text, _, _ := strings.Cut(string(line), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if len(words) == 1 {
			return nil, fmt.Errorf("line %d: not a name and a sha256", n)
		}
		k := NamedKey{Name: words[0], SHA256: words[1], Attributes: map[string]string{}}
		for _, w := range words[2:] {
			name, v, ok := strings.Cut(w, "=")
			if !ok || name == "" {
				return nil, fmt.Errorf("line %d: an attribute is name=value", n)
			}
			k.Attributes[name] = v
		}
		if err := t.add(k, headers); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return &t, nil
}

// apiKeyFilter is an APIKey, ready for use.
type apiKeyFilter struct {
	from     credentials
	headers  claimHeaders
	forward  bool
	optional bool
	fixed    *keyTable                // without a file
	file     *source.Source[keyTable] // nil: none
}

func newAPIKey(cfg APIKey) *apiKeyFilter {
	f := &apiKeyFilter{
		from:     newCredentials(cfg.From, "header:X-API-Key"),
		headers:  newClaimHeaders(cfg.ClaimsToHeaders),
		forward:  cfg.Forward,
		optional: cfg.Optional,
	}
	if cfg.File == "" {
		f.fixed, _ = readKeys(nil, cfg.Keys, f.headers)
		return f
	}
	f.file = source.Open(source.Config{File: cfg.File}, func(data []byte) (*keyTable, error) { return readKeys(data, cfg.Keys, f.headers) })
	return f
}

// Close ends the watch over the file.
func (f *apiKeyFilter) Close() error {
	if f.file != nil {
		f.file.Close()
	}
	return nil
}

// Request implements Filter.
func (f *apiKeyFilter) Request(ctx *fasthttp.RequestCtx) Result {
	f.headers.clear(ctx)
	key, twice := f.from.find(ctx)
	switch {
	case twice:
		return Refuse(ctx, 400, "more than one API key", &keyTwice)
	case len(key) == 0 && f.optional:
		return Continue
	case len(key) == 0:
		return Refuse(ctx, 401, "an API key is required", &keyMissing)
	}
	keys := f.fixed
	if f.file != nil {
		keys = f.file.Get()
	}
	if keys == nil { // the file has gone since it was validated
		return Refuse(ctx, 503, "API keys cannot be verified now", &keyNone)
	}
	digest := sha256.Sum256(key)
	h := (*keys)[digest]
	if h == nil {
		return Refuse(ctx, 401, "API key is not valid", &keyUnknown)
	}
	if !f.forward {
		f.from.remove(ctx)
	}
	f.headers.set(ctx, h.headers)
	SetIdentity(ctx, h.id)
	return Continue
}

// RequestNames implements Namer.
func (f *apiKeyFilter) RequestNames() []string { return f.headers.RequestNames() }

// Response implements Filter.
func (f *apiKeyFilter) Response(*fasthttp.RequestCtx) {}

var (
	keyMissing = Refusal{"api_key", "missing"}
	keyTwice   = Refusal{"api_key", "more than one key"}
	keyUnknown = Refusal{"api_key", "unknown"}
	keyNone    = Refusal{"api_key", "no keys"}
)
