package sink

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	code := embeddedtest.Main(m)
	if code == 0 {
		// One goroutine for all meters of sarama's metrics library, for the life of the program.
		if err := goleak.Find(goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}
