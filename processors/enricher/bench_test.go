package enricher

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/processors/enricher/table"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/event"
	"github.com/maxviazov/audittrail/proto/stream"
)

// benchEvent is an event of ordinary size, about 600 bytes.
func benchEvent(source string, i int) *audittrailv1.Event {
	return &audittrailv1.Event{
		Source: source, IdempotencyKey: fmt.Sprintf("6f1d4c0e-93a4-4d53-b2a0-%012d", i),
		OccurredAt: timestamppb.New(time.Date(2026, 3, 1, 10, 0, 0, i*1000, time.UTC)),
		Actor:      &audittrailv1.Actor{Type: "user", Id: fmt.Sprintf("user-%d", i%50), Name: "Alice Example", Session: "s-8d7f6a5b4c3d", AuthMethod: "password+totp"},
		Action:     fmt.Sprintf("invoice.line.update%d", i%10), Kind: audittrailv1.ActionKind_ACTION_KIND_UPDATE, Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS,
		Resources: []*audittrailv1.Resource{{Type: "invoice", Id: fmt.Sprintf("inv-%d", i), Name: "Invoice"}, {Type: "customer", Id: "c-1234"}},
		Changes:   []*audittrailv1.Change{{Path: "lines[3].amount", Old: ptr("100.00"), New: ptr("120.00")}},
		Context: &audittrailv1.Context{Ip: "203.0.113.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", RequestId: "req-7f6e5d4c3b2a",
			TraceId: "4bf92f3577b34da6a3ce929d0e0e4736", SpanId: "00f067aa0ba902b7", Host: "pay-7c9d", Region: "eu-central-1", ServiceVersion: "1.42.0"},
		Attributes: map[string]string{"tenant": "acme", "channel": "web"},
		ReceivedAt: timestamppb.New(time.Date(2026, 3, 1, 10, 0, 1, 0, time.UTC)), Principal: "spiffe://acme/pay",
	}
}

func ptr(s string) *string { return &s }

// BenchmarkProcess is what the enricher does with a message between goka and goka: state and message in, window, outputs
// and encoded state out. The window is full: each id evicts one.
func BenchmarkProcess(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) {
			const source = "acme/payments/api"
			values := make([][]byte, 200)
			for i := range values {
				events := make([]*audittrailv1.Event, size)
				for k := range events {
					events[k] = benchEvent(source, i*size+k)
				}
				values[i] = batchOf(b, events...)
			}
			d := decider{topicID: [16]byte{1}, partitions: 1, maxFuture: event.DefaultMaxFuture}
			w := newWindow(time.Hour.Milliseconds(), len(values)*size/2)
			registration := &audittrailv1.SourceRegistration{Owner: "payments", Environment: "prod", Classification: "confidential", RetentionDays: 365}
			var stored []byte
			bytes := 0
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				m := message{offset: int64(i), key: source, value: values[i%len(values)], ingestedAt: time.Date(2026, 3, 1, 10, 0, 2, i*1000, time.UTC)}
				var state *table.State
				if stored != nil {
					state, _ = stream.DecodeState(stored)
				}
				out, err := d.decide(m, state, registration, w)
				if err != nil {
					b.Fatal(err)
				}
				for _, o := range encodeOutputs(out, d.topicID[:], &m, m.offset, maxOutput) {
					bytes += len(o)
				}
				w.advance(m.ingestedAt.UnixMilli())
				for a := range table.AllAccepted(out.accepted) {
					w.add(entry{id: a.ID, fingerprint: a.Fingerprint, first: slot{m.offset, a.Index}, at: m.ingestedAt.UnixMilli(), enrichment: a.Enrichment})
				}
				stored = stream.EncodeState(out.state)
			}
			n := float64(b.N * size)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/event")
			b.ReportMetric(float64(bytes)/n, "B-out/event")
		})
	}
}

// BenchmarkThroughput sends 100,000 events in messages of 100 through one enricher with four partitions. CPU is that of this
// process: the broker and the sending are in it.
func BenchmarkThroughput(b *testing.B) {
	const messages, size, sources = 1000, 100, 16
	values := make([]*sarama.ProducerMessage, messages)
	for i := range values {
		source := fmt.Sprintf("acme/service-%d", i%sources)
		events := make([]*audittrailv1.Event, size)
		for k := range events {
			events[k] = benchEvent(source, i*size+k)
		}
		values[i] = &sarama.ProducerMessage{Topic: stream.Events, Key: sarama.StringEncoder(source), Value: sarama.ByteEncoder(batchOf(b, events...))}
	}
	for range b.N {
		p := newPipe(b, 4)
		if err := p.producer.SendMessages(values); err != nil {
			b.Fatal(err)
		}
		e := p.start(p.config(""))
		began, cpu := time.Now(), cpuSeconds(b)
		await(b, "all is processed", func() bool { return testutil.ToFloat64(e.metrics.events) == messages*size })
		for partition := range int32(4) {
			_, end, err := p.admin.LogRange(testContext(b), stream.Events, partition)
			if err != nil {
				b.Fatal(err)
			}
			p.awaitCommit(partition, end)
		}
		b.ReportMetric(messages*size/time.Since(began).Seconds(), "events/s")
		b.ReportMetric((cpuSeconds(b)-cpu)/messages/size*1e6, "CPU-s/Mevents")
		if err := e.stop(); err != nil {
			b.Fatal(err)
		}
	}
}

func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func BenchmarkWindow(b *testing.B) {
	w := newWindow(time.Hour.Milliseconds(), 1_000_000)
	ids := make([]event.ID, 2_000_000)
	for i := range ids {
		ids[i] = event.NewID("acme/pay", fmt.Sprint(i), time.UnixMilli(int64(i)))
	}
	for i := range 1_000_000 {
		w.add(entry{id: ids[i], first: slot{int64(i), 0}})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		id := ids[(i+1_000_000)%len(ids)]
		if w.find(id) == nil {
			w.add(entry{id: id, first: slot{int64(i), 0}})
		}
	}
}
