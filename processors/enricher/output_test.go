package enricher

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	pipelinev1 "github.com/maxviazov/audittrail/proto/audittrail/pipeline/v1"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

func randomDecision(r *rand.Rand, n int) *decision {
	d := new(decision)
	for i := range uint32(n) {
		switch r.IntN(4) {
		case 0:
			d.drops = append(d.drops, drop{i, slot{r.Int64N(1 << 40), r.Uint32N(500)}})
		case 1:
			sum := sha256.Sum256(nil)
			d.dead = append(d.dead, &pipelinev1.DeadLetter{Index: i, Reason: "X", Original: make([]byte, r.IntN(300)), OriginalSha256: sum[:], Key: []byte("k")})
		default:
			k := kept{index: i, fingerprint: r.Uint64N(3) * r.Uint64(), raw: make([]byte, r.IntN(400)), stamp: []byte("stamp")}
			k.id[3] = byte(i)
			d.kept = append(d.kept, k)
		}
	}
	return d
}

// TestOutputsCoverTheSlots (R4, R5): whatever the limit, the parts follow each other without gap or overlap from the first
// slot to the end of the message, hold every event once, keep to the limit, and are encoded as the generated code would.
func TestOutputsCoverTheSlots(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	topic := bytes.Repeat([]byte{3}, 16)
	for round := range 500 {
		n := 1 + r.IntN(60)
		d := randomDecision(r, n)
		m := &message{offset: 1000 + r.Int64N(1<<40), key: "acme/pay", ingestedAt: time.UnixMilli(r.Int64N(1 << 41))}
		from := m.offset - r.Int64N(5)
		limit := headRoom + r.IntN(3000)
		next, seen := slot{from, 0}, uint32(0)
		for _, value := range encodeOutputs(d, topic, m, from, limit) {
			b, err := stream.DecodeRecords(value)
			if err != nil {
				t.Fatal(err)
			}
			if again := stream.EncodeRecords(b); !bytes.Equal(again, value) {
				t.Fatalf("the generated code encodes it differently:\n%x\n%x", again, value)
			}
			if (slot{b.FromOffset, b.FromIndex}) != next || b.Offset != m.offset || b.IngestedAtMs != m.ingestedAt.UnixMilli() ||
				!bytes.Equal(b.TopicId, topic) || b.RuleVersion != table.RuleVersion || string(b.Key) != m.key {
				t.Fatalf("round %d: head %+v, want a part from %v", round, b, next)
			}
			events := len(b.Records) + len(b.Drops) + len(b.DeadLetters)
			if len(value) > limit && events > 1 {
				t.Fatalf("round %d: %d events in %d bytes, the limit is %d", round, events, len(value), limit)
			}
			for _, index := range indexes(b) {
				if index < seen || b.EndOffset == m.offset && index >= b.EndIndex {
					t.Fatalf("round %d: event %d in a part of [%v, %d.%d)", round, index, next, b.EndOffset, b.EndIndex)
				}
			}
			seen += uint32(events)
			next = slot{b.EndOffset, b.EndIndex}
			if next.offset == m.offset && next.index != seen {
				t.Fatalf("round %d: the part ends at %v after %d events", round, next, seen)
			}
		}
		if next != (slot{m.offset + 1, 0}) || seen != uint32(n) {
			t.Fatalf("round %d: covered up to %v with %d events of %d", round, next, seen, n)
		}
	}
}

func indexes(b *pipelinev1.RecordBatch) (all []uint32) {
	for _, r := range b.Records {
		all = append(all, r.Index)
	}
	for _, r := range b.Drops {
		all = append(all, r.Index)
	}
	for _, r := range b.DeadLetters {
		all = append(all, r.Index)
	}
	return all
}

