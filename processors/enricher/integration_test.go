package enricher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// TestDuplicates across messages and within one, and a message of a raw producer, by way of a real broker (R6).
func TestDuplicates(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 2)
	p.start(p.config(t.TempDir())).awaitReady()
	const source = "acme/pay"
	a, b, c := testEvent(source, "a"), testEvent(source, "b"), testEvent(source, "c")
	partition, _ := p.sendBatch(source, a, b, a)
	p.sendBatch(source, b, c)
	_, last := p.send(&sarama.ProducerMessage{Topic: stream.Events, Key: sarama.StringEncoder(source), Value: sarama.ByteEncoder(encoded(t, a))})
	p.awaitCommit(partition, last+1)

	s := p.sink(partition, 0)
	want := map[event.ID]slot{event.IDOf(a): {0, 0}, event.IDOf(b): {0, 1}, event.IDOf(c): {1, 1}}
	if fmt.Sprint(s.stored) != fmt.Sprint(want) {
		t.Errorf("stored %v, want %v", s.stored, want)
	}
	if s.drops != 3 || s.next != (slot{last + 1, 0}) {
		t.Errorf("%d drops, covered up to %v; want 3 and %d", s.drops, s.next, last+1)
	}

	state := p.viewed(source)
	if got := table.ToActivity(state); got.GetEventCount() != 3 || got.GetDuplicateCount() != 3 || state.Accepted != nil {
		t.Errorf("the view has %v", state)
	}
}

// viewed is what a goka view of the table, such as the gateway's, says of a source.
func (p *pipe) viewed(source string) *table.State {
	p.t.Helper()
	common := stream.Goka{Settings: p.settings, Log: zerolog.Nop()}
	// A view does not close what it was built with.
	consumers := func(brokers []string, id string) (sarama.Consumer, error) {
		c, err := common.ConsumerBuilder()(brokers, id)
		if err == nil {
			p.t.Cleanup(func() { _ = c.Close() })
		}
		return c, err
	}
	managers := func(brokers []string) (goka.TopicManager, error) {
		m, err := common.TopicManagerBuilder()(brokers)
		if err == nil {
			p.t.Cleanup(func() { _ = m.Close() })
		}
		return m, err
	}
	view, err := goka.NewView(p.settings.Brokers, stream.Table, table.Codec{}, append(common.ViewOptions(), goka.WithViewCallback(table.Update),
		goka.WithViewStorageBuilder(table.StorageBuilder), goka.WithViewConsumerSaramaBuilder(consumers), goka.WithViewTopicManagerBuilder(managers))...)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- view.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}()
	<-view.WaitRunning()
	value, err := view.Get(source)
	if err != nil {
		p.t.Fatal(err)
	}
	state, _ := value.(*table.State)
	return state
}

// setCommit makes the enrichers' group, which must be empty, start at offset: a crash before the commit.
func (p *pipe) setCommit(partition int32, offset int64) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.settings.Brokers...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	offsets := kadm.Offsets{}
	offsets.AddOffset(stream.Events, partition, offset, -1)
	if err := kadm.NewClient(client).CommitAllOffsets(testContext(p.t), string(stream.EnricherGroup), offsets); err != nil {
		p.t.Fatal(err)
	}
}

