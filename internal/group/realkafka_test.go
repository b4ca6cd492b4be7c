//go:build realkafka

package group_test

import (
	"context"
	"testing"
	"time"

	"github.com/lovoo/goka"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// TestOnRealKafka runs what depends on the broker's own behaviour against Apache Kafka.
func TestOnRealKafka(t *testing.T) {
	for name, c := range map[string]struct {
		partitions int32
		test       func(*testing.T, *broker)
	}{
		"only the prefix is committed":   {1, onlyThePrefix},
		"set position":                   {1, setPosition},
		"position outside the log":       {1, outsideTheLog},
		"rebalance under load":           {4, rebalanceUnderLoad},
		"rebalance with a batch pending": {2, rebalanceWithBatch},
		"static member":                  {1, staticMember},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := startRealBroker(t, c.partitions)
			c.test(t, b)
		})
	}
	t.Run("broker is killed", func(t *testing.T) {
		b, cluster := startRealBroker(t, 1)
		b.produce(3, 0)
		offsets := make(chan int64, 100)
		a := run(t, b.addrs, newWrapper(t, group.Config{}), func(ctx goka.Context, _ any) { offsets <- ctx.Offset() })
		for range 3 {
			await(t, "a message", offsets)
		}
		waitFor(t, "they are committed", func() bool { return b.committed(0) == 3 })
		cluster.Kill9(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := cluster.Restart(ctx, 0); err != nil {
			t.Fatal(err)
		}
		b.produce(1, 0)
		if got := await(t, "a message after the outage", offsets); got != 3 {
			t.Errorf("delivery goes on at %d, not at 3", got)
		}
		waitFor(t, "it is committed", func() bool { return b.committed(0) == 4 })
		a.stop()
	})
}

func startRealBroker(t *testing.T, partitions int32) (*broker, *kafkatest.Cluster) {
	t.Helper()
	c := kafkatest.Start(t, kafkatest.Options{Properties: map[string]string{
		"group.min.session.timeout.ms": "100", "group.initial.rebalance.delay.ms": "0",
		"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}})
	b := lookInto(t, c.Brokers())
	for topic, n := range map[string]int32{input: partitions, output: partitions, gokaApp + "-table": partitions} {
		if _, err := b.admin.CreateTopic(t.Context(), n, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WaitInSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, c
}
