package rollup

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// Querier is a transaction. For an exact answer it is REPEATABLE READ, so that rollups, events and tail are of one snapshot. Its connection has
// plan_cache_mode=force_custom_plan: a generic plan opens every leaf.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Result says what was counted.
type Result struct {
	// From and To are the whole minutes of the range, in which events of open bundles were not counted: Tail counts them. From = To: none.
	From, To time.Time
	// Exact is false when some complete bundles have no rollups because a program stored them that made none.
	Exact bool
	// Leaves and Rows of `rollups` that were looked at, and Events that were counted one by one at the edges.
	Leaves, Rows, Events int
}

const (
	// window is how many leaves one query opens.
	window = 32
	// ahead is by how many days an event may claim to have occurred after the day it was stored on (the sink's bound is 31).
	ahead = 32
)

// Read calls f for the counts of events that occurred in [from, to), to the millisecond; several cells may be for the same minute, source, action
// and outcome. Whole minutes come from the rollups of complete bundles; the parts of a minute at the edges are counted from `events`, open
// bundles included.
//
// Late events count when they occurred: all leaves from a month before `from` on are looked at, each with one step into its index, some 32 at a
// time.
func Read(ctx context.Context, db Querier, from, to time.Time, f func(Cell)) (Result, error) {
	from, to = floor(from, time.Millisecond), floor(to, time.Millisecond)
	r := Result{From: floor(from.Add(time.Minute-time.Millisecond), time.Minute), To: floor(to, time.Minute), Exact: true}
	if !from.Before(to) {
		r.From, r.To = from, from
		return r, nil
	}
	edges := [][2]time.Time{{from, r.From}, {r.To, to}}
	if !r.From.Before(r.To) {
		r.From, r.To = from, from
		edges = [][2]time.Time{{from, to}}
	}
	for _, e := range edges {
		if e[0].Before(e[1]) {
			n, err := readEvents(ctx, db, e[0], e[1], f)
			if err != nil {
				return r, fmt.Errorf("count events at the edge of a minute: %w", err)
			}
			r.Events += n
		}
	}
	if r.From.Equal(r.To) {
		return r, nil
	}
	return r, r.readRollups(ctx, db, f)
}

// floor is t rounded down; Time.Truncate counts from year 1, which is the same for units that divide a day.
func floor(t time.Time, unit time.Duration) time.Time { return t.UTC().Truncate(unit) }

func readEvents(ctx context.Context, db Querier, from, to time.Time, f func(Cell)) (int, error) {
	rows, err := db.Query(ctx, `SELECT id, source_id, action_id, outcome FROM audittrail.events WHERE id >= $1 AND id < $2`,
		[16]byte(event.LowerBound(from)), [16]byte(event.LowerBound(to)))
	if err != nil {
		return 0, err
	}
	var id [16]byte
	c := Cell{Count: 1}
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&id, &c.Source, &c.Action, &c.Outcome}, func() error {
		c.Minute = MinuteOf(event.ID(id).Time().UnixMilli())
		n++
		f(c)
		return nil
	})
	return n, err
}

func (r *Result) readRollups(ctx context.Context, db Querier, f func(Cell)) error {
	first, last := MinuteOf(r.From.UnixMilli()), MinuteOf(r.To.UnixMilli())-1
	low, high := (&Cell{Minute: first}).Day(), (&Cell{Minute: last}).Day()
	days, err := collect[int16](ctx, db, `SELECT audittrail.day_number(from_day) FROM audittrail.leaves WHERE parent = 'rollups'
		AND from_day >= audittrail.date_of_day($1::int2) - $2::int4 ORDER BY from_day`, low, ahead)
	if err != nil {
		return fmt.Errorf("read leaves of rollups: %w", err)
	}
	r.Leaves = len(days)
	for ; len(days) > 0; days = days[min(window, len(days)):] {
		if err := r.readWindow(ctx, db, days[:min(window, len(days))], [2]int16{low, high}, [2]int32{first, last}, f); err != nil {
			return fmt.Errorf("read rollups: %w", err)
		}
	}
	late, err := collect[int64](ctx, db, `SELECT bundle FROM audittrail.rollup_starts WHERE bundle > 0`)
	if err != nil {
		return fmt.Errorf("read where rollups begin: %w", err)
	}
	r.Exact = len(late) == 0
	return nil
}

// readWindow reads what leaves of some days say about events that occurred on other days. It does so in a savepoint that is rolled back: the locks of a
// window go with it, and only those of 32 leaves are held at a time.
func (r *Result) readWindow(ctx context.Context, db Querier, part []int16, occurred [2]int16, minutes [2]int32, f func(Cell)) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	rows, err := tx.Query(ctx, `SELECT occurred_day, counts FROM audittrail.rollups
		WHERE day >= $1 AND day <= $2 AND occurred_day >= $3 AND occurred_day <= $4`, part[0], part[len(part)-1], occurred[0], occurred[1])
	if err != nil {
		return err
	}
	var day int16
	var counts pgtype.DriverBytes
	_, err = pgx.ForEachRow(rows, []any{&day, &counts}, func() error {
		r.Rows++
		return Each(day, counts, func(c Cell) {
			if c.Minute >= minutes[0] && c.Minute <= minutes[1] {
				f(c)
			}
		})
	})
	return err
}

func collect[T any](ctx context.Context, db Querier, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// Tail calls f for the records of open bundles that occurred in [from, to); with the whole minutes of a Result they are what Read left out. The
// strings of the event point into memory that is not used again. There are at most 255 records a log.
func Tail(ctx context.Context, db Querier, from, to time.Time, f func(*audittrailv1.Event)) error {
	if !from.Before(to) {
		return nil
	}
	low, high := event.LowerBound(from), event.LowerBound(to)
	rows, err := db.Query(ctx, `SELECT data FROM audittrail.tail`)
	if err != nil {
		return fmt.Errorf("read tail: %w", err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return fmt.Errorf("read tail: %w", err)
	}
	for _, data := range parts {
		entries, err := segment.Decode(data)
		if err != nil {
			return fmt.Errorf("read tail: %w", err)
		}
		for _, e := range entries {
			if e.Kind != segment.KindRecord {
				continue
			}
			decoded := new(audittrailv1.Event)
			if err := decoded.UnmarshalVTUnsafe(e.Payload); err != nil {
				return fmt.Errorf("read tail: %w", err)
			}
			if id := event.IDOf(decoded); id.Compare(low) >= 0 && id.Compare(high) < 0 {
				f(decoded)
			}
		}
	}
	return nil
}