// TestReplay (R3, R6): an enricher dies after its writes and before its commit. Its successor reads the same messages again,
// from a snapshot, from the changelog, or (the table having been lost) without either; the sink has everything once.
func TestReplay(t *testing.T) {
	const source = "acme/pay"
	for _, snapshot := range []bool{true, false} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshot), func(t *testing.T) {
			t.Parallel()
			p := newPipe(t, 1)
			dirs := []string{t.TempDir(), t.TempDir()}
			if snapshot {
				dirs[1] = dirs[0]
			}
			first := p.start(p.config(dirs[0]))
			var sent []event.ID
			for i := range 20 {
				a, b := testEvent(source, fmt.Sprint("a", i)), testEvent(source, fmt.Sprint("b", i))
				p.sendBatch(source, a, b, a)
				sent = append(sent, event.IDOf(a), event.IDOf(b))
			}
			p.awaitCommit(0, 20)
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}
			before := p.sink(0, 0)

			p.setCommit(0, 5)
			second := p.start(p.config(dirs[1]))
			last := testEvent(source, "last")
			p.sendBatch(source, last)
			sent = append(sent, event.IDOf(last))
			p.awaitCommit(0, 21)

			if got := testutil.ToFloat64(second.metrics.replays); got != 15 {
				t.Errorf("%v messages were recognised as replays, want 15", got)
			}
			after := p.sink(0, 0)
			if after.next != (slot{21, 0}) || len(after.stored) != len(sent) {
				t.Fatalf("covered up to %v with %d events, want 21 and %d", after.next, len(after.stored), len(sent))
			}
			for _, id := range sent {
				if _, ok := after.stored[id]; !ok {
					t.Errorf("%s is lost", id)
				}
			}
			// Whoever reads the replay instead of the first output gets the same.
			replay := newMiniSink(t, 5)
			seen := 0
			for _, m := range p.read(stream.Records, 0) {
				if seen++; seen > 20 {
					replay.take(m.Value)
				}
			}
			for id, at := range replay.stored {
				if was, ok := before.stored[id]; ok && (was != at || string(before.record[id]) != string(replay.record[id])) {
					t.Errorf("%s was at %v, is at %v in the replay; record equal: %v", id, was, at, string(before.record[id]) == string(replay.record[id]))
				}
			}
			if len(replay.stored) != 2*15+1 {
				t.Errorf("the replay kept %d events", len(replay.stored))
			}
			values := p.read(stream.Table, 0)
			state, err := stream.DecodeState(values[len(values)-1].Value)
			if err != nil || state.Events != 41 || state.Duplicates != 20 {
				t.Errorf("the table counts %d events and %d duplicates, want 41 and 20 (%v)", state.Events, state.Duplicates, err)
			}
		})
	}
}

// TestFailedSends (R3): the broker refuses outputs and table writes for good, now of one topic, now of the other. Nothing is
// committed past them; the session ends, the messages come again, and everything is stored and counted once.
func TestFailedSends(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	e := p.start(p.config(""))
	e.awaitReady()
	const source = "acme/pay"
	sent := map[event.ID]bool{}
	for round, topic := range []string{stream.Records, stream.Table, stream.Records} {
		fault := p.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.InvalidRecord, Count: 2})
		for i := range 10 {
			a := testEvent(source, fmt.Sprint(round, "-", i))
			p.sendBatch(source, a, a)
			sent[event.IDOf(a)] = true
		}
		await(t, "sends have failed", func() bool { return fault.Hits() == 2 })
	}
	p.awaitCommit(0, 30)
	s := p.sink(0, 0)
	if s.next != (slot{30, 0}) || len(s.stored) != len(sent) {
		t.Errorf("covered up to %v with %d events, want 30 and %d", s.next, len(s.stored), len(sent))
	}
	values := p.read(stream.Table, 0)
	state, err := stream.DecodeState(values[len(values)-1].Value)
	if err != nil || state.LastOffset != 29 || state.Events != 30 || state.Duplicates != 30 {
		t.Errorf("the table ends with %v, %v", state, err)
	}
	if testutil.ToFloat64(e.metrics.replays) == 0 {
		t.Error("nothing was replayed")
	}
}

