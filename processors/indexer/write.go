package indexer

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/internal/termindex"
)

// content yields the groups of a run in the order of hashes.
type content func(add func(hash uint32, ordinals []uint32) error) error

// writeRun stores a run of the given content in one transaction, in the place of the runs it replaces. If the process dies here, nothing of it
// is there.
func writeRun(ctx context.Context, db beginner, r *termindex.Run, hashes int, c content, replaces []int64) error {
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "SELECT nextval('audittrail.term_runs_run_id_seq')").Scan(&r.ID); err != nil {
			return err
		}
		b := blockWriter{ctx: ctx, tx: tx, run: r.ID}
		w := termindex.Writer{Segments: uint32(r.Segments), Hashes: hashes, Block: b.add}
		if err := c(w.Add); err != nil {
			return err
		}
		if err := w.End(); err != nil {
			return err
		}
		if err := b.flush(); err != nil {
			return err
		}
		r.Pairs, r.Bytes = w.Pairs, w.Bytes
		return writeDirectory(ctx, tx, r, replaces)
	})
	if err != nil {
		return fmt.Errorf("write term run: %w", err)
	}
	return nil
}

type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

func writeDirectory(ctx context.Context, tx pgx.Tx, r *termindex.Run, replaces []int64) error {
	n := len(r.Spans)
	logs, days, firsts, ends := make([]int16, n), make([]int16, n), make([]int64, n), make([]int64, n)
	for i, s := range r.Spans {
		logs[i], days[i], firsts[i], ends[i] = s.Log, s.Day, s.First, s.End
	}
	if _, err := tx.Exec(ctx, `INSERT INTO audittrail.term_runs (run_id, level, segments, log_ids, days, firsts, ends, min_id, max_id, pairs, bytes)
		OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, r.ID, r.Level, r.Segments, logs, days, firsts, ends, r.MinID, r.MaxID,
		r.Pairs, r.Bytes); err != nil {
		return err
	}
	return deleteRuns(ctx, tx, replaces)
}

// deleteRuns deletes runs that others cover, or whose segments are gone; triggers see to it.
func deleteRuns(ctx context.Context, tx pgx.Tx, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, "DELETE FROM audittrail.term_runs WHERE run_id = ANY ($1)", ids)
	if err == nil && tag.RowsAffected() != int64(len(ids)) {
		err = fmt.Errorf("%d of %d runs are there", tag.RowsAffected(), len(ids))
	}
	if err == nil {
		_, err = tx.Exec(ctx, "DELETE FROM audittrail.term_blocks WHERE run_id = ANY ($1)", ids)
	}
	return err
}

// blockWriter copies blocks some hundred at a time.
type blockWriter struct {
	ctx  context.Context
	tx   pgx.Tx
	run  int64
	rows [][]any
}

func (b *blockWriter) add(first uint32, data []byte) error {
	b.rows = append(b.rows, []any{b.run, int64(first), slices.Clone(data)})
	if len(b.rows) < 512 {
		return nil
	}
	return b.flush()
}

func (b *blockWriter) flush() error {
	_, err := b.tx.CopyFrom(b.ctx, pgx.Identifier{"audittrail", "term_blocks"}, []string{"run_id", "first_hash", "data"}, pgx.CopyFromRows(b.rows))
	b.rows = b.rows[:0]
	return err
}
