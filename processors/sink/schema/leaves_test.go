package schema_test

import (
	"context"
	"testing"
	"time"

	"github.com/maxviazov/audittrail/processors/sink/schema"
)

// TestLeaves shows that leaves are made while a reader of the parent is open (nobody waits), without gaps, with their triggers, with
// their storage settings, once, and not beyond the bound.
func TestLeaves(t *testing.T) {
	dsn := migrated(t)
	w, reader := connect(t, dsn, schema.Writer), connect(t, dsn, schema.Reader)
	tx, err := reader.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "SELECT count(*) FROM audittrail.events"); err != nil {
		t.Fatal(err)
	}
	exec(t, w, "SET lock_timeout = '2s'")
	for i, want := range []int{8, 0} { // tomorrow is there, day 10 is asked for
		var made int
		if err := w.QueryRow(t.Context(), "SELECT audittrail.extend_leaves(now() + interval '9 days')").Scan(&made); err != nil {
			t.Fatalf("make leaves beside an open reader: %v", err)
		}
		if made != want {
			t.Errorf("call %d made %d leaves, want %d", i, made, want)
		}
	}
	exec(t, w, "SELECT audittrail.extend_leaves(now() + interval '1000 days')")

	var far time.Time
	var holes, untriggered, unsettled int
	super := connect(t, dsn, "")
	row := super.QueryRow(t.Context(), `
		SELECT (SELECT max(to_day) FROM audittrail.leaves),
		  (SELECT count(*) FROM (SELECT from_day, lag(to_day) OVER (PARTITION BY parent ORDER BY to_day) AS before FROM audittrail.leaves) l
		   WHERE from_day <> before),
		  (SELECT count(*) FROM audittrail.leaves l WHERE 2 <> (SELECT count(*) FROM pg_trigger
		   WHERE tgrelid = ('audittrail.' || leaf)::regclass AND tgenabled = 'A' AND NOT tgisinternal)),
		  (SELECT count(*) FROM audittrail.leaves l JOIN pg_class c ON c.oid = ('audittrail.' || leaf)::regclass
		   WHERE NOT 'autovacuum_freeze_min_age=0' = ANY (reloptions) OR NOT relispartition)`)
	if err := row.Scan(&far, &holes, &untriggered, &unsettled); err != nil {
		t.Fatal(err)
	}
	if days := time.Until(far).Hours() / 24; days > 35 || days < 33 {
		t.Errorf("the last leaf ends in %.1f days", days)
	}
	if holes+untriggered+unsettled != 0 {
		t.Errorf("%d holes, %d leaves without their triggers, %d without their settings", holes, untriggered, unsettled)
	}
	var storage string
	if err := super.QueryRow(t.Context(), `SELECT string_agg(attstorage::text, '' ORDER BY attnum) FROM pg_attribute JOIN audittrail.leaves
		ON parent = 'segments' AND attrelid = ('audittrail.' || leaf)::regclass AND to_day = current_date + 1
		WHERE attname IN ('filter', 'data')`).Scan(&storage); err != nil || storage != "me" {
		t.Errorf("storage of filter and data: %q, %v", storage, err)
	}
}

func TestIDBounds(t *testing.T) {
	conn := connect(t, migrated(t), schema.Reader)
	var id string
	var back time.Time
	at := time.Date(2026, 11, 24, 13, 57, 30, 123456789, time.UTC)
	if err := conn.QueryRow(t.Context(), "SELECT audittrail.id_at($1)::text, audittrail.occurred_at(audittrail.id_at($1))", at).Scan(&id, &back); err != nil {
		t.Fatal(err)
	}
	if want := "01a20dd8-ed8b-0000-0000-000000000000"; id != want || !back.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("id_at = %s (want %s), back %s", id, want, back)
	}
}
