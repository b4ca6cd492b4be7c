package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/maxviazov/audittrail/internal/group"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/proto/stream"
)

// logRange says what the log of a partition holds: offsets [start, end).
type logRange func(topic string, partition int32) (group.LogRange, error)

// claim takes the logs over from whoever had them, in one transaction (R10): from its commit on every transaction of an earlier owner fails the
// comparison of R11, and one that is under way is waited for. It returns the heads, with positions inside audit-records.
//
// The group's commit plays no part: PostgreSQL may have been replaced by an older copy. If the process dies here the next claim does the same.
func (s *store) claim(ctx context.Context, owner [16]byte, logs []int32, now topics, ranges logRange) (map[int32]*head, error) {
	heads := make(map[int32]*head, len(logs))
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+patience+"'"); err != nil {
			return err
		}
		if err := sameCount(ctx, tx, now); err != nil {
			return err
		}
		for _, log := range logs { // ascending, as every transaction locks them
			h, err := claimOne(ctx, tx, owner, int16(log), now)
			if err != nil {
				return err
			}
			if err := h.startInside(ctx, tx, ranges); err != nil {
				return err
			}
			heads[log] = h
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim logs %v: %w", logs, err)
	}
	return heads, nil
}

// patience is how long a claim waits for the transaction of an earlier owner to end.
const patience = "3s"

// isLocked says whether a claim ran out of patience.
func isLocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}

// evict ends the transactions that hold the heads of the logs: their owner was stopped in the middle, and nobody knows for how long. They are rolled
// back as a whole, so this is as safe as waiting; it only needs to be the same user's.
func (s *store) evict(ctx context.Context, logs []int32) error {
	_, err := s.db.Exec(ctx, `SELECT pg_terminate_backend(l.pid) FROM audittrail.heads h JOIN pg_locks l ON l.locktype = 'transactionid'
		AND l.transactionid = h.xmax AND l.granted WHERE h.log_id = ANY ($1) AND l.pid <> pg_backend_pid()`, logs)
	if err != nil {
		return fmt.Errorf("end the transaction of the earlier owner: %w", err)
	}
	return nil
}

const claimHead = `
	INSERT INTO audittrail.heads (log_id, owner, events_topic_id, records_topic_id, partitions) VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT (log_id) DO UPDATE SET owner = EXCLUDED.owner
	RETURNING events_topic_id, records_topic_id, partitions, next_offset, next_index, records_position, size, open_day, frontier`

func claimOne(ctx context.Context, tx pgx.Tx, owner [16]byte, log int16, now topics) (*head, error) {
	h := &head{log: log}
	var eventsID, recordsID []byte
	var stored topics
	row := tx.QueryRow(ctx, claimHead, log, owner, now.events[:], now.records[:], now.partitions)
	if err := row.Scan(&eventsID, &recordsID, &stored.partitions, &h.next.offset, &h.next.index, &h.position, &h.state.size, &h.state.open.day,
		&h.state.frontier); err != nil {
		return nil, fmt.Errorf("claim head: %w", err)
	}
	copy(stored.events[:], eventsID)
	copy(stored.records[:], recordsID)
	if stored != now {
		return nil, group.Refusal{Err: mismatch(log, stored, now)}
	}
	if err := h.loadGaps(ctx, tx, now.events); err != nil {
		return nil, fmt.Errorf("read gaps of log %d: %w", log, err)
	}
	if err := h.loadTail(ctx, tx); err != nil {
		return nil, fmt.Errorf("read tail of log %d: %w", log, err)
	}
	bounds, err := readBounds(ctx, tx, []int16{log})
	if err != nil {
		return nil, err
	}
	h.bound = bounds[log]
	return h, nil
}

// sameCount refuses another number of partitions of the same audit-events (R18): sources would have their past in one log and go on in another. It
// looks at all logs, since a sink may have only partitions that are new.
func sameCount(ctx context.Context, tx pgx.Tx, now topics) error {
	var was int32
	err := tx.QueryRow(ctx, "SELECT partitions FROM audittrail.heads WHERE events_topic_id = $1 AND partitions <> $2 LIMIT 1", now.events[:], now.partitions).Scan(&was)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("compare partitions: %w", err)
	}
	return group.Refusal{Err: stream.CountChanged(stream.Events, was, now.partitions)}
}

// mismatch explains R18: numbers that count in one topic mean nothing in another, and would silently skip what is in it.
func mismatch(log int16, stored, now topics) error {
	return fmt.Errorf("log %d was filled from other topics: stored %s %x, %s %x, %d partitions; Kafka has %x, %x, %d. If the topics were replaced on purpose, "+
		"run `audittrail topics accept-new`; if not, this is the wrong cluster or database",
		log, stream.Events, stored.events, stream.Records, stored.records, stored.partitions, now.events, now.records, now.partitions)
}

