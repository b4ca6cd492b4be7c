package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
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

// letter is a dead letter that must come.
type letter struct {
	partition int32 // -1: only the emitter knows where it wrote the event
	offset    int64
	index     uint32
	whole     bool
	reason    string // empty: bytes at random may be anything
	says      string // part of the detail
	key       []byte
	original  []byte              // nil: see event
	event     *audittrailv1.Event // what the original says, its stamps left out
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

// expect says that the message must become a dead letter, or one of its events.
func (b *badInput) expect(r *kgo.Record, want letter) {
	want.partition, want.offset = r.Partition, r.Offset
	if want.key == nil {
		want.key = r.Key
	}
	if want.original == nil && want.event == nil {
		want.original = r.Value
	}
	b.expected = append(b.expected, want)
}

// stored is one row of deadletters.
type storedLetter struct {
	ID          int64
	Partition   int16
	Offset      int64
	Index       int32
	Whole       bool
	Reason      string
	Detail      string
	Source      string
	Key         []byte
	Original    []byte
	Size        int64
	SHA256      []byte
	WasRedriven bool
}

func (b *badInput) storedLetters(t *T) []storedLetter {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), `SELECT deadletter_id, log_id, input_offset, input_index, whole_message, reason, detail, source, key,
		original, original_size, original_sha256, redriven_at IS NOT NULL FROM audittrail.deadletters ORDER BY deadletter_id`)
	if err != nil {
		t.Fatal(err)
	}
	letters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedLetter])
	if err != nil {
		t.Fatal(err)
	}
	return letters
}

