package filter

import (
	"testing"
	"time"
)

func TestQuotaWindows(t *testing.T) {
	for _, c := range []struct {
		per              Per
		zone             string
		at, start, until string // RFC 3339
	}{
		{PerMinute, "UTC", "2026-05-31T23:59:59.9Z", "2026-05-31T23:59:00Z", "2026-06-01T00:00:00Z"},
		{PerHour, "Asia/Kolkata", "2026-05-31T10:29:59Z", "2026-05-31T09:30:00Z", "2026-05-31T10:30:00Z"},
		{PerDay, "UTC", "2026-02-28T12:00:00Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"},
		{PerDay, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},     // 23 hours
		{PerDay, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},     // 25 hours
		{PerDay, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}, // no midnight
		{PerDay, "America/Sao_Paulo", "2018-11-04T02:59:59Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"}, // the day before
		{PerDay, "America/Sao_Paulo", "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"}, // 23:30 twice
		{PerDay, "Pacific/Apia", "2011-12-30T12:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},      // the 30th was not
		{PerWeek, "UTC", "2026-06-07T23:59:59Z", "2026-06-01T00:00:00Z", "2026-06-08T00:00:00Z"},              // a Sunday
		{PerWeek, "UTC", "2026-06-08T00:00:00Z", "2026-06-08T00:00:00Z", "2026-06-15T00:00:00Z"},
		{PerWeek, "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z"},
		{PerMonth, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{PerMonth, "America/New_York", "2028-03-01T04:59:59Z", "2028-02-01T05:00:00Z", "2028-03-01T05:00:00Z"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := time.Parse(time.RFC3339Nano, c.at)
		start, end := c.per.window(at.In(zone))
		if s, e := start.UTC().Format(time.RFC3339Nano), end.UTC().Format(time.RFC3339Nano); s != c.start || e != c.until {
			t.Errorf("%s of %s in %s: %s to %s", c.per, c.at, c.zone, s, e)
		}
	}
}

// Every instant is in exactly one window, of about its length, wherever clocks are changed and how.
func TestQuotaWindowsHaveNoGaps(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
		"Pacific/Apia", "Africa/Cairo", "Asia/Beirut", "America/Havana", "Africa/Casablanca", "Antarctica/Troll", "America/Santiago"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		// Around each change of a few years, and the seams around there.
		for at := time.Date(2008, 1, 1, 0, 0, 0, 0, time.UTC).In(zone); at.Year() < 2030; {
			_, change := at.ZoneBounds()
			if change.IsZero() {
				change = time.Date(2030, 6, 1, 12, 0, 0, 0, zone)
			}
			for _, per := range Per("").Choices() {
				for _, off := range []time.Duration{-26 * time.Hour, -61 * time.Minute, -time.Nanosecond, 0, 31 * time.Minute, 25 * time.Hour} {
					now := change.Add(off).In(zone)
					start, end := Per(per).window(now)
					if now.Before(start) || !now.Before(end) {
						t.Fatalf("%s %s: %v is not in %v to %v", name, per, now, start, end)
					}
					if s, e := Per(per).window(end.Add(-1).In(zone)); !s.Equal(start) || !e.Equal(end) {
						t.Fatalf("%s %s: %v to %v ends as %v to %v", name, per, start, end, s, e)
					}
					if s, _ := Per(per).window(end.In(zone)); !s.Equal(end) {
						t.Fatalf("%s %s: %v to %v goes on at %v", name, per, start, end, s)
					}
				}
			}
			at = change.In(zone)
		}
	}
}
