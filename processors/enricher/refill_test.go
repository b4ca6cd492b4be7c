package enricher

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// TestDue: which requests are answered, and when again.
func TestDue(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	nothing := stream.SinkNote{Refill: stream.NoCommit}
	asks := func(n int64) stream.SinkNote { return stream.SinkNote{Refill: n} }
	var nobody stream.RefillRequest
	for name, c := range map[string]struct {
		mark     stream.RefillMark
		note     stream.SinkNote
		operator stream.RefillRequest
		from     int64 // -1: no refill
		next     stream.RefillMark
	}{
		"nothing is asked":     {stream.RefillMark{}, nothing, nobody, -1, stream.RefillMark{}},
		"a sink asks":          {stream.RefillMark{}, asks(0), nobody, 0, stream.RefillMark{Offset: 0, Tries: 1, At: now, Until: 50}},
		"a sink asks for now":  {stream.RefillMark{}, asks(50), nobody, -1, stream.RefillMark{}},
		"it still asks":        {stream.RefillMark{Offset: 7, Tries: 1, At: ago(29 * time.Second)}, asks(7), nobody, -1, stream.RefillMark{Offset: 7, Tries: 1, At: ago(29 * time.Second)}},
		"for long":             {stream.RefillMark{Offset: 7, Tries: 1, At: ago(30 * time.Second)}, asks(7), nobody, 7, stream.RefillMark{Offset: 7, Tries: 2, At: now, Until: 50}},
		"after many":           {stream.RefillMark{Offset: 7, Tries: 99, At: ago(59 * time.Minute)}, asks(7), nobody, -1, stream.RefillMark{Offset: 7, Tries: 99, At: ago(59 * time.Minute)}},
		"for something else":   {stream.RefillMark{Offset: 7, Tries: 4, At: ago(time.Second), Until: 90}, asks(9), nobody, 9, stream.RefillMark{Offset: 9, Tries: 1, At: now, Until: 90}},
		"an operator asks":     {stream.RefillMark{}, nothing, stream.RefillRequest{Offset: 3, Asked: ago(time.Hour)}, 3, stream.RefillMark{Until: 50, Asked: ago(time.Hour)}},
		"was answered":         {stream.RefillMark{Asked: ago(time.Hour)}, nothing, stream.RefillRequest{Offset: 3, Asked: ago(time.Hour)}, -1, stream.RefillMark{Asked: ago(time.Hour)}},
		"asked long ago":       {stream.RefillMark{}, nothing, stream.RefillRequest{Offset: 3, Asked: ago(25 * time.Hour)}, -1, stream.RefillMark{}},
		"asks for what is now": {stream.RefillMark{}, nothing, stream.RefillRequest{Offset: 60, Asked: ago(time.Hour)}, -1, stream.RefillMark{Asked: ago(time.Hour)}},
		"both ask":             {stream.RefillMark{}, asks(5), stream.RefillRequest{Offset: 3, Asked: now}, 3, stream.RefillMark{Offset: 5, Tries: 1, At: now, Until: 50, Asked: now}},
	} {
		from, next, ok := due(c.mark, 50, c.note, c.operator, now)
		if !ok {
			from = -1
		}
		if from != c.from || next != c.next {
			t.Errorf("%s: from %d, %+v; want %d, %+v", name, from, next, c.from, c.next)
		}
	}
}

// asSink leaves a note of the sinks' group, which has no members here.
func (p *pipe) asSink(partition int32, note stream.SinkNote) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.settings.Brokers...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: stream.Records, Partition: partition, At: 0, LeaderEpoch: -1, Metadata: note.String()})
	if err := kadm.NewClient(client).CommitAllOffsets(testContext(p.t), string(stream.SinkGroup), offsets); err != nil {
		p.t.Fatal(err)
	}
}

