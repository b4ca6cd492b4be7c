package indexer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/maxviazov/audittrail/internal/termindex"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// plan takes the oldest segments that are in no run, at most limit, as spans: of each log a part that is in proportion to what is waiting, so that
// the logs are indexed to about the same time.
func plan(ctx context.Context, db termindex.Querier, covered map[int16]int64, limit int) ([]termindex.Span, error) {
	rows, err := db.Query(ctx, "SELECT log_id, size / 256 FROM audittrail.heads ORDER BY log_id")
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	type waiting struct {
		log      int16
		from, to int64
	}
	var logs []waiting
	var total int64
	var w waiting
	if _, err := pgx.ForEachRow(rows, []any{&w.log, &w.to}, func() error {
		w.from = covered[w.log]
		total += max(0, w.to-w.from)
		logs = append(logs, w)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	var spans []termindex.Span
	left := int64(limit)
	for _, w := range logs {
		n := w.to - w.from
		if total > int64(limit) {
			n = (n*int64(limit) + total - 1) / total
		}
		if n = min(n, left); n <= 0 {
			continue
		}
		left -= n
		if spans, err = appendDays(ctx, db, spans, w.log, w.from, w.from+n); err != nil {
			return nil, fmt.Errorf("read days of segments: %w", err)
		}
	}
	return spans, nil
}

// appendDays cuts bundles of a log into spans of one day each.
func appendDays(ctx context.Context, db termindex.Querier, spans []termindex.Span, log int16, from, to int64) ([]termindex.Span, error) {
	rows, err := db.Query(ctx, "SELECT bundle, day FROM audittrail.tiles0 WHERE log_id = $1 AND bundle >= $2 AND bundle < $3 ORDER BY bundle", log, from, to)
	if err != nil {
		return nil, err
	}
	next := from
	var bundle int64
	var day int16
	if _, err := pgx.ForEachRow(rows, []any{&bundle, &day}, func() error {
		if bundle != next {
			return fmt.Errorf("log %d: bundle %d has no tile", log, next)
		}
		next++
		if last := len(spans) - 1; last >= 0 && spans[last].Log == log && spans[last].Day == day && spans[last].End == bundle {
			spans[last].End++
		} else {
			spans = append(spans, termindex.Span{Log: log, Day: day, First: bundle, End: bundle + 1})
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if next != to {
		return nil, fmt.Errorf("log %d: bundle %d has no tile", log, next)
	}
	return spans, nil
}

// builder reads segments and collects their pairs.
type builder struct {
	pairs  pairs
	run    termindex.Run
	absent int // segments that retention has removed
	scan   segment.Scanner
	framed []byte
}

// readChunk is how many segments one query reads: some milliseconds of work between two rests.
const readChunk = 64

// read collects the pairs of the spans' segments. progress is called after each chunk.
func (b *builder) read(ctx context.Context, db termindex.Querier, spans []termindex.Span, progress func(segments int) error) error {
	b.pairs.all = b.pairs.all[:0]
	b.run, b.absent = termindex.Run{Spans: spans}, 0
	for _, s := range spans {
		for first := s.First; first < s.End; first += readChunk {
			end := min(first+readChunk, s.End)
			if err := b.chunk(ctx, db, termindex.Span{Log: s.Log, Day: s.Day, First: first, End: end}); err != nil {
				return fmt.Errorf("read segments [%d, %d) of log %d: %w", first, end, s.Log, err)
			}
			b.run.Segments += int32(end - first)
			if err := progress(int(end - first)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) chunk(ctx context.Context, db termindex.Querier, s termindex.Span) error {
	rows, err := db.Query(ctx, `SELECT bundle, min_id, max_id, data FROM audittrail.segments
		WHERE day = $1 AND log_id = $2 AND bundle >= $3 AND bundle < $4`, s.Day, s.Log, s.First, s.End)
	if err != nil {
		return err
	}
	var bundle, n int64
	var low, high *[16]byte
	var data pgtype.DriverBytes
	if _, err := pgx.ForEachRow(rows, []any{&bundle, &low, &high, &data}, func() error {
		n++
		b.widen(low, high)
		return b.segment(uint32(int64(b.run.Segments)+bundle-s.First), data)
	}); err != nil {
		return err
	}
	b.absent += int(s.End - s.First - n)
	return nil
}

func (b *builder) widen(low, high *[16]byte) {
	if low == nil || high == nil {
		return
	}
	if b.run.MinID == nil || event.ID(*low).Compare(*b.run.MinID) < 0 {
		b.run.MinID = low
	}
	if b.run.MaxID == nil || event.ID(*high).Compare(*b.run.MaxID) > 0 {
		b.run.MaxID = high
	}
}

func (b *builder) segment(ordinal uint32, data []byte) error {
	framed, err := segment.Framed(b.framed, data)
	if err != nil {
		return err
	}
	if cap(framed) > cap(b.framed) && len(data) > 0 && data[0] != 0 {
		b.framed = framed[:0]
	}
	b.scan.Terms = b.scan.Terms[:0]
	for len(framed) >= 3 {
		n := int(framed[0])<<8 | int(framed[1])
		if n < 1 || len(framed) < 2+n {
			return fmt.Errorf("%w: cut off", segment.ErrMalformed)
		}
		if segment.Kind(framed[2]) == segment.KindRecord {
			if _, err := b.scan.Scan(framed[3 : 2+n]); err != nil {
				return err
			}
		}
		framed = framed[2+n:]
	}
	b.pairs.segment(ordinal, b.scan.Terms)
	return nil
}
