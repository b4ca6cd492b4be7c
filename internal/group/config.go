package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Hook runs once in each session, before anything is delivered. Heartbeats go on while it waits, so it may wait for
// PostgreSQL as long as it takes, but it returns when ctx (the session's) is done: the others in the group wait for it.
// An error that is no Refusal is logged, and the group is joined again with back-off.
type Hook func(ctx context.Context, s *Session) error

// Config is what a Wrapper is made of.
type Config struct {
	// Group is the name of the goka group: the consumer group, and the label "group" of logs and metrics. Required.
	Group string
	// Settings of the consumer group, for it alone (see CheckSettings). Required; copied.
	Settings *sarama.Config
	// Log gets sessions at info, retries at warn.
	Log zerolog.Logger
	// Registerer gets the metrics; nil registers none. Two wrappers of one group in a process need two.
	Registerer prometheus.Registerer
	// Positions decides where each claim starts (R2, R10), before goka's own Setup. Optional.
	Positions Hook
	// Recovered runs after goka's tables have recovered and before the first delivery (R7). Optional.
	Recovered Hook
	// RebuildAfter is how many sessions in a row may fail without finishing a message before the processor dies and is
	// built again. At least 1; 0 means 5.
	RebuildAfter int
	// RetryMin and RetryMax bound the back-off between attempts to join and between processors; it doubles. 0 means
	// 50 ms and 1 s.
	RetryMin, RetryMax time.Duration
}

func (c Config) withDefaults() Config {
	if c.RebuildAfter == 0 {
		c.RebuildAfter = 5
	}
	if c.RetryMin == 0 {
		c.RetryMin = 50 * time.Millisecond
	}
	if c.RetryMax == 0 {
		c.RetryMax = time.Second
	}
	return c
}

// Validate lists every problem.
func (c Config) Validate() error {
	var errs []error
	if c.Group == "" {
		errs = append(errs, errors.New("group: is empty"))
	}
	if c.RebuildAfter < 0 {
		errs = append(errs, fmt.Errorf("rebuild after: %d is negative", c.RebuildAfter))
	}
	if d := c.withDefaults(); d.RetryMin < 0 || d.RetryMax < d.RetryMin {
		errs = append(errs, fmt.Errorf("retry: %v to %v is no range", d.RetryMin, d.RetryMax))
	}
	return errors.Join(append(errs, CheckSettings(c.Settings))...)
}

// CheckSettings lists what in the settings of a consumer group would lose data or kill the processor. Beyond what it
// refuses, the time-outs that were measured to work together are: dial 3 s, write 5 s, read 12 s (JoinGroup blocks up to
// the rebalance time-out, and a shorter read time-out makes that an error); heartbeat 0.5 s, session 6 s, rebalance 5 s;
// rebalance retry back-off 200 ms (it is added to a stall; sarama's default is 2 s). With generous network time-outs a
// member that lost its coordinator learns of it after minutes; it does not write on meanwhile (heartbeat.go). Static membership is Group.InstanceId;
// its price is that a crash waits for the session time-out.
func CheckSettings(c *sarama.Config) error {
	if c == nil {
		return errors.New("settings: missing")
	}
	g := c.Consumer.Group
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("settings: "+format, args...))
		}
	}
	refuse(g.ResetInvalidOffsets, "ResetInvalidOffsets moves a position outside the log silently")
	refuse(c.Consumer.IsolationLevel != sarama.ReadCommitted, "isolation level must be read-committed (R1)")
	refuse(c.Consumer.Offsets.Initial != sarama.OffsetOldest, "initial offset must be the oldest: the newest skips what is there before the first commit")
	refuse(!c.Consumer.Offsets.AutoCommit.Enable, "automatic commit is off: nothing would be committed")
	refuse(!c.Version.IsAtLeast(sarama.V2_5_0_0), "protocol version %v is below 2.5: no stable offset fetch", c.Version)
	refuse(c.Net.ReadTimeout <= g.Rebalance.Timeout, "read time-out %v must exceed the rebalance time-out %v", c.Net.ReadTimeout, g.Rebalance.Timeout)
	refuse(g.Session.Timeout < 3*g.Heartbeat.Interval, "session time-out %v must be at least three heartbeats of %v", g.Session.Timeout, g.Heartbeat.Interval)
	strategies := g.Rebalance.GroupStrategies
	if g.Rebalance.Strategy != nil {
		strategies = []sarama.BalanceStrategy{g.Rebalance.Strategy}
	}
	for _, s := range strategies {
		p, ok := s.(sarama.RebalanceProtocolBalanceStrategy)
		refuse(ok && len(p.SupportedProtocols()) > 1, "strategy %s is cooperative: goka keeps stale tables with it", s.Name())
	}
	return errors.Join(errs...)
}

func (c Config) positions(s *Session) error { return call(c.Positions, s) }
func (c Config) recovered(s *Session) error { return call(c.Recovered, s) }

func call(h Hook, s *Session) error {
	if h == nil {
		return nil
	}
	return h(s.ctx, s)
}
