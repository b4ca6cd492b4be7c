// Package judge reads everything back from PostgreSQL, with a segment reader of its own, and compares
// it with the ledger of what was sent. It shares no code with the service but the generated protobuf
// types, so that a mistake of the service's cannot hide itself.
package judge

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/bench/ledger"
)

// Verdict is what the judge found. Everything but Stored, Entries, Unacked and DeadLetters must be 0.
type Verdict struct {
	Acked       int // ids acknowledged in the ledger
	Stored      int // records in the logs
	Entries     int // entries in the logs: records, gaps, dead letters
	Unacked     int // stored, sent but not acknowledged: allowed
	DeadLetters int // ids of the ledger are never expected there

	Lost       int // acknowledged, not stored
	Duplicated int // stored more than once
	Phantom    int // stored, never sent
	Changed    int // stored with other content than was sent
	Misplaced  int // in the log of another partition than the source's
	Gaps       int // entries of kind gap
	Holes      int // indexes of a log that no entry has, or two have
	Rows       int // differences between the rows of events and the logs
	Hashes     int // level-0 hashes that are not those of the entries
	Heads      int // heads that contradict their log

	Served   int // events that a gateway lists; -1 until Gateway was asked
	Unserved int // events that it lists but that are not stored like that, or that are stored and that it does not list
	Counts   int // sources of which its view says another number of events than are stored

	sources  map[string]int64 // records by source
	stored   map[[16]byte]place
	patience time.Duration // with the view

	Examples []string // the first few of what is wrong
}

// OK reports whether nothing is wrong.
func (v *Verdict) OK() bool {
	return v.Lost+v.Duplicated+v.Phantom+v.Changed+v.Misplaced+v.Gaps+v.Holes+v.Rows+v.Hashes+v.Heads+v.Unserved+v.Counts == 0
}

// String is the verdict line.
func (v *Verdict) String() string {
	s := fmt.Sprintf("lost %d, duplicated %d, never sent %d, changed %d, misplaced %d, gaps %d, holes %d, row differences %d, hash differences %d, head differences %d; "+
		"acked %d, stored %d (%d of them not acked), entries %d, dead letters %d",
		v.Lost, v.Duplicated, v.Phantom, v.Changed, v.Misplaced, v.Gaps, v.Holes, v.Rows, v.Hashes, v.Heads,
		v.Acked, v.Stored, v.Unacked, v.Entries, v.DeadLetters)
	if v.Served >= 0 {
		s += fmt.Sprintf("; the gateway lists %d, differences %d, sources counted otherwise %d of %d", v.Served, v.Unserved, v.Counts, len(v.sources))
	}
	if len(v.Examples) > 0 {
		s += "\n  " + strings.Join(v.Examples, "\n  ")
	}
	return s
}

func (v *Verdict) blame(counter *int, format string, args ...any) {
	*counter++
	if len(v.Examples) < 12 {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// Judge compares the store with the ledger, in one snapshot.
func Judge(ctx context.Context, dsn string, sent map[[16]byte]ledger.State) (*Verdict, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // read only: nothing depends on it

	stored := map[[16]byte]place{}
	v := &Verdict{Served: -1, sources: map[string]int64{}, stored: stored, patience: viewPatience}
	logs, err := readHeads(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, h := range logs {
		if err := v.readLog(ctx, tx, h, sent, stored); err != nil {
			return nil, fmt.Errorf("log %d: %w", h.log, err)
		}
	}
	if err := v.readRows(ctx, tx, stored); err != nil {
		return nil, err
	}
	for id, s := range sent {
		_, there := stored[id]
		switch {
		case s.Acked && !there:
			v.blame(&v.Lost, "lost: %x", id)
		case !s.Acked && there:
			v.Unacked++
		}
		if s.Acked {
			v.Acked++
		}
	}
	return v, nil
}

// place is where a record stands.
type place struct {
	log   int16
	index int64
}

type head struct {
	log                         int16
	partitions                  int32
	size, records, dead, gaps   int64
	nextOffset, recordsPosition int64
}

func readHeads(ctx context.Context, tx pgx.Tx) ([]head, error) {
	rows, err := tx.Query(ctx, `SELECT log_id, partitions, size, records, dead_letters, gaps, next_offset, records_position FROM audittrail.heads ORDER BY log_id`)
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	heads, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h head, err error) {
		return h, row.Scan(&h.log, &h.partitions, &h.size, &h.records, &h.dead, &h.gaps, &h.nextOffset, &h.recordsPosition)
	})
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	return heads, nil
}

// readRows compares the rows of events with the records of the logs.
func (v *Verdict) readRows(ctx context.Context, tx pgx.Tx, stored map[[16]byte]place) error {
	rows, err := tx.Query(ctx, `SELECT id, log_id, log_index FROM audittrail.events`)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var id [16]byte
		var p place
		if err := rows.Scan(&id, &p.log, &p.index); err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		seen++
		if at, ok := stored[id]; !ok || at != p {
			v.blame(&v.Rows, "row of %x points to entry %d/%d, the record is at %+v (%v)", id, p.log, p.index, at, ok)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	if seen != len(stored) {
		v.blame(&v.Rows, "%d rows for %d different records", seen, len(stored))
	}
	return nil
}