// startInside makes the position one that audit-records has. What retention took from it before it was read leaves slots open, and fold notices.
func (h *head) startInside(ctx context.Context, tx pgx.Tx, ranges logRange) error {
	r, err := ranges(stream.Records, int32(h.log))
	switch {
	case err != nil:
		return err
	case h.position > r.End:
		return group.Refusef("log %d: %s ends at %d, before the stored position %d: it went backwards", h.log, stream.Records, r.End, h.position)
	case h.position < r.Start:
		h.position = r.Start
		_, err = tx.Exec(ctx, "UPDATE audittrail.heads SET records_position = $2 WHERE log_id = $1", h.log, h.position)
	}
	return err
}

func (h *head) loadGaps(ctx context.Context, tx pgx.Tx, topic [16]byte) error {
	rows, err := tx.Query(ctx, `SELECT gap_id, from_offset, from_index, end_offset, end_index FROM audittrail.gaps
		WHERE log_id = $1 AND filled_at IS NULL AND events_topic_id = $2 ORDER BY gap_id`, h.log, topic[:])
	if err != nil {
		return err
	}
	byID := make(map[int64]*gapRow)
	var id int64
	var s span
	fields := []any{&id, &s.from.offset, &s.from.index, &s.end.offset, &s.end.index}
	if _, err := pgx.ForEachRow(rows, fields, func() error {
		byID[id] = &gapRow{id: id}
		h.gaps.declare(s, byID[id])
		return nil
	}); err != nil {
		return err
	}
	if len(byID) == 0 {
		return nil
	}
	rows, err = tx.Query(ctx, `SELECT f.gap_id, f.from_offset, f.from_index, f.end_offset, f.end_index FROM audittrail.gap_fills f
		JOIN audittrail.gaps g USING (gap_id) WHERE g.log_id = $1 AND g.filled_at IS NULL AND g.events_topic_id = $2`, h.log, topic[:])
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		h.gaps.fill(s)
		return nil
	})
	return err
}

// errCorrupt: what is stored contradicts itself. Going on would build on it.
var errCorrupt = errors.New("stored log contradicts itself")

// loadTail reads the open bundle back.
func (h *head) loadTail(ctx context.Context, tx pgx.Tx) error {
	o, start := &h.state.open, h.state.size/bundleSize*bundleSize
	rows, err := tx.Query(ctx, "SELECT first_index, n, data FROM audittrail.tail WHERE log_id = $1 ORDER BY first_index", h.log)
	if err != nil {
		return err
	}
	var first int64
	var n int
	var data []byte
	var w scanner
	if _, err := pgx.ForEachRow(rows, []any{&first, &n, &data}, func() error {
		if first != start+int64(o.n) {
			return group.Refusef("%w: tail row %d, want %d", errCorrupt, first, start+int64(o.n))
		}
		entries, err := segment.Decode(data)
		if err != nil {
			return group.Refusef("%w: tail row %d: %w", errCorrupt, first, err)
		}
		if len(entries) != n {
			return group.Refusef("%w: tail row %d has %d entries, not %d", errCorrupt, first, len(entries), n)
		}
		for _, e := range entries {
			if err := o.restore(e, &w); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if start+int64(o.n) != h.state.size || len(h.state.frontier) != subtrees(h.state.size)*segment.HashSize {
		return group.Refusef("%w: size %d, tail to %d, frontier of %d bytes", errCorrupt, h.state.size, start+int64(o.n), len(h.state.frontier))
	}
	o.stored, o.tailed = o.n, len(o.framed)
	return nil
}

// restore appends an entry that is stored already.
func (b *bundle) restore(e segment.Entry, w *scanner) error {
	b.framed = segment.AppendEntry(b.framed, e.Kind, e.Payload)
	b.hashes = w.hasher.AppendLeaf(b.hashes, e.Kind, e.Payload)
	b.n++
	if e.Kind != segment.KindRecord {
		return nil
	}
	w.Terms = w.Terms[:0]
	var decoded audittrailv1.Event
	summary, err := w.Scan(e.Payload)
	if err := errors.Join(err, decoded.UnmarshalVTUnsafe(e.Payload)); err != nil {
		return group.Refusef("%w: %w", errCorrupt, err)
	}
	b.terms = append(b.terms, w.Terms...)
	id := event.IDOf(&decoded)
	b.addID(id)
	b.countRestored(id, &summary)
	return nil
}
