package enricher

import (
	"errors"
	"fmt"
	"time"

	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// Config is what an Enricher is made of. Zero values mean the defaults.
type Config struct {
	// Kafka says how to reach the brokers. Required.
	Kafka stream.Settings
	// Group tunes the consumer group; its InstanceID makes the membership static.
	Group stream.GroupTuning
	// Window is how long, in stream time, an id is remembered: 1 s to 7 d, default 15 min. The compaction lag of the table is
	// made for it (stream.Layout.Window).
	Window time.Duration
	// WindowMaxIDs is how many ids a partition remembers at most, at 72 bytes each: 1,000 to 100 M, default 1 M.
	WindowMaxIDs int
	// SnapshotDir is where local snapshots of table and window are kept, up to 60 bytes an id and 2 KB a source. Empty: none; then
	// each start reads the changelog from its beginning. Replicas on one machine may share it.
	SnapshotDir string
	// SnapshotInterval is the least time between two snapshots of a partition: 1 s or more, default 5 min.
	SnapshotInterval time.Duration
	// MaxFuture is how far occurred_at may lie after the broker's time of append or the emitter's stamp, whichever is later, beyond what the emitter allows for: a minute is
	// added for the difference of the clocks. Default 5 min.
	MaxFuture time.Duration
	// RefillInterval is how often requests for a refill are looked for: 10 ms or more, default 2 s.
	RefillInterval time.Duration
}

// clockDifference is allowed between the clock of an emitter, which has validated the event, and the broker's.
const clockDifference = time.Minute

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = 15 * time.Minute
	}
	if c.WindowMaxIDs == 0 {
		c.WindowMaxIDs = 1_000_000
	}
	if c.SnapshotInterval == 0 {
		c.SnapshotInterval = 5 * time.Minute
	}
	if c.MaxFuture == 0 {
		c.MaxFuture = event.DefaultMaxFuture
	}
	if c.RefillInterval == 0 {
		c.RefillInterval = 2 * time.Second
	}
	return c
}

// Validate lists every problem.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if len(c.Kafka.Brokers) == 0 {
		errs = append(errs, errors.New("kafka.brokers: is empty"))
	}
	if c.Window < time.Second || c.Window > 7*24*time.Hour {
		errs = append(errs, fmt.Errorf("enricher.window: %s, must be 1s to 168h", c.Window))
	}
	if c.WindowMaxIDs < 1000 || c.WindowMaxIDs > 100_000_000 {
		errs = append(errs, fmt.Errorf("enricher.window_max_ids: %d, must be 1000 to 100000000", c.WindowMaxIDs))
	}
	if c.SnapshotInterval < time.Second {
		errs = append(errs, fmt.Errorf("enricher.snapshot_interval: %s, must be 1s or more", c.SnapshotInterval))
	}
	if c.MaxFuture < 0 {
		errs = append(errs, fmt.Errorf("enricher.max_future: %s is negative", c.MaxFuture))
	}
	if c.RefillInterval < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("enricher.refill_interval: %s, must be 10ms or more", c.RefillInterval))
	}
	return errors.Join(errs...)
}
