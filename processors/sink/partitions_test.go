package sink

import (
	"errors"
	"strings"
	"testing"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/proto/stream"
)

// TestMorePartitions is R18: another number of partitions under the same topic id is refused, running and after a restart, and cannot be accepted.
func TestMorePartitions(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	k.outputs(0, "0.0-1.0: A")
	awaitNext(t, s, 0, slot{1, 0})
	made, err := k.admin.UpdatePartitions(t.Context(), 6, stream.Events, stream.Records)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	refused := func(when string, err error) {
		t.Helper()
		var refusal group.Refusal
		if !errors.As(err, &refusal) {
			t.Fatalf("%s: %v, want a refusal", when, err)
		}
		// Both topics cannot get their partitions in one moment: what it saw between is as good.
		if text := err.Error(); !strings.Contains(text, "had 4 partitions and has 6") && !strings.Contains(text, "they must be equal") {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("running", r.ended())
	r = startSink(t, k, dsn)
	err = r.ended()
	if refused("restarted", err); !strings.Contains(err.Error(), "had 4 partitions and has 6") {
		t.Errorf("restarted: %v", err)
	}
	changed, err := AcceptNew(t.Context(), s.db, k.settings())
	if refused("accept-new", err); len(changed) != 0 {
		t.Errorf("accepted: %v", changed)
	}
	var heads, old int
	if err := s.db.QueryRow(t.Context(), "SELECT count(*), count(*) FILTER (WHERE partitions = 4) FROM audittrail.heads").Scan(&heads, &old); err != nil {
		t.Fatal(err)
	}
	if heads != 4 || old != 4 {
		t.Errorf("%d logs, %d of them of 4 partitions", heads, old)
	}
}
