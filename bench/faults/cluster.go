package faults

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/maxviazov/audittrail/bench/stage"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// cluster is the Kafka of a scenario, in one of two forms.
type cluster struct {
	fake *kfake.Cluster     // in this process; nil for Apache Kafka
	real *kafkatest.Cluster // nil for kfake
}

// quickSessions lets a broker that was killed be let in again after 3 s (by default 9 s), and be missed as soon.
var quickSessions = map[string]string{"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}

// kafka starts one broker of the kind that the settings ask for.
func (t *T) kafka() *cluster {
	t.Helper()
	if t.Broker == "kafka" {
		return t.realKafka(1)
	}
	return &cluster{fake: embeddedtest.KafkaCluster(t)}
}

// threeBrokers starts three of that kind. Topics have three replicas on them, of which two must be in sync.
func (t *T) threeBrokers() *cluster {
	t.Helper()
	if t.Broker == "kafka" {
		return t.realKafka(3)
	}
	return &cluster{fake: embeddedtest.KafkaCluster(t, embeddedtest.Brokers(3))}
}

// realKafka starts Apache Kafka with so many nodes.
func (t *T) realKafka(nodes int) *cluster {
	t.Helper()
	heap := 768
	if nodes > 1 {
		heap = 400
	}
	return &cluster{real: kafkatest.Start(t, kafkatest.Options{Nodes: nodes, HeapMiB: heap, Properties: quickSessions})}
}

func (c *cluster) brokers() []string {
	if c.fake != nil {
		return c.fake.ListenAddrs()
	}
	return c.real.Brokers()
}

// victims are the brokers that can be killed and keep what they acknowledged: none of kfake, whose data is in this process.
func (c *cluster) victims() []stage.Victim {
	if c.real == nil {
		return nil
	}
	return []stage.Victim{{Name: "broker", Kill: func() { c.real.Kill9(0) }, Start: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		return c.real.Restart(ctx, 0)
	}}}
}
