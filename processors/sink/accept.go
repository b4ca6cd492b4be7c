package sink

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Accepted says what AcceptNew changed in one log.
type Accepted struct {
	Log     int32
	Events  bool // audit-events was another one: its slots count from 0 again
	Records bool // audit-records was another one: it is read from its start again
	// PartitionsBefore is the number of partitions the log knew.
	PartitionsBefore int32
}

// Beginner is a connection or a pool, as a member of audittrail_writer.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// AcceptNew makes the heads accept the topics that Kafka has now (R18): the operator says that audit-events or audit-records was replaced on
// purpose, also by one with another number of partitions. The same audit-events with more partitions is refused (stream.CountChanged). What was stored stays, and the logs go on where they ended. Outputs for the old audit-events that were not stored yet become
// dead letters; gaps that were open in it stay open for good. Sinks that run claim their logs again. It returns the logs that changed.
func AcceptNew(ctx context.Context, db Beginner, kafka stream.Settings) ([]Accepted, error) {
	s := &Sink{cfg: Config{Kafka: kafka}}
	now, err := s.topics(ctx)
	if err == nil {
		defer s.closeAdmin()
	}
	if err != nil {
		return nil, fmt.Errorf("accept topics: %w", err)
	}
	var changed []Accepted
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		changed, err = acceptNew(ctx, tx, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("accept topics: %w", err)
	}
	return changed, nil
}

func acceptNew(ctx context.Context, tx pgx.Tx, now topics) ([]Accepted, error) {
	if err := sameCount(ctx, tx, now); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `SELECT log_id, events_topic_id <> $1, records_topic_id <> $2, partitions FROM audittrail.heads
		WHERE log_id < $3 AND (events_topic_id <> $1 OR records_topic_id <> $2 OR partitions <> $3) ORDER BY log_id FOR UPDATE`,
		now.events[:], now.records[:], now.partitions)
	if err != nil {
		return nil, err
	}
	var changed []Accepted
	var a Accepted
	if _, err := pgx.ForEachRow(rows, []any{&a.Log, &a.Events, &a.Records, &a.PartitionsBefore}, func() error {
		changed = append(changed, a)
		return nil
	}); err != nil {
		return nil, err
	}
	// The owner changes, so that whoever has the logs now finds out.
	_, err = tx.Exec(ctx, `UPDATE audittrail.heads SET owner = $4, events_topic_id = $1, records_topic_id = $2, partitions = $3,
		next_offset = CASE WHEN events_topic_id <> $1 THEN 0 ELSE next_offset END, next_index = CASE WHEN events_topic_id <> $1 THEN 0 ELSE next_index END,
		records_position = CASE WHEN records_topic_id <> $2 THEN 0 ELSE records_position END
		WHERE log_id < $3 AND (events_topic_id <> $1 OR records_topic_id <> $2 OR partitions <> $3)`,
		now.events[:], now.records[:], now.partitions, [16]byte(uuid.New()))
	return changed, err
}
