package views

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
)

// leaves remembers the lower ends of the leaves of `events` for a while. Only the size of windows depends on it: a leaf that was made a
// moment later lies in some window all the same.
type leaves struct {
	mu     sync.Mutex
	lowers []event.ID // greatest first
	at     time.Time
}

const leavesAge = 10 * time.Second

func (l *leaves) read(ctx context.Context, db querier) ([]event.ID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) < leavesAge {
		return l.lowers, nil
	}
	rows, err := db.Query(ctx, `SELECT from_day::timestamp FROM audittrail.leaves WHERE parent = 'events' AND from_day IS NOT NULL ORDER BY from_day DESC`)
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	lowers := make([]event.ID, len(days))
	for i, day := range days {
		lowers[i] = event.LowerBound(day)
	}
	l.lowers, l.at = lowers, time.Now()
	return lowers, nil
}
