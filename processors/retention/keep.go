package retention

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/rollup"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// copyKept copies what must stay longer than the leaf, in one transaction.
func (r *runner) copyKept(ctx context.Context, parent, leaf string, day int16) error {
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		if parent != "segments" {
			return ledger(ctx, tx, parent, leaf, "copied", day)
		}
		k := keeper{runner: r, tx: tx, day: day, leaf: leaf}
		if err := k.copy(ctx); err != nil {
			return err
		}
		var until *int16
		var kept *string
		if k.kept > 0 {
			until, kept = &k.until, &k.into
		}
		_, err := tx.Exec(ctx, `INSERT INTO audittrail.retention_ledger (parent, leaf, step, day, kept_leaf, kept_until, kept, removed)
			VALUES ($1, $2, 'copied', $3, $4, $5, $6, $7)`, parent, leaf, day, kept, until, k.kept, k.removed)
		return err
	})
}

// keeper copies one day.
type keeper struct {
	*runner
	tx         pgx.Tx
	day        int16
	leaf, into string // into is empty until there is something to keep
	until      int16
	kept       int64
	removed    int64

	segments, rollups [][]any
	bundle            struct {
		framed []byte
		terms  []uint64
		cells  []rollup.Cell
	}
	scan segment.Scanner
}

// keepRows is how many bundles are read, and written, at a time.
const keepRows = 256

func (k *keeper) copy(ctx context.Context) error {
	if _, err := k.tx.Exec(ctx, "DECLARE bundles NO SCROLL CURSOR FOR SELECT log_id, bundle, data FROM "+table(k.leaf)+" ORDER BY log_id, bundle"); err != nil {
		return err
	}
	for {
		rows, err := k.tx.Query(ctx, "FETCH "+strconv.Itoa(keepRows)+" FROM bundles")
		if err != nil {
			return err
		}
		type bundle struct {
			Log    int16
			Bundle int64
			Data   []byte
		}
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[bundle])
		if err != nil || len(all) == 0 {
			return err
		}
		for _, b := range all {
			if err := k.add(ctx, b.Log, b.Bundle, b.Data); err != nil {
				return fmt.Errorf("bundle %d of log %d: %w", b.Bundle, b.Log, err)
			}
		}
		if err := k.flush(ctx); err != nil {
			return err
		}
	}
}

