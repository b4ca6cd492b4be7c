package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/proto/stream"
)

// cutter is between the sink and PostgreSQL. When armed it passes the next COMMIT on and cuts the connection before the answer: it was committed, and
// the sink cannot know.
type cutter struct {
	target string
	armed  atomic.Bool
	cuts   atomic.Int32
	wg     sync.WaitGroup
}

// startCutter returns the DSN through the cutter.
func startCutter(t *testing.T, dsn string) (*cutter, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{target: u.Host}
	c.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(client) })
		}
	})
	t.Cleanup(func() { l.Close(); c.wg.Wait() })
	u.Host = l.Addr().String()
	return c, u.String()
}

func (c *cutter) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	c.wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || mute.Load() {
				client.Close()
				return
			}
			client.Write(buf[:n])
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("commit")) && c.armed.CompareAndSwap(true, false) {
			mute.Store(true)
			c.cuts.Add(1)
		}
		if _, err := io.Copy(server, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

// TestUnknownCommitIsLookedUp is R11: the answer to COMMIT is lost. The sink claims again and goes on from what PostgreSQL says.
func TestUnknownCommitIsLookedUp(t *testing.T) {
	t.Parallel()
	k, direct := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	cut, dsn := startCutter(t, direct)
	s := observer(t, direct)
	r := startSink(t, k, dsn)
	for i := range int64(6) {
		cut.armed.Store(i%2 == 1)
		many(k, 0, i, 1)
		awaitNext(t, s, 0, slot{i + 1, 0})
	}
	wantMany(t, s, 0, 6)
	if cut.cuts.Load() < 3 {
		t.Errorf("only %d connections were cut", cut.cuts.Load())
	}
	r.stop() // before the way to PostgreSQL goes
}

// TestKilledPostgres: kill -9 at any moment while events come; the sink waits and goes on by itself, nothing is lost or stored twice.
func TestKilledPostgres(t *testing.T) {
	t.Parallel()
	k := startKafka(t)
	server := embeddedtest.PostgresServer(t, embeddedtest.ServerOptions{})
	dsn := writerDSN(t, server.DSN())
	r := startSink(t, k, dsn)
	s := observer(t, dsn)
	const rounds = 4
	for i := range int64(rounds) {
		many(k, 0, 10*i, 10)
		many(k, 1, 10*i, 10)
		time.Sleep(time.Duration(20+37*i) * time.Millisecond) // a moment like any other
		server.Kill9(t)
		server.Start(t)
	}
	for log := range int32(2) {
		awaitNext(t, s, int16(log), slot{10 * rounds, 0})
		wantMany(t, s, log, 10*rounds)
	}
	r.stop()
}

// TestReplicasShareTheLogs: 1 → 2 → 1 sinks under load.
func TestReplicasShareTheLogs(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	ctx, stopLoad := context.WithCancel(t.Context())
	var sent atomic.Int64
	var load sync.WaitGroup
	load.Go(func() {
		for ctx.Err() == nil {
			for log := range int32(4) {
				many(k, log, sent.Load(), 1)
			}
			sent.Add(1)
		}
	})
	one := startSink(t, k, dsn)
	awaitNext(t, s, 3, slot{2, 0})
	two := startSink(t, k, dsn)
	waitFor(t, "both have logs", func() bool {
		a, b := one.current.Load(), two.current.Load()
		return a != nil && b != nil && len(a.session.Claims()) == 2 && len(b.session.Claims()) == 2
	})
	waitFor(t, "both store", func() bool { return one.metric("records_total") > 0 && two.metric("records_total") > 0 })
	if err := one.stop(); err != nil {
		t.Error(err)
	}
	waitFor(t, "the other one has all", func() bool { b := two.current.Load(); return len(b.session.Claims()) == 4 })
	stopLoad()
	load.Wait()
	for log := range int32(4) {
		awaitNext(t, s, int16(log), slot{sent.Load(), 0})
		wantMany(t, s, log, int(sent.Load()))
	}
}

// TestReplayIsFoundOut: the enricher's window and state are lost, and everything comes again from other slots. The unique key is the backstop.
func TestReplayIsFoundOut(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	many(k, 0, 0, 10)
	awaitNext(t, s, 0, slot{10, 0})
	k.input(0, 21)
	for m := range int64(11) {
		o := newOutput(slot{10 + m, 0}, slot{11 + m, 0})
		for i := range uint32(100) {
			name := testEvent(fmt.Sprintf("0-%d-%d", m, i))
			if m == 10 {
				name = testEvent(fmt.Sprintf("NEW-%d", i))
			} else if m == 5 && i == 50 {
				name.Reason = "other content"
			}
			o.Records = append(o.Records, testRecord(i, name))
		}
		k.append(0, o)
	}
	awaitNext(t, s, 0, slot{21, 0})
	entries := readLog(t, s, 0)
	if len(entries) != 1101 {
		t.Errorf("%d entries, want 1,000 events, one conflict, and 100 more", len(entries))
	}
	waitFor(t, "they are counted", func() bool { return r.metric("duplicates_total") == 999 })
	if r.metric("conflict_batches_total") == 0 {
		t.Error("no batch was written twice")
	}
	if d := k.deadLetters(1); d[0].Offset != 15 || d[0].Index != 50 || d[0].Reason != "CONFLICT" {
		t.Errorf("dead letter %s of %d.%d", d[0].Reason, d[0].Offset, d[0].Index)
	}
}

// TestColumnsAreSanitised: a value PostgreSQL does not take changes a column and never a record.
func TestColumnsAreSanitised(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	startSink(t, k, dsn)
	k.input(0, 1)
	o := parseOutput(t, "0.0-1.0: A !X")
	e := testEvent("B")
	e.Action, e.Source, e.Outcome = "a\x00b\xff", "s\x00", 70_000
	o.Records = append(o.Records, testRecord(2, e))
	o.DeadLetters[0].Detail, o.DeadLetters[0].Key, o.DeadLetters[0].Reason = "nul \x00", []byte{0, 0xff}, "\xff"
	far := testEvent("C")
	far.OccurredAt.Seconds = 9_000_000_000_000 // the year 287,000; ids wrap around
	o.Records = append(o.Records, testRecord(3, far))
	late := testEvent("D")
	late.OccurredAt.Seconds += 40 * 86400
	o.Records = append(o.Records, testRecord(4, late))
	k.append(0, o)
	awaitNext(t, s, 0, slot{1, 0})
	var action, source, key string
	var outcome int
	if err := s.db.QueryRow(t.Context(), `SELECT name, path, outcome, (SELECT source FROM audittrail.deadletters WHERE detail LIKE 'nul%') FROM audittrail.events
		JOIN audittrail.actions USING (action_id) JOIN audittrail.sources USING (source_id) WHERE log_index = 2`).Scan(&action, &source, &outcome, &key); err != nil ||
		action != "a\uFFFDb\uFFFD" || source != "s\uFFFD" || outcome != 0 || key != "\uFFFD\uFFFD" {
		t.Errorf("%q %q %d %q %v", action, source, outcome, key, err)
	}
	var last string
	if err := s.db.QueryRow(t.Context(), "SELECT string_agg(reason, ' ' ORDER BY log_index) FROM audittrail.deadletters WHERE input_index >= 3").Scan(&last); err != nil || last != "INVALID_EVENT INVALID_EVENT" {
		t.Errorf("far future: %q %v", last, err)
	}
}

// TestStoppedOwnerIsEvicted: the earlier owner was stopped inside its transaction, with the head locked.
func TestStoppedOwnerIsEvicted(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	r := startSink(t, k, dsn)
	many(k, 0, 0, 1)
	awaitNext(t, s, 0, slot{1, 0})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	tx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "SELECT 1 FROM audittrail.heads FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	startSink(t, k, dsn)
	many(k, 0, 1, 1)
	awaitNext(t, s, 0, slot{2, 0})
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("the earlier owner's transaction was not ended")
	}
}

