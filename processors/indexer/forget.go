package indexer

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/termindex"
)

// forget deletes the runs whose segments are all gone, but for the last of each log: it says where the log goes on.
func forget(ctx context.Context, db database, runs []*termindex.Run) (int, error) {
	if len(runs) == 0 {
		return 0, nil
	}
	rows, err := db.Query(ctx, "SELECT audittrail.day_number(from_day) FROM audittrail.leaves WHERE parent = 'segments'")
	if err != nil {
		return 0, fmt.Errorf("read leaves: %w", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowTo[int16])
	if err != nil {
		return 0, fmt.Errorf("read leaves: %w", err)
	}
	covered := termindex.Covered(runs)
	var gone []int64
	for _, r := range runs {
		if !slices.ContainsFunc(r.Spans, func(s termindex.Span) bool { return slices.Contains(days, s.Day) || covered[s.Log] == s.End }) {
			gone = append(gone, r.ID)
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	if err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return deleteRuns(ctx, tx, gone) }); err != nil {
		return 0, fmt.Errorf("delete term runs of removed days: %w", err)
	}
	return len(gone), nil
}
