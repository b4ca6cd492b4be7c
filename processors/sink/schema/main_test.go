package schema_test

import (
	"os"
	"testing"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) { os.Exit(embeddedtest.Main(m)) }