// TestExpiredEvents: what retention has removed is not stored again, but a dead letter; and an event ahead of the leaves gets its leaf.
func TestExpiredEvents(t *testing.T) {
	t.Parallel()
	k, super := startKafka(t), embeddedtest.Postgres(t)
	dsn := writerDSN(t, super)
	s, owner := observer(t, dsn), observer(t, super)
	if _, err := owner.db.Exec(t.Context(), "INSERT INTO audittrail.retention_bounds VALUES (0, 0, audittrail.id_at($1)), (0, 9, audittrail.id_at($2)), (1, 5, audittrail.id_at(now()))",
		ingestedAt.Add(-48*time.Hour), ingestedAt.Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	startSink(t, k, dsn)
	old, ahead := testEvent("B"), testEvent("C")
	old.OccurredAt.Seconds -= 86400
	now := time.Now()
	ahead.OccurredAt.Seconds = now.Add(5 * 24 * time.Hour).Unix()
	o := parseOutput(t, "0.0-1.0: A")
	o.Records = append(o.Records, testRecord(1, old), testRecord(2, ahead))
	o.IngestedAtMs = now.UnixMilli()
	k.input(0, 1)
	k.append(0, o)
	awaitNext(t, s, 0, slot{1, 0})
	if have, want := logNames(t, s, 0), "A EXPIRED(0.1) C"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
	// A bound that is set while the sink runs holds from the next transaction on. A is stored, and too old now as well.
	if _, err := owner.db.Exec(t.Context(), "INSERT INTO audittrail.retention_bounds VALUES (0, 9, audittrail.id_at($1))", ingestedAt); err != nil {
		t.Fatal(err)
	}
	k.outputs(0, "1.0-2.0: D A")
	awaitNext(t, s, 0, slot{2, 0})
	if have, want := logNames(t, s, 0), "A EXPIRED(0.1) C EXPIRED(1.0) EXPIRED(1.1)"; have != want {
		t.Errorf("%s, want %s", have, want)
	}
}

// TestFilterStaysInTheRow: a filter is read without fetching its data, and costs no row of the TOAST table.
func TestFilterStaysInTheRow(t *testing.T) {
	t.Parallel()
	k, super := startKafka(t), embeddedtest.Postgres(t)
	dsn := writerDSN(t, super)
	s, owner := observer(t, dsn), observer(t, super)
	startSink(t, k, dsn)
	k.input(0, 6)
	for m := range int64(6) {
		o := newOutput(slot{m, 0}, slot{m + 1, 0})
		for i := range uint32(100) {
			e := testEvent(fmt.Sprintf("%d-%d", m, i))
			e.Attributes = map[string]string{}
			for a := range 6 {
				sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d", m, i, a))
				e.Attributes[fmt.Sprint(a)] = hex.EncodeToString(sum[:])
			}
			o.Records = append(o.Records, testRecord(i, e))
		}
		k.append(0, o)
	}
	awaitNext(t, s, 0, slot{6, 0})
	var inline bool
	var toast string
	if err := owner.db.QueryRow(t.Context(), `SELECT min(octet_length(filter)) = 2048 AND bool_and(pg_column_size(filter) >= 2048), min(c.reltoastrelid::regclass::text)
		FROM audittrail.segments s JOIN pg_class c ON c.oid = s.tableoid`).Scan(&inline, &toast); err != nil || !inline {
		t.Fatalf("filters of 2 kB: %v, %v", inline, err)
	}
	var values int
	if err := owner.db.QueryRow(t.Context(), "SELECT count(DISTINCT chunk_id) FROM "+toast).Scan(&values); err != nil || values != 2 {
		t.Errorf("%d values of 2 segments are out of line (%v), want the data only", values, err)
	}
}

// TestDeadLettersAreAckedBeforeCommit: while their topic takes nothing, the transaction waits, and so does everything behind it.
func TestDeadLettersAreAckedBeforeCommit(t *testing.T) {
	t.Parallel()
	k, dsn := startKafka(t), writerDSN(t, embeddedtest.Postgres(t))
	s := observer(t, dsn)
	var blocked atomic.Bool
	var refused atomic.Int32
	blocked.Store(true)
	k.cluster.ControlKey(kmsg.Produce.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.cluster.KeepControl()
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			if topic.Topic == stream.DeadLetters && blocked.Load() {
				refused.Add(1)
				return nil, errors.New("blocked by the test"), true
			}
		}
		return nil, nil, false
	})
	startSink(t, k, dsn)
	k.outputs(0, "0.0-1.0: A !INVALID_EVENT")
	waitFor(t, "the topic refuses", func() bool { return refused.Load() >= 2 })
	var next int64
	if err := s.db.QueryRow(t.Context(), "SELECT next_offset FROM audittrail.heads WHERE log_id = 0").Scan(&next); err != nil || next != 0 {
		t.Errorf("stored before the topic had it: next %d, %v", next, err)
	}
	blocked.Store(false)
	awaitNext(t, s, 0, slot{1, 0})
	if d := k.deadLetters(1); d[0].Reason != "INVALID_EVENT" {
		t.Error(d[0].Reason)
	}
}

// TestDeadLettersDoNotPileUp: a send that was given up goes on in its producer, and the next one waits for it.
func TestDeadLettersDoNotPileUp(t *testing.T) {
	t.Parallel()
	k := startKafka(t)
	var blocked atomic.Bool
	blocked.Store(true)
	k.cluster.ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.cluster.KeepControl()
		return nil, errors.New("blocked by the test"), blocked.Load()
	})
	d := newDeadTopic(k.settings())
	letter := func() []*sarama.ProducerMessage {
		return []*sarama.ProducerMessage{{Topic: stream.DeadLetters, Key: sarama.StringEncoder("acme/api"), Value: sarama.StringEncoder("x")}}
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := d.send(ctx, letter()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
	blocked.Store(false)
	if err := d.send(t.Context(), letter()); err != nil {
		t.Error(err)
	}
	end, err := k.admin.ListEndOffsets(t.Context(), stream.DeadLetters)
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	end.Each(func(o kadm.ListedOffset) { n += o.Offset })
	if n != 2 {
		t.Errorf("the topic has %d messages, want the first and the last one", n)
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
}