// TestRecordIsEventPlusStamp: a record is the producer's bytes with the stamp appended, and reads as one event.
func TestRecordIsEventPlusStamp(t *testing.T) {
	const source = "acme/pay"
	e := benchEvent(source, 1)
	raw := encoded(t, e)
	d := decider{partitions: 1, maxFuture: event.DefaultMaxFuture}
	at := time.Date(2026, 3, 1, 10, 0, 2, 5e6, time.UTC)
	m := message{offset: 4, key: source, value: raw, ingestedAt: at} // a raw producer's: no envelope
	out, err := d.decide(m, nil, &audittrailv1.SourceRegistration{Owner: "o", Environment: "e", Classification: "c", RetentionDays: 7}, newWindow(1000, 10))
	if err != nil {
		t.Fatal(err)
	}
	b, err := stream.DecodeRecords(encodeOutputs(out, make([]byte, 16), &m, 4, maxOutput)[0])
	if err != nil || len(b.Records) != 1 {
		t.Fatalf("%v, %v", b, err)
	}
	record := b.Records[0].Record
	if !bytes.HasPrefix(record, raw) {
		t.Fatal("the record does not begin with the event as it came")
	}
	var got audittrailv1.Event
	if err := got.UnmarshalVT(record); err != nil {
		t.Fatal(err)
	}
	want := &audittrailv1.Enrichment{Owner: "o", Environment: "e", Classification: "c", RetentionDays: 7, ActorNew: true,
		Lateness: got.Enrichment.Lateness, IngestedAt: timestamppb.New(at)}
	if !proto.Equal(got.Enrichment, want) || got.Enrichment.Lateness.AsDuration() != at.Sub(e.OccurredAt.AsTime()) {
		t.Errorf("enrichment %v, want %v", got.Enrichment, want)
	}
	got.Enrichment = nil
	if !proto.Equal(&got, e) {
		t.Errorf("event %v, want %v", &got, e)
	}
}

// TestWorstMessagesFit (R5, R9): what the largest messages give still goes into one message of Kafka, output and table.
func TestWorstMessagesFit(t *testing.T) {
	source := strings.Repeat("s", event.MaxSource)
	registration := &audittrailv1.SourceRegistration{Owner: strings.Repeat("o", event.MaxOwner), Environment: strings.Repeat("e", event.MaxEnvironment),
		Classification: strings.Repeat("c", event.MaxClassification), RetentionDays: event.MaxRetentionDays}
	cases := map[string]func(i int) *audittrailv1.Event{
		"many valid": func(i int) *audittrailv1.Event {
			return &audittrailv1.Event{Source: source, IdempotencyKey: fmt.Sprint(i), OccurredAt: timestamppb.Now(), Action: fmt.Sprintf("a%d.%s", i, strings.Repeat("x", 100)),
				Actor: &audittrailv1.Actor{Id: fmt.Sprintf("%d%s", i, strings.Repeat("i", 100))}}
		},
		"many invalid": func(i int) *audittrailv1.Event {
			e := &audittrailv1.Event{Source: source}
			for range 17 { // as many violations as are reported
				e.Resources = append(e.Resources, &audittrailv1.Resource{Type: "\xff"})
			}
			return e
		},
	}
	for name, makeEvent := range cases {
		t.Run(name, func(t *testing.T) {
			var b pipelinev1.EventBatch
			for size := 0; len(b.Events) < stream.MaxBatchEvents; {
				raw := encoded(t, makeEvent(len(b.Events)))
				if size += len(raw); size > stream.MaxBatchBytes {
					break
				}
				b.Events = append(b.Events, raw)
			}
			d := decider{partitions: 1, maxFuture: event.DefaultMaxFuture}
			m := message{key: source, value: stream.EncodeBatch(&b), ingestedAt: time.Now()}
			out, err := d.decide(m, nil, registration, newWindow(1000, 1000))
			if err != nil {
				t.Fatal(err)
			}
			if n := len(out.kept) + len(out.dead); n != len(b.Events) {
				t.Fatalf("%d events of %d", n, len(b.Events))
			}
			outputs := encodeOutputs(out, d.topicID[:], &m, 0, maxOutput)
			if len(outputs) != 1 {
				t.Errorf("%d outputs", len(outputs))
			}
			if n := len(stream.EncodeState(out.state)); n > maxOutput {
				t.Errorf("table value of %d bytes", n)
			}
			t.Logf("%d events in %d bytes give %d bytes of output and %d of state", len(b.Events), len(m.value), len(outputs[0]), len(stream.EncodeState(out.state)))
		})
	}
}

