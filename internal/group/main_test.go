package group_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/maxviazov/audittrail/internal/group"
)

func TestMain(m *testing.M) {
	// One goroutine for all meters of sarama's metrics library, for the life of the program.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const (
	input   = "in"
	output  = "out"
	gokaApp = "app"
)

// broker is one broker with a client to look into it.
type broker struct {
	t       *testing.T
	addrs   []string
	cluster *kfake.Cluster // nil when the broker is a real one
	client  *kgo.Client
	admin   *kadm.Client
}

func startBroker(t *testing.T, partitions int32, opts ...kfake.Opt) *broker {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(partitions, input, output, gokaApp+"-table"),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := lookInto(t, c.ListenAddrs())
	b.cluster = c
	return b
}

func lookInto(t *testing.T, addrs []string) *broker {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &broker{t: t, addrs: addrs, client: client, admin: kadm.NewClient(client)}
}

// produce appends n messages to each of the partitions.
func (b *broker) produce(n int, partitions ...int32) {
	b.t.Helper()
	for _, p := range partitions {
		for i := range n {
			b.client.Produce(b.t.Context(), &kgo.Record{Topic: input, Partition: p, Key: []byte("k"), Value: fmt.Append(nil, i)}, nil)
		}
	}
	if err := b.client.Flush(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// committed is the group's commit, -1 without one.
func (b *broker) committed(partition int32) int64 {
	o, ok := b.commit(partition)
	if !ok {
		return -1
	}
	return o.At
}

func (b *broker) commit(partition int32) (kadm.Offset, bool) {
	b.t.Helper()
	all, err := b.admin.FetchOffsets(context.Background(), gokaApp)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		b.t.Fatal(err)
	}
	o, ok := all.Lookup(input, partition)
	return o.Offset, ok
}

// waitFor polls a condition, for what only Kafka knows.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// settings are the tight time-outs of production, shorter still.
func settings() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_6_0_0
	c.Net.DialTimeout = time.Second
	c.Net.ReadTimeout = 5 * time.Second
	c.Net.WriteTimeout = 2 * time.Second
	c.Metadata.Retry.Max = 3
	c.Metadata.Retry.Backoff = 50 * time.Millisecond
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Interval = 50 * time.Millisecond
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	c.Consumer.Group.ResetInvalidOffsets = false
	c.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	c.Consumer.Group.Session.Timeout = 2 * time.Second
	c.Consumer.Group.Rebalance.Timeout = 3 * time.Second
	c.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{goka.CopartitioningStrategy}
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Return.Errors = true
	c.Producer.Retry.Max = 3
	c.Producer.Retry.Backoff = 20 * time.Millisecond
	return c
}

func newWrapper(t *testing.T, c group.Config) *group.Wrapper {
	t.Helper()
	c.Group = gokaApp
	if c.Settings == nil {
		c.Settings = settings()
	}
	c.Log = testLog(t)
	w, err := group.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func testLog(t *testing.T) zerolog.Logger {
	if !testing.Verbose() {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: "05.000"}).With().Timestamp().Str("test", t.Name()).Logger()
}

// app runs a processor under a wrapper's supervisor until the test or stop ends it.
type app struct {
	stop   func() // and waits
	done   chan struct{}
	err    error // after done
	builds atomic.Int64
}

func run(t *testing.T, addrs []string, w *group.Wrapper, callback goka.ProcessCallback, edges ...goka.Edge) *app {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &app{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = w.Supervise(ctx, func() (*goka.Processor, error) {
			a.builds.Add(1)
			return build(addrs, w, callback, edges...)
		})
	}()
	a.stop = func() {
		cancel()
		select {
		case <-a.done:
		case <-time.After(30 * time.Second):
			t.Error("processor does not stop")
		}
	}
	t.Cleanup(a.stop)
	return a
}

func build(addrs []string, w *group.Wrapper, callback goka.ProcessCallback, edges ...goka.Edge) (*goka.Processor, error) {
	graph := goka.DefineGroup(gokaApp, append([]goka.Edge{goka.Input(input, new(codec.Bytes), group.Guard(callback))}, edges...)...)
	topics := goka.NewTopicManagerConfig()
	topics.NoCreate = true
	return goka.NewProcessor(addrs, graph, append([]goka.ProcessorOption{
		goka.WithStorageBuilder(storage.MemoryBuilder()),
		goka.WithTopicManagerBuilder(goka.TopicManagerBuilderWithConfig(settings(), topics)),
		goka.WithConsumerSaramaBuilder(goka.SaramaConsumerBuilderWithConfig(settings())),
		goka.WithLogger(silent{}),
	}, w.Options(goka.ProducerBuilderWithConfig(settings()))...)...)
}

type silent struct{}

func (silent) Print(...any)          {}
func (silent) Println(...any)        {}
func (silent) Printf(string, ...any) {}

// await fails the test when nothing comes.
func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain: %s", what)
		panic("unreachable")
	}
}

func persist() goka.Edge { return goka.Persist(new(codec.Bytes)) }
