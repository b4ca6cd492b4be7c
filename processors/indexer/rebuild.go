package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/maxviazov/audittrail/internal/termindex"
)

// Rebuild makes all runs again from the segments, each in one transaction in the place of what it replaces: searches go on meanwhile. Runs of a
// higher level become several of level 0, which the indexer merges again. Killed, it leaves old runs and new ones, all of them right.
func Rebuild(ctx context.Context, dsn string, progress Progress) (made int, err error) {
	db, err := openPool(dsn, nil)
	if err != nil {
		return 0, fmt.Errorf("rebuild the index: %w", err)
	}
	defer db.Close()
	unlock, _, err := lock(ctx, db)
	for errors.Is(err, errNotOurs) && pause(ctx, retryLock) { // a sink's indexer gives it up when it has nothing to do
		unlock, _, err = lock(ctx, db)
	}
	if err != nil {
		return 0, fmt.Errorf("rebuild the index: %w", err)
	}
	defer unlock()
	runs, err := termindex.ReadRuns(ctx, db, nil)
	if err != nil {
		return 0, fmt.Errorf("rebuild the index: %w", err)
	}
	total, done := 0, 0
	for _, r := range runs {
		total += int(r.Segments)
	}
	for _, r := range runs {
		n, err := rebuildRun(ctx, db, r, func(n int) error {
			done += n
			progress(done, total)
			return ctx.Err()
		})
		if err != nil {
			return made, fmt.Errorf("rebuild run %d: %w", r.ID, err)
		}
		made += n
	}
	return made, nil
}

const retryLock = 500 * time.Millisecond

// rebuildRun replaces a run by runs of level 0.
func rebuildRun(ctx context.Context, db *pgxpool.Pool, r *termindex.Run, progress func(int) error) (made int, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, p := range parts(r.Spans, checkPart) {
			var b builder
			if err := b.read(ctx, db, p.spans, progress); err != nil {
				return err
			}
			if _, err := b.write(ctx, tx, nil); err != nil { // a savepoint of the transaction
				return err
			}
			made++
		}
		return deleteRuns(ctx, tx, []int64{r.ID})
	})
	return made, err
}
