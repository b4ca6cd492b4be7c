//go:build realkafka

package bench_test

import (
	"testing"

	"github.com/maxviazov/audittrail/internal/kafkatest"
)

// TestBadInputRealKafka is TestBadInput on Apache Kafka: its own transaction coordinator, markers, compression and limits of size.
func TestBadInputRealKafka(t *testing.T) {
	testBadInput(t, kafkatest.Start(t, kafkatest.Options{}).Brokers())
}
