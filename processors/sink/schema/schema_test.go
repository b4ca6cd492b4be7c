package schema_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/processors/sink/schema"
)

func connect(t *testing.T, dsn, role string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		cfg.RuntimeParams["role"] = role
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func migrated(t *testing.T) string {
	t.Helper()
	dsn := embeddedtest.Postgres(t)
	if err := schema.Migrate(t.Context(), dsn, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	return dsn
}

func TestMigrateConcurrentlyAndCheck(t *testing.T) {
	dsn := embeddedtest.Postgres(t)
	super := connect(t, dsn, "")
	if err := schema.Check(t.Context(), super); !errors.Is(err, schema.ErrVersion) {
		t.Fatalf("check of an empty database: %v", err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := schema.Migrate(t.Context(), dsn, zerolog.Nop()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, role := range []string{schema.Writer, schema.Reader} {
		if err := schema.Check(t.Context(), connect(t, dsn, role)); err != nil {
			t.Errorf("check as %s: %v", role, err)
		}
	}
	exec(t, super, "INSERT INTO audittrail.schema_version (version_id, is_applied) VALUES (999, true)")
	if err := schema.Check(t.Context(), super); !errors.Is(err, schema.ErrVersion) || !errors.Is(err, schema.ErrNewer) {
		t.Fatalf("check of a newer database: %v", err)
	}
	var foreign int
	row := super.QueryRow(t.Context(), `SELECT count(*) FROM pg_class WHERE relnamespace = 'audittrail'::regnamespace
		AND relkind IN ('r','p') AND relowner <> 'audittrail_owner'::regrole`)
	if err := row.Scan(&foreign); err != nil || foreign != 0 {
		t.Fatalf("%d tables do not belong to the owner (%v)", foreign, err)
	}
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// fill stores one row in each table, as the writer does, and a tail row whose bundle is open.
func fill(t *testing.T, w *pgx.Conn) {
	t.Helper()
	exec(t, w, `INSERT INTO audittrail.heads (log_id, owner, events_topic_id, records_topic_id, partitions, size, next_offset)
		VALUES (0, gen_random_uuid(), decode(repeat('01', 16), 'hex'), decode(repeat('02', 16), 'hex'), 4, 300, 10)`)
	exec(t, w, `INSERT INTO audittrail.events VALUES (0, 1, 1, 1, 0, 1, 9000, audittrail.id_at(now())),
		(1, 1, 1, 1, 0, 1, 9000, audittrail.id_at('2001-01-01 UTC'))`)
	exec(t, w, `INSERT INTO audittrail.segments SELECT audittrail.day_number(current_date), 0, 0, NULL, NULL, NULL, 'x'`)
	exec(t, w, `INSERT INTO audittrail.tiles0 SELECT 0, 0, audittrail.day_number(current_date), decode(repeat('00', 8192), 'hex')`)
	exec(t, w, `INSERT INTO audittrail.tail VALUES (0, 0, 256, 'x'), (0, 256, 1, 'x')`)
	exec(t, w, `INSERT INTO audittrail.sources (path) VALUES ('a/b')`)
	exec(t, w, `INSERT INTO audittrail.actions (name) VALUES ('a.b')`)
	exec(t, w, `INSERT INTO audittrail.deadletters (log_id, log_index, input_offset, input_index, whole_message, reason, detail, source, key,
		original, original_size, original_sha256) VALUES (0, 7, 1, 0, false, 'CONFLICT', '', 's', 's', 'x', 1, 'x')`)
	exec(t, w, `INSERT INTO audittrail.gaps (log_id, log_index, events_topic_id, from_offset, from_index, end_offset, end_index, reason)
		VALUES (0, 8, 'x', 0, 0, 3, 0, 'EXPIRED_INPUT')`)
	exec(t, w, `INSERT INTO audittrail.rollups SELECT audittrail.day_number(current_date), 9000, 0, 0, 1, 'x'`)
	exec(t, w, `INSERT INTO audittrail.term_runs (level, segments, log_ids, days, firsts, ends, pairs, bytes)
		VALUES (0, 1, '{0}', ARRAY[audittrail.day_number(current_date)], '{0}', '{1}', 1, 1)`)
	exec(t, w, `INSERT INTO audittrail.term_blocks VALUES (1, 0, 'x')`)
	exec(t, w, `INSERT INTO audittrail.gap_fills (gap_id, from_offset, from_index, end_offset, end_index) VALUES (1, 0, 0, 1, 0)`)
}

// TestAppendOnly tries what must not be possible, as the writer, and with the triggers alone (as the owner, as a superuser, in
// replication mode), and what must be.
func TestAppendOnly(t *testing.T) {
	dsn := migrated(t)
	w := connect(t, dsn, schema.Writer)
	fill(t, w)
	super := connect(t, dsn, "")
	replica := connect(t, dsn, "")
	exec(t, replica, "SET session_replication_role = replica")
	leaf := "audittrail.events_" + time.Now().UTC().Format("20060102")

	forbidden := []string{
		"UPDATE audittrail.events SET fingerprint = 2", "DELETE FROM audittrail.events", "TRUNCATE audittrail.events",
		"UPDATE " + leaf + " SET fingerprint = 2", "DELETE FROM " + leaf, "TRUNCATE " + leaf,
		"UPDATE audittrail.events_old SET fingerprint = 2", "DELETE FROM audittrail.events_old", "TRUNCATE audittrail.events_old",
		"UPDATE audittrail.segments SET data = 'y'", "DELETE FROM audittrail.segments", "TRUNCATE audittrail.segments",
		"UPDATE audittrail.tiles0 SET day = 1", "DELETE FROM audittrail.tiles0", "TRUNCATE audittrail.tiles0",
		"UPDATE audittrail.tail SET data = 'y'", "DELETE FROM audittrail.tail", "TRUNCATE audittrail.tail",
		"DELETE FROM audittrail.tail WHERE first_index = 256",
		"DELETE FROM audittrail.heads", "TRUNCATE audittrail.heads",
		"UPDATE audittrail.heads SET size = size - 1", "UPDATE audittrail.heads SET next_offset = 0",
		"DELETE FROM audittrail.deadletters", "TRUNCATE audittrail.deadletters", "UPDATE audittrail.deadletters SET original = ''",
		"DELETE FROM audittrail.gaps", "UPDATE audittrail.gaps SET end_offset = 0",
		"UPDATE audittrail.rollups SET counts = 'y'", "DELETE FROM audittrail.rollups", "TRUNCATE audittrail.rollups",
		"UPDATE audittrail.term_runs SET pairs = 2", "DELETE FROM audittrail.term_runs", "TRUNCATE audittrail.term_runs",
		"UPDATE audittrail.term_blocks SET data = 'y'", "DELETE FROM audittrail.term_blocks", "TRUNCATE audittrail.term_blocks",
		"TRUNCATE audittrail.retention_bounds", "TRUNCATE audittrail.retention_ledger", "TRUNCATE audittrail.rollup_starts",
		"DELETE FROM audittrail.gap_fills", "UPDATE audittrail.sources SET path = 'x'", "DELETE FROM audittrail.actions",
	}
	for _, sql := range forbidden {
		for who, conn := range map[string]*pgx.Conn{"writer": w, "superuser": super, "replication mode": replica} {
			_, err := conn.Exec(t.Context(), sql)
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "42501" {
				t.Errorf("%s: %s: %v", who, sql, err)
			}
		}
	}
	for _, sql := range []string{
		"ALTER TABLE audittrail.events DISABLE TRIGGER ALL", "DROP TABLE " + leaf, "SET session_replication_role = replica",
		"SET ROLE audittrail_owner", "SELECT audittrail.add_leaf('events', 'x', '2099-01-01', '2099-01-02')",
		"INSERT INTO audittrail.leaves VALUES ('events', 'x', '2099-01-01', '2099-01-02')",
	} {
		conn := w
		if sql == "SET ROLE audittrail_owner" {
			conn = login(t, super, dsn, schema.Writer) // SET ROLE looks at who logged in
		}
		if _, err := conn.Exec(t.Context(), sql); err == nil {
			t.Errorf("writer: %s: allowed", sql)
		}
	}
	for _, sql := range []string{
		"INSERT INTO audittrail.retention_bounds VALUES (0, 0, audittrail.id_at(now()))",
		"INSERT INTO audittrail.retention_ledger (parent, leaf, step) VALUES ('segments', 'x', 'dropped')",
		"INSERT INTO audittrail.rollup_starts VALUES (0, 9)",
	} {
		if _, err := w.Exec(t.Context(), sql); err == nil {
			t.Errorf("writer: %s: allowed", sql)
		}
	}
	exec(t, w, "DELETE FROM audittrail.tail WHERE first_index = 0") // its segment is there
	// A run may go when another covers its segments, and its blocks after it.
	exec(t, w, `INSERT INTO audittrail.term_runs (level, segments, log_ids, days, firsts, ends, pairs, bytes)
		VALUES (1, 2, '{0}', ARRAY[audittrail.day_number(current_date)], '{0}', '{2}', 1, 1)`)
	exec(t, w, "DELETE FROM audittrail.term_runs WHERE run_id = 1")
	exec(t, w, "DELETE FROM audittrail.term_blocks WHERE run_id = 1")
	exec(t, w, "UPDATE audittrail.gaps SET filled_at = now()")
	exec(t, w, "UPDATE audittrail.heads SET size = 301, next_offset = 11, next_index = 0")
	r := connect(t, dsn, schema.Reader)
	var marked int
	if err := r.QueryRow(t.Context(), "SELECT audittrail.mark_redriven('{1,99}')").Scan(&marked); err != nil || marked != 1 {
		t.Fatalf("mark re-driven: %d, %v", marked, err)
	}
	if _, err := r.Exec(t.Context(), "INSERT INTO audittrail.sources (path) VALUES ('c')"); err == nil {
		t.Error("the reader may insert")
	}
}

// login makes a login user that is a member of role, and connects as it.
func login(t *testing.T, super *pgx.Conn, dsn, role string) *pgx.Conn {
	t.Helper()
	const user = "test_login"
	exec(t, super, "CREATE ROLE "+user+" LOGIN PASSWORD 'test' IN ROLE "+role)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Password = user, "test"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close(context.Background())
		super.Exec(context.Background(), "DROP ROLE "+user)
	})
	return conn
}
