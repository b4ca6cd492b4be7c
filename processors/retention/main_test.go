package retention

import (
	"os"
	"testing"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	os.Exit(embeddedtest.Main(m))
}
