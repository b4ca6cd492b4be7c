package emitters_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/maxviazov/audittrail/emitters"
	"github.com/maxviazov/audittrail/internal/embedded/embeddedtest"
	"github.com/maxviazov/audittrail/internal/grpccodec"
	audittrailv1 "github.com/maxviazov/audittrail/proto/audittrail/v1"
	"github.com/maxviazov/audittrail/proto/stream"
)

func TestMain(m *testing.M) {
	// sarama's metrics library starts one ticker for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const partitions = 4

// broker is an in-process Kafka with the topic audit-events.
type broker struct {
	*kfake.Cluster
	addrs []string
}

func newBroker(tb testing.TB, opts ...embeddedtest.KafkaOption) *broker {
	tb.Helper()
	cluster := embeddedtest.KafkaCluster(tb, opts...)
	b := &broker{Cluster: cluster, addrs: cluster.ListenAddrs()}
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...))
	if err != nil {
		tb.Fatal(err)
	}
	defer client.Close()
	created, err := kadm.NewClient(client).CreateTopic(tb.Context(), partitions, 1, nil, stream.Events)
	if err != nil || created.Err != nil {
		tb.Fatal(err, created.Err)
	}
	return b
}

// stall holds produce requests until the returned function is called.
func (b *broker) stall(tb testing.TB) (resume func()) {
	gate := make(chan struct{})
	b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		b.SleepControl(func() { <-gate })
		return nil, nil, false
	})
	resume = sync.OnceFunc(func() { close(gate) })
	tb.Cleanup(resume)
	return resume
}

// kafkaMessage is one message of audit-events.
type kafkaMessage struct {
	source    string
	partition int32
	events    []*audittrailv1.Event
}

// messages reads the topic until it has found n events, in the order of each partition.
func (b *broker) messages(tb testing.TB, n int) []kafkaMessage {
	tb.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.ConsumeTopics(stream.Events),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		tb.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	var all []kafkaMessage
	for found := 0; found < n; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			tb.Fatalf("found %d of %d events", found, n)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			m := kafkaMessage{source: string(r.Key), partition: r.Partition}
			encoded, err := stream.DecodeEvents(r.Value)
			if err != nil {
				tb.Fatal(err)
			}
			if len(r.Value) > stream.MaxBatchBytes || len(encoded) > stream.MaxBatchEvents {
				tb.Errorf("message of %d events, %d bytes", len(encoded), len(r.Value))
			}
			for _, raw := range encoded {
				e := new(audittrailv1.Event)
				if err := e.UnmarshalVT(raw); err != nil {
					tb.Fatal(err)
				}
				m.events = append(m.events, e)
			}
			found += len(m.events)
			all = append(all, m)
		})
	}
	return all
}

func (b *broker) events(tb testing.TB, n int) []*audittrailv1.Event {
	tb.Helper()
	var all []*audittrailv1.Event
	for _, m := range b.messages(tb, n) {
		all = append(all, m.events...)
	}
	return all
}

// emitter is a running server and a connection to it.
type emitter struct {
	server *emitters.Server
	audittrailv1.EmitterServiceClient
	conn     *grpc.ClientConn
	registry *prometheus.Registry
	stop     func() error // ends Run and returns its error
}

type options struct {
	cfg       emitters.Config
	publisher emitters.Publisher // default: goka to the broker
	broker    *broker
	redis     string // address
	options   []grpc.ServerOption
	mayFail   bool // Run may return an error at the end
}

func newEmitter(tb testing.TB, o options) *emitter {
	tb.Helper()
	e := &emitter{registry: prometheus.NewRegistry()}
	deps := emitters.Deps{Publisher: o.publisher, Registerer: e.registry, Log: zerolog.New(zerolog.NewTestWriter(tb)).Level(zerolog.WarnLevel)}
	if deps.Publisher == nil {
		deps.Publisher = emitters.NewGokaPublisher(stream.Settings{Brokers: o.broker.addrs}, deps.Log)
	}
	if o.redis != "" {
		deps.Redis = &redis.Options{Addr: o.redis}
	}
	server, err := emitters.NewServer(o.cfg, deps)
	if err != nil {
		tb.Fatal(err)
	}
	e.server = server
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()

	listener := bufconn.Listen(1 << 20)
	g := grpc.NewServer(append(emitters.GRPCOptions(), o.options...)...)
	audittrailv1.RegisterEmitterServiceServer(g, server)
	go g.Serve(listener)
	e.conn, err = grpc.NewClient("passthrough:///emitter", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpccodec.New())), // sends text that is not UTF-8, too
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		tb.Fatal(err)
	}
	e.EmitterServiceClient = audittrailv1.NewEmitterServiceClient(e.conn)
	e.stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		e.conn.Close()
		g.Stop()
		return err
	})
	tb.Cleanup(func() {
		if err := e.stop(); err != nil && !o.mayFail {
			tb.Errorf("run: %v", err)
		}
	})
	return e
}

// ready waits until the emitter has a producer.
func (e *emitter) ready(tb testing.TB) *emitter {
	tb.Helper()
	eventually(tb, "emitter ready", e.server.Ready)
	return e
}

// metric is the value of a counter or gauge, by name and label values as name{reason="x"}.
func (e *emitter) metric(tb testing.TB, name, reason string) float64 {
	tb.Helper()
	families, err := e.registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "audittrail_emitter_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if reason == "" || m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	tb.Fatalf("no metric %s %s", name, reason)
	return 0
}

func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not in time: %s", what)
		}
	}
}

var at = timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC))

// newEvent is a valid event with a key that names it.
func newEvent(source string, n int) *audittrailv1.Event {
	return &audittrailv1.Event{Source: source, Action: "user.login", IdempotencyKey: fmt.Sprintf("key-%d", n), OccurredAt: at,
		Actor: &audittrailv1.Actor{Type: "user", Id: "u1"}, Outcome: audittrailv1.Outcome_OUTCOME_SUCCESS}
}

func newEvents(source string, n int) []*audittrailv1.Event {
	events := make([]*audittrailv1.Event, n)
	for i := range events {
		events[i] = newEvent(source, i)
	}
	return events
}

// detail returns the detail of type T of a status, nil when it has none.
func detail[T any](tb testing.TB, s *spb.Status) *T {
	tb.Helper()
	for _, d := range status.FromProto(s).Details() {
		if t, ok := d.(*T); ok {
			return t
		}
	}
	return nil
}

// fields are the fields that a status says are wrong.
func fields(tb testing.TB, s *spb.Status) []string {
	tb.Helper()
	var names []string
	if bad := detail[errdetails.BadRequest](tb, s); bad != nil {
		for _, v := range bad.FieldViolations {
			names = append(names, v.Field)
		}
	}
	return names
}

// proto returns the status of an error.
func proto(err error) *spb.Status { return status.Convert(err).Proto() }
