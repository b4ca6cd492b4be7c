package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/maxviazov/audittrail/proto/event"
)

// store is the sink's side of PostgreSQL.
type store struct {
	db *pgxpool.Pool
}

// openStore makes the pool; nothing is connected yet. configure may be nil.
func openStore(dsn string, timeout time.Duration, configure func(*pgxpool.Config)) (*store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 4
	cfg.ConnConfig.RuntimeParams["application_name"] = "audittrail-sink"
	// Ids and days are parameters: a generic plan would open every leaf.
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	// A sink that stopped in the middle holds locks that its successor waits for.
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "30s"
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = strconv.FormatInt(timeout.Milliseconds(), 10)
	if configure != nil {
		configure(cfg)
	}
	db, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	return &store{db: db}, nil
}

var (
	// errForeign: another session owns the log, or PostgreSQL is not where this session left it (R11).
	errForeign = errors.New("head is not as this session left it")
	// errStored: an id of the batch is stored already (23505 on events).
	errStored = errors.New("id is stored already")
)

// write stores a batch in one transaction: everything, or nothing. beforeCommit runs when all rows are in. Errors: errStored, after which the batch can be settled and written again; any
// other, an unknown outcome of COMMIT included, leaves only one thing to do: to throw the session's memory away (R11).
func (s *store) write(ctx context.Context, owner, topic [16]byte, b *batch, beforeCommit func(context.Context) error) error {
	tx, err := s.db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// After a commit this does nothing; otherwise the connection may be gone, and so is the transaction.
	defer tx.Rollback(context.WithoutCancel(ctx))
	logs, before := make([]int16, len(b.logs)), make([]seen, len(b.logs))
	for i, l := range b.logs {
		logs[i], before[i] = l.head.log, l.before
		if positionOutside {
			before[i] = l.after
			if _, err := s.db.Exec(ctx, "UPDATE audittrail.heads SET next_offset = $2, next_index = $3, records_position = $4 WHERE log_id = $1",
				l.head.log, l.after.next.offset, int32(l.after.next.index), l.after.position); err != nil {
				return fmt.Errorf("write position: %w", err)
			}
		}
	}
	if err := compare(ctx, tx, owner, logs, before, true); err != nil {
		return err
	}
	// With the heads locked: whoever sets a bound locks them too, so it holds from one transaction on.
	if err := compareBounds(ctx, tx, logs, func(i int) event.ID { return b.logs[i].head.bound }); err != nil {
		return err
	}
	conn := tx.Conn().PgConn()
	for _, c := range []struct {
		table, columns string
		rows           *rows
	}{
		{"events", eventColumns, &b.out.events},
		{"segments", segmentColumns, &b.out.segments},
		{"tiles0", tileColumns, &b.out.tiles},
		{"rollups", rollupColumns, &b.out.rollups},
		{"tail", tailColumns, &b.out.tail},
		{"deadletters", deadColumns, &b.out.dead},
	} {
		if c.rows.n == 0 {
			continue
		}
		_, err := conn.CopyFrom(ctx, bytes.NewReader(c.rows.finished()), "COPY audittrail."+c.table+" ("+c.columns+") FROM STDIN BINARY")
		if c.table == "events" && isTaken(err) {
			return errStored
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", c.table, err)
		}
	}
	if err := writeRest(ctx, tx, topic, b); err != nil {
		return err
	}
	if err := beforeCommit(ctx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// isTaken says whether an error is a unique violation on a leaf of events.
func isTaken(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && strings.HasPrefix(pg.TableName, "events_")
}

// querier is a transaction or the pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// compare reads the heads, whose logs are ascending, locking them in ascending order when they are about to be written, and compares owner, next slot and position with
// this session's memory. Comparing the slot alone can corrupt the tree: after a rollback of PostgreSQL another sink may have come to the same slot
// by another way.
func compare(ctx context.Context, db querier, owner [16]byte, logs []int16, want []seen, lock bool) error {
	sql := "SELECT log_id, owner, next_offset, next_index, records_position FROM audittrail.heads WHERE log_id = ANY ($1) ORDER BY log_id"
	if lock {
		sql += " FOR UPDATE"
	}
	rows, err := db.Query(ctx, sql, logs)
	if err != nil {
		return fmt.Errorf("read heads: %w", err)
	}
	var log int16
	var is seen
	var have [16]byte
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&log, &have, &is.next.offset, &is.next.index, &is.position}, func() error {
		i, found := slices.BinarySearch(logs, log)
		n++
		if found && (have != owner || is != want[i]) && !positionNotCompared {
			return fmt.Errorf("%w: log %d: owner %x, next %v, position %d; want %x, %v, %d", errForeign, log, have, is.next, is.position,
				owner, want[i].next, want[i].position)
		}
		return nil
	})
	switch {
	case errors.Is(err, errForeign):
		return err
	case err != nil:
		return fmt.Errorf("read heads: %w", err)
	case n != len(logs):
		return fmt.Errorf("%w: %d of %d heads are there", errForeign, n, len(logs))
	}
	return nil
}