// add decides what stays of a bundle.
func (k *keeper) add(ctx context.Context, log int16, number int64, data []byte) error {
	entries, err := segment.Decode(data)
	if err != nil {
		return err
	}
	b := &k.bundle
	b.framed, b.terms, b.cells = b.framed[:0], b.terms[:0], b.cells[:0]
	var low, high event.ID
	n := 0
	for _, e := range entries {
		if e.Kind != segment.KindRecord {
			b.framed = segment.AppendEntry(b.framed, e.Kind, e.Payload)
			continue
		}
		var decoded audittrailv1.Event
		if err := decoded.UnmarshalVTUnsafe(e.Payload); err != nil {
			return err
		}
		due := int64(k.day) + 1 + int64(decoded.GetEnrichment().GetRetentionDays())
		if decoded.GetEnrichment().GetRetentionDays() <= uint32(k.cfg.Days) || due <= int64(k.today) {
			hash := segment.LeafHash(e)
			b.framed = segment.AppendEntry(b.framed, segment.KindRedacted, hash[:])
			k.removed++
			continue
		}
		if k.kept == 0 || due < int64(k.until) {
			k.until = int16(min(due, 1<<15-1))
		}
		k.kept++
		b.framed = segment.AppendEntry(b.framed, e.Kind, e.Payload)
		id := event.IDOf(&decoded)
		if n == 0 || id.Compare(low) < 0 {
			low = id
		}
		if n == 0 || id.Compare(high) > 0 {
			high = id
		}
		n++
		if err := k.count(ctx, e.Payload, id); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	k.segments = append(k.segments, []any{k.day, log, number, [16]byte(low), [16]byte(high), []byte(segment.BuildFilter(b.terms, n)), segment.Encode(nil, b.framed)})
	k.rollup(log, number)
	return nil
}

// count adds the terms and the cell of a record that stays.
func (k *keeper) count(ctx context.Context, record []byte, id event.ID) error {
	k.scan.Terms = k.bundle.terms
	sum, err := k.scan.Scan(record)
	if err != nil {
		return err
	}
	k.bundle.terms = k.scan.Terms
	if k.names == nil {
		if k.names, err = readNames(ctx, k.tx); err != nil {
			return err
		}
	}
	k.bundle.cells = append(k.bundle.cells, rollup.Cell{Minute: rollup.MinuteOf(id.Time().UnixMilli()), Source: k.names.sources[sum.Source],
		Action: k.names.actions[sum.Action], Outcome: int16(sum.Outcome), Count: 1})
	return nil
}

func (k *keeper) rollup(log int16, number int64) {
	for cells := rollup.Sum(k.bundle.cells); len(cells) > 0; {
		day := cells[0].Day()
		n, records := 0, int16(0)
		for ; n < len(cells) && cells[n].Day() == day; n++ {
			records += int16(cells[n].Count)
		}
		k.rollups = append(k.rollups, []any{k.day, day, log, number, records, rollup.Append(nil, cells[:n])})
		cells = cells[n:]
	}
}

// flush writes what is collected, making the leaves when there is something for the first time.
func (k *keeper) flush(ctx context.Context) error {
	if len(k.segments) == 0 {
		return nil
	}
	if k.into == "" {
		into := keptName(k.leaf)
		for _, leaves := range [][3]string{{"segments", k.leaf, into}, {"rollups", rollupsOf(k.leaf), rollupsOf(into)}} {
			if err := k.makeLeaf(ctx, leaves[0], leaves[1], leaves[2]); err != nil {
				return fmt.Errorf("make %s: %w", leaves[2], err)
			}
		}
		k.into = into
	}
	for _, c := range []struct {
		leaf    string
		columns []string
		rows    *[][]any
	}{
		{k.into, []string{"day", "log_id", "bundle", "min_id", "max_id", "filter", "data"}, &k.segments},
		{rollupsOf(k.into), []string{"day", "occurred_day", "log_id", "bundle", "records", "counts"}, &k.rollups},
	} {
		if _, err := k.tx.CopyFrom(ctx, pgx.Identifier{"audittrail", c.leaf}, c.columns, pgx.CopyFromRows(*c.rows)); err != nil {
			return fmt.Errorf("copy to %s: %w", c.leaf, err)
		}
		clear(*c.rows)
		*c.rows = (*c.rows)[:0]
	}
	return nil
}

var keptSuffix = regexp.MustCompile(`_k(\d+)$`)

// keptName is the next name for what is kept of a leaf: segments_20260101, segments_20260101_k1, segments_20260101_k2.
func keptName(leaf string) string {
	m := keptSuffix.FindStringSubmatchIndex(leaf)
	if m == nil {
		return leaf + "_k1"
	}
	n, _ := strconv.Atoi(leaf[m[2]:m[3]])
	return leaf[:m[0]] + "_k" + strconv.Itoa(n+1)
}

// makeLeaf makes a table like the parent's other leaves; row triggers come with ATTACH.
func (k *keeper) makeLeaf(ctx context.Context, parent, old, leaf string) error {
	var options []string
	var toast []string
	if err := k.tx.QueryRow(ctx, `SELECT coalesce(c.reloptions, '{}'), coalesce(t.reloptions, '{}') FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
		WHERE c.oid = to_regclass($1)`, table(old)).Scan(&options, &toast); err != nil {
		return err
	}
	for _, o := range toast {
		options = append(options, "toast."+o)
	}
	slices.Sort(options)
	with := ""
	for i, o := range options {
		if i > 0 {
			with += ", "
		}
		with += o
	}
	if with != "" {
		with = " WITH (" + with + ")"
	}
	for _, sql := range []string{
		"CREATE TABLE " + table(leaf) + " (LIKE " + table(parent) + " INCLUDING ALL)" + with,
		fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT of_day CHECK (day IS NOT NULL AND day >= %d AND day < %d)", table(leaf), k.day, k.day+1),
		"CREATE TRIGGER no_truncate BEFORE TRUNCATE ON " + table(leaf) + " FOR EACH STATEMENT EXECUTE FUNCTION audittrail.forbid()",
		"ALTER TABLE " + table(leaf) + " ENABLE ALWAYS TRIGGER no_truncate",
	} {
		if _, err := k.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// names are the dictionaries.
type names struct{ sources, actions map[string]int32 }

func readNames(ctx context.Context, tx pgx.Tx) (*names, error) {
	n := &names{make(map[string]int32), make(map[string]int32)}
	for sql, into := range map[string]map[string]int32{"SELECT path, source_id FROM audittrail.sources": n.sources, "SELECT name, action_id FROM audittrail.actions": n.actions} {
		rows, err := tx.Query(ctx, sql)
		if err != nil {
			return nil, err
		}
		var name string
		var id int32
		if _, err := pgx.ForEachRow(rows, []any{&name, &id}, func() error {
			into[name] = id
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return n, nil
}