// TestBadInput (R8, R9): what raw producers may write between good messages. Everything bad is a dead letter at its slot, what
// is good around it is stored, and the table knows no key that is not a source.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 2)
	p.start(p.config("")).awaitReady()
	const source = "acme/pay"
	home := stream.Partition(source, 2)
	raw := func(key, value sarama.Encoder, partition int32) int64 {
		_, offset := p.send(&sarama.ProducerMessage{Topic: stream.Events, Key: key, Value: value,
			Headers: []sarama.RecordHeader{{Key: []byte(stream.PartitionHeader), Value: fmt.Append(nil, partition)}}})
		return offset
	}
	want := map[int32]map[int64]string{0: {}, 1: {}}
	good := 0
	for i, c := range []struct {
		reason     string
		key, value sarama.Encoder
		partition  int32
	}{
		{event.ReasonUndecodable, sarama.StringEncoder(source), sarama.StringEncoder("\xff\xff random bytes"), home},
		{event.ReasonEmpty, sarama.StringEncoder(source), nil, home},
		{event.ReasonEmpty, sarama.StringEncoder(source), sarama.StringEncoder(""), home},
		{event.ReasonOversize, sarama.StringEncoder(source), sarama.ByteEncoder(make([]byte, stream.MaxBatchBytes+1)), home},
		{event.ReasonWrongPartition, sarama.StringEncoder(source), sarama.ByteEncoder(encoded(t, testEvent(source, "x"))), 1 - home},
		{event.ReasonWrongPartition, nil, sarama.ByteEncoder(encoded(t, testEvent(source, "x"))), 1 - stream.Partition("", 2)},
		{event.ReasonWrongSource, nil, sarama.ByteEncoder(encoded(t, testEvent(source, "x"))), stream.Partition("", 2)},
		{event.ReasonWrongSource, sarama.StringEncoder(source), sarama.ByteEncoder(encoded(t, testEvent("acme/other", "x"))), home},
		{event.ReasonInvalidEvent, sarama.StringEncoder(source), sarama.ByteEncoder(encoded(t, &audittrailv1.Event{Source: source})), home},
	} {
		offset := raw(c.key, c.value, c.partition)
		want[c.partition][offset] = c.reason
		p.sendBatch(source, testEvent(source, fmt.Sprint("good", i)))
		good++
	}
	stored := 0
	for partition := range int32(2) {
		_, end, err := p.admin.LogRange(testContext(t), stream.Events, partition)
		if err != nil {
			t.Fatal(err)
		}
		p.awaitCommit(partition, end)
		s := p.sink(partition, 0)
		if s.next != (slot{end, 0}) {
			t.Errorf("partition %d is covered up to %v, want %d", partition, s.next, end)
		}
		stored += len(s.stored)
		for offset, reason := range want[partition] {
			if x := s.dead[slot{offset, 0}]; x == nil || x.Reason != reason {
				t.Errorf("message %d of partition %d: dead letter %s, want %s", offset, partition, x.GetReason(), reason)
			}
		}
		if len(s.dead) != len(want[partition]) {
			t.Errorf("partition %d has %d dead letters, want %d", partition, len(s.dead), len(want[partition]))
		}
		for _, m := range p.read(stream.Table, partition) {
			if string(m.Key) != source || partition != home {
				t.Errorf("partition %d of the table has the key %q", partition, m.Key)
			}
		}
	}
	if stored != good {
		t.Errorf("%d events stored, want %d", stored, good)
	}
}

