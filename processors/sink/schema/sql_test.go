package schema_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/processors/sink/schema"
)

// TestSQLExamples runs every SQL block of docs/sql.md as a reader, over events whose answers are known, and looks at how many leaves each opens.
func TestSQLExamples(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	dsn := migrated(t)
	w, r := connect(t, dsn, schema.Writer), connect(t, dsn, schema.Reader)
	exec(t, w, "INSERT INTO audittrail.sources (path) VALUES ('acme/api'), ('acme0/api'), ('beta')")
	exec(t, w, "INSERT INTO audittrail.actions (name) VALUES ('user.login'), ('user.logout')")
	exec(t, w, `INSERT INTO audittrail.heads (log_id, owner, events_topic_id, records_topic_id, partitions, size, records)
		VALUES (0, gen_random_uuid(), decode(repeat('01', 16), 'hex'), decode(repeat('02', 16), 'hex'), 1, 100, 100)`)
	// 60 events in the last hour, 20 ten hours ago, 20 three days ago that were stored today. Sources 1, 2, 3 in turn, actions 1, 2, 0, outcomes 1, 2, 3.
	exec(t, w, `INSERT INTO audittrail.events
		SELECT i, i, 1 + i % 3, (1 + i % 3) % 3, 0, 1 + i % 3, audittrail.day_number((now() AT TIME ZONE 'UTC')::date),
			overlay(audittrail.id_at(CASE WHEN i < 60 THEN now() - interval '30 minutes' WHEN i < 80 THEN now() - interval '10 hours' ELSE now() - interval '3 days' END)::text
				placing lpad(to_hex(i), 12, '0') FROM 25)::uuid FROM generate_series(0, 99) AS i`)
	want := []func(rows [][]any) bool{
		func(rows [][]any) bool { return rows[0][0] == int64(80) },
		func(rows [][]any) bool {
			sum := int64(0)
			for _, row := range rows {
				sum += row[1].(int64)
			}
			return len(rows) == 2 && sum == 80
		},
		func(rows [][]any) bool { return len(rows) == 25 },
		func(rows [][]any) bool {
			return len(rows) == 3 && rows[0][0] == "acme/api" && rows[0][1] == int64(27) && rows[0][2] == int64(0) && rows[2][2] == int64(26)
		},
		func(rows [][]any) bool {
			return len(rows) == 1 && rows[0][0] == "user.login" && rows[0][1] == int64(27)
		},
		func(rows [][]any) bool { return len(rows) == 1 && rows[0][0] == int16(1) && rows[0][1] == int64(27) },
		func(rows [][]any) bool { return len(rows) == 20 },
		func(rows [][]any) bool {
			// Those of three days ago; around midnight also those of ten hours or 30 minutes ago.
			return len(rows) == 1 && rows[0][1].(int64) >= 20
		},
		func(rows [][]any) bool { return len(rows) == 1 },
	}
	if len(blocks) != len(want) {
		t.Fatalf("%d SQL blocks, and the test knows %d", len(blocks), len(want))
	}
	for i, b := range blocks {
		rows := query(t, r, b[1])
		if len(rows) == 0 || !want[i](rows) {
			t.Errorf("%s\nanswers %v", b[1], rows)
		}
		leaves := 0
		for _, line := range query(t, r, "EXPLAIN "+b[1]) {
			if strings.Contains(line[0].(string), " on events_") {
				leaves++
			}
		}
		if leaves > 10 {
			t.Errorf("%s\nopens %d leaves", b[1], leaves)
		}
	}
}

func query(t *testing.T, conn *pgx.Conn, sql string) (all [][]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}
