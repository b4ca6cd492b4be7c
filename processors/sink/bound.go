package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
)

// errBound: retention has set a new bound since this session claimed the logs. Verdicts that were given may be wrong, so the session ends and the
// logs are claimed again, with it.
var errBound = errors.New("retention has set a new bound")

// readBounds reads what retention has removed from each log: events with smaller ids are dead letters EXPIRED. Bounds of a log only rise. A log that is
// new has the highest of the others: there are no leaves for events before it.
func readBounds(ctx context.Context, db querier, logs []int16) (map[int16]event.ID, error) {
	rows, err := db.Query(ctx, `SELECT l, b FROM unnest($1::int2[]) AS l CROSS JOIN LATERAL (SELECT coalesce((SELECT removed_before FROM audittrail.retention_bounds
		WHERE log_id = l ORDER BY log_index DESC, removed_before DESC LIMIT 1), (SELECT max(removed_before::text)::uuid FROM audittrail.retention_bounds)) AS b) b
		WHERE b IS NOT NULL`, logs)
	if err != nil {
		return nil, fmt.Errorf("read bounds of retention: %w", err)
	}
	bounds := make(map[int16]event.ID)
	var log int16
	var id [16]byte
	if _, err := pgx.ForEachRow(rows, []any{&log, &id}, func() error {
		bounds[log] = id
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read bounds of retention: %w", err)
	}
	return bounds, nil
}

// compareBounds compares the bounds with this session's memory; known returns that of logs[i]. It must be a statement of its own after the heads are
// locked: one that waits for a lock still sees what was there before.
func compareBounds(ctx context.Context, db querier, logs []int16, known func(i int) event.ID) error {
	bounds, err := readBounds(ctx, db, logs)
	if err != nil {
		return err
	}
	for i, log := range logs {
		if bounds[log] != known(i) {
			return fmt.Errorf("%w: log %d", errBound, log)
		}
	}
	return nil
}