// TestAbortedTransaction (R1, R4): a producer aborts a transaction. Its records are never delivered, and outputs cover their
// offsets and those of the markers.
func TestAbortedTransaction(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	p.start(p.config("")).awaitReady()
	const source = "acme/pay"
	client, err := kgo.NewClient(kgo.SeedBrokers(p.settings.Brokers...), kgo.TransactionalID("test"), kgo.DefaultProduceTopic(stream.Events))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := testContext(t)
	transaction := func(key string, end kgo.TransactionEndTry) {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		value := batchOf(t, testEvent(source, key))
		if err := client.ProduceSync(ctx, &kgo.Record{Key: []byte(source), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	p.sendBatch(source, testEvent(source, "before"))
	transaction("aborted", kgo.TryAbort)
	transaction("committed", kgo.TryCommit)
	_, last := p.sendBatch(source, testEvent(source, "after"))
	if last < 5 {
		t.Fatalf("the last message is at %d: no markers", last)
	}
	p.awaitCommit(0, last+1)
	s := p.sink(0, 0)
	if s.next != (slot{last + 1, 0}) || len(s.stored) != 3 {
		t.Errorf("covered up to %v with %d events, want %d and 3", s.next, len(s.stored), last+1)
	}
}

// TestTwoReplicas: one enricher becomes two under load and one again, with duplicates all the time; nothing is lost, every slot
// is covered, every drop names a covered slot.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	const partitions, sources = 4, 12
	p := newPipe(t, partitions)
	dir := t.TempDir()
	one := p.start(p.config(dir))
	one.awaitReady()

	stop, done := make(chan struct{}), make(chan map[event.ID]bool)
	go func() {
		sent := map[event.ID]bool{}
		defer func() { done <- sent }()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			source := fmt.Sprint("acme/s", i%sources)
			a := testEvent(source, fmt.Sprint("a", i))
			p.sendBatch(source, a, testEvent(source, fmt.Sprint("b", i)), a)
			p.sendBatch(source, a)
			sent[event.IDOf(a)] = true
		}
	}()
	running := func(e *running, claims int) func() bool {
		return func() bool {
			g := e.generation.Load()
			return e.Ready() && g != nil && len(g.lanes) == claims
		}
	}
	await(t, "the first works alone", running(one, partitions))
	two := p.start(p.config(dir))
	await(t, "the second has its half", func() bool { return running(one, 2)() && running(two, 2)() })
	if err := one.stop(); err != nil {
		t.Error(err)
	}
	await(t, "the second works alone", running(two, partitions))
	close(stop)
	sent := <-done

	stored := map[event.ID]bool{}
	for partition := range int32(partitions) {
		_, end, err := p.admin.LogRange(testContext(t), stream.Events, partition)
		if err != nil {
			t.Fatal(err)
		}
		p.awaitCommit(partition, end)
		s := p.sink(partition, 0)
		if s.next != (slot{end, 0}) {
			t.Errorf("partition %d is covered up to %v, want %d", partition, s.next, end)
		}
		for id := range s.stored {
			stored[id] = true
		}
	}
	if len(stored) < 2*len(sent) {
		t.Errorf("%d events stored, want %d", len(stored), 2*len(sent))
	}
	for id := range sent {
		if !stored[id] {
			t.Errorf("%s is lost", id)
		}
	}
	t.Logf("%d events in %d messages", 4*len(sent), 2*len(sent))
}

// TestRefusals: what only people can mend stops the enricher, and says so.
func TestRefusals(t *testing.T) {
	const source = "acme/pay"
	for name, c := range map[string]struct {
		prepare func(p *pipe)
		want    string
	}{
		"R2: the log went backwards": {func(p *pipe) {
			p.sendBatch(source, testEvent(source, "a"))
			p.setCommit(0, 9)
		}, "went backwards"},
		"unknown version of a message": {func(p *pipe) {
			p.send(&sarama.ProducerMessage{Topic: stream.Events, Key: sarama.StringEncoder(source), Value: sarama.StringEncoder("\x00ATE\x07")})
		}, "unknown envelope version"},
		"unknown version of a state": {func(p *pipe) {
			p.send(&sarama.ProducerMessage{Topic: stream.Table, Key: sarama.StringEncoder(source), Value: sarama.StringEncoder("\x00ATS\x07")})
		}, "unknown envelope version"},
		"R9: a topic takes less than is sent": {func(p *pipe) {
			admin, err := sarama.NewClusterAdmin(p.settings.Brokers, stream.ClientConfig(p.settings))
			if err != nil {
				p.t.Fatal(err)
			}
			defer admin.Close()
			small := "100000"
			if err := admin.AlterConfig(sarama.TopicResource, stream.Records, map[string]*string{"max.message.bytes": &small}, false); err != nil {
				p.t.Fatal(err)
			}
		}, "max.message.bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipe(t, 1)
			c.prepare(p)
			e := p.start(p.config(""))
			select {
			case err := <-e.done:
				e.done <- err
				var refusal group.Refusal
				if !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want a refusal that says %q", err, c.want)
				}
			case <-time.After(60 * time.Second):
				t.Error("it goes on")
			}
		})
	}
}

