package faults

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// pollEvery is how often a stall watch looks; what it says of the length of a stall is right to about this.
const pollEvery = 20 * time.Millisecond

// stallWatch sees when each partition stored something, from outside: it asks PostgreSQL.
type stallWatch struct {
	mu   sync.Mutex
	grew map[int16][]time.Time // when an increase was seen; the first is the beginning of the watch
	err  error
}

// watchStalls watches until the test ends.
func watchStalls(t *T, dsn string, partitions int) *stallWatch {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	w := &stallWatch{grew: map[int16][]time.Time{}}
	for p := range partitions {
		w.grew[int16(p)] = []time.Time{time.Now()}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	t.Cleanup(func() { cancel(); watching.Wait(); conn.Close(context.Background()) })
	watching.Go(func() {
		last := map[int16]int64{}
		for ctx.Err() == nil {
			counts, err := stored(ctx, conn)
			w.mu.Lock()
			if err != nil {
				w.err = err
				w.mu.Unlock()
				return
			}
			now := time.Now()
			for p, n := range counts {
				if n > last[p] {
					w.grew[p] = append(w.grew[p], now)
				}
			}
			w.mu.Unlock()
			last = counts
			time.Sleep(pollEvery)
		}
	})
	return w
}

// grown reports whether every partition stored something at least times times since then.
func (w *stallWatch) grown(since time.Time, times int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.grew {
		i, _ := slices.BinarySearchFunc(at, since, time.Time.Compare)
		if len(at)-i < times {
			return false
		}
	}
	return true
}

// longest is the longest time during which a partition stored nothing, of those that end after the beginning and begin before
// the end, and the partition. What is still going on at the end counts until then.
func (w *stallWatch) longest(begin, end time.Time) (longest time.Duration, partition int16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, at := range w.grew {
		i, _ := slices.BinarySearchFunc(at, begin, time.Time.Compare)
		for i = max(i, 1); i <= len(at) && at[i-1].Before(end); i++ {
			until := end
			if i < len(at) {
				until = at[i]
			}
			if stall := until.Sub(at[i-1]); stall > longest {
				longest, partition = stall, p
			}
		}
	}
	return longest, partition
}
