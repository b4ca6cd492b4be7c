//go:build realkafka

package bench_test

import (
	"testing"

	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// TestRealKafkaRefill is TestRefill on a real Apache Kafka.
func TestRealKafkaRefill(t *testing.T) {
	refill(t, systemConfig{brokers: kafkatest.Start(t, kafkatest.Options{}).Brokers(), partitions: 4})
}
