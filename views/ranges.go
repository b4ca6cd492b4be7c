package views

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/segment"
)

const (
	tailRangesSQL = `SELECT want.n, t.first_index, t.data
		FROM unnest($1::int2[], $2::int8[], $3::int8[]) WITH ORDINALITY AS want (log_id, first, last, n)
		JOIN audittrail.tail t ON t.log_id = want.log_id AND t.first_index >= want.first / 256 * 256
			AND t.first_index < want.last AND t.first_index + t.n > want.first
		ORDER BY want.n, t.first_index`
	daysSQL = `SELECT t.log_id, t.bundle, t.day
		FROM unnest($1::int2[], $2::int8[]) AS want (log_id, bundle)
		JOIN audittrail.tiles0 t ON t.log_id = want.log_id AND t.bundle = want.bundle`
)

// readRanges returns the entries of ranges that the heads say are stored, by index in the log alone. The tail is read first, then
// the directory of complete bundles, then `segments`: what leaves one is found in the next.
func (s *Server) readRanges(ctx context.Context, ranges []entryRange) ([][]segment.Entry, error) {
	out := make([][]segment.Entry, len(ranges))
	var open []int // indexes of ranges that are not in memory
	for i, r := range ranges {
		if b, ok := s.bundles.get(r.key()); ok {
			out[i] = within(b, r)
		} else {
			open = append(open, i)
		}
	}
	s.metrics.bundles.WithLabelValues("hit").Add(float64(len(ranges) - len(open)))
	if len(open) == 0 {
		return out, nil
	}
	days, err := s.readTail(ctx, ranges, open, out)
	if err != nil {
		return nil, fmt.Errorf("read tail: %w", err)
	}
	var want []address
	for _, i := range open {
		if day, complete := days[ranges[i].key()]; complete && len(out[i]) < int(ranges[i].to-ranges[i].from) {
			want = append(want, address{ranges[i].key(), day})
		}
	}
	var bundles map[bundleKey]*bundle
	if len(want) > 0 {
		if bundles, _, err = s.readBundles(ctx, want, true); err != nil {
			return nil, err
		}
	}
	for _, i := range open {
		r := ranges[i]
		if b := bundles[r.key()]; b != nil {
			out[i] = within(b, r)
		}
		if len(out[i]) < int(r.to-r.from) {
			return nil, s.missing(ctx, r)
		}
	}
	return out, nil
}

// readTail puts what the tail holds of the ranges into out and returns the days of their bundles that are complete.
func (s *Server) readTail(ctx context.Context, ranges []entryRange, open []int, out [][]segment.Entry) (map[bundleKey]int16, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StatementTime)
	defer cancel()
	var logs []int16
	var firsts, lasts, bundles []int64
	for _, i := range open {
		r := ranges[i]
		logs, firsts, lasts = append(logs, r.log), append(firsts, r.from), append(lasts, r.to)
		bundles = append(bundles, r.from/segment.BundleSize)
	}
	var batch pgx.Batch
	batch.Queue(tailRangesSQL, logs, firsts, lasts).Query(func(rows pgx.Rows) error {
		var n, first int64
		var data []byte
		_, err := pgx.ForEachRow(rows, []any{&n, &first, &data}, func() error {
			i := open[n-1]
			entries, err := segment.Decode(data)
			if err != nil {
				return damaged(err, "tail of log %d at %d", ranges[i].log, first)
			}
			next := ranges[i].from + int64(len(out[i]))
			if first > next {
				return nil // its bundle was completed and opened again meanwhile, or it is damaged: the length will tell
			}
			entries = entries[min(next-first, int64(len(entries))):]
			out[i] = append(out[i], entries[:min(int64(len(entries)), ranges[i].to-next)]...)
			return nil
		})
		return err
	})
	days := make(map[bundleKey]int16)
	batch.Queue(daysSQL, logs, bundles).Query(func(rows pgx.Rows) error {
		var key bundleKey
		var day int16
		_, err := pgx.ForEachRow(rows, []any{&key.log, &key.bundle, &day}, func() error {
			days[key] = day
			return nil
		})
		return err
	})
	return days, s.db.SendBatch(ctx, &batch).Close()
}

// within is the part of a bundle that a range asks for; shorter when the bundle is.
func within(b *bundle, r entryRange) []segment.Entry {
	n := int64(len(b.entries))
	first := r.from % segment.BundleSize
	return b.entries[min(first, n):min(first+r.to-r.from, n)]
}

// missing says what it means that entries are nowhere which the head counted: after a fail-over to an older copy the head is
// smaller now, and the sink fills it again; otherwise the store is damaged.
func (s *Server) missing(ctx context.Context, r entryRange) error {
	now, err := s.readSizes(ctx)
	switch {
	case err != nil:
		return err
	case now.of(r.log) < r.to:
		return unavailable("log %d has gone back and is being filled again; try again", r.log)
	default:
		return damaged(nil, "entries %d to %d of log %d are not there", r.from, r.to-1, r.log)
	}
}
