package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/termindex"
)

// lockID is the advisory lock of the one that works.
const lockID = 7_480_748_003

// database is what steps need of a pool.
type database interface {
	termindex.Querier
	beginner
}

// Indexer makes and merges runs. Make one with New, run it once.
type Indexer struct {
	cfg     Config
	log     zerolog.Logger
	metrics *metrics
	db      *pgxpool.Pool
}

// New makes an indexer; nothing is connected yet. registerer may be nil.
func New(cfg Config, log zerolog.Logger, registerer prometheus.Registerer) (*Indexer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	x := &Indexer{cfg: cfg.withDefaults(), log: log.With().Str("part", "indexer").Logger()}
	var err error
	if x.metrics, err = newMetrics(registerer); err != nil {
		return nil, fmt.Errorf("indexer: register metrics: %w", err)
	}
	if x.db, err = openPool(cfg.DSN, cfg.ConfigurePool); err != nil {
		return nil, fmt.Errorf("indexer: %w", err)
	}
	return x, nil
}

// Run works until ctx ends, whatever PostgreSQL does. What is under way is given up then, and begun again by the next.
func (x *Indexer) Run(ctx context.Context) error {
	defer x.db.Close()
	last := ""
	for ctx.Err() == nil {
		err := x.work(ctx)
		if err != nil && ctx.Err() == nil {
			x.metrics.failures.Inc()
			if err.Error() != last { // not again and again while PostgreSQL is away
				x.log.Warn().Err(err).Msg("cannot index, trying again")
			}
			last = err.Error()
		} else {
			last = ""
		}
		x.metrics.active.Set(0)
		pause(ctx, x.cfg.Interval)
	}
	return nil
}

var errNotOurs = errors.New("another indexer works")

// work holds the lock and works until nothing is left to do. Nothing is done by a process that has lost the connection that holds the lock.
func (x *Indexer) work(ctx context.Context) error {
	unlock, alive, err := lock(ctx, x.db)
	if errors.Is(err, errNotOurs) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	x.metrics.active.Set(1)
	for {
		if err := alive(ctx); err != nil {
			return fmt.Errorf("the lock of the indexer is lost: %w", err)
		}
		did, err := x.step(ctx)
		if err != nil {
			return err
		}
		if !did {
			return nil // and others, or a rebuild, may have the lock
		}
	}
}

// lock takes the advisory lock on a connection of its own; the lock goes with the connection. alive asks whether it is still there.
func lock(ctx context.Context, db *pgxpool.Pool) (unlock func(), alive func(context.Context) error, err error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	var ours bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(lockID)).Scan(&ours); err != nil || !ours {
		conn.Release()
		return nil, nil, errors.Join(err, errNotOurs)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Hijack().Close(ctx) // and the lock with it
	}, conn.Ping, nil
}

// step does one thing: makes a run, merges some, or drops what retention has emptied. It says whether there was anything to do.
func (x *Indexer) step(ctx context.Context) (bool, error) {
	runs, err := termindex.ReadRuns(ctx, x.db, nil)
	if err != nil {
		return false, err
	}
	backlog, err := termindex.Backlog(ctx, x.db)
	if err != nil {
		return false, err
	}
	x.metrics.observe(runs, backlog)
	if n, err := forget(ctx, x.db, runs); err != nil || n > 0 {
		return n > 0, err
	}
	p := pacer{duty: x.cfg.Duty}
	p.begin()
	if parts := mergeable(runs, x.cfg); parts != nil {
		began := time.Now()
		r, err := merge(ctx, x.db, parts, p.rest)
		if err != nil {
			return false, err
		}
		x.metrics.merges.Inc()
		x.log.Info().Int64("run", r.ID).Int16("level", r.Level).Int32("segments", r.Segments).Int64("bytes", r.Bytes).Dur("took", time.Since(began)).
			Msg("term runs merged")
		return true, nil
	}
	if backlog < int64(x.cfg.RunSegments) {
		return false, nil
	}
	began := time.Now()
	r, err := makeRun(ctx, x.db, termindex.Covered(runs), x.cfg.RunSegments, p.rest)
	if err != nil || r == nil {
		return false, err
	}
	x.metrics.segments.Add(float64(r.Segments))
	x.log.Info().Int64("run", r.ID).Int32("segments", r.Segments).Int64("pairs", r.Pairs).Int64("bytes", r.Bytes).Dur("took", time.Since(began)).
		Msg("term run made")
	return true, nil
}

// makeRun makes one run of level 0; nil when nothing is waiting.
func makeRun(ctx context.Context, db database, covered map[int16]int64, limit int, rest func(context.Context) error) (*termindex.Run, error) {
	spans, err := plan(ctx, db, covered, limit)
	if err != nil || len(spans) == 0 {
		return nil, err
	}
	var b builder
	if err := b.read(ctx, db, spans, func(int) error { return rest(ctx) }); err != nil {
		return nil, err
	}
	return b.write(ctx, db, nil)
}

// write stores what was read as a run of level 0.
func (b *builder) write(ctx context.Context, db beginner, replaces []int64) (*termindex.Run, error) {
	sorted := b.pairs.sorted()
	r := b.run
	if err := writeRun(ctx, db, &r, hashes(sorted), func(add func(uint32, []uint32) error) error { return groups(sorted, add) }, replaces); err != nil {
		return nil, err
	}
	return &r, nil
}

// pacer keeps the work to a part of the time.
type pacer struct {
	duty  float64
	since time.Time
}

func (p *pacer) begin() { p.since = time.Now() }

// rest sleeps in proportion to the work since the last rest.
func (p *pacer) rest(ctx context.Context) error {
	if p.duty < 1 {
		pause(ctx, time.Duration(float64(time.Since(p.since))*(1-p.duty)/p.duty))
	}
	p.since = time.Now()
	return ctx.Err()
}

// pause returns false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
