package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/stream"
)

// FirstMissing returns the offset of audit-events from which on something of a partition is not stored that can be made again: the first slot that
// is not stored, when the enrichers are beyond it, or the first open gap that audit-events still has. NoCommit: there is nothing. db is a connection
// as a member of audittrail_writer or audittrail_reader.
func FirstMissing(ctx context.Context, db Beginner, kafka stream.Settings, partition int32) (offset int64, err error) {
	admin, err := stream.NewAdmin(ctx, kafka)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	topic, n, err := admin.TopicID(ctx, stream.Events)
	if err != nil {
		return 0, err
	}
	if partition < 0 || partition >= n {
		return 0, fmt.Errorf("partition %d: %s has %d", partition, stream.Events, n)
	}
	start, _, err := admin.LogRange(ctx, stream.Events, partition)
	if err != nil {
		return 0, err
	}
	commits, err := admin.GroupCommits(ctx, string(stream.EnricherGroup), stream.Events)
	if err != nil {
		return 0, err
	}
	h := &head{log: int16(partition)}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "SELECT next_offset, next_index FROM audittrail.heads WHERE log_id = $1 AND events_topic_id = $2", h.log, topic[:]).
			Scan(&h.next.offset, &h.next.index)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) { // nothing was stored yet
			return err
		}
		return h.loadGaps(ctx, tx, topic)
	})
	if err != nil {
		return 0, fmt.Errorf("read what is missing of log %d: %w", partition, err)
	}
	commit := commitOf(commits, partition)
	return missing(h.seen(), h.next.before(slot{commit, 0}), h.gaps.spans(), start, commit).Refill, nil
}
