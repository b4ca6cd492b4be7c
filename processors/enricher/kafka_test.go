package enricher

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// pipe is Kafka with our topics, what was sent into audit-events, and a sink in miniature behind audit-records.
type pipe struct {
	t        testing.TB
	settings stream.Settings
	layout   stream.Layout
	producer sarama.SyncProducer
	admin    *stream.Admin
	cluster  *kfake.Cluster
}

func newPipe(t testing.TB, partitions int32, opts ...embeddedtest.KafkaOption) *pipe {
	t.Helper()
	cluster := embeddedtest.KafkaCluster(t, opts...)
	p := &pipe{t: t, settings: stream.Settings{Brokers: cluster.ListenAddrs()}, layout: stream.SingleBrokerLayout(), cluster: cluster}
	p.layout.Partitions = partitions
	ctx := testContext(t)
	if err := stream.Apply(ctx, p.settings, p.layout, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.producer, err = sarama.NewSyncProducer(p.settings.Brokers, stream.ProducerConfig(p.settings)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.producer.Close() })
	if p.admin, err = stream.NewAdmin(ctx, p.settings); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.admin.Close() })
	return p
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (p *pipe) config(snapshots string) Config {
	return Config{Kafka: p.settings, SnapshotDir: snapshots}
}

// running is one enricher in the background.
type running struct {
	*Enricher
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
	err    error
}

func (p *pipe) start(c Config) *running {
	p.t.Helper()
	e, err := New(c, testLog(p.t), prometheus.NewRegistry())
	if err != nil {
		p.t.Fatal(err)
	}
	return p.run(e)
}

func (p *pipe) run(e *Enricher) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Enricher: e, t: p.t, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- e.Run(ctx) }()
	p.t.Cleanup(func() { r.stop() })
	return r
}

// stop ends it and returns what Run returned.
func (r *running) stop() error {
	r.once.Do(func() {
		r.cancel()
		select {
		case r.err = <-r.done:
		case <-time.After(90 * time.Second):
			r.t.Error("the enricher does not end")
		}
	})
	return r.err
}

