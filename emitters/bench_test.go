package emitters_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc/mem"

	"github.com/maxviazov/audittrail/emitters"
	"github.com/maxviazov/audittrail/internal/grpccodec"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
)

// instant is a publisher that acknowledges at once: what is measured is the emitter.
type instant struct{ held }

func (*instant) Publish(_ string, _ []byte, done func(error)) { done(nil) }

// typical is an event of about 400 bytes, as services send them.
func typical(source string, n int) *audittrailv1.Event {
	e := newEvent(source, n)
	e.Actor = &audittrailv1.Actor{Type: "user", Id: "u-8271", Name: "Ada Example", Session: "sess-91823712", AuthMethod: "password+totp"}
	e.Kind = audittrailv1.ActionKind_ACTION_KIND_UPDATE
	e.Resources = []*audittrailv1.Resource{{Type: "invoice", Id: "inv-2026-000123", Name: "Invoice 123"}}
	e.Context = &audittrailv1.Context{Ip: "203.0.113.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101", RequestId: "req-817231", TraceId: "4bf92f3577b34da6a3ce929d0e0e4736"}
	e.Attributes = map[string]string{"tenant": "acme", "plan": "gold"}
	return e
}

// benchBatches sends batches of n events, decoding included, as gRPC calls the service; the figures are per batch; cpu-ns/event is
// the CPU time of one event, so 1,000 of it are one CPU-second per million events.
func benchBatches(b *testing.B, n int) {
	server, err := emitters.NewServer(emitters.Config{}, emitters.Deps{Publisher: new(instant), Registerer: prometheus.NewRegistry(), Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	events := make([]*audittrailv1.Event, n)
	for i := range events {
		events[i] = typical("acme/payments/api", i)
	}
	codec := grpccodec.New()
	encoded, err := codec.Marshal(&audittrailv1.BatchEmitEventsRequest{Events: events})
	if err != nil {
		b.Fatal(err)
	}
	wire := encoded.Materialize()
	handler := func(ctx context.Context, req any) (any, error) {
		return server.BatchEmitEvents(ctx, req.(*audittrailv1.BatchEmitEventsRequest))
	}
	var failed atomic.Int64
	before := cpu()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req := new(audittrailv1.BatchEmitEventsRequest)
			if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, req); err != nil {
				failed.Add(1)
				continue
			}
			resp, err := grpccodec.Recycle(ctx, req, nil, handler)
			if err != nil {
				failed.Add(1)
				continue
			}
			if _, err := codec.Marshal(resp); err != nil {
				failed.Add(1)
			}
		}
	})
	b.StopTimer()
	if failed.Load() > 0 {
		b.Fatalf("%d calls failed", failed.Load())
	}
	// CPU time of the process, not the clock's: other programs do not count.
	b.ReportMetric(float64(cpu()-before)/float64(b.N*n), "cpu-ns/event")
	b.ReportMetric(float64(len(wire)/n), "B/event")
}

func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{1, 10, 100, 500} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) { benchBatches(b, n) })
	}
}

// BenchmarkThroughBroker sends batches of 100 over gRPC, with the emitter and an in-process broker behind it: client, gRPC, sarama and
// broker are in its figures.
func BenchmarkThroughBroker(b *testing.B) {
	const n = 100
	e := newEmitter(b, options{broker: newBroker(b)}).ready(b)
	events := make([]*audittrailv1.Event, n)
	for i := range events {
		events[i] = typical("acme/payments/api", i)
	}
	req := &audittrailv1.BatchEmitEventsRequest{Events: events}
	b.SetParallelism(4)
	before := cpu()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := e.BatchEmitEvents(context.Background(), req); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(cpu()-before)/float64(b.N*n), "cpu-ns/event")
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
}

// cpu is the CPU time this process has taken, in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
