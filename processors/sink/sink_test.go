package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/sink/schema"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/segment"
	"github.com/maxviazov/audittrail/proto/stream"
)

func entryName(t *testing.T, e segment.Entry) string {
	t.Helper()
	switch e.Kind {
	case segment.KindRecord:
		return nameOf(e.Payload)
	case segment.KindGap:
		g, err := segment.ParseGap(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("gap(%d.%d-%d.%d)", g.FromOffset, g.FromIndex, g.EndOffset, g.EndIndex)
	default:
		d, err := segment.ParseDeadLetter(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s(%d.%d)", d.Reason, d.Offset, d.Index)
	}
}

// many is outputs for n messages of 100 events each, from the message at `from` on; the keys of the events begin with the log's number.
func many(k *kafka, log int32, from, n int64) {
	k.t.Helper()
	k.input(log, from+n)
	var records []*kgo.Record
	for m := from; m < from+n; m++ {
		o := newOutput(slot{m, 0}, slot{m + 1, 0})
		o.TopicId = k.topicID[:]
		for i := range uint32(100) {
			o.Records = append(o.Records, testRecord(i, testEvent(fmt.Sprintf("%d-%d-%d", log, m, i))))
		}
		records = append(records, &kgo.Record{Topic: stream.Records, Partition: log, Value: stream.EncodeRecords(o)})
	}
	if err := k.client.ProduceSync(k.t.Context(), records...).FirstErr(); err != nil {
		k.t.Fatal(err)
	}
}

func wantMany(t *testing.T, s *store, log int32, n int) {
	t.Helper()
	have := strings.Fields(logNames(t, s, int16(log)))
	if len(have) != 100*n {
		t.Fatalf("log %d has %d entries, want %d", log, len(have), 100*n)
	}
	for i, name := range have {
		if want := fmt.Sprintf("%d-%d-%d", log, i/100, i%100); name != want {
			t.Fatalf("log %d: entry %d is %s, want %s", log, i, name, want)
		}
	}
}

// TestStoresEverythingInOrder: four logs at once, segments, tails, dead letters in the topic and in the table (R12, R16).
func TestStoresEverythingInOrder(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	r, s := startSink(t, k, dsn), observer(t, dsn)
	for log := range int32(3) {
		many(k, log, 0, 20+int64(log))
	}
	k.outputs(3, "0.0-1.0: A B !INVALID_EVENT", "1.0-2.0: a drop(0.0) A C", "2.0-3.0: D")
	for log := range int16(3) {
		awaitNext(t, s, log, slot{20 + int64(log), 0})
		wantMany(t, s, int32(log), 20+int(log))
	}
	awaitNext(t, s, 3, slot{3, 0})
	if have, want := logNames(t, s, 3), "A B INVALID_EVENT(0.2) CONFLICT(1.0) C D"; have != want {
		t.Errorf("log 3: %s, want %s", have, want)
	}
	for _, d := range k.deadLetters(2) {
		switch d.Reason {
		case "INVALID_EVENT":
		case event.ReasonConflict:
			var e audittrailv1.Event
			if err := e.UnmarshalVT(d.Original); err != nil || e.Enrichment != nil || e.ReceivedAt == nil || nameOf(d.Original) != "a" {
				t.Errorf("the original of a conflict cannot be sent again: %v %v", err, &e)
			}
		default:
			t.Errorf("unexpected %s", d.Reason)
		}
		if d.Partition != 3 || d.Offset+1 > 2 {
			t.Errorf("origin of %s: %d/%d", d.Reason, d.Partition, d.Offset)
		}
	}
	var dead, records, duplicates, drops int64
	if err := s.db.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM audittrail.deadletters), records, duplicates, drops FROM audittrail.heads WHERE log_id = 3").
		Scan(&dead, &records, &duplicates, &drops); err != nil || dead != 2 || records != 4 || duplicates != 1 || drops != 1 {
		t.Errorf("%d dead letters, %d records, %d duplicates, %d drops, %v", dead, records, duplicates, drops, err)
	}
	waitFor(t, "metrics", func() bool { return r.metric("records_total") == 6304 && r.metric("dead_letters_total") == 2 })
	if !r.Ready() {
		t.Error("not ready")
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestContinuesAfterRestart: open bundles are read back, and a bundle that began before is completed (its tail rows go).
func TestContinuesAfterRestart(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	for i := range int64(6) {
		r := startSink(t, k, dsn)
		many(k, 1, i, 1)
		awaitNext(t, s, 1, slot{i + 1, 0})
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	wantMany(t, s, 1, 6)
	var rows int
	if err := s.db.QueryRow(t.Context(), "SELECT count(*) FROM audittrail.tail WHERE first_index < 512").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows of complete bundles are left in the tail (%v)", rows, err)
	}
}

// TestRestoredCopyIsFilled is R10: PostgreSQL goes back to an older state while Kafka's commit of the group stands at the end. The sink reads the
// difference again, also when it was idle (R11).
func TestRestoredCopyIsFilled(t *testing.T) {
	t.Parallel()
	k := startKafka(t)
	older, newer := embeddedtest.Postgres(t), embeddedtest.Postgres(t)
	dsn, dsnNewer := writerDSN(t, older), writerDSN(t, newer)
	for _, d := range []string{dsn, dsnNewer} {
		r := startSink(t, k, d)
		if d == dsn {
			many(k, 0, 0, 3)
		} else {
			many(k, 0, 3, 4)
		}
		s := observer(t, d)
		if d == dsn {
			awaitNext(t, s, 0, slot{3, 0})
		} else {
			awaitNext(t, s, 0, slot{7, 0}) // the group's commit stands behind it
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	r, s := startSink(t, k, dsn), observer(t, dsn)
	awaitNext(t, s, 0, slot{7, 0})
	wantMany(t, s, 0, 7)
	_ = r
}

// TestPausedSinkChangesNothing is R11: a sink that was paused in a transaction finds the log taken over.
func TestPausedSinkChangesNothing(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	r := startSink(t, k, dsn, func(c *Config) { c.Tick = time.Hour })
	many(k, 0, 0, 2)
	awaitNext(t, s, 0, slot{2, 0})
	old := r.current.Load()
	// Somebody else claims the log, as another replica would after a rebalance that this one slept through, and goes on.
	p := &postgres{t: t, store: s, owner: [16]byte{9}}
	now, err := r.topics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	heads, err := s.claim(t.Context(), p.owner, []int32{0}, now, anyRange)
	if err != nil {
		t.Fatal(err)
	}
	if heads[0].next != (slot{2, 0}) {
		t.Fatalf("claimed at %v", heads[0].next)
	}
	many(k, 0, 2, 2)
	r.log.await(t, errForeign.Error())
	awaitNext(t, s, 0, slot{4, 0})
	wantMany(t, s, 0, 4)
	if r.current.Load() == old {
		t.Error("the session went on")
	}
	err = func() error {
		var b batch
		b.log(heads[0]).head.position++
		b.encode(newDictionary(), 1)
		return s.write(t.Context(), p.owner, now.events, &b, func(context.Context) error { return nil })
	}()
	if !errors.Is(err, errForeign) {
		t.Errorf("the other one may still write: %v", err)
	}
}

// TestIdleSinkNoticesRollback is the tick of R11.
func TestIdleSinkNoticesRollback(t *testing.T) {
	t.Parallel()
	k := startKafka(t)
	super := embeddedtest.Postgres(t)
	dsn := writerDSN(t, super)
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	many(k, 0, 0, 1)
	awaitNext(t, s, 0, slot{1, 0})
	// The head of a log that came to the same slot by another way: another position.
	if _, err := s.db.Exec(t.Context(), "UPDATE audittrail.heads SET records_position = records_position + 1 WHERE log_id = 0"); err != nil {
		t.Fatal(err)
	}
	r.log.await(t, errForeign.Error())
}

// TestGapIsDeclaredAndFilledLate is R13 and R12 on the real protocol.
func TestGapIsDeclaredAndFilledLate(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	k.input(0, 6)
	k.expire(stream.Events, 0, 3)
	r := startSink(t, k, dsn)
	waitFor(t, "the tick alerts", func() bool { return r.metric("input_expired") == 1 })
	k.outputs(0, "5.0-6.0: F", "3.0-4.0: D", "4.0-5.0: E", "5.0-6.0: F")
	awaitNext(t, s, 0, slot{6, 0})
	k.outputs(0, "1.0-2.0: B", "0.0-1.0: A drop(0.0)", "2.0-3.0: C")
	awaitPosition(t, s, 0, 7)
	if have, want := logNames(t, s, 0), "gap(0.0-3.0) D E F B A C"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
	var fills int
	var filled bool
	if err := s.db.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM audittrail.gap_fills), filled_at IS NOT NULL FROM audittrail.gaps`).Scan(&fills, &filled); err != nil ||
		fills != 3 || !filled {
		t.Errorf("%d fills, filled %v, %v", fills, filled, err)
	}
	waitFor(t, "the alert ends", func() bool { return r.metric("gaps_total") == 1 && r.metric("input_expired") == 0 })
}

// TestGapIsSeenWhenTheEndIsKnown is R13: the start of the input log is read for each output that leaves slots out, also when an earlier question told
// an end beyond it.
func TestGapIsSeenWhenTheEndIsKnown(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	startSink(t, k, dsn)
	k.input(0, 10)
	k.outputs(0, "0.0-1.0: A")
	awaitNext(t, s, 0, slot{1, 0})
	k.expire(stream.Events, 0, 5)
	k.outputs(0, "5.0-6.0: B")
	awaitNext(t, s, 0, slot{6, 0})
	if have, want := logNames(t, s, 0), "A gap(1.0-5.0) B"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
}

// TestClosedQueue: what comes when the batcher has ended is refused; else nobody would finish it, and goka would wait for it.
func TestClosedQueue(t *testing.T) {
	q := newQueue(1000)
	if !q.put(t.Context(), &item{}) || len(q.close()) != 1 || q.put(t.Context(), &item{}) {
		t.Error("taken after the end")
	}
}

// TestRefusals: what trying again cannot mend stops the sink, with what to do (R10, R15, R18, versions).
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(k *kafka, s *store)
		want    string
	}{
		"beyond the end of the input (R15)": {func(k *kafka, s *store) {
			k.append(0, parseOutput(k.t, "0.0-9.0: A"))
		}, "not written by an enricher"},
		"newer envelope": {func(k *kafka, s *store) {
			k.value(0, []byte("\x00ATR\x02whatever"))
		}, "unknown envelope version"},
		"newer rules": {func(k *kafka, s *store) {
			k.input(0, 1)
			o := parseOutput(k.t, "0.0-1.0: A")
			o.RuleVersion++
			k.append(0, o)
		}, "rule version"},
		"audit-records went backwards (R10)": {func(k *kafka, s *store) {
			k.outputs(0, "0.0-1.0: A")
			awaitNext(k.t, s, 0, slot{1, 0})
			if _, err := s.db.Exec(k.t.Context(), "UPDATE audittrail.heads SET records_position = 7 WHERE log_id = 0"); err != nil {
				k.t.Fatal(err)
			}
		}, "went backwards"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
			r := startSink(t, k, dsn)
			c.prepare(k, observer(t, dsn))
			err := r.ended()
			var refusal group.Refusal
			if !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestNewerSchema: a database that a newer program has migrated stops an older sink at its next session, so that the logs go to those that
// are upgraded already.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	super := embeddedtest.Postgres(t)
	k, dsn := startKafka(t), writerDSN(t, super)
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	k.outputs(0, "0.0-1.0: A")
	awaitNext(t, s, 0, slot{1, 0})
	conn, err := pgx.Connect(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"INSERT INTO audittrail.schema_version (version_id, is_applied) VALUES (999, true)",
		"UPDATE audittrail.heads SET owner = gen_random_uuid()"} { // ends the session
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var refusal group.Refusal
	if err := r.ended(); !errors.As(err, &refusal) || !errors.Is(err, schema.ErrNewer) {
		t.Errorf("%v", err)
	}
}

// TestReplacedTopics is R18: recreated topics are refused until they are accepted; then the logs go on, and what is left of the old topic becomes dead
// letters.
func TestReplacedTopics(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	k.outputs(0, "0.0-1.0: A", "1.0-2.0: B")
	awaitNext(t, s, 0, slot{2, 0})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	k.outputs(0, "2.0-3.0: C drop(0.0)") // never read from the old topic's time
	if _, err := k.admin.DeleteTopics(t.Context(), stream.Events); err != nil {
		t.Fatal(err)
	}
	k.makeTopics()
	r = startSink(t, k, dsn)
	if err := r.ended(); err == nil || !strings.Contains(err.Error(), "accept-new") {
		t.Fatalf("replaced topic: %v", err)
	}
	changed, err := AcceptNew(t.Context(), s.db, k.settings())
	if err != nil || len(changed) != 4 || !changed[0].Events || changed[0].Records || changed[0].PartitionsBefore != 4 {
		t.Fatalf("accept: %+v, %v", changed, err)
	}
	if again, err := AcceptNew(t.Context(), s.db, k.settings()); err != nil || len(again) != 0 {
		t.Errorf("accept again: %+v, %v", again, err)
	}
	// In one batch with what is left of the old topic: C was sent again, and is not a retry of the dead letter.
	k.outputs(0, "0.0-1.0: C D B")
	startSink(t, k, dsn)
	awaitNext(t, s, 0, slot{1, 0})
	if have, want := logNames(t, s, 0), "A B OTHER_TOPIC(2.0) C D"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
}

// TestMalformedOutputIsLeftOut: a value that no enricher writes covers nothing and stops nobody.
func TestMalformedOutputIsLeftOut(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	k.value(0, []byte("garbage"))
	k.value(0, nil)
	bad := parseOutput(t, "0.0-1.0: 3:A 1:B")
	k.append(0, bad)
	k.outputs(0, "0.0-1.0: A")
	awaitNext(t, s, 0, slot{1, 0})
	if have := logNames(t, s, 0); have != "A" {
		t.Error(have)
	}
	waitFor(t, "they are counted", func() bool { return r.metric("malformed_outputs_total") == 3 })
}

// TestWedgeIsNoticed is R21: the enricher has committed slots whose output is not in audit-records.
func TestWedgeIsNoticed(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	k.outputs(0, "0.0-1.0: A", "2.0-3.0: C")
	k.enricherCommit(0, 1)
	awaitPosition(t, s, 0, 2)
	r.log.await(t, "batch stored")
	if r.metric("wedged") != 0 {
		t.Error("wedged before the enricher has committed")
	}
	k.enricherCommit(0, 3)
	waitFor(t, "the alert", func() bool { return r.metric("wedged") == 1 })
	waitFor(t, "the request", func() bool {
		commits, err := k.admin.FetchOffsets(t.Context(), string(stream.SinkGroup))
		if err != nil {
			return false
		}
		o, _ := commits.Lookup(stream.Records, 0)
		return o.Metadata == "refill=1"
	})
	k.outputs(0, "1.0-2.0: B", "2.0-3.0: C")
	awaitNext(t, s, 0, slot{3, 0})
	waitFor(t, "the alert ends", func() bool { return r.metric("wedged") == 0 })
}

// TestRecordsExpired: audit-records lost what the sink had not read. It starts where the log starts, and waits for the enricher.
func TestRecordsExpired(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	k.outputs(0, "0.0-1.0: A", "1.0-2.0: B")
	k.expire(stream.Records, 0, 1)
	startSink(t, k, dsn)
	awaitPosition(t, s, 0, 2)
	k.outputs(0, "0.0-1.0: A", "1.0-2.0: B")
	awaitNext(t, s, 0, slot{2, 0})
	if have := logNames(t, s, 0); have != "A B" {
		t.Error(have)
	}
}
