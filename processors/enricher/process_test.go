package enricher

import (
	"testing"
	"time"
)

// TestAppended: a time of append that a producer made up (a broker without LogAppendTime) must not stop the window's clock for good, nor let events
// of the far future pass, for which the store has no leaves.
func TestAppended(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		at   time.Time
		kept bool
	}{
		"now":                          {now, true},
		"a week ago, read late":        {now.Add(-7 * 24 * time.Hour), true},
		"the broker's clock is ahead":  {now.Add(24 * time.Hour), true},
		"and ours is behind":           {now.Add(48 * time.Hour), true},
		"no time":                      {time.Time{}, false},
		"zero":                         {time.UnixMilli(0), false},
		"-1, a message without a time": {time.UnixMilli(-1), false},
		"in a month":                   {now.Add(31 * 24 * time.Hour), false},
		"the year 300000":              {time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC), false},
	} {
		got := appended(c.at)
		if c.kept && !got.Equal(c.at) || !c.kept && got.Sub(now).Abs() > time.Minute || got.Location() != time.UTC {
			t.Errorf("%s: %v", name, got)
		}
	}
}
