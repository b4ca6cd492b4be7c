package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/proto/event"
)

// Config is what an operator chooses.
type Config struct {
	// DSN of PostgreSQL; the user must be a member of audittrail_owner (as for `audittrail migrate`).
	DSN string
	// Days is how long records are kept at least, counted from the day they were stored. 1 to 36,500. Records whose source says more
	// (retention_days of its entry in the registry when the event was recorded) are kept longer; less does not count.
	Days int
	// DryRun only says what would be done.
	DryRun bool
	// Emit makes the removal an event of the audit log and returns its id. Nil, or with an error: the ledger is the only record of it. The same
	// removal may be emitted twice; it must make the same event of it.
	Emit func(context.Context, Removal) (event.ID, error)
}

// Validate lists every problem, by key.
func (c Config) Validate() error {
	var errs []error
	if c.Days < 1 || c.Days > 36_500 {
		errs = append(errs, fmt.Errorf("retention.days: %d, must be 1 to 36500", c.Days))
	}
	if c.DSN == "" {
		errs = append(errs, errors.New("postgres.migrate_dsn: is empty"))
	}
	return errors.Join(errs...)
}

// Removal is a leaf that was removed, or that would be.
type Removal struct {
	Parent string // segments or events
	Leaf   string
	Day    time.Time // of segments: the day, midnight UTC
	// Records that were removed, and that stay because of their class. Unknown, 0, in a dry run and for leaves of events.
	Removed, Kept int64
	At            time.Time // when it was dropped
	// Held says why the leaf is not removed yet; empty: it is.
	Held string
}

const (
	lockID = 7_480_748_004 // advisory lock of the one that works
	// margin is how far in the past a bound is at least.
	margin = 24 * time.Hour
)

// ErrBusy: another process removes.
var ErrBusy = errors.New("another retention run is under way")

type runner struct {
	cfg   Config
	log   zerolog.Logger
	conn  *pgx.Conn
	today int16
	names *names
	done  []Removal
	// between is called after each step; tests die in it.
	between func(step string)
}

// Apply removes what is due, oldest days first, after it has finished what an earlier run left. It returns what it removed and what it held back.
func Apply(ctx context.Context, cfg Config, log zerolog.Logger) ([]Removal, error) {
	return apply(ctx, cfg, log, func(string) {})
}

func apply(ctx context.Context, cfg Config, log zerolog.Logger, between func(string)) ([]Removal, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	c, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("retention: postgres.migrate_dsn: %w", err)
	}
	c.RuntimeParams["role"] = "audittrail_owner"
	c.RuntimeParams["application_name"] = "audittrail-retention"
	c.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r := &runner{cfg: cfg, log: log, conn: conn, between: between}
	if err := r.run(ctx); err != nil {
		return r.done, fmt.Errorf("retention: %w", err)
	}
	return r.done, nil
}

func (r *runner) run(ctx context.Context) error {
	var ours bool
	if err := r.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1), audittrail.day_number((now() AT TIME ZONE 'UTC')::date)", int64(lockID)).Scan(&ours, &r.today); err != nil {
		return err
	}
	if !ours {
		return ErrBusy
	}
	defer func() { // or the next run would have to wait until the server has closed the connection
		_, _ = r.conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(lockID))
	}()
	if !r.cfg.DryRun {
		if err := r.finish(ctx); err != nil {
			return err
		}
	}
	if err := r.segments(ctx); err != nil {
		return err
	}
	return r.events(ctx)
}

// finish does the steps that an earlier run did not come to.
func (r *runner) finish(ctx context.Context) error {
	rows, err := r.conn.Query(ctx, `SELECT parent, leaf, day FROM audittrail.retention_ledger l WHERE step = 'copied'
		AND NOT EXISTS (SELECT FROM audittrail.retention_ledger d WHERE d.leaf = l.leaf AND d.step = 'audited') ORDER BY entry_id`)
	if err != nil {
		return err
	}
	type left struct {
		Parent, Leaf string
		Day          *int16
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[left])
	if err != nil {
		return err
	}
	for _, l := range all {
		r.log.Info().Str("leaf", l.Leaf).Msg("going on with a removal that was begun")
		day := int16(0)
		if l.Day != nil {
			day = *l.Day
		}
		if err := r.remove(ctx, l.Parent, l.Leaf, day); err != nil {
			return err
		}
	}
	return nil
}

// segments removes the days that are due.
func (r *runner) segments(ctx context.Context) error {
	// A leaf of kept records is due when the first of them is.
	rows, err := r.conn.Query(ctx, `SELECT leaf, audittrail.day_number(from_day), EXISTS (SELECT FROM audittrail.heads WHERE size % 256 > 0
			AND open_day = audittrail.day_number(from_day))
		FROM audittrail.leaves v WHERE parent = 'segments' AND to_day <= audittrail.date_of_day($1) - $2::int4
		AND NOT EXISTS (SELECT FROM audittrail.retention_ledger WHERE kept_leaf = v.leaf AND step = 'copied' AND kept_until > $1) ORDER BY from_day`, r.today, r.cfg.Days)
	if err != nil {
		return err
	}
	type due struct {
		Leaf string
		Day  int16
		Open bool
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[due])
	if err != nil {
		return err
	}
	for _, d := range all {
		switch {
		case d.Open:
			r.hold("segments", d.Leaf, d.Day, "a bundle of this day is still open")
		case r.cfg.DryRun:
			r.done = append(r.done, Removal{Parent: "segments", Leaf: d.Leaf, Day: date(d.Day)})
		default:
			if err := r.remove(ctx, "segments", d.Leaf, d.Day); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) hold(parent, leaf string, day int16, why string) {
	r.log.Warn().Str("leaf", leaf).Str("why", why).Msg("not removed yet")
	r.done = append(r.done, Removal{Parent: parent, Leaf: leaf, Day: date(day), Held: why})
}

// date is the midnight that begins a day as PostgreSQL counts them.
func date(day int16) time.Time { return time.Unix((int64(day)+10957)*86400, 0).UTC() }

// events removes leaves in which no row points to a day that is there. No event can come to them any more: all are older than the bounds.
func (r *runner) events(ctx context.Context) error {
	rows, err := r.conn.Query(ctx, `SELECT leaf FROM audittrail.leaves WHERE parent = 'events' AND to_day <= audittrail.date_of_day($1) - $2::int4
		AND EXISTS (SELECT FROM audittrail.heads) AND NOT EXISTS (SELECT FROM audittrail.heads h WHERE NOT EXISTS (SELECT FROM audittrail.retention_bounds b
			WHERE b.log_id = h.log_id AND b.removed_before >= audittrail.id_at(to_day::timestamp AT TIME ZONE 'UTC'))) ORDER BY to_day`, r.today, r.cfg.Days)
	if err != nil {
		return err
	}
	leaves, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, leaf := range leaves {
		var points bool
		if err := r.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+table(leaf)+` WHERE day IN (SELECT audittrail.day_number(from_day) FROM audittrail.leaves
			WHERE parent = 'segments'))`).Scan(&points); err != nil {
			return fmt.Errorf("look for what %s points to: %w", leaf, err)
		}
		switch {
		case points: // late events, or some that are kept
		case r.cfg.DryRun:
			r.done = append(r.done, Removal{Parent: "events", Leaf: leaf})
		default:
			if err := r.remove(ctx, "events", leaf, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// table is a leaf as SQL has it.
func table(leaf string) string { return pgx.Identifier{"audittrail", leaf}.Sanitize() }