// TestPositions (R2, R4): where an enricher starts without a commit and with one that retention has overtaken, and what the first
// output then covers.
func TestPositions(t *testing.T) {
	t.Parallel()
	const source = "acme/pay"
	p := newPipe(t, 1)
	for i := range 6 {
		p.sendBatch(source, testEvent(source, fmt.Sprint(i)))
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.settings.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	deleteBefore := func(offset int64) {
		offsets := kadm.Offsets{}
		offsets.AddOffset(stream.Events, 0, offset, -1)
		if _, err := kadm.NewClient(client).DeleteRecords(testContext(t), offsets); err != nil {
			t.Fatal(err)
		}
	}
	deleteBefore(2)
	first := p.start(p.config(""))
	p.awaitCommit(0, 6)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	p.setCommit(0, 3)
	deleteBefore(4)
	second := p.start(p.config(""))
	p.sendBatch(source, testEvent(source, "last"))
	p.awaitCommit(0, 7)
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range p.read(stream.Records, 0) {
		b, err := stream.DecodeRecords(m.Value)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d-%d", b.FromOffset, b.EndOffset))
	}
	if want := "[2-3 3-4 4-5 5-6 4-5 5-6 6-7]"; fmt.Sprint(got) != want {
		t.Errorf("outputs cover %v, want %s", got, want)
	}
}

// TestRewrite (R7): an older value stands last in the changelog. It is mended before anything is delivered, and so the last
// value of each source, which is all that compaction keeps, is the newest.
func TestRewrite(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	id, _, err := p.admin.TopicID(testContext(t), stream.Events)
	if err != nil {
		t.Fatal(err)
	}
	write := func(key string, offset int64) {
		p.send(&sarama.ProducerMessage{Topic: stream.Table, Key: sarama.StringEncoder(key), Value: sarama.ByteEncoder(tableValue(id, offset, 1, uint64(offset), 1))})
	}
	write("acme/a", 7)
	write("acme/b", 8)
	write("acme/a", 5) // a zombie's
	dir := t.TempDir()
	e := p.start(p.config(dir))
	e.awaitReady()
	values := p.read(stream.Table, 0)
	last := values[len(values)-1]
	state, err := stream.DecodeState(last.Value)
	if err != nil || len(values) != 4 || string(last.Key) != "acme/a" || state.LastOffset != 7 {
		t.Errorf("%d values, the last of %q: %v, %v", len(values), last.Key, state, err)
	}
	if got := testutil.ToFloat64(e.metrics.rewritten); got != 1 {
		t.Errorf("%v states rewritten", got)
	}
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	again := p.start(p.config(dir))
	again.awaitReady()
	if got := testutil.ToFloat64(again.metrics.rewritten); got != 0 {
		t.Errorf("%v states rewritten once more", got)
	}
	if n := len(p.read(stream.Table, 0)); n != 4 {
		t.Errorf("%d values", n)
	}
}

// TestRegistration: what the registry says is joined, from the moment it is written; what it should not hold is no registration.
func TestRegistration(t *testing.T) {
	t.Parallel()
	const source = "acme/pay"
	p := newPipe(t, 1)
	register := func(value []byte) {
		p.send(&sarama.ProducerMessage{Topic: stream.Sources, Key: sarama.StringEncoder(source), Value: sarama.ByteEncoder(value)})
	}
	p.start(p.config("")).awaitReady()
	owner := func(key string) string {
		_, offset := p.sendBatch(source, testEvent(source, key))
		p.awaitCommit(0, offset+1)
		var e audittrailv1.Event
		s := p.sink(0, 0)
		for id, at := range s.stored {
			if at.offset == offset {
				if err := e.UnmarshalVT(s.record[id]); err != nil {
					t.Fatal(err)
				}
			}
		}
		return e.Enrichment.GetOwner()
	}
	if got := owner("first"); got != "" {
		t.Errorf("owner %q before it was registered", got)
	}
	value, _ := (&audittrailv1.SourceRegistration{Owner: "payments"}).MarshalVT()
	register(value)
	i := 0
	await(t, "the registration is joined", func() bool { i++; return owner(fmt.Sprint(i)) == "payments" })
	register([]byte("garbage"))
	await(t, "garbage counts as none", func() bool { i++; return owner(fmt.Sprint(i)) == "" })
}
