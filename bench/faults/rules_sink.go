package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
)

// sum adds up a column of the heads.
func (s *system) sum(column string) (n int64) {
	s.t.Helper()
	s.inPostgres(func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT coalesce(sum("+pgx.Identifier{column}.Sanitize()+"), 0) FROM audittrail.heads").Scan(&n)
	})
	return n
}

// inPostgres does something in a session of the superuser.
func (s *system) inPostgres(do func(context.Context, *pgx.Conn) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.postgres.DSN())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := do(ctx, conn); err != nil {
		s.t.Fatal(err)
	}
}

// theIdleSinkLooks holds the other half of R11: PostgreSQL is replaced by an older copy when nothing happens at all. With the rule
// the sink finds out at its next look and fills the difference; without it the difference is missing until something comes.
func theIdleSinkLooks(t *T) {
	s, f := ruleSystem(t, t.kafka())
	copied := onlineCopy(t, s.postgres)
	had := recordsIn(t, copied)
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	s.expectClean(f)
	swapIn(t, s.postgres, copied)
	s.await("the copy answers", time.Minute, func() bool { return s.storedTotal() >= had })
	took := s.awaitStored(f.sent, time.Minute)
	t.recovered("an older copy of PostgreSQL, idle", took, 15*time.Second)
	s.expectUntouched(f)
}

// theDataAndThePosition holds that both are one transaction (R10, R11): the sink is killed after it has begun to write a batch and before that can
// be finished. With the rule nothing of it has happened; without it the position has moved past events that are not there.
func theDataAndThePosition(t *T) {
	s, f := ruleSystem(t, t.kafka())
	conn, err := pgx.Connect(t.Context(), s.postgres.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE audittrail.events IN SHARE MODE"); err != nil { // keeps COPY waiting
		t.Fatal(err)
	}
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	s.await("the sink waits in the middle of its transaction", 30*time.Second, func() bool {
		var n int
		err := tx.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'audittrail.events'::regclass").Scan(&n)
		return err == nil && n > 0
	})
	s.sinks[0].Kill9()
	// Its session ends before the lock does: or the statement would be finished, though never its transaction.
	if _, err := tx.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'audittrail-sink'"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.sinks[0].Start(); err != nil {
		t.Fatal(err)
	}
	s.expectUntouched(f)
}

// noGapUpToFrom holds R13: outputs are lost whose events audit-events still has. With the rule they are made again and there is no gap in the log;
// without it everything before the next output is declared lost.
func noGapUpToFrom(t *T) {
	s, f := ruleSystem(t, t.kafka())
	r := newRefilling(s, f)
	s.stopAll(s.sinks)
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	r.enriched()
	r.empty("audit-records")
	f.mustSend(200, load.Config{Batch: 20, Workers: 2}) // outputs behind those that are lost
	r.startAll(s.sinks)
	s.awaitStored(f.sent, time.Minute)
	s.expectClean(f)
}

// aDropNeedsItsFirstCopy holds R14, the shadow of a gap: events are lost for good from both topics, and their producer sends them again. The
// enricher drops them, as duplicates of events that nobody has any more. With the rule the sink does not believe that and they are made again; without it
// they are acknowledged and nowhere.
func aDropNeedsItsFirstCopy(t *T) {
	s, f := ruleSystem(t, t.kafka())
	r := newRefilling(s, f)
	s.stopAll(s.sinks)
	from := f.sent
	f.mustSend(500, load.Config{Batch: 50, Workers: 2})
	r.enriched()
	r.empty("audit-events")
	r.empty("audit-records")
	r.resend(f.shape, from, f.sent)
	r.startAll(s.sinks)
	s.awaitStored(f.sent, time.Minute)
	if err := s.settle(time.Minute); err != nil {
		t.Error(err)
	}
	v := s.judge()
	t.Logf("verdict: %s", v)
	if v.Gaps == 0 {
		t.Error("no gap is recorded although both logs were emptied: this shows nothing")
	}
	if v.Gaps = 0; !v.OK() || v.Acked != f.sent {
		t.Errorf(contractBroken+": %s", v)
	}
}

// nothingChangesWhatIsStored holds that the store is append only, for a session in replication mode as well, in which ordinary triggers do not
// fire: a subscription that applies changes, a tool that switches triggers off to be faster.
func nothingChangesWhatIsStored(t *T) {
	s := startSystem(t, systemConfig{cluster: t.kafka(), partitions: 2, emitters: 1, enrichers: 1, sinks: 1, gateways: 1})
	f := s.newFeed(traffic.Shape{Seed: 5, Sources: 40, Run: 1})
	f.mustSend(1500, load.Config{Batch: 50, Workers: 2})
	s.awaitStored(f.sent, time.Minute)
	for _, sql := range []string{
		"UPDATE audittrail.events SET outcome = outcome + 1",
		"DELETE FROM audittrail.events",
		"UPDATE audittrail.segments SET data = data",
		"DELETE FROM audittrail.segments",
		"DELETE FROM audittrail.tail",
		"UPDATE audittrail.tiles0 SET hashes = hashes",
		"UPDATE audittrail.heads SET records_position = 0",
		"DELETE FROM audittrail.heads",
		"TRUNCATE audittrail.tail",
	} {
		s.inPostgres(func(ctx context.Context, conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, "SET session_replication_role = replica"); err != nil {
				return fmt.Errorf("go into replication mode: %w", err)
			}
			if tag, err := conn.Exec(ctx, sql); err == nil {
				t.Errorf("%s was taken in replication mode, for %d rows", sql, tag.RowsAffected())
			}
			return nil
		})
	}
	s.expectUntouched(f)
}
