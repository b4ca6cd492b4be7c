package sink

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/rollup"
	"github.com/maxviazov/audittrail/internal/termindex"
)

// TestThousandLeaves: with 1,000 days of events, segments and rollups, events of the last 20 years are stored beside new ones, and the readers of
// rollups and term runs open few leaves at a time.
func TestThousandLeaves(t *testing.T) {
	t.Parallel()
	k, super := startKafka(t), embeddedtest.Postgres(t)
	dsn := writerDSN(t, super)
	s, owner := observer(t, dsn), observer(t, super)
	for from := 1000; from > 1; from -= 37 { // a transaction holds the locks of what it makes
		if _, err := owner.db.Exec(t.Context(), fmt.Sprintf(`DO $$ DECLARE d date; p text; BEGIN
			SET LOCAL ROLE audittrail_owner;
			FOREACH p IN ARRAY ARRAY['segments', 'rollups'] LOOP
				FOR d IN SELECT generate_series((now() AT TIME ZONE 'UTC')::date - %d, (now() AT TIME ZONE 'UTC')::date - %d, interval '1 day') LOOP
					PERFORM audittrail.add_leaf(p, format('%%s_%%s', p, to_char(d, 'YYYYMMDD')), d, d + 1);
				END LOOP;
			END LOOP; END $$`, from, max(from-36, 2))); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(9, 10))
	now := time.Now()
	for log := range int32(2) {
		k.input(log, 8)
		for m := range int64(8) {
			o := newOutput(slot{m, 0}, slot{m + 1, 0})
			o.TopicId, o.IngestedAtMs = k.topicID[:], now.UnixMilli()
			for i := range uint32(100) {
				e := testEvent(fmt.Sprintf("%d-%d-%d", log, m, i))
				if e.OccurredAt = timestamppb.New(now.Add(-time.Duration(rng.Int64N(int64(time.Minute))))); i%2 == 0 {
					e.OccurredAt = timestamppb.New(now.AddDate(0, 0, -rng.IntN(20*365)))
				}
				o.Records = append(o.Records, testRecord(i, e))
			}
			k.append(log, o)
		}
	}
	startSink(t, k, dsn)
	awaitNext(t, s, 0, slot{8, 0})
	awaitNext(t, s, 1, slot{8, 0})
	wantMany(t, s, 0, 8)
	wantMany(t, s, 1, 8)

	for name, from := range map[string]time.Time{"a day": now.AddDate(0, 0, -1), "a day three years ago": now.AddDate(-3, 0, 0), "20 years": now.AddDate(-20, 0, -1)} {
		to := from.AddDate(0, 0, 1)
		if name == "20 years" {
			to = now.Truncate(time.Minute)
		}
		err := pgx.BeginTxFunc(t.Context(), s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			began := time.Now()
			r, err := rollup.Read(t.Context(), tx, from.Truncate(time.Minute), to.Truncate(time.Minute), func(rollup.Cell) {})
			if err != nil {
				return err
			}
			var locks int
			if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").Scan(&locks); err != nil {
				return err
			}
			t.Logf("%s: %+v in %v, %d locks held after", name, r, time.Since(began), locks)
			if locks > 300 {
				t.Errorf("%s: %d locks", name, locks)
			}
			if name == "20 years" && (r.Rows < 50 || r.Leaves < 1000) {
				t.Errorf("few rollups: %+v", r)
			}
			var index termindex.Index
			_, err = index.Lookup(t.Context(), tx, [][]uint64{{1}}, termindex.Range{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// A window of 32 leaves is what one statement opens.
	var plan []string
	rows, err := s.db.Query(t.Context(), `EXPLAIN (SUMMARY) SELECT occurred_day, counts FROM audittrail.rollups WHERE day >= audittrail.day_number((now() AT TIME ZONE 'UTC')::date) - 600::int2
		AND day <= audittrail.day_number((now() AT TIME ZONE 'UTC')::date) - 569::int2 AND occurred_day >= 1::int2 AND occurred_day <= 2::int2`)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	t.Log(plan[len(plan)-1])
	if leaves := strings.Count(strings.Join(plan, "\n"), " on rollups_"); leaves == 0 || leaves > 64 { // table and index of a bitmap scan
		t.Errorf("a window opens %d leaves", leaves)
	}
}
