package filter

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// passwordHash says of a password whether it is the one. It takes long, by intent.
type passwordHash interface{ matches(password []byte) bool }

const (
	// maxPassword bounds what is hashed.
	maxPassword = 1 << 10
	// maxBcrypt is what bcrypt looks at: two passwords that differ after that would be the same.
	maxBcrypt = 72
	// maxBcryptCost is some 4 s of a CPU.
	maxBcryptCost = 16
	// maxArgonMemory is in KiB: 256 MiB at a time for each of the crew.
	maxArgonMemory = 256 << 10
)

type bcryptHash []byte

func (h bcryptHash) matches(password []byte) bool {
	return len(password) <= maxBcrypt && bcrypt.CompareHashAndPassword(h, password) == nil
}

// argonHash is argon2id (RFC 9106).
type argonHash struct {
	salt, sum    []byte
	time, memory uint32
	threads      uint8
}

func (h *argonHash) matches(password []byte) bool {
	sum := argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

// parseHash reads a hash: $2y$… (htpasswd -B, or 2a, 2b) or $argon2id$v=19$m=65536,t=3,p=4$salt$hash (argon2 -id -e). Errors do
// not quote it.
func parseHash(s string) (passwordHash, error) {
	switch {
	case strings.HasPrefix(s, "$2a$"), strings.HasPrefix(s, "$2b$"), strings.HasPrefix(s, "$2y$"):
		cost, err := bcrypt.Cost([]byte(s))
		if err != nil || len(s) != 60 {
			return nil, errors.New("is not a whole bcrypt hash")
		}
		if cost > maxBcryptCost {
			return nil, fmt.Errorf("bcrypt of cost %d: at most %d", cost, maxBcryptCost)
		}
		return bcryptHash(s), nil
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon(s)
	}
	return nil, errors.New("is not a bcrypt or argon2id hash: htpasswd -B makes one")
}

func parseArgon(s string) (passwordHash, error) {
	broken := errors.New("is not a whole argon2id hash of version 19")
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, broken
	}
	h := &argonHash{}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); n != 3 || err != nil {
		return nil, broken
	}
	if fmt.Sprintf("m=%d,t=%d,p=%d", h.memory, h.time, h.threads) != parts[3] { // Sscanf does not mind what follows
		return nil, broken
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(h.salt) < 8 {
		return nil, broken
	}
	if h.sum, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(h.sum) < 16 || len(h.sum) > 128 {
		return nil, broken
	}
	if h.time < 1 || h.time > 20 || h.threads < 1 || h.memory < 8*uint32(h.threads) || h.memory > maxArgonMemory {
		return nil, fmt.Errorf("argon2id wants t of 1 to 20, p of at least 1, and m of 8 for each p to %d", maxArgonMemory)
	}
	return h, nil
}