func (r *running) awaitReady() {
	r.t.Helper()
	await(r.t, "the enricher is ready", r.Ready)
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func testLog(t testing.TB) zerolog.Logger {
	return zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
}

// send writes one message and returns its place.
func (p *pipe) send(m *sarama.ProducerMessage) (partition int32, offset int64) {
	p.t.Helper()
	partition, offset, err := p.producer.SendMessage(m)
	if err != nil {
		p.t.Fatal(err)
	}
	return partition, offset
}

func (p *pipe) sendBatch(source string, events ...*audittrailv1.Event) (partition int32, offset int64) {
	p.t.Helper()
	return p.send(&sarama.ProducerMessage{Topic: stream.Events, Key: sarama.StringEncoder(source), Value: sarama.ByteEncoder(batchOf(p.t, events...))})
}

func batchOf(t testing.TB, events ...*audittrailv1.Event) []byte {
	t.Helper()
	var b pipelinev1.EventBatch
	for _, e := range events {
		b.Events = append(b.Events, encoded(t, e))
	}
	return stream.EncodeBatch(&b)
}

func encoded(t testing.TB, e *audittrailv1.Event) []byte {
	t.Helper()
	raw, err := e.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// testEvent is a valid event.
func testEvent(source, key string) *audittrailv1.Event {
	return &audittrailv1.Event{
		Source: source, IdempotencyKey: key, OccurredAt: timestamppb.New(time.Now().Add(-time.Second).Truncate(time.Millisecond)),
		Actor:  &audittrailv1.Actor{Type: "user", Id: "alice"},
		Action: "invoice.read", Kind: audittrailv1.ActionKind_ACTION_KIND_READ, Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS,
		Resources: []*audittrailv1.Resource{{Type: "invoice", Id: key}},
	}
}

// miniSink applies R12 and R14 to what audit-records holds: it takes slots densely and in order.
type miniSink struct {
	t      testing.TB
	next   slot
	stored map[event.ID]slot
	record map[event.ID][]byte
	covers map[slot]bool // slots that were kept, dropped or dead
	dead   map[slot]*pipelinev1.DeadLetter
	drops  int
	// contents that were kept, by id and fingerprint.
	contents map[event.ID]map[uint64]bool
}

func newMiniSink(t testing.TB, first int64) *miniSink {
	return &miniSink{t: t, next: slot{first, 0}, stored: map[event.ID]slot{}, record: map[event.ID][]byte{}, covers: map[slot]bool{}, dead: map[slot]*pipelinev1.DeadLetter{},
		contents: map[event.ID]map[uint64]bool{}}
}

func (s *miniSink) take(value []byte) {
	s.t.Helper()
	b, err := stream.DecodeRecords(value)
	if err != nil {
		s.t.Fatalf("output: %v", err)
	}
	from, end := slot{b.FromOffset, b.FromIndex}, slot{b.EndOffset, b.EndIndex}
	if !from.before(end) {
		s.t.Errorf("output covers nothing: [%v, %v)", from, end)
	}
	if !s.next.before(end) || s.next.before(from) {
		return // covered already, or discarded: the enricher will send what is missing first
	}
	for _, r := range b.Records {
		at := slot{b.Offset, r.Index}
		if at.before(s.next) {
			continue
		}
		s.covers[at] = true
		if s.contents[event.ID(r.Id)] == nil {
			s.contents[event.ID(r.Id)] = map[uint64]bool{}
		}
		s.contents[event.ID(r.Id)][r.Fingerprint] = true
		if _, ok := s.stored[event.ID(r.Id)]; !ok {
			s.stored[event.ID(r.Id)], s.record[event.ID(r.Id)] = at, r.Record
		}
	}
	for _, x := range b.DeadLetters {
		if at := (slot{b.Offset, x.Index}); !at.before(s.next) {
			s.covers[at], s.dead[at] = true, x
		}
	}
	for _, d := range b.Drops {
		at, first := slot{b.Offset, d.Index}, slot{d.FirstOffset, d.FirstIndex}
		if at.before(s.next) {
			continue
		}
		s.covers[at] = true
		s.drops++
		if !s.covers[first] || !first.before(at) {
			s.t.Errorf("slot %v was dropped for slot %v, which is not covered before it", at, first)
		}
	}
	s.next = end
}

// sink reads all of one partition of audit-records and folds it. first is where audit-events began.
func (p *pipe) sink(partition int32, first int64) *miniSink {
	p.t.Helper()
	s := newMiniSink(p.t, first)
	for _, m := range p.read(stream.Records, partition) {
		s.take(m.Value)
	}
	return s
}

// read returns everything that a partition of a topic holds now.
func (p *pipe) read(topic string, partition int32) []*sarama.ConsumerMessage {
	p.t.Helper()
	start, end, err := p.admin.LogRange(testContext(p.t), topic, partition)
	if err != nil {
		p.t.Fatal(err)
	}
	if start >= end {
		return nil
	}
	consumer, err := sarama.NewConsumer(p.settings.Brokers, stream.ClientConfig(p.settings))
	if err != nil {
		p.t.Fatal(err)
	}
	defer consumer.Close()
	pc, err := consumer.ConsumePartition(topic, partition, start)
	if err != nil {
		p.t.Fatal(err)
	}
	defer pc.Close()
	var messages []*sarama.ConsumerMessage
	for timeout := time.After(30 * time.Second); ; {
		select {
		case m := <-pc.Messages():
			messages = append(messages, m)
			if m.Offset >= end-1 {
				return messages
			}
		case <-timeout:
			p.t.Fatalf("timed out reading %s/%d at %d of %d", topic, partition, len(messages), end)
		}
	}
}

// awaitCommit waits until the group's commit of a partition is at offset or behind it.
func (p *pipe) awaitCommit(partition int32, offset int64) {
	p.t.Helper()
	ctx := testContext(p.t)
	await(p.t, fmt.Sprintf("partition %d is committed up to %d", partition, offset), func() bool {
		commits, err := p.admin.GroupCommits(ctx, string(stream.EnricherGroup), stream.Events)
		if err != nil {
			p.t.Fatal(err)
		}
		return commits[partition] >= offset
	})
}
