package enricher

import (
	"context"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"

	"github.com/maxviazov/audittrail/internal/group"
	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

// TestGraph drives the graph that goka runs, with goka's own tester: topics, codecs, join, table and headers.
func TestGraph(t *testing.T) {
	if string(goka.GroupTable(stream.EnricherGroup)) != stream.Table {
		t.Fatalf("goka's table is %s", goka.GroupTable(stream.EnricherGroup))
	}
	kafka := tester.New(t)
	e, err := New(Config{Kafka: stream.Settings{Brokers: []string{"unused"}}}, testLog(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	processor, err := goka.NewProcessor(nil, e.graph(), goka.WithTester(kafka), goka.WithHasher(stream.NewHasher), goka.WithNilHandling(goka.NilProcess))
	if err != nil {
		t.Fatal(err)
	}
	l := e.newLane(nil, group.Claim{Topic: stream.Events}, testTopics, 1)
	l.logStart = func() (int64, error) { return 0, nil }
	l.store = e.stores.prepare(0, testTopics, group.LogRange{})
	e.generation.Store(&generation{lanes: map[int32]*lane{0: l}})

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- processor.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	const source = "acme/pay"
	records := kafka.NewQueueTracker(stream.Records)
	registration, _ := (&audittrailv1.SourceRegistration{Owner: "payments"}).MarshalVT()
	kafka.SetTableValue(goka.Table(stream.Sources), source, registration)
	a, b := testEvent(source, "a"), testEvent(source, "b")
	kafka.Consume(stream.Events, source, batchOf(t, a, b), tester.WithTime(time.Now()))
	kafka.Consume(stream.Events, source, encoded(t, a), tester.WithTime(time.Now())) // a raw producer's
	kafka.Consume(stream.Events, source, nil, tester.WithTime(time.Now()))

	sink := newMiniSink(t, 0)
	for range 3 {
		headers, key, value, ok := records.NextRawWithHeaders()
		if !ok || key != source || string(headers[stream.PartitionHeader]) != "0" {
			t.Fatalf("record %v with key %q and headers %v", ok, key, headers)
		}
		sink.take(value)
	}
	if len(sink.stored) != 2 || sink.drops != 1 || len(sink.dead) != 1 || sink.next != (slot{3, 0}) {
		t.Errorf("%+v", sink)
	}
	var got audittrailv1.Event
	for _, r := range sink.record {
		if err := got.UnmarshalVT(r); err != nil || got.Enrichment.Owner != "payments" {
			t.Errorf("%v, %v", &got, err)
		}
	}
	state := kafka.TableValue(goka.Table(stream.Table), source).(*table.State)
	if state.Events != 2 || state.Duplicates != 1 || state.LastOffset != 1 {
		t.Errorf("state %v", state)
	}
}
