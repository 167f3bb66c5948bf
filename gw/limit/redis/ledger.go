// Package redis keeps the ledger of limits that several processes share in Redis or Valkey, of 3.2 or later.
package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"sluice/gw/limit"
)

// Ledger implements limit.Ledger, and a limit.TallyLedger for each window. For one goroutine at a time.
type Ledger struct {
	client  rueidis.Client
	name    string
	charges uint64 // that the server has taken
}

// charge moves, for each key, the instant at which its bucket is full, by the server's own clock, in microseconds, and says how far
// ahead that is. A number has 53 bits: until the year 2255. What is full again is forgotten.
var charge = rueidis.NewLuaScript(`
if redis.replicate_commands then redis.replicate_commands() end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local out = {}
for i, key in ipairs(KEYS) do
  local full = math.max(tonumber(redis.call('GET', key) or '0') or 0, now) + ARGV[i]
  redis.call('SET', key, string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
  out[i] = string.format('%.0f', full - now)
end
return out`)

// dialTimeout bounds how long a connection takes to be made; requests are not waiting.
const dialTimeout = time.Second

// Open connects to the server. All keys of a name are on one node of a cluster.
func Open(cfg Config, name string) (*Ledger, error) {
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(options)
	if err != nil {
		return nil, fmt.Errorf("connect redis %s: %w", cfg.Address, err)
	}
	return &Ledger{client: client, name: name}, nil
}

// Close ends the connection.
func (l *Ledger) Close() { l.client.Close() }

// Ping asks whether the server is there.
func (l *Ledger) Ping(ctx context.Context) error {
	if err := l.client.Do(ctx, l.client.B().Ping().Build()).Error(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

// Charge implements limit.Ledger.
func (l *Ledger) Charge(ctx context.Context, charges []limit.Charge) error {
	keys, args := make([]string, len(charges)), make([]string, len(charges))
	prefix := "sluice:limit:{" + l.name + "}:"
	for i, c := range charges {
		keys[i] = prefix + strconv.FormatUint(c.Key, 36)
		args[i] = strconv.FormatInt((int64(c.Owed)+999)/1000, 10)
	}
	answers, err := charge.Exec(ctx, l.client, keys, args).AsStrSlice()
	if err != nil {
		return fmt.Errorf("charge limits in redis: %w", err)
	}
	if len(answers) != len(charges) {
		return fmt.Errorf("charge limits in redis: %d answers to %d charges", len(answers), len(charges))
	}
	for i, a := range answers {
		us, err := strconv.ParseInt(a, 10, 64)
		if err != nil || us < 0 || us > int64(2*limit.MaxFill/time.Microsecond) {
			return fmt.Errorf("charge limits in redis: %q is not a time ahead", a)
		}
		charges[i].Ahead = time.Duration(us) * time.Microsecond
	}
	l.charges += uint64(len(charges))
	return nil
}