// TestOversize: a message over 256 KiB, and a key that no source can have, are one dead letter each, of bounded size.
func TestOversize(t *testing.T) {
	d := decider{partitions: 1, maxFuture: event.DefaultMaxFuture}
	value := append([]byte{0x12}, make([]byte, stream.MaxBatchBytes)...)
	out, err := d.decide(message{key: "acme/pay", value: value, ingestedAt: time.Now()}, nil, nil, newWindow(1000, 10))
	if err != nil || len(out.dead) != 1 || out.state != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	x := out.dead[0]
	sum := sha256.Sum256(value)
	if x.Reason != event.ReasonOversize || !x.WholeMessage || len(x.Original) != maxOriginal || x.OriginalSize != int64(len(value)) || !bytes.Equal(x.OriginalSha256, sum[:]) {
		t.Errorf("dead letter %s whole=%v original=%d of %d", x.Reason, x.WholeMessage, len(x.Original), x.OriginalSize)
	}
	out, err = d.decide(message{key: strings.Repeat("k", 400_000), value: encoded(t, testEvent("a", "b")), ingestedAt: time.Now()}, nil, nil, newWindow(1000, 10))
	if err != nil || len(out.dead) != 1 || out.dead[0].Reason != event.ReasonWrongSource || len(out.dead[0].Key) != event.MaxSource {
		t.Fatalf("%+v, %v", out, err)
	}
}

// TestWrongPartition (R8): a message whose key belongs elsewhere is one dead letter, and its state is not written.
func TestWrongPartition(t *testing.T) {
	const source = "acme/pay"
	right := stream.Partition(source, 4)
	for p := range int32(4) {
		d := decider{partition: p, partitions: 4, maxFuture: event.DefaultMaxFuture}
		out, err := d.decide(message{key: source, value: batchOf(t, testEvent(source, "a")), ingestedAt: time.Now()}, nil, nil, newWindow(1000, 10))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case p == right && (len(out.kept) != 1 || out.state == nil):
			t.Errorf("partition %d: %+v", p, out)
		case p != right && (len(out.dead) != 1 || out.dead[0].Reason != event.ReasonWrongPartition || !out.dead[0].WholeMessage || out.state != nil):
			t.Errorf("partition %d, key of %d: %+v", p, right, out)
		}
	}
}

// TestRecordFitsASegment: the largest event with the largest stamps stays below the 65,535 bytes of a segment's entry.
func TestRecordFitsASegment(t *testing.T) {
	const source = "acme/pay"
	e := testEvent(source, "a")
	e.Details = "{" + strings.Repeat(" ", event.MaxDetails-2) + "}"
	for e.SizeVT() < event.MaxEncoded-1100 {
		e.Resources = append(e.Resources, &audittrailv1.Resource{Id: strings.Repeat("r", event.MaxResourceID)})
	}
	e.Reason = strings.Repeat("r", event.MaxEncoded-e.SizeVT()-3)
	raw := event.AppendEmitterStamps(encoded(t, e), time.Now(), strings.Repeat("p", maxPrincipal))
	d := decider{partitions: 1, maxFuture: event.DefaultMaxFuture}
	registration := &audittrailv1.SourceRegistration{Owner: strings.Repeat("o", event.MaxOwner), Environment: strings.Repeat("e", event.MaxEnvironment),
		Classification: strings.Repeat("c", event.MaxClassification), RetentionDays: event.MaxRetentionDays}
	out, err := d.decide(message{key: source, value: raw, ingestedAt: time.Now()}, &table.State{Events: 1}, registration, newWindow(1000, 10))
	if err != nil || len(out.kept) != 1 {
		t.Fatalf("size %d: %+v, %v", e.SizeVT(), out.dead, err)
	}
	if n := len(out.kept[0].raw) + len(out.kept[0].stamp); n > 65_535 || e.SizeVT() < event.MaxEncoded-3 {
		t.Errorf("a record of %d bytes, from an event of %d", n, e.SizeVT())
	}
	// A stamp that only a raw producer could write.
	raw = event.AppendEmitterStamps(encoded(t, testEvent(source, "b")), time.Now(), strings.Repeat("p", maxPrincipal+1))
	out, err = d.decide(message{key: source, value: raw, ingestedAt: time.Now()}, nil, nil, newWindow(1000, 10))
	if err != nil || len(out.dead) != 1 || !strings.HasPrefix(out.dead[0].Detail, "principal ") {
		t.Errorf("%+v, %v", out, err)
	}
}
