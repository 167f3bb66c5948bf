package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"sluice/gw/limit"
)

// Window is one window of a quota, whose counts a Ledger keeps until a while after its end. It implements limit.TallyLedger.
type Window struct {
	Ledger     *Ledger
	Start, End time.Time
}

// linger is how much longer than its window a count is kept: nodes and server do not have the same time.
const linger = time.Hour

// count adds, for each key, to what it has taken, and says how much that is.
var count = rueidis.NewLuaScript(`
local out = {}
for i, key in ipairs(KEYS) do
  out[i] = redis.call('INCRBY', key, ARGV[i])
  if out[i] == tonumber(ARGV[i]) then redis.call('EXPIREAT', key, ARGV[#ARGV]) end
end
return out`)

// Add implements limit.TallyLedger.
func (w Window) Add(ctx context.Context, sums []limit.Sum) error {
	keys, args := make([]string, len(sums)), make([]string, len(sums)+1)
	prefix := "sluice:quota:{" + w.Ledger.name + "}:" + strconv.FormatInt(w.Start.Unix(), 10) + ":"
	for i, s := range sums {
		keys[i] = prefix + strconv.FormatUint(s.Key, 36)
		args[i] = strconv.FormatInt(s.Taken, 10)
	}
	args[len(sums)] = strconv.FormatInt(w.End.Add(linger).Unix(), 10)
	totals, err := count.Exec(ctx, w.Ledger.client, keys, args).AsIntSlice()
	if err != nil {
		return fmt.Errorf("count quotas in redis: %w", err)
	}
	if len(totals) != len(sums) {
		return fmt.Errorf("count quotas in redis: %d answers to %d sums", len(totals), len(sums))
	}
	for i, n := range totals {
		if n < 0 {
			return fmt.Errorf("count quotas in redis: %d is not a count", n)
		}
		sums[i].Total = n
	}
	w.Ledger.charges += uint64(len(sums))
	return nil
}
