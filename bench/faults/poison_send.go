package faults

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/maxviazov/audittrail/bench/ledger"
	"github.com/maxviazov/audittrail/bench/load"
	"github.com/maxviazov/audittrail/bench/traffic"
	"github.com/maxviazov/audittrail/internal/grpccodec"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

const badPartitions = 4

// badInput sends good and bad, and keeps account of both: what must be stored stands in the ledger, what must be a dead letter
// in expected.
type badInput struct {
	*system
	emitter audittrailv1.EmitterServiceClient
	admin   audittrailv1.AdminServiceClient
	query   audittrailv1.QueryServiceClient
	ledger  *ledger.Ledger
	kafka   *kgo.Client // partitions by murmur2 of the key, as Kafka's own clients
	placed  *kgo.Client // partitions as the record says
	shape   traffic.Shape
	next    atomic.Int64
	good    int

	expected []letter
}

func newBadInput(t *T, s *system) *badInput {
	t.Helper()
	l, err := ledger.Create(s.ledger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &badInput{system: s, ledger: l, shape: traffic.Shape{Seed: 5, Start: time.Now().Add(-time.Hour)}}
	// Our codec, as gRPC's own does not send text that is not UTF-8.
	dial := func(addr string) *grpc.ClientConn {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpccodec.New()), grpc.WaitForReady(true)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	b.emitter = audittrailv1.NewEmitterServiceClient(dial(s.emitterAddrs[0]))
	gateway := dial(s.gatewayAddrs[0])
	b.admin, b.query = audittrailv1.NewAdminServiceClient(gateway), audittrailv1.NewQueryServiceClient(gateway)
	b.kafka = b.client(t)
	b.placed = b.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	return b
}

func (b *badInput) client(t *T, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Brokers...), kgo.DefaultProduceTopic("audit-events"),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(500 << 10)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// partitionOf is where Kafka's clients send a key.
func partitionOf(key []byte) int32 {
	return int32(kgo.StickyKeyPartitioner(nil).ForTopic("").Partition(&kgo.Record{Key: key}, badPartitions))
}

// event is a valid one of the source, which must be a path of a few segments.
func (b *badInput) event(source string) *audittrailv1.Event {
	e := b.shape.Event(int(b.next.Add(1)))
	e.Source = source
	return e
}

// broken is an event as the limit makes it.
func (b *badInput) broken(source string, l limit, over int) *audittrailv1.Event {
	e := b.event(source)
	l.set(e, over)
	return e
}

// store says that an event must be stored: it is acknowledged, or in the topic.
func (b *badInput) store(t *T, events ...*audittrailv1.Event) {
	t.Helper()
	var entries []ledger.Entry
	for _, e := range events {
		hash, err := ledger.Hash(e)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, ledger.Entry{ID: load.ID(e), Hash: hash})
	}
	if err := b.ledger.Intend(entries); err != nil {
		t.Fatal(err)
	}
	if err := b.ledger.Acknowledge(entries); err != nil {
		t.Fatal(err)
	}
	b.good += len(events)
}

// encode is the wire form of an event, also when its text is not UTF-8.
func encode(t *T, e *audittrailv1.Event) []byte {
	t.Helper()
	raw, err := e.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// envelope is a message of several events, as the emitter writes it: magic, version, EventBatch.
func envelope(t *T, events ...[]byte) []byte {
	t.Helper()
	raw, err := proto.Marshal(&pipelinev1.EventBatch{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("\x00ATE\x01"), raw...)
}

// raw writes one message straight into the topic and returns where it stands.
func (b *badInput) raw(t *T, key, value []byte) *kgo.Record {
	t.Helper()
	return produce(t, b.kafka, &kgo.Record{Key: key, Value: value})
}

func produce(t *T, cl *kgo.Client, r *kgo.Record) *kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := cl.ProduceSync(ctx, r).First()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rawGood writes a valid event straight into the topic.
func (b *badInput) rawGood(t *T, source string) {
	t.Helper()
	e := b.event(source)
	b.store(t, e)
	b.raw(t, []byte(source), encode(t, e))
}

// rawBad writes a message that must become one dead letter, between two that must be stored.
func (b *badInput) rawBad(t *T, key, value []byte, want letter) {
	t.Helper()
	b.rawGood(t, "bad/before/prod")
	b.expect(b.raw(t, key, value), want)
	b.rawGood(t, "bad/behind/prod")
}
