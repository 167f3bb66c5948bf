package tune

import (
	"fmt"
	"strconv"
	"strings"

	"sluice/tune/host"
)

// softnet wants a column of /proc/net/softnet_stat (hexadecimal, a line for each processor) to be small beside the first,
// the packets; most is per million. With fewer than a million packets nothing is said.
func softnet(column int, most float64, do string) check {
	return func(_ string, f *host.Facts, _ Edge) []State {
		v := f.Text("proc/net/softnet_stat")
		if !v.Known() {
			return unknown(v)
		}
		var packets, count float64
		for line := range strings.Lines(v.Text) {
			fields := strings.Fields(line)
			if len(fields) <= column {
				continue
			}
			n, err1 := strconv.ParseUint(fields[0], 16, 64)
			c, err2 := strconv.ParseUint(fields[column], 16, 64)
			if err1 != nil || err2 != nil {
				return unseen("/proc/net/softnet_stat is not understood")
			}
			packets, count = packets+float64(n), count+float64(c)
		}
		return share(count, packets, most, do)
	}
}

// share judges a count of events beside all packets, per million.
func share(count, packets, most float64, do string) []State {
	set := fmt.Sprintf("%.0f of %.0f", count, packets)
	if packets < 1e6 || count/packets*1e6 < most {
		return good(set)
	}
	s := amiss(fmt.Sprintf("%s, %.0f per million", set, count/packets*1e6), fmt.Sprintf("< %.0f per million", most), nil)
	s[0].Do = do
	return s
}
