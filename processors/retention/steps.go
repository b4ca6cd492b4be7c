package retention

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/proto/event"
)

// remove does the steps that the ledger does not have for a leaf.
func (r *runner) remove(ctx context.Context, parent, leaf string, day int16) error {
	steps := []struct {
		name string
		do   func(ctx context.Context, parent, leaf string, day int16) error
	}{{"copied", r.copyKept}, {"bounded", r.bound}, {"dropped", r.drop}, {"audited", r.audit}}
	for _, s := range steps {
		var is bool
		if err := r.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM audittrail.retention_ledger WHERE leaf = $1 AND step = $2)", leaf, s.name).Scan(&is); err != nil {
			return err
		}
		if is {
			continue
		}
		switch err := s.do(ctx, parent, leaf, day); {
		case errors.Is(err, errHeld):
			r.hold(parent, leaf, day, strings.TrimPrefix(err.Error(), errHeld.Error()+": "))
			return nil
		case err != nil:
			return fmt.Errorf("remove %s, step %s: %w", leaf, s.name, err)
		}
		r.between(s.name)
	}
	return nil
}

// errHeld: the leaf must stay for now.
var errHeld = errors.New("held")

// bound gives each log the bound that covers everything that is removed. Sinks see it in their next transaction, as both lock the heads.
func (r *runner) bound(ctx context.Context, parent, leaf string, day int16) error {
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		if parent == "segments" {
			var past *[16]byte // the greatest id that is removed
			if err := tx.QueryRow(ctx, "SELECT max(max_id::text)::uuid FROM "+table(leaf)).Scan(&past); err != nil {
				return err
			}
			bound := event.LowerBound(date(day + 1))
			if past != nil {
				if after := next(*past); after.Compare(bound) > 0 {
					bound = after
				}
			}
			if bound.Time().After(time.Now().Add(-margin)) {
				return fmt.Errorf("%w: an event in it claims to have happened at %v", errHeld, bound.Time().UTC())
			}
			if _, err := tx.Exec(ctx, "SELECT FROM audittrail.heads ORDER BY log_id FOR UPDATE"); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO audittrail.retention_bounds SELECT log_id, size, $1 FROM audittrail.heads h
				WHERE NOT EXISTS (SELECT FROM audittrail.retention_bounds b WHERE b.log_id = h.log_id AND b.removed_before >= $1)`, [16]byte(bound)); err != nil {
				return err
			}
		}
		return ledger(ctx, tx, parent, leaf, "bounded", day)
	})
}

// next is the id after id.
func next(id event.ID) event.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

func ledger(ctx context.Context, tx pgx.Tx, parent, leaf, step string, day int16) error {
	_, err := tx.Exec(ctx, "INSERT INTO audittrail.retention_ledger (parent, leaf, step, day) VALUES ($1, $2, $3, $4)", parent, leaf, step, dayOf(parent, day))
	return err
}

func dayOf(parent string, day int16) *int16 {
	if parent == "segments" {
		return &day
	}
	return nil
}

// drop detaches the leaf, puts the copy in its place, and drops it. Detaching takes transactions of its own: if the process dies in between, it is done
// already when this is tried again.
func (r *runner) drop(ctx context.Context, parent, leaf string, day int16) error {
	gone := map[string]string{parent: leaf} // by parent
	var keptLeaf *string
	if parent == "segments" {
		gone["rollups"] = rollupsOf(leaf)
		if err := r.conn.QueryRow(ctx, "SELECT kept_leaf FROM audittrail.retention_ledger WHERE leaf = $1 AND step = 'copied'", leaf).Scan(&keptLeaf); err != nil {
			return err
		}
	}
	for p, l := range gone {
		if err := r.detach(ctx, p, l); err != nil {
			return fmt.Errorf("detach %s: %w", l, err)
		}
		r.between("detached " + p)
	}
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		for p, l := range gone {
			if keptLeaf == nil {
				if _, err := tx.Exec(ctx, "DELETE FROM audittrail.leaves WHERE parent = $1 AND leaf = $2", p, l); err != nil {
					return err
				}
			} else {
				kept := *keptLeaf
				if p == "rollups" {
					kept = rollupsOf(kept)
				}
				if err := attach(ctx, tx, p, l, kept, day); err != nil {
					return fmt.Errorf("attach %s: %w", kept, err)
				}
			}
			if _, err := tx.Exec(ctx, "DROP TABLE "+table(l)); err != nil {
				return err
			}
		}
		return ledger(ctx, tx, parent, leaf, "dropped", day)
	})
}

// rollupsOf is the leaf of rollups that belongs to one of segments.
func rollupsOf(leaf string) string { return "rollups" + strings.TrimPrefix(leaf, "segments") }

// detach takes a leaf out of its parent without making anybody wait.
func (r *runner) detach(ctx context.Context, parent, leaf string) error {
	var pending bool
	err := r.conn.QueryRow(ctx, "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass($1)", table(leaf)).Scan(&pending)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // it is detached
	}
	if err != nil {
		return err
	}
	how := " CONCURRENTLY"
	if pending {
		how = " FINALIZE" // somebody died in the middle
	}
	// Not prepared: the statement cannot run inside of a transaction.
	_, err = r.conn.PgConn().Exec(ctx, "ALTER TABLE "+table(parent)+" DETACH PARTITION "+table(leaf)+how).ReadAll()
	return err
}

// attach puts the kept leaf where the other one was. Its CHECK says what the bounds say, so that nothing is scanned.
func attach(ctx context.Context, tx pgx.Tx, parent, leaf, kept string, day int16) error {
	for _, sql := range []string{
		fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)", table(parent), table(kept), day, day+1),
		fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT of_day", table(kept)),
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "UPDATE audittrail.leaves SET leaf = $3 WHERE parent = $1 AND leaf = $2", parent, leaf, kept)
	return err
}

// audit tells the audit log. If the process dies between the event and the ledger, the same event is emitted again.
func (r *runner) audit(ctx context.Context, parent, leaf string, day int16) error {
	x := Removal{Parent: parent, Leaf: leaf}
	if parent == "segments" {
		x.Day = date(day)
	}
	if err := r.conn.QueryRow(ctx, `SELECT coalesce(c.removed, 0), coalesce(c.kept, 0), d.at FROM audittrail.retention_ledger c JOIN audittrail.retention_ledger d USING (leaf)
		WHERE leaf = $1 AND c.step = 'copied' AND d.step = 'dropped'`, leaf).Scan(&x.Removed, &x.Kept, &x.At); err != nil {
		return err
	}
	var id *[16]byte
	if r.cfg.Emit != nil {
		emitted, err := r.cfg.Emit(ctx, x)
		if err != nil {
			r.log.Warn().Err(err).Str("leaf", leaf).Msg("the removal is recorded in the ledger only")
		} else {
			id = (*[16]byte)(&emitted)
		}
	}
	_, err := r.conn.Exec(ctx, "INSERT INTO audittrail.retention_ledger (parent, leaf, step, day, event_id) VALUES ($1, $2, 'audited', $3, $4)", parent, leaf, dayOf(parent, day), id)
	if err == nil {
		r.log.Info().Str("leaf", leaf).Int64("removed", x.Removed).Int64("kept", x.Kept).Msg("removed")
		r.done = append(r.done, x)
	}
	return err
}
