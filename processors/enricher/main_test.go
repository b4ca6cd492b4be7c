package enricher

import (
	"testing"

	"go.uber.org/goleak"
)

// sarama's metrics library runs one goroutine for ever.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}
