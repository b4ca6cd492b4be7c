package group_test

import (
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/maxviazov/audittrail/internal/group"
)

func TestCheckSettings(t *testing.T) {
	if err := group.CheckSettings(settings()); err != nil {
		t.Errorf("good settings: %v", err)
	}
	for want, spoil := range map[string]func(*sarama.Config){
		"ResetInvalidOffsets": func(c *sarama.Config) { c.Consumer.Group.ResetInvalidOffsets = true },
		"read-committed":      func(c *sarama.Config) { c.Consumer.IsolationLevel = sarama.ReadUncommitted },
		"initial offset":      func(c *sarama.Config) { c.Consumer.Offsets.Initial = sarama.OffsetNewest },
		"automatic commit":    func(c *sarama.Config) { c.Consumer.Offsets.AutoCommit.Enable = false },
		"below 2.5":           func(c *sarama.Config) { c.Version = sarama.V2_0_0_0 },
		"read time-out":       func(c *sarama.Config) { c.Net.ReadTimeout = c.Consumer.Group.Rebalance.Timeout },
		"three heartbeats":    func(c *sarama.Config) { c.Consumer.Group.Session.Timeout = 2 * c.Consumer.Group.Heartbeat.Interval },
		"cooperative": func(c *sarama.Config) {
			c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
		},
	} {
		c := settings()
		spoil(c)
		if err := group.CheckSettings(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNewListsAllProblems(t *testing.T) {
	_, err := group.New(group.Config{RebuildAfter: -1, RetryMin: time.Minute})
	for _, want := range []string{"group: is empty", "rebuild after", "retry: 1m0s to 1s", "settings: missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	r := prometheus.NewRegistry()
	for i, fails := range []bool{false, true} {
		_, err := group.New(group.Config{Group: "g", Settings: settings(), Registerer: r})
		if (err != nil) != fails {
			t.Errorf("wrapper %d on one registry: %v", i, err)
		}
	}
}
