package viewstest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
)

// Store is a database with the schema, and the state of its logs.
type Store struct {
	// DSN is the superuser's.
	DSN string
	// Pool is the superuser's.
	Pool *pgxpool.Pool

	mu   sync.Mutex // one writer at a time
	logs map[int16]*log
}

type log struct {
	size int64
	open []entry // of the open bundle
}

// entry is one entry of a log; event is nil for all kinds but records.
type entry struct {
	segment.Entry
	event *audittrailv1.Event
}

// NewStore makes a fresh database with the schema.
func NewStore(tb testing.TB) *Store {
	tb.Helper()
	return OpenStore(tb, embeddedtest.Postgres(tb))
}

// OpenStore puts the schema into an empty database.
func OpenStore(tb testing.TB, dsn string) *Store {
	tb.Helper()
	if err := schema.Migrate(tb.Context(), dsn, zerolog.Nop()); err != nil {
		tb.Fatal(err)
	}
	pool, err := pgxpool.New(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return &Store{DSN: dsn, Pool: pool, logs: make(map[int16]*log)}
}

// Append stores events at the end of a log, in one transaction.
func (s *Store) Append(tb testing.TB, logID int16, events ...*audittrailv1.Event) {
	tb.Helper()
	s.append(tb, logID, records(tb, events), nil)
}

// AppendHeld is Append, but until held returns, just before the commit, nobody can read the tail.
func (s *Store) AppendHeld(tb testing.TB, logID int16, held func(), events ...*audittrailv1.Event) {
	tb.Helper()
	s.append(tb, logID, records(tb, events), held)
}

func records(tb testing.TB, events []*audittrailv1.Event) []entry {
	tb.Helper()
	entries := make([]entry, len(events))
	for i, e := range events {
		record, err := e.MarshalVT()
		if err != nil {
			tb.Fatal(err)
		}
		entries[i] = entry{segment.Entry{Kind: segment.KindRecord, Payload: record}, e}
	}
	return entries
}

// AppendEntries stores entries that are no records.
func (s *Store) AppendEntries(tb testing.TB, logID int16, list ...segment.Entry) {
	tb.Helper()
	entries := make([]entry, len(list))
	for i, e := range list {
		entries[i] = entry{Entry: e}
	}
	s.append(tb, logID, entries, nil)
}

// Exec runs a statement as superuser.
func (s *Store) Exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	if _, err := s.Pool.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

func (s *Store) append(tb testing.TB, logID int16, entries []entry, held func()) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[logID]
	if l == nil {
		l = new(log)
		s.logs[logID] = l
	}
	ctx := context.WithoutCancel(tb.Context())
	err := pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		w := writer{ctx: ctx, tx: tx, logID: logID, log: l}
		if held == nil {
			return w.write(entries)
		}
		if err := w.exec(`LOCK TABLE audittrail.tail`); err != nil {
			return err
		}
		if err := w.write(entries); err != nil {
			return err
		}
		held()
		return nil
	})
	if err != nil {
		tb.Fatalf("append to log %d: %v", logID, err)
	}
}

// writer is one transaction.
type writer struct {
	ctx   context.Context
	tx    pgx.Tx
	logID int16
	log   *log
}

func (w *writer) exec(sql string, args ...any) error {
	if _, err := w.tx.Exec(w.ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

func (w *writer) write(entries []entry) error {
	day := int16(time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) / (24 * time.Hour))
	records := 0
	first := w.log.size
	var framed []byte
	for i, e := range entries {
		if e.event != nil {
			records++
			if err := w.row(e.event, w.log.size, day); err != nil {
				return err
			}
		}
		framed = segment.AppendEntry(framed, e.Kind, e.Payload)
		w.log.open = append(w.log.open, e)
		w.log.size++
		if w.log.size%segment.BundleSize != 0 && i < len(entries)-1 {
			continue
		}
		if err := w.exec(`INSERT INTO audittrail.tail VALUES ($1, $2, $3, $4)`, w.logID, first, w.log.size-first,
			segment.Encode(nil, framed)); err != nil {
			return err
		}
		first, framed = w.log.size, nil
		if w.log.size%segment.BundleSize == 0 {
			if err := w.complete(day); err != nil {
				return err
			}
		}
	}
	return w.exec(`INSERT INTO audittrail.heads (log_id, owner, events_topic_id, records_topic_id, partitions, size, records)
		VALUES ($1, gen_random_uuid(), decode(repeat('00', 16), 'hex'), decode(repeat('00', 16), 'hex'), 1000, $2, $3)
		ON CONFLICT (log_id) DO UPDATE SET size = excluded.size, records = heads.records + excluded.records`, w.logID, w.log.size, records)
}

func (w *writer) row(e *audittrailv1.Event, index int64, day int16) error {
	var source, action int32
	for _, d := range []struct {
		sql, value string
		id         *int32
	}{
		{`WITH new AS (INSERT INTO audittrail.sources (path) VALUES ($1) ON CONFLICT DO NOTHING RETURNING source_id)
			SELECT source_id FROM new UNION ALL SELECT source_id FROM audittrail.sources WHERE path = $1`, e.GetSource(), &source},
		{`WITH new AS (INSERT INTO audittrail.actions (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING action_id)
			SELECT action_id FROM new UNION ALL SELECT action_id FROM audittrail.actions WHERE name = $1`, e.GetAction(), &action},
	} {
		if err := w.tx.QueryRow(w.ctx, d.sql, d.value).Scan(d.id); err != nil {
			return fmt.Errorf("dictionary: %w", err)
		}
	}
	id := event.IDOf(e)
	short, _ := event.Fingerprint(e)
	return w.exec(`INSERT INTO audittrail.events VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, index, int64(short), source, action, w.logID,
		int16(e.GetOutcome()), day, [16]byte(id))
}

// complete turns the open bundle into a segment.
func (w *writer) complete(day int16) error {
	var framed, hashes []byte
	var terms, all []uint64
	var scratch []byte
	var low, high any
	var least, greatest event.ID
	records := 0
	for _, e := range w.log.open {
		framed = segment.AppendEntry(framed, e.Kind, e.Payload)
		leaf := segment.LeafHash(e.Entry)
		hashes = append(hashes, leaf[:]...)
		if e.event == nil {
			continue
		}
		terms, scratch = segment.AppendTerms(terms[:0], scratch, e.event)
		all = append(all, terms...)
		id := event.IDOf(e.event)
		if records == 0 || id.Compare(least) < 0 {
			least = id
			low = [16]byte(id)
		}
		if records == 0 || id.Compare(greatest) > 0 {
			greatest = id
			high = [16]byte(id)
		}
		records++
	}
	bundle := (w.log.size - 1) / segment.BundleSize
	var filter []byte
	if f := segment.BuildFilter(all, records); f != nil {
		filter = f
	}
	w.log.open = nil
	if err := w.exec(`INSERT INTO audittrail.segments VALUES ($1, $2, $3, $4, $5, $6, $7)`, day, w.logID, bundle, low, high, filter,
		segment.Encode(nil, framed)); err != nil {
		return err
	}
	if err := w.exec(`INSERT INTO audittrail.tiles0 VALUES ($1, $2, $3, $4)`, w.logID, bundle, day, hashes); err != nil {
		return err
	}
	return w.exec(`DELETE FROM audittrail.tail WHERE log_id = $1 AND first_index >= $2`, w.logID, bundle*segment.BundleSize)
}
