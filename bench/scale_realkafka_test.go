//go:build realkafka

package bench_test

import (
	"testing"

	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// TestRealKafkaScaleUnderLoad is TestScaleUnderLoad on a real Apache Kafka, whose group coordinator is another program.
func TestRealKafkaScaleUnderLoad(t *testing.T) {
	scaleUnderLoad(t, systemConfig{brokers: kafkatest.Start(t, kafkatest.Options{}).Brokers(), partitions: 6})
}

// TestRealKafkaRestoreAnOlderCopy is TestRestoreAnOlderCopy on a real Apache Kafka.
func TestRealKafkaRestoreAnOlderCopy(t *testing.T) {
	restoreAnOlderCopy(t, systemConfig{brokers: kafkatest.Start(t, kafkatest.Options{}).Brokers(), partitions: 4})
}