// account compares the table of dead letters with what must be there, one by one, and returns its rows.
func (b *badInput) account(t *T) []storedLetter {
	t.Helper()
	rows := b.storedLetters(t)
	left := slices.Clone(rows)
	for _, want := range b.expected {
		i := slices.IndexFunc(left, func(row storedLetter) bool { return want.isAt(row) })
		if i < 0 {
			t.Errorf("dead letter is missing: %s", want)
			continue
		}
		if problem := want.differs(left[i]); problem != "" {
			t.Errorf("dead letter %s: %s; it is %s: %s", want, problem, left[i].Reason, left[i].Detail)
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, row := range left {
		t.Errorf("dead letter of %d@%d.%d that nobody expected: %s: %s (%d bytes: %.40q)", row.Partition, row.Offset, row.Index, row.Reason, row.Detail, row.Size, row.Original)
	}
	return rows
}

func (l letter) String() string {
	return fmt.Sprintf("of %d@%d.%d, %s %q", l.partition, l.offset, l.index, l.reason, l.says)
}

func (l letter) isAt(row storedLetter) bool {
	if l.partition >= 0 {
		return l.partition == int32(row.Partition) && l.offset == row.Offset && int32(l.index) == row.Index
	}
	return l.event != nil && l.sameEvent(row.Original)
}

func (l letter) sameEvent(original []byte) bool {
	e := &audittrailv1.Event{}
	if err := proto.Unmarshal(original, e); err != nil {
		return false
	}
	want, err := ledger.Hash(l.event)
	have, err2 := ledger.Hash(e)
	return err == nil && err2 == nil && want == have
}

// differs returns what is wrong with the dead letter, or "".
func (l letter) differs(row storedLetter) string {
	sum := sha256.Sum256(row.Original)
	switch {
	case l.reason != "" && row.Reason != l.reason:
		return "the reason is another"
	case !strings.Contains(row.Detail, l.says):
		return "the detail does not say so"
	case row.Whole != l.whole:
		return fmt.Sprintf("stands for the whole message: %v", row.Whole)
	case !bytes.Equal(row.Key, l.key):
		return fmt.Sprintf("the key is %q, not %q", row.Key, l.key)
	}
	if l.event != nil && l.original == nil {
		switch {
		case !l.sameEvent(row.Original):
			return "the original is another event"
		case row.Size != int64(len(row.Original)) || !bytes.Equal(row.SHA256, sum[:]):
			return "size or hash are not those of the original"
		}
		return ""
	}
	sum = sha256.Sum256(l.original)
	switch {
	case row.Size != int64(len(l.original)) || !bytes.Equal(row.SHA256, sum[:]):
		return fmt.Sprintf("size (%d) or hash are not those of the original (%d)", row.Size, len(l.original))
	case !bytes.Equal(row.Original, l.original[:min(len(l.original), 64<<10)]):
		return "the original is not kept, up to 64 KiB"
	}
	return ""
}

// accountTopic compares the topic of dead letters with the table: at least once each, and nothing else.
func (b *badInput) accountTopic(t *T, rows []storedLetter) {
	t.Helper()
	type slot struct {
		partition int32
		offset    int64
		index     uint32
	}
	inTopic := map[slot]*pipelinev1.DeadLetter{}
	for _, r := range readTopic(t, b.Brokers, "audit-deadletters") {
		value, ok := bytes.CutPrefix(r.Value, []byte("\x00ATD\x01"))
		d := &pipelinev1.DeadLetter{}
		if err := proto.Unmarshal(value, d); !ok || err != nil {
			t.Errorf("message %d@%d of the dead-letter topic is no dead letter: %v", r.Partition, r.Offset, err)
			continue
		}
		inTopic[slot{d.Partition, d.Offset, d.Index}] = d
	}
	for _, row := range rows {
		at := slot{int32(row.Partition), row.Offset, uint32(row.Index)}
		d := inTopic[at]
		if d == nil {
			t.Errorf("dead letter %+v is not in the topic", at)
		} else if d.Reason != row.Reason || !bytes.Equal(d.Original, row.Original) || !bytes.Equal(d.OriginalSha256, row.SHA256) || !bytes.Equal(d.Key, row.Key) || d.WholeMessage != row.Whole {
			t.Errorf("dead letter %+v is another in the topic: %s", at, d.Reason)
		}
		delete(inTopic, at)
	}
	for at := range inTopic {
		t.Errorf("dead letter %+v of the topic is not in the table", at)
	}
}

// readTopic reads all that is in a topic now.
func readTopic(t *T, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends := endOffsets(t, cl, topic)
	var records []*kgo.Record
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(ends) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records = append(records, r)
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
		})
	}
	return records
}

// accountCLI compares what `audittrail deadletters list` says with the table.
func (b *badInput) accountCLI(t *T, rows []storedLetter) {
	t.Helper()
	out, err := b.Run(t.Context(), "deadletters", "list", "--limit", "0", "-o", "jsonl", "--addr", b.gatewayAddrs[0])
	if err != nil {
		t.Fatal(err)
	}
	listed := map[int64]*audittrailv1.DeadLetter{}
	for line := range strings.Lines(out) {
		d := &audittrailv1.DeadLetter{}
		if !json.Valid([]byte(line)) {
			t.Fatalf("line of deadletters list is no JSON: %q", line)
		}
		if err := protojson.Unmarshal([]byte(line), d); err != nil {
			t.Fatalf("line of deadletters list: %v: %q", err, line)
		}
		listed[d.Id] = d
	}
	for _, row := range rows {
		d := listed[row.ID]
		if d == nil {
			t.Errorf("deadletters list leaves %d out", row.ID)
		} else if d.Reason != row.Reason || d.Detail != row.Detail || d.Partition != int32(row.Partition) || d.Offset != row.Offset ||
			int32(d.Index) != row.Index || d.OriginalSize != row.Size || !bytes.Equal(d.Original, row.Original) {
			t.Errorf("deadletters list shows %d differently: %v", row.ID, d)
		}
		delete(listed, row.ID)
	}
	if len(listed) > 0 {
		t.Errorf("deadletters list shows %d that are not in the table", len(listed))
	}
}
