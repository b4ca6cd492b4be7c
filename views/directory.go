package views

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// directory knows every complete bundle: where it stands, and between which ids its records lie. It is read once, day by day, and then
// only what is new; bundles never change. It holds 56 bytes for 256 events, and gives up above its bound: then walks read rows of `events`
// instead.
type directory struct {
	db    querier
	bound int // bundles

	mu     sync.Mutex // held while it is read: those who wait want the same
	loaded bool
	logs   []logDirectory
	n      int
}

// logDirectory has the bundles of one log that retention has left, in order; the next is bundle `next`.
type logDirectory struct {
	next    int64
	bundles []bundleInfo
}

// bundleInfo is one complete bundle.
type bundleInfo struct {
	bundle   int64
	min, max event.ID // of its records; max is zero when it has none
	day      int16
}

// Bytes of a directory's entry.
const bundleInfoBytes = 48

const directorySQL = `SELECT log_id, bundle, coalesce(min_id, '00000000-0000-0000-0000-000000000000'), coalesce(max_id, '00000000-0000-0000-0000-000000000000')
	FROM audittrail.segments WHERE day = $1 ORDER BY log_id, bundle`

// upTo returns the bundles that are complete in logs of these sizes. False: there are too many. What it returns must not be changed.
func (d *directory) upTo(ctx context.Context, now sizes) ([]logDirectory, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n > d.bound {
		return nil, false, nil
	}
	if !d.loaded {
		if err := d.load(ctx); err != nil {
			return nil, false, err
		}
		d.loaded = true
	}
	if err := d.extend(ctx, now); err != nil {
		return nil, false, err
	}
	if d.n > d.bound {
		d.logs = nil
		return nil, false, nil
	}
	out := make([]logDirectory, len(now))
	for log, size := range now {
		if log >= len(d.logs) {
			continue
		}
		l := d.logs[log]
		complete := size / segment.BundleSize
		n := len(l.bundles)
		for n > 0 && l.bundles[n-1].bundle >= complete {
			n--
		}
		if l.next < complete {
			return nil, false, nil // one that the head counts is not there: the reading of rows will say why
		}
		out[log] = logDirectory{next: complete, bundles: l.bundles[:n:n]}
	}
	return out, true, nil
}

// load reads all days, one statement each: over all leaves at once PostgreSQL would plan for a second and take thousands of locks.
func (d *directory) load(ctx context.Context) error {
	d.logs, d.n = nil, 0
	rows, err := d.db.Query(ctx, `SELECT audittrail.day_number(from_day) FROM audittrail.leaves WHERE parent = 'segments' ORDER BY from_day`)
	if err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowTo[int16])
	if err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	for _, day := range days {
		rows, err := d.db.Query(ctx, directorySQL, day)
		if err == nil {
			err = d.take(rows, day)
		}
		if err != nil {
			return fmt.Errorf("read directory: %w", err)
		}
		if d.n > d.bound {
			return nil
		}
	}
	return nil
}

// extend reads the bundles that were completed since: tiles0 says of which days they are.
func (d *directory) extend(ctx context.Context, now sizes) error {
	var logs []int16
	var from []int64
	for log, size := range now {
		for len(d.logs) <= log {
			d.logs = append(d.logs, logDirectory{})
		}
		if next := d.logs[log].next; next < size/segment.BundleSize {
			logs, from = append(logs, int16(log)), append(from, next)
		}
	}
	if len(logs) == 0 {
		return nil
	}
	rows, err := d.db.Query(ctx, `SELECT t.log_id, t.bundle, t.day FROM unnest($1::int2[], $2::int8[]) AS want (log_id, first)
		JOIN audittrail.tiles0 t ON t.log_id = want.log_id AND t.bundle >= want.first ORDER BY t.day, t.log_id, t.bundle`, logs, from)
	if err != nil {
		return fmt.Errorf("extend directory: %w", err)
	}
	var a address
	byDay := make(map[int16]*addresses)
	var days []int16
	if _, err = pgx.ForEachRow(rows, []any{&a.log, &a.bundle, &a.day}, func() error {
		if byDay[a.day] == nil {
			byDay[a.day] = new(addresses)
			days = append(days, a.day)
		}
		byDay[a.day].add(a)
		return nil
	}); err != nil {
		return fmt.Errorf("extend directory: %w", err)
	}
	for _, day := range days { // ascending: of each log, bundles come in order
		rows, err := d.db.Query(ctx, `SELECT s.log_id, s.bundle, coalesce(s.min_id, '00000000-0000-0000-0000-000000000000'),
				coalesce(s.max_id, '00000000-0000-0000-0000-000000000000')
			FROM unnest($2::int2[], $3::int8[]) AS want (log_id, bundle)
			JOIN audittrail.segments s ON s.day = $1 AND s.log_id = want.log_id AND s.bundle = want.bundle ORDER BY s.log_id, s.bundle`,
			day, byDay[day].logs, byDay[day].bundles)
		if err == nil {
			err = d.take(rows, day)
		}
		if err == nil {
			err = d.pass(ctx, byDay[day], day)
		}
		if err != nil {
			return fmt.Errorf("extend directory: %w", err)
		}
	}
	return nil
}

// pass leaves out bundles of a day that retention has removed.
func (d *directory) pass(ctx context.Context, known *addresses, day int16) error {
	missing := false
	for i, log := range known.logs {
		missing = missing || d.logs[log].next <= known.bundles[i]
	}
	if !missing {
		return nil
	}
	gone, err := dayRemoved(ctx, d.db, day)
	if err != nil || !gone {
		return err
	}
	for i, log := range known.logs {
		d.logs[log].next = max(d.logs[log].next, known.bundles[i]+1)
	}
	return nil
}

func (d *directory) take(rows pgx.Rows, day int16) error {
	var log int16
	info := bundleInfo{day: day}
	_, err := pgx.ForEachRow(rows, []any{&log, &info.bundle, (*[16]byte)(&info.min), (*[16]byte)(&info.max)}, func() error {
		for len(d.logs) <= int(log) {
			d.logs = append(d.logs, logDirectory{})
		}
		l := &d.logs[log]
		if info.bundle < l.next {
			return nil // known
		}
		l.bundles = append(l.bundles, info)
		l.next = info.bundle + 1
		d.n++
		return nil
	})
	return err
}

// forget makes the directory be read again: retention has removed a day.
func (d *directory) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loaded = false
}

// dayRemoved says whether the leaf of a day is gone, as it is once retention has removed it.
func dayRemoved(ctx context.Context, db querier, day int16) (bool, error) {
	rows, err := db.Query(ctx, `SELECT EXISTS (SELECT FROM audittrail.leaves WHERE parent = 'segments' AND from_day = audittrail.date_of_day($1))`, day)
	if err != nil {
		return false, fmt.Errorf("read days: %w", err)
	}
	there, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err != nil {
		return false, fmt.Errorf("read days: %w", err)
	}
	return !there, nil
}

// gone says what it means that a bundle is not there: nil when retention has removed its day, otherwise errDamaged.
func (s *Server) gone(ctx context.Context, a address) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	removed, err := dayRemoved(ctx, s.db, a.day)
	switch {
	case err != nil:
		return err
	case !removed:
		return damaged(nil, "bundle %d of log %d of day %d is not there", a.bundle, a.log, a.day)
	}
	s.directory.forget()
	return nil
}
