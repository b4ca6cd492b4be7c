package termindex

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
)

// Querier is a connection, a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Span is bundles [First, End) of a log, all of one day.
type Span struct {
	Log        int16
	Day        int16
	First, End int64
}

// Run is a row of the directory.
type Run struct {
	ID       int64
	Level    int16
	Segments int32 // in all spans; their ordinals follow the order of the spans
	Spans    []Span
	MinID    *[16]byte // of the records; nil when there are none
	MaxID    *[16]byte
	Pairs    int64
	Bytes    int64
}

// Segment is the address of a row of segments.
type Segment struct {
	Log    int16
	Day    int16
	Bundle int64
}

// All yields the segments of the run by ordinal.
func (r *Run) All(f func(ordinal uint32, s Segment)) {
	ordinal := uint32(0)
	for _, s := range r.Spans {
		for b := s.First; b < s.End; b++ {
			f(ordinal, Segment{s.Log, s.Day, b})
			ordinal++
		}
	}
}

// Range is ids [From, To); a zero To means no upper bound.
type Range struct{ From, To event.ID }

// meets says whether a record of the run can be in the range.
func (r *Run) meets(rg Range) bool {
	return r.MinID != nil && rg.From.Compare(*r.MaxID) <= 0 && (rg.To == event.ID{} || rg.To.Compare(*r.MinID) > 0)
}

const runColumns = "run_id, level, segments, log_ids, days, firsts, ends, min_id, max_id, pairs, bytes"

// ReadRuns reads the directory, in the order in which runs were made; only the given ones unless ids is nil.
func ReadRuns(ctx context.Context, db Querier, ids []int64) ([]*Run, error) {
	rows, err := db.Query(ctx, "SELECT "+runColumns+" FROM audittrail.term_runs WHERE $1::int8[] IS NULL OR run_id = ANY ($1) ORDER BY run_id", ids)
	if err != nil {
		return nil, fmt.Errorf("read term runs: %w", err)
	}
	runs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Run, error) {
		r := new(Run)
		var logs, days []int16
		var firsts, ends []int64
		if err := row.Scan(&r.ID, &r.Level, &r.Segments, &logs, &days, &firsts, &ends, &r.MinID, &r.MaxID, &r.Pairs, &r.Bytes); err != nil {
			return nil, err
		}
		n := int64(0)
		for i := range logs {
			r.Spans = append(r.Spans, Span{logs[i], days[i], firsts[i], ends[i]})
			n += ends[i] - firsts[i]
		}
		if n != int64(r.Segments) {
			return nil, fmt.Errorf("%w: run %d has %d segments in its spans, not %d", ErrMalformed, r.ID, n, r.Segments)
		}
		return r, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read term runs: %w", err)
	}
	return runs, nil
}

// Covered is where each log goes on that is in the runs: the first bundle that is in none. Logs that are in none are left out: 0.
func Covered(runs []*Run) map[int16]int64 {
	ends := make(map[int16]int64)
	for _, r := range runs {
		for _, s := range r.Spans {
			ends[s.Log] = max(ends[s.Log], s.End)
		}
	}
	return ends
}

// Backlog is how many complete segments are in no run.
func Backlog(ctx context.Context, db Querier) (segments int64, err error) {
	rows, err := db.Query(ctx, `SELECT coalesce(sum(h.size / 256 - coalesce(r.past, 0)), 0)::int8 FROM audittrail.heads h
		LEFT JOIN (SELECT u.log_id, max(u.past) AS past FROM audittrail.term_runs, unnest(log_ids, ends) AS u (log_id, past) GROUP BY 1) r USING (log_id)`)
	if err != nil {
		return 0, fmt.Errorf("read backlog of term runs: %w", err)
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
}

// sortSegments: by log and bundle.
func sortSegments(s []Segment) {
	slices.SortFunc(s, func(a, b Segment) int {
		if a.Log != b.Log {
			return int(a.Log) - int(b.Log)
		}
		return int(a.Bundle - b.Bundle)
	})
}