// writeRest writes what COPY does not: the gap ledger, complete tails, heads.
func writeRest(ctx context.Context, tx pgx.Tx, topic [16]byte, b *batch) error {
	if len(b.out.doneLogs) > 0 {
		// After the segments: the trigger looks for them.
		if _, err := tx.Exec(ctx, `DELETE FROM audittrail.tail t USING unnest($1::int2[], $2::int8[]) AS d (log_id, bundle)
			WHERE t.log_id = d.log_id AND t.first_index >= d.bundle * 256 AND t.first_index < d.bundle * 256 + 256`,
			b.out.doneLogs, b.out.doneBundles); err != nil {
			return fmt.Errorf("delete complete tails: %w", err)
		}
	}
	for _, l := range b.logs {
		if err := writeGaps(ctx, tx, topic, l); err != nil {
			return fmt.Errorf("write gaps of log %d: %w", l.head.log, err)
		}
	}
	return writeHeads(ctx, tx, b)
}

func writeGaps(ctx context.Context, tx pgx.Tx, topic [16]byte, l *logBatch) error {
	for i := range l.stored() {
		d := &l.decisions[i]
		if d.kind != takeGap {
			continue
		}
		if err := tx.QueryRow(ctx, `INSERT INTO audittrail.gaps (log_id, log_index, events_topic_id, from_offset, from_index, end_offset, end_index, reason)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING gap_id`, l.head.log, d.gap.index, topic[:], d.gap.from.offset, int32(d.gap.from.index),
			d.gap.end.offset, int32(d.gap.end.index), d.gap.reason.String()).Scan(&d.gap.row.id); err != nil {
			return err
		}
	}
	var filled []int64
	for _, f := range l.fills {
		if _, err := tx.Exec(ctx, `INSERT INTO audittrail.gap_fills (gap_id, from_offset, from_index, end_offset, end_index) VALUES ($1, $2, $3, $4, $5)`,
			f.row.id, f.from.offset, int32(f.from.index), f.end.offset, int32(f.end.index)); err != nil {
			return err
		}
		if f.row.parts == 0 {
			filled = append(filled, f.row.id)
		}
	}
	if len(filled) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, "UPDATE audittrail.gaps SET filled_at = now() WHERE gap_id = ANY ($1) AND filled_at IS NULL", filled)
	return err
}

func writeHeads(ctx context.Context, tx pgx.Tx, b *batch) error {
	n := len(b.logs)
	logs, days := make([]int16, n), make([]int16, n)
	offsets, positions, sizes := make([]int64, n), make([]int64, n), make([]int64, n)
	indexes, frontiers := make([]int32, n), make([][]byte, n)
	records, drops, retries, dead, gaps := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, l := range b.logs {
		logs[i], offsets[i], indexes[i], positions[i] = l.head.log, l.after.next.offset, int32(l.after.next.index), l.after.position
		sizes[i], days[i], frontiers[i] = l.state.size, l.state.open.day, l.state.frontier
		records[i], drops[i], retries[i], dead[i], gaps[i] = l.records, l.dropped, l.retries, l.dead, l.gaps
	}
	tag, err := tx.Exec(ctx, `UPDATE audittrail.heads h SET next_offset = v.next_offset, next_index = v.next_index, records_position = v.position,
		size = v.size, open_day = v.day, frontier = v.frontier, records = h.records + v.records, drops = h.drops + v.drops,
		duplicates = h.duplicates + v.retries, dead_letters = h.dead_letters + v.dead, gaps = h.gaps + v.gaps, stored_at = now()
		FROM unnest($1::int2[], $2::int8[], $3::int4[], $4::int8[], $5::int8[], $6::int2[], $7::bytea[], $8::int8[], $9::int8[], $10::int8[],
		$11::int8[], $12::int8[]) AS v (log_id, next_offset, next_index, position, size, day, frontier, records, drops, retries, dead, gaps)
		WHERE h.log_id = v.log_id`,
		logs, offsets, indexes, positions, sizes, days, frontiers, records, drops, retries, dead, gaps)
	if err != nil {
		return fmt.Errorf("write heads: %w", err)
	}
	if tag.RowsAffected() != int64(n) {
		return fmt.Errorf("%w: %d of %d heads written", errForeign, tag.RowsAffected(), n)
	}
	return nil
}

// extendLeaves makes leaves for events up to the given id's time, and for the days to come. It blocks nobody. It returns PostgreSQL's day, counted
// from 2000-01-01 UTC.
func (s *store) extendLeaves(ctx context.Context, last [16]byte) (day int16, err error) {
	row := s.db.QueryRow(ctx, `SELECT ((now() AT TIME ZONE 'UTC')::date - date '2000-01-01')::int2 FROM audittrail.extend_leaves(greatest(now(), audittrail.occurred_at($1)))`, last)
	if err := row.Scan(&day); err != nil {
		return 0, fmt.Errorf("make leaves: %w", err)
	}
	return day, nil
}
