//go:build realkafka

package bench_test

import (
	"context"
	"testing"

	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// TestKillEverythingRealKafka is TestKillEverything on Apache Kafka, with the broker itself among the victims: what it has
// acknowledged outlives kill -9 of its process, since the operating system keeps what was written.
func TestKillEverythingRealKafka(t *testing.T) {
	p := plan(t)
	kafka := kafkatest.Start(t, kafkatest.Options{HeapMiB: 768, Properties: map[string]string{
		// A broker that was killed is let in again when its session has ended, 9 s by default.
		"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}})
	s := startSystem(t, systemConfig{brokers: kafka.Brokers(), partitions: 4, binary: binary(t),
		emitters: 1, enrichers: 2, sinks: 2, gateways: 1})
	broker := stage.Victim{Name: "broker", Kill: func() { kafka.Kill9(0) }, Start: func() error {
		return kafka.Restart(context.Background(), 0)
	}}
	s.killAndJudge(p, []stage.Victim{broker})
}
