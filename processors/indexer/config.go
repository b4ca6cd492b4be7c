package indexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config is what an operator chooses. The zero value of everything but DSN means the default.
type Config struct {
	// DSN of PostgreSQL; the user must be a member of audittrail_writer.
	DSN string
	// ConfigurePool, if set, is called with the pool's configuration before it connects.
	ConfigurePool func(*pgxpool.Config)
	// RunSegments is from how many complete segments on a run is made, and how many it covers. 1 to 65,536; default 4,096.
	RunSegments int
	// Fan is how many runs of a level are merged into one of the next. 2 to 64; default 8.
	Fan int
	// Levels is how many times runs are merged. 0 to 4; default 2: a run then covers up to 262,144 segments. Negative: none.
	Levels int
	// Interval is how often new segments are looked for. Default 10 s.
	Interval time.Duration
	// Duty is the part of the time in which it works. 0.01 to 1; default 0.25.
	Duty float64
}

func (c Config) withDefaults() Config {
	if c.RunSegments == 0 {
		c.RunSegments = 4096
	}
	if c.Fan == 0 {
		c.Fan = 8
	}
	if c.Levels == 0 {
		c.Levels = 2
	}
	if c.Interval == 0 {
		c.Interval = 10 * time.Second
	}
	if c.Duty == 0 {
		c.Duty = 0.25
	}
	return c
}

// Validate lists every problem, by key.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.RunSegments < 1 || c.RunSegments > 65_536, "indexer.run_segments: %d, must be 1 to 65536", c.RunSegments)
	refuse(c.Fan < 2 || c.Fan > 64, "indexer.fan: %d, must be 2 to 64", c.Fan)
	refuse(c.Levels > 4, "indexer.levels: %d, must be at most 4", c.Levels)
	refuse(c.Interval < 0, "indexer.interval: negative")
	refuse(c.Duty < 0.01 || c.Duty > 1, "indexer.duty: %v, must be 0.01 to 1", c.Duty)
	if c.DSN == "" {
		errs = append(errs, errors.New("postgres.dsn: is empty"))
	} else if _, err := pgx.ParseConfig(c.DSN); err != nil {
		errs = append(errs, fmt.Errorf("postgres.dsn: %w", err))
	}
	return errors.Join(errs...)
}

// openPool makes the pool; nothing is connected yet.
func openPool(dsn string, configure func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if configure != nil {
		configure(cfg)
	}
	cfg.MaxConns = 3 // the lock, the reader, the writer
	cfg.ConnConfig.RuntimeParams["application_name"] = "audittrail-indexer"
	// Days are parameters: a generic plan would open every leaf.
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	cfg.ConnConfig.RuntimeParams["max_parallel_workers_per_gather"] = "0"
	return pgxpool.NewWithConfig(context.Background(), cfg)
}