// expire deletes what a topic has below an offset.
func (p *pipe) expire(topic string, partition int32, before int64) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.settings.Brokers...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, before, -1)
	deleted, err := kadm.NewClient(client).DeleteRecords(testContext(p.t), offsets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipe) refilling(snapshots string) Config {
	c := p.config(snapshots)
	c.RefillInterval = 50 * time.Millisecond
	return c
}

func (r *running) refills() float64 { return testutil.ToFloat64(r.metrics.refills) }

// TestRefill (R21): audit-records loses what a sink had not read. The sink asks, and the enricher makes it again, byte by byte the same, without
// counting it twice, and once; a successor neither. An operator's request is answered once, too.
func TestRefill(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	const source, messages = "acme/pay", 20
	first := p.start(p.refilling(""))
	sent := map[event.ID]bool{}
	for i := range messages {
		a, b := testEvent(source, fmt.Sprint("a", i)), testEvent(source, fmt.Sprint("b", i))
		p.sendBatch(source, a, b, a)
		sent[event.IDOf(a)], sent[event.IDOf(b)] = true, true
	}
	p.awaitCommit(0, messages)
	before := p.sink(0, 0)
	_, end, err := p.admin.LogRange(testContext(t), stream.Records, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.expire(stream.Records, 0, end)

	p.asSink(0, stream.SinkNote{Refill: 6})
	await(t, "it is made again", func() bool { return p.sink(0, 6).next == slot{messages, 0} })
	p.awaitCommit(0, messages)
	again := p.sink(0, 6)
	for id, record := range again.record {
		if !bytes.Equal(record, before.record[id]) {
			t.Errorf("%s is another record than it was", id)
		}
	}
	if len(again.record) != 2*(messages-6) || again.drops != messages-6 {
		t.Errorf("%d records and %d drops, want %d and %d", len(again.record), again.drops, 2*(messages-6), messages-6)
	}
	values := p.read(stream.Table, 0)
	if state, err := stream.DecodeState(values[len(values)-1].Value); err != nil || state.Events != 2*messages || state.Duplicates != messages {
		t.Errorf("the table counts %d events and %d duplicates, want %d and %d (%v)", state.Events, state.Duplicates, 2*messages, messages, err)
	}

	// The note still stands. What is sent now comes through, and nothing is made again, by this enricher or by its successor.
	_, last := p.sendBatch(source, testEvent(source, "later"))
	p.awaitCommit(0, last+1)
	time.Sleep(10 * first.config.RefillInterval)
	if n := first.refills(); n != 1 {
		t.Errorf("%v refills for one request", n)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := p.start(p.refilling(""))
	second.awaitReady()
	time.Sleep(10 * first.config.RefillInterval)
	if n := second.refills(); n != 0 {
		t.Errorf("the successor made %v refills", n)
	}

	if err := stream.AskRefill(testContext(t), p.settings, 0, stream.RefillRequest{Offset: 2, Asked: time.Now()}); err != nil {
		t.Fatal(err)
	}
	await(t, "the operator's request is answered", func() bool { return second.refills() == 1 })
	await(t, "it is made again", func() bool { return p.sink(0, 2).next == slot{last + 1, 0} })
	time.Sleep(10 * first.config.RefillInterval)
	if n := second.refills(); n != 1 {
		t.Errorf("%v refills for one request of an operator", n)
	}
	if s := p.sink(0, 2); len(s.stored) != 2*(messages-2)+1 {
		t.Errorf("%d events from 2 on, want %d", len(s.stored), 2*(messages-2)+1)
	}
}

// TestRefillOfExpiredInput (R13, R14, R21): a part of what is asked for is gone. What is there is made again, the slots before are covered by nothing,
// so that the sink finds the gap; and no first copy is named that lies there.
func TestRefillOfExpiredInput(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 1)
	const source = "acme/pay"
	a, b := testEvent(source, "a"), testEvent(source, "b")
	p.sendBatch(source, a)
	p.sendBatch(source, b)
	p.sendBatch(source, a)
	p.start(p.refilling(""))
	p.awaitCommit(0, 3)
	_, end, err := p.admin.LogRange(testContext(t), stream.Records, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.expire(stream.Records, 0, end)
	p.expire(stream.Events, 0, 1)
	p.asSink(0, stream.SinkNote{Refill: 0})
	await(t, "it is made again", func() bool { return p.sink(0, 1).next == slot{3, 0} })
	first, err := stream.DecodeRecords(p.read(stream.Records, 0)[0].Value)
	if err != nil || first.FromOffset != 1 {
		t.Errorf("the first output covers slots from %d on, want 1 (%v)", first.GetFromOffset(), err)
	}
	if s := p.sink(0, 1); s.drops != 0 || s.stored[event.IDOf(a)] != (slot{2, 0}) || s.stored[event.IDOf(b)] != (slot{1, 0}) {
		t.Errorf("%d drops, stored %v", s.drops, s.stored)
	}
}

// TestReplacedTopic (R18): audit-events is deleted and made again, under an enricher that runs and while none does, and is soon longer than the
// group's commit in the old one. Nothing of it is skipped, and all of it is called by the new topic's id in the end; a successor does not start again.
func TestReplacedTopic(t *testing.T) {
	t.Parallel()
	t.Run("running", func(t *testing.T) { t.Parallel(); replacedTopic(t, true) })
	t.Run("stopped", func(t *testing.T) { t.Parallel(); replacedTopic(t, false) })
}

func replacedTopic(t *testing.T, running bool) {
	p := newPipe(t, 1)
	const source = "acme/pay"
	first := p.start(p.refilling(""))
	for i := range 3 {
		p.sendBatch(source, testEvent(source, fmt.Sprint("old", i)))
	}
	p.awaitCommit(0, 3)
	old, _, err := p.admin.TopicID(testContext(t), stream.Events)
	if err != nil {
		t.Fatal(err)
	}
	if !running {
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.settings.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).DeleteTopics(testContext(t), stream.Events); err != nil {
		t.Fatal(err)
	}
	if err := stream.Apply(testContext(t), p.settings, p.layout, testLog(t)); err != nil {
		t.Fatal(err)
	}
	now, _, err := p.admin.TopicID(testContext(t), stream.Events)
	if err != nil {
		t.Fatal(err)
	}
	if !running { // with the topic the broker forgets the commit; one that was on its way comes back
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: stream.Events, At: 3, LeaderEpoch: -1, Metadata: stream.RefillMark{Topic: old}.String()})
		if err := kadm.NewClient(client).CommitAllOffsets(testContext(t), string(stream.EnricherGroup), offsets); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.producer.Close(); err != nil { // its sequence numbers are of the old topic
		t.Fatal(err)
	}
	if p.producer, err = sarama.NewSyncProducer(p.settings.Brokers, stream.ProducerConfig(p.settings)); err != nil {
		t.Fatal(err)
	}
	const messages = 8
	for i := range messages {
		p.sendBatch(source, testEvent(source, fmt.Sprint("new", i)))
	}
	if !running {
		first = p.start(p.refilling(""))
	}
	covered := func() (n int64) {
		for _, m := range p.read(stream.Records, 0) {
			output, err := stream.DecodeRecords(m.Value)
			if err != nil {
				t.Fatal(err)
			}
			if [16]byte(output.TopicId) == now && output.FromOffset == n {
				n = output.Offset + 1
			}
		}
		return n
	}
	await(t, "all of the new topic is processed as such", func() bool { return covered() == messages })
	p.awaitCommit(0, messages)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	before := len(p.read(stream.Records, 0))
	second := p.start(p.refilling(""))
	second.awaitReady()
	_, last := p.sendBatch(source, testEvent(source, "later"))
	p.awaitCommit(0, last+1)
	if n := len(p.read(stream.Records, 0)); n != before+1 {
		t.Errorf("%d outputs for one message: the successor started again", n-before)
	}
}
