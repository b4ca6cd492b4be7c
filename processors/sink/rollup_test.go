package sink

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/rollup"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
)

// checkRollups compares the rollups of a log with its rows of events below the end of the last complete bundle. Every test that reads a log back
// does so.
func checkRollups(t testing.TB, s *store, log int16, complete int) {
	t.Helper()
	ctx := context.Background()
	rows, err := s.db.Query(ctx, "SELECT id, source_id, action_id, outcome FROM audittrail.events WHERE log_id = $1 AND log_index < $2", log, complete)
	if err != nil {
		t.Fatal(err)
	}
	var id [16]byte
	c := rollup.Cell{Count: 1}
	var want, have []rollup.Cell
	if _, err := pgx.ForEachRow(rows, []any{&id, &c.Source, &c.Action, &c.Outcome}, func() error {
		c.Minute = rollup.MinuteOf(event.ID(id).Time().UnixMilli())
		want = append(want, c)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rows, err = s.db.Query(ctx, `SELECT r.occurred_day, r.records, r.counts, t.day = r.day FROM audittrail.rollups r JOIN audittrail.tiles0 t USING (log_id, bundle)
		WHERE log_id = $1`, log)
	if err != nil {
		t.Fatal(err)
	}
	var day, records int16
	var counts []byte
	var sameDay bool
	if _, err := pgx.ForEachRow(rows, []any{&day, &records, &counts, &sameDay}, func() error {
		n := int32(0)
		if err := rollup.Each(day, counts, func(c rollup.Cell) {
			n += c.Count
			have = append(have, c)
		}); err != nil || n != int32(records) || !sameDay {
			return fmt.Errorf("a row counts %d records and says %d; day of the segment %v; %w", n, records, sameDay, err)
		}
		return nil
	}); err != nil {
		t.Errorf("rollups of log %d: %v", log, err)
	}
	if want, have = rollup.Sum(want), rollup.Sum(have); !slices.Equal(want, have) {
		t.Errorf("rollups of log %d have %d cells, the rows of events make %d, or counts differ", log, len(have), len(want))
	}
}

// TestRollupsAfterRestart: a bundle that was begun by one sink and completed by another is counted as a whole, late events on their own days.
func TestRollupsAfterRestart(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	send := func(m int64, n int, at func(i int) time.Time) {
		k.input(0, m+1)
		o := newOutput(slot{m, 0}, slot{m + 1, 0})
		o.TopicId = k.topicID[:]
		for i := range n {
			e := testEvent(fmt.Sprintf("%d-%d", m, i))
			e.OccurredAt.Seconds = at(i).Unix()
			e.Action = fmt.Sprintf("thing.done%d", i%3)
			o.Records = append(o.Records, testRecord(uint32(i), e))
		}
		k.append(0, o)
	}
	now := ingestedAt
	r := startSink(t, k, dsn)
	send(0, 200, func(i int) time.Time { return now.Add(-time.Duration(i) * time.Second) })
	awaitNext(t, s, 0, slot{1, 0})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	startSink(t, k, dsn)
	send(1, 100, func(i int) time.Time { return now.Add(-time.Duration(i%5) * 30 * time.Hour) })
	awaitNext(t, s, 0, slot{2, 0})
	readLog(t, s, 0)
	var days, actions int
	if err := s.db.QueryRow(t.Context(), "SELECT count(*), (SELECT count(*) FROM audittrail.actions) FROM audittrail.rollups").Scan(&days, &actions); err != nil {
		t.Fatal(err)
	}
	if days < 5 || actions != 3 {
		t.Errorf("%d rows of rollups and %d actions, want 5 or more and 3", days, actions)
	}
}

// TestReadRollups compares what the reader counts in random ranges, to the millisecond, with the rows of events.
func TestReadRollups(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	rng := rand.New(rand.NewPCG(5, 6))
	for log := range int32(2) {
		k.input(log, 7)
		for m := range int64(7) {
			o := newOutput(slot{m, 0}, slot{m + 1, 0})
			o.TopicId = k.topicID[:]
			for i := range uint32(100) {
				e := testEvent(fmt.Sprintf("%d-%d-%d", log, m, i))
				e.OccurredAt = timestamppb.New(ingestedAt.Add(-time.Duration(rng.ExpFloat64() * float64(2*time.Hour))))
				e.Source, e.Action, e.Outcome = fmt.Sprintf("acme/s%d", i%3), fmt.Sprintf("thing.done%d", i%4), audittrailv1.Outcome(1+i%3)
				o.Records = append(o.Records, testRecord(i, e))
			}
			k.append(log, o)
		}
	}
	startSink(t, k, dsn)
	awaitNext(t, s, 0, slot{7, 0})
	awaitNext(t, s, 1, slot{7, 0})
	type key struct {
		minute  int32
		outcome int16
		source  string
		action  string
	}
	for i := range 60 {
		to := ingestedAt.Add(-time.Duration(rng.Int64N(int64(time.Hour))))
		from := to.Add(-time.Duration(rng.Int64N(int64(1) << (25 + i%20))))
		if i%5 == 0 {
			from, to = from.Truncate(time.Minute), to.Truncate(time.Minute)
		}
		err := pgx.BeginTxFunc(t.Context(), s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			want, have := map[key]int32{}, map[key]int32{}
			rows, err := tx.Query(t.Context(), `SELECT id, outcome, path, name FROM audittrail.events JOIN audittrail.sources USING (source_id)
				JOIN audittrail.actions USING (action_id) WHERE id >= audittrail.id_at($1) AND id < audittrail.id_at($2)`, from, to)
			if err != nil {
				return err
			}
			var id [16]byte
			var x key
			if _, err := pgx.ForEachRow(rows, []any{&id, &x.outcome, &x.source, &x.action}, func() error {
				x.minute = rollup.MinuteOf(event.ID(id).Time().UnixMilli())
				want[x]++
				return nil
			}); err != nil {
				return err
			}
			sources, actions := named(t, tx, "source_id, path FROM audittrail.sources"), named(t, tx, "action_id, name FROM audittrail.actions")
			r, err := rollup.Read(t.Context(), tx, from, to, func(c rollup.Cell) {
				have[key{c.Minute, c.Outcome, sources[c.Source], actions[c.Action]}] += c.Count
			})
			if err != nil {
				return err
			}
			inTail := 0
			if err := rollup.Tail(t.Context(), tx, r.From, r.To, func(e *audittrailv1.Event) {
				inTail++
				have[key{rollup.MinuteOf(event.IDOf(e).Time().UnixMilli()), int16(e.Outcome), e.Source, e.Action}]++
			}); err != nil {
				return err
			}
			if !maps.Equal(want, have) || !r.Exact {
				t.Errorf("%v to %v: %d keys, want %d; %+v", from, to, len(have), len(want), r)
			}
			if i == 39 && (r.Rows == 0 || inTail == 0 || r.Events == 0) {
				t.Errorf("the largest range shows nothing: %+v, %d from the tail", r, inTail)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func named(t *testing.T, db querier, what string) map[int32]string {
	t.Helper()
	rows, err := db.Query(t.Context(), "SELECT "+what)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[int32]string)
	var id int32
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		names[id] = name
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return names
}
