package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"sync"
	"time"
)

const (
	// maxTicketAge is after which crypto/tls takes no ticket, as RFC 8446, section 4.6.1, has it.
	maxTicketAge = 7 * 24 * time.Hour
	// maxTicketKeys bounds a file's: a ticket that none of them has made is tried by each.
	maxTicketKeys = 100
)

// tickets are the keys of session tickets; the first encrypts. The keys of crypto/tls would be rotated by it, but not be shared by
// the configurations of one listener after another.
type tickets struct {
	cfg   Tickets
	files files

	mu    sync.Mutex
	keys  [][32]byte
	since time.Time // when the first was made
	users []*tls.Config
}

func newTickets(c Tickets, now time.Time) (*tickets, error) {
	t := &tickets{cfg: c, files: filesOf(c.File), since: now}
	if c.File == "" {
		t.keys = [][32]byte{newTicketKey()}
		return t, nil
	}
	var err error
	t.keys, err = readTicketKeys(c.File)
	return t, err
}

func newTicketKey() (k [32]byte) {
	rand.Read(k[:]) // it never fails
	return k
}

// serve has a configuration use the keys, now and when they change.
func (t *tickets) serve(c *tls.Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users = append(t.users, c)
	c.SetSessionTicketKeys(t.keys)
}

// refresh reads the file if it has changed, or makes a new key when the first has had its time.
func (t *tickets) refresh(now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cfg.File == "" {
		if now.Sub(t.since) < t.cfg.Rotate {
			return nil
		}
		old := t.keys[:min(len(t.keys), t.cfg.Keep)]
		t.keys, t.since = append([][32]byte{newTicketKey()}, old...), now
	} else {
		if !t.files.changed() {
			return nil
		}
		keys, err := readTicketKeys(t.cfg.File)
		if err != nil {
			return err
		}
		t.keys = keys
	}
	for _, c := range t.users {
		c.SetSessionTicketKeys(t.keys)
	}
	return nil
}

// readTicketKeys reads a file of keys: see Tickets.File. Its errors do not quote it.
func readTicketKeys(name string) (keys [][32]byte, err error) {
	data, err := readFile(name)
	if err != nil {
		return nil, err
	}
	// A text with a key has a length that no key has: 44, 64 or 108, and that of its newline.
	if k, ok := ticketKey(data); ok {
		return [][32]byte{k}, nil
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		raw, err := base64.StdEncoding.AppendDecode(nil, line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: is neither base64 nor a key of 32, 48 or 80 bytes alone", name, i+1)
		}
		k, ok := ticketKey(raw)
		if !ok {
			return nil, fmt.Errorf("%s:%d: %d bytes: a key has 32, 48 or 80", name, i+1, len(raw))
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("%s: no key", name)
	case len(keys) > maxTicketKeys:
		return nil, fmt.Errorf("%s: more than %d keys", name, maxTicketKeys)
	}
	return keys, nil
}

// ticketKey is crypto/tls's key of 32 bytes, from which it derives its own: what is longer is condensed.
func ticketKey(raw []byte) (k [32]byte, ok bool) {
	switch len(raw) {
	case 32:
		return [32]byte(raw), true
	case 48, 80:
		return sha256.Sum256(raw), true
	}
	return k, false
}
