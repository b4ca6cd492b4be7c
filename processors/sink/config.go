package sink

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/maxviazov/audittrail/proto/stream"
)

// Config is what an operator chooses. The zero value of everything but Kafka.Brokers and DSN means the default.
type Config struct {
	// Kafka says how to reach it.
	Kafka stream.Settings
	// Group tunes the consumer group.
	Group stream.GroupTuning
	// DSN of PostgreSQL; the user must be a member of audittrail_writer.
	DSN string
	// ConfigurePool changes the configuration of the connections to PostgreSQL before they are made; nil: nothing.
	ConfigurePool func(*pgxpool.Config)
	// BatchRows is how many records one transaction stores at most (a message more, since messages are not split). 100 to 200,000; default
	// 20,000. Batches of 1,000 cost twice.
	BatchRows int
	// BatchBytes is how many bytes of messages one transaction stores at most. 1 to 256 MiB; default 16 MiB.
	BatchBytes int
	// BatchAge is how long the first message of a batch waits for others. 1 ms to 10 s; default 200 ms.
	BatchAge time.Duration
	// Tick is how often heads are compared when there is nothing to store. Default 1 s.
	Tick time.Duration
	// WatchInterval is how often lag, gaps to come and lost outputs are looked for. Default 5 s.
	WatchInterval time.Duration
	// TransactionTimeout ends a transaction that does not come to an end. Default 60 s.
	TransactionTimeout time.Duration
	// Grace is how long a transaction that has begun may go on after its session is over; others wait for it. Default 3 s.
	Grace time.Duration
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if c.BatchRows == 0 {
		c.BatchRows = 20_000
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 16 << 20
	}
	set(&c.BatchAge, 200*time.Millisecond)
	set(&c.Tick, time.Second)
	set(&c.WatchInterval, 5*time.Second)
	set(&c.TransactionTimeout, time.Minute)
	set(&c.Grace, 3*time.Second)
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
	refuse(len(c.Kafka.Brokers) == 0, "kafka.brokers: none")
	refuse(c.BatchRows < 100 || c.BatchRows > 200_000, "sink.batch_rows: %d, must be 100 to 200000", c.BatchRows)
	refuse(c.BatchBytes < 1<<20 || c.BatchBytes > 256<<20, "sink.batch_bytes: %d, must be 1 to 256 MiB", c.BatchBytes)
	refuse(c.BatchAge < time.Millisecond || c.BatchAge > 10*time.Second, "sink.batch_age: %v, must be 1ms to 10s", c.BatchAge)
	refuse(c.Tick < 0 || c.WatchInterval < 0 || c.TransactionTimeout < 0 || c.Grace < 0, "sink: negative duration")
	if c.DSN == "" {
		errs = append(errs, errors.New("postgres.dsn: is empty"))
	} else if _, err := pgxpool.ParseConfig(c.DSN); err != nil {
		errs = append(errs, fmt.Errorf("postgres.dsn: %w", err))
	}
	return errors.Join(errs...)
}
